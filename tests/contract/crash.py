"""The one harness of all kill -9 tests: a process of one thread that forks children, kills them, and reports as JSON.

    python -m contract.crash SCENARIO FOLDER [SUBJECT ASKS]        (with PYTHONPATH at tests/ and above it)

Children write what was acknowledged to them (a line per returned call) to a pipe, each line in one write, so that a line
is there exactly if the call had returned. The tests in `test_store_crash.py` then look at the file with fresh eyes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from bbopt.optimizer import Optimizer
from bbopt.parameters import Float, Int
from bbopt.query import Key, Query, Request
from bbopt.space import Space
from bbopt.task import Constraint, Objective, Task
from contract.study import Loop
from contract.tasks import rich
from contract.toys import Climber, ClimberState, Ladder

TASK = Task(
    Space(x=Float(0.0, 1.0), y=Float(0.0, 1.0), k=Int(1, 10**9)),
    objectives=(Objective("cost"), Objective("gain", maximize=True)),
    constraints=(Constraint("load", upper=1e6),),
)
Say = Callable[..., Any]
KILLS = 200
PROCESSES, PAIRS = 8, 50


class Free(Climber):
    """The free toy, for a task with two objectives."""

    handles = Climber.handles | {"objectives"}


def result_of(number: int) -> dict[str, Any]:
    """What every process tells for a trial: many numbers, all functions of its number, so that a half-told one shows."""
    return {"values": {"cost": number + 0.5, "gain": -number / 3.0, "load": 7.0 * number},
            "std": {"cost": 0.125 * (number + 1)}, "cost": number / 7.0}  # fmt: skip


def tell(opt: Optimizer, number: int) -> None:
    result = result_of(number)
    opt.tell(number, result["values"], std=result["std"], cost=result["cost"])


def fork(work: Callable[[Say], None]) -> tuple[int, int]:
    """Run `work(say)` in a child; (its process id, the end of a pipe from which its lines can be read)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    code = 1
    try:
        os.close(reading)
        work(lambda *words: os.write(writing, (json.dumps(words) + "\n").encode()))
        code = 0
    except BaseException:
        os.write(writing, (json.dumps(["error", traceback.format_exc()]) + "\n").encode())
    finally:
        os._exit(code)


def lines(pipe: int) -> list[list[Any]]:
    """All lines until the pipe is closed."""
    data = b""
    while part := os.read(pipe, 65536):
        data += part
    os.close(pipe)
    return [json.loads(line) for line in data.decode().splitlines()]


def hear(pipe: int, count: int) -> list[list[Any]]:
    """The first `count` lines or more, as they come."""
    data = b""
    while data.count(b"\n") < count:
        part = os.read(pipe, 65536)
        if not part:
            break
        data += part
    return [json.loads(line) for line in data.decode().splitlines()]


def killed(child: int, pipe: int, count: int = 1, seconds: float = 0.0) -> list[list[Any]]:
    """All that a child was told before it was killed, `seconds` after `count` lines."""
    heard = hear(pipe, count)
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        pass  # sleeping is too coarse for a kill in the middle of a commit
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return heard + lines(pipe)


def create(path: Path) -> None:
    Optimizer(TASK, Free(), store=path).close()


def work_forever(path: Path, say: Say) -> None:
    opt = Optimizer.open(path, strategy=Free())
    while True:
        trial = opt.ask()
        say("asked", trial.number, trial.params)
        started = time.perf_counter()
        tell(opt, trial.number)
        say("told", trial.number, time.perf_counter() - started)


def in_the_middle_of_tell(folder: Path) -> dict[str, Any]:
    """200 children, each killed at a random moment of its first or second tell."""
    path = folder / "kills.db"
    create(path)
    rng = random.Random(20)
    heard: list[list[Any]] = []
    tell_seconds = 0.01
    for _ in range(KILLS):
        child, pipe = fork(lambda say: work_forever(path, say))
        new = killed(child, pipe, rng.choice([1, 3]), rng.uniform(0.0, 1.5 * tell_seconds))
        for line in new:
            if line[0] == "told":
                tell_seconds += 0.1 * (line[2] - tell_seconds)
        heard += new
    return {"heard": heard}


def eight_processes(folder: Path) -> dict[str, Any]:
    """Eight children share one store, 50 asks and tells each."""
    path = folder / "shared.db"
    create(path)

    def work(say: Say) -> None:
        opt = Optimizer.open(path, strategy=Free())
        for _ in range(PAIRS):
            trial = opt.ask()
            say("asked", trial.number, trial.params)
            tell(opt, trial.number)
            say("told", trial.number)

    children = [fork(work) for _ in range(PROCESSES)]
    heard = [line for _, pipe in children for line in lines(pipe)]
    codes = [os.waitpid(child, 0)[1] for child, _ in children]
    return {"heard": heard, "codes": codes}


def between_ask_and_tell(folder: Path) -> dict[str, Any]:
    """A child dies with three trials open, one of them lost once before."""
    path = folder / "between.db"
    create(path)

    def work(say: Say) -> None:
        opt = Optimizer.open(path, strategy=Free())
        trials = opt.ask(3)
        opt.fail(trials[1], "power cut")
        again = opt.ask()
        say("asked", [trial.number for trial in trials], again.number, again.attempt)
        signal.pause()

    child, pipe = fork(work)
    return {"heard": killed(child, pipe)}


