"""Fifty people rank at once, over HTTP, on a server of our own on the loopback address: fast enough, and nothing lost.

    python -m bbopt.bench_server [ANSWERS [KILLS]]

First 2,000 answers of 50 raters arrive at 25 a second (80 s), each to a slate that its rater has got from `next` and seen
item by item, on a study of 12 parameters with `rank-sgd`; then one of each rater at the same moment. Printed: the time from
an answer's arrival to its receipt, that of `next` and of an item (median, 95th percentile, largest), CPU seconds and memory
of the server, and in how many commits the answers were written; each commit is a full sync to the disk. Then the same load
goes on while the server is killed with kill -9 at 20 random moments and started again; whoever got no receipt sends the same
again. After both, the store is read: every acknowledged answer must be in it once, with the order, the ties and the unseen
item that its rater meant.

The last line is the verdict; the exit status is 1 when an answer is lost, doubled or changed, when the 95th percentile of
an answer is 100 ms or more, or when fewer than 95 % of the answers were given at the pace at which they arrived. Wall
times: run it on an idle machine (two cores: one for the server, one for the raters and the renderer).
"""

from __future__ import annotations

import asyncio
import random
import re
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import bbopt
from bbopt.bench_server_client import Answered, Arrivals, Http, Rater, judgement
from bbopt.bench_server_process import ServerProcess

RATERS, RATE, ANSWERS, KILLS = 50, 25.0, 2_000, 20
MOST_SECONDS, LEAST_PACE = 0.100, 0.95
STUDY = "load"
TASK = bbopt.Task(bbopt.Space({f"x{i}": bbopt.Float(0.0, 1.0) for i in range(12)}), feedback="ranking")
RENDERER = "bbopt.bench_server_client:shown"


@dataclass(frozen=True)
class Found:
    """What is wrong with the answers in a store; all zero is right."""

    lost: int
    doubled: int
    changed: int

    @property
    def right(self) -> bool:
        return not (self.lost or self.doubled or self.changed)


def check(store: Path, study: str, answers: Sequence[Answered]) -> Found:
    """Compare the store with what raters sent: lost are acknowledged answers that are not there, doubled those that are there
    more than once (by serial number, or by slate and rater), changed those that do not say what was meant."""
    with sqlite3.connect(store) as connection:
        if connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            raise RuntimeError(f"{store} is damaged")
    connection.close()
    opt = bbopt.Optimizer.open(store, study)
    stored = opt.rankings()
    serials = Counter(answer.details["elapsed_ms"] for answer in stored)
    places = Counter((answer.query, answer.rater) for answer in stored)
    lost = [answer for answer in answers if answer.done is not None and not serials[answer.serial]]
    doubled = sum(number - 1 for counts in (serials, places) for number in counts.values())
    raters = {answer.serial: answer.rater for answer in answers}
    changed = 0
    for answer in stored:
        points = [opt.trial(answer.first + row).params for row in range(answer.size)]
        groups, unseen = judgement(points)
        meant = ([set(group) for group in groups], set(unseen), raters.get(answer.details["elapsed_ms"]))
        changed += meant != ([set(group) for group in answer.ranking.groups], set(answer.ranking.unseen), answer.rater)
    opt.close()
    return Found(len(lost), doubled, changed)


def make_study(store: Path, strategy: str = "rank-sgd") -> None:
    """An empty study for people in a fresh store."""
    bbopt.Optimizer(TASK, strategy, store=store, name=STUDY).close()


def people(server: ServerProcess) -> list[Rater]:
    """A rater for each token."""
    return [Rater(name, STUDY, Http("127.0.0.1", server.port, token)) for name, token in server.tokens.items()]


async def rank(raters: Sequence[Rater], arrivals: Arrivals) -> None:
    """Everybody ranks until nothing arrives any more."""
    async with asyncio.TaskGroup() as group:
        group.create_task(arrivals.run())
        for rater in raters:
            group.create_task(rater.run(arrivals))


async def kill_often(
    server: ServerProcess, raters: Sequence[Rater], arrivals: Arrivals, kills: int, rng: random.Random
) -> int:
    """Kill the server at random moments and start it again; then let the arrivals end. Every other time the moment is within
    10 ms of an answer that is on its way. Returns how many answers were in the store, and their raters did not know."""
    unknown = 0
    for number in range(kills):
        await asyncio.sleep(rng.uniform(0.2, 2.0))
        if number % 2:
            while all(rater.answers[-1].done for rater in raters if rater.answers):
                await asyncio.sleep(0.001)
            await asyncio.sleep(rng.uniform(0.0, 0.010))
        server.kill()
        acknowledged = {answer.serial for rater in raters for answer in rater.answers if answer.done}
        opt = bbopt.Optimizer.open(server.store, STUDY)
        unknown += len({answer.details["elapsed_ms"] for answer in opt.rankings()} - acknowledged)
        opt.close()
        await asyncio.to_thread(server.start)
    await asyncio.sleep(1.0)
    arrivals.stop()
    return unknown


def percentiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    """Median, 95th percentile, largest."""
    ordered = sorted(seconds)
    return ordered[len(ordered) // 2], ordered[min(int(0.95 * len(ordered)), len(ordered) - 1)], ordered[-1]


def steady(store: Path, answers: int) -> tuple[float, float, Found]:
    """The load without kills. The 95th percentile of an answer, the pace as a share of the rate, and what the store says."""
    make_study(store)
    server = ServerProcess(store, [f"rater {i:02}" for i in range(RATERS)], "--renderer", RENDERER)
    arrivals, raters = Arrivals(RATE, RATERS, answers), people(server)
    burst, again = Arrivals(1e9, RATERS, RATERS, first=answers + 1), people(server)
    start = time.perf_counter()
    try:
        asyncio.run(rank(raters, arrivals))
        wall, used, memory = time.perf_counter() - arrivals.began, server.cpu(), server.resident()
        asyncio.run(rank(again, burst))
    finally:
        server.stop()
    print(f"first slates of {RATERS} raters who came at once: {arrivals.began - start:.1f} s")
    given = [answer for rater in raters for answer in rater.answers]
    print(f"{len(given):,} answers in {wall:.1f} s")
    seconds = [answer.done - answer.due for answer in given if answer.done is not None]
    line("answer", seconds)
    line("next", [value for rater in raters for value in rater.next_seconds[1:]])
    line("item", [value for rater in raters for value in rater.item_seconds])
    waited = sum(rater.waited for rater in raters)
    requests = sum(len(rater.next_seconds) + len(rater.item_seconds) + len(rater.answers) for rater in raters) + waited
    print(f"  server: {used:.1f} CPU s for {requests:,} requests, {memory:.0f} MiB; {waited} times no slate")
    last = [answer for rater in again for answer in rater.answers]
    print(f"{len(last)} answers at once")
    line("answer", [answer.done - answer.due for answer in last if answer.done is not None])
    for written, commits in re.findall(rf"study {STUDY}: (\d+) answers in (\d+) commits", server.log.read_text()):
        print(f"  all {int(written):,} answers were written in {int(commits):,} commits")
    pace = (answers / RATE) / max(max(answer.done or 0.0 for answer in given) - arrivals.began, answers / RATE)
    return percentiles(seconds)[1], pace, check(store, STUDY, [*given, *last])


def line(what: str, seconds: Sequence[float]) -> None:
    median, most, largest = (1e3 * value for value in percentiles(seconds))
    print(f"  {what:>6}: median {median:6.1f} ms   95 % below {most:6.1f} ms   largest {largest:6.1f} ms")


def killed(store: Path, kills: int) -> Found:
    """The load with kills."""
    make_study(store)
    server = ServerProcess(store, [f"rater {i:02}" for i in range(RATERS)], "--renderer", RENDERER)
    arrivals, raters = Arrivals(RATE, RATERS), people(server)

    async def both() -> int:
        async with asyncio.TaskGroup() as group:
            group.create_task(rank(raters, arrivals))
            killing = group.create_task(kill_often(server, raters, arrivals, kills, random.Random(0)))
        return killing.result()

    try:
        unknown = asyncio.run(both())
    finally:
        server.stop()
    given = [answer for rater in raters for answer in rater.answers]
    again = sum(answer.tries > 1 for answer in given)
    print(
        f"{len(given):,} answers while the server was killed {kills} times: {again} were sent more than once, as they got no"
    )
    print(f"receipt, and {unknown} of them were in the store already")
    return check(store, STUDY, given)


def report(found: Found) -> None:
    print(f"  store: {found.lost} acknowledged ones lost, {found.doubled} doubled, {found.changed} changed")


def main(arguments: Sequence[str]) -> int:
    """The benchmark; the exit status."""
    answers, kills = (int(given) for given in (*arguments, *(str(ANSWERS), str(KILLS))[len(arguments) :]))
    with TemporaryDirectory() as folder:
        most, pace, found = steady(Path(folder) / "steady.db", answers)
        report(found)
        after = killed(Path(folder) / "killed.db", kills)
        report(after)
    passed = found.right and after.right and most < MOST_SECONDS and pace >= LEAST_PACE
    print(
        f"{'passed' if passed else 'MISSED'}: 95 % of answers within {1e3 * most:.0f} ms (at most {1e3 * MOST_SECONDS:.0f}), pace "
        f"{pace:.0%} of {RATE:g} a second (at least {LEAST_PACE:.0%}), nothing lost, doubled or changed: {found.right and after.right}"
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