RANKED = Task(Space(x=Float(0.0, 1.0)), feedback="ranking")
RATER_KILLS, GROUP = 40, 5


def rank_forever(path: Path, rater: str, say: Say) -> None:
    """Groups of answers, each group in one commit; the order and the details of an answer are functions of its first trial."""
    from bbopt.slates import RankRequest

    opt = Optimizer.open(path, strategy=Ladder())
    while True:
        queries = [opt.ask_query() for _ in range(GROUP)]
        requests = [
            RankRequest(order_of(query.first), rater=rater, details={"sum": 3 * query.first}) for query in queries
        ]
        say("ranking", rater, [query.first for query in queries])
        started = time.perf_counter()
        refused = opt.rank_many(requests)
        say("ranked", rater, [query.first for query, error in zip(queries, refused, strict=True) if error is None],
            time.perf_counter() - started)  # fmt: skip


def order_of(first: int) -> list[int]:
    rows = [first, first + 1, first + 2]
    return rows[first % 3 :] + rows[: first % 3]


def in_the_middle_of_rank_many(folder: Path) -> dict[str, Any]:
    """40 children, each killed at a random moment of its first or second group of answers."""
    path = folder / "ranks.db"
    Optimizer(RANKED, Ladder(), store=path).close()
    rng = random.Random(21)
    heard: list[list[Any]] = []
    seconds = 0.01
    for kill in range(RATER_KILLS):
        child, pipe = fork(lambda say, kill=kill: rank_forever(path, f"rater {kill}", say))  # type: ignore[misc]
        new = killed(child, pipe, rng.choice([1, 3]), rng.uniform(0.0, 1.5 * seconds))
        for line in new:
            if line[0] == "ranked":
                seconds += 0.1 * (line[3] - seconds)
        heard += new
    return {"heard": heard}


class Slow(Free):
    """Asks outside the transaction, under the asker's lock; says so and never ends, where there is somebody to listen."""

    instant = False
    loud: ClassVar[list[Say]] = []

    def ask(self, task: Task, state: ClimberState, request: Request, key: Key) -> Query:
        for say in self.loud:
            say("asking")
            signal.pause()
        return super().ask(task, state, request, key)


def while_asking(folder: Path) -> dict[str, Any]:
    """A child dies inside its strategy's ask; another process asks then."""
    path = folder / "asking.db"
    Optimizer(TASK, Slow(), store=path).close()

    def work(say: Say) -> None:
        Slow.loud.append(say)
        Optimizer.open(path, strategy=Slow()).ask()

    child, pipe = fork(work)
    heard = killed(child, pipe)
    started = time.monotonic()
    trial = Optimizer.open(path, strategy=Slow()).ask()
    return {"heard": heard, "number": trial.number, "seconds": time.monotonic() - started}


def a_parent_that_closes(folder: Path) -> dict[str, Any]:
    """A study is open when its process forks; the parent closes it, the child goes on telling."""
    path = folder / "forked.db"
    create(path)
    opt = Optimizer.open(path, strategy=Free())
    opt.ask()
    tell(opt, 0)
    start_reading, start_writing = os.pipe()

    def work(say: Say) -> None:
        tell(opt, opt.ask().number)
        say("told", 1)
        os.read(start_reading, 1)  # the parent has closed its store
        for _ in range(3):
            number = opt.ask().number
            tell(opt, number)
            say("told", number)

    child, pipe = fork(work)
    heard = hear(pipe, 1)
    opt.close()
    os.write(start_writing, b"x")
    return {"heard": heard + lines(pipe), "code": os.waitpid(child, 0)[1]}


def fifteen_and_fifteen(folder: Path, subject: str, asks: int) -> dict[str, Any]:
    """A child asks half of `asks`, then kills itself; it is the test that goes on, in its own process."""
    from contract.subjects import SUBJECTS

    strategy = next(item for item in SUBJECTS if item.name == subject).make()
    case = rich(strategy.handles)
    path = folder / "resume.db"

    def work(say: Say) -> None:
        opt = Optimizer(case.task, strategy, store=path, seed=3)
        Loop(case).run(opt, asks // 2)
        say("done")
        signal.pause()

    child, pipe = fork(work)
    return {"heard": killed(child, pipe)}


SCENARIOS: dict[str, Callable[..., dict[str, Any]]] = {
    scenario.__name__: scenario
    for scenario in (in_the_middle_of_tell, in_the_middle_of_rank_many, eight_processes, between_ask_and_tell, while_asking,
                     a_parent_that_closes)
}  # fmt: skip


def main(name: str, folder: str, *rest: str) -> None:
    if name == "fifteen_and_fifteen":
        found = fifteen_and_fifteen(Path(folder), rest[0], int(rest[1]))
    else:
        found = SCENARIOS[name](Path(folder))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    from contract import crash  # the classes of the module that others import, not of `__main__`

    crash.main(*sys.argv[1:])
