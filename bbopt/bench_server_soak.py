"""Minutes of mixed work on a server: does its memory grow, and is what people did, undid and looked at what is stored?

    python -m bbopt.bench_server_soak [SECONDS]

Ten raters answer as fast as they are answered, some with ties, some with a verdict; one answer in ten is taken back and given
again in another order, one slate in five is loaded twice as a page that is reloaded does. The owner looks at progress, the
best point, history and agreement every two seconds, and takes a CSV of everything every 15 s, when a line says how many
answers there are and what memory and time the server has used. The last lines say how much memory 1,000 answers take, from
the second quarter of the time to the end, and compare the store with what everybody was told. 180 s by default.

The exit status is 1 when an answer is lost, doubled or not what was last acknowledged, or when any request failed.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bbopt
from bbopt.bench_server import RENDERER, STUDY, make_study
from bbopt.bench_server_client import Http
from bbopt.bench_server_process import ServerProcess

RATERS, SECONDS = 10, 180.0
LOOKS = ("progress", "best", "history?limit=20", "agreement")


class Worker:
    """A rater with habits. told: by slate, the serial number of the last answer that was acknowledged."""

    def __init__(self, http: Http, rng: random.Random) -> None:
        self.http, self.rng = http, rng
        self.told: dict[str, int] = {}
        self.requests = self.waited = self.gone = 0

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        self.requests += 1
        status, content = await self.http.request(method, path, body)
        if status != 200:
            raise RuntimeError(f"{method} {path}: {status} {content[:300]!r}")
        return json.loads(content)

    async def run(self, name: int, deadline: float) -> None:
        serial = name
        while time.perf_counter() < deadline:
            slate = await self._slate()
            if slate is None:
                continue
            for item in slate["items"]:
                await self.call("GET", item["url"])
            serial = await self._answer(slate, serial, 1)
            if self.rng.random() < 0.1:
                serial = await self._think_again(serial)
        self.http.close()

    async def _slate(self) -> dict[str, Any] | None:
        found = await self.call("GET", f"/v1/studies/{STUDY}/next")
        if found["slate"] is None:
            self.waited += 1
            await asyncio.sleep(0.05)
        elif self.rng.random() < 0.2:
            again = await self.call("GET", f"/v1/studies/{STUDY}/next")
            same = again["slate"] is not None and again["slate"]["id"] == found["slate"]["id"]
            if same and again["slate"]["items"] != found["slate"]["items"]:
                raise RuntimeError("a page that was reloaded shows another order")
            found = again
        slate: dict[str, Any] | None = found["slate"]
        return slate

    async def _answer(self, slate: dict[str, Any], serial: int, revision: int) -> int:
        """Answer a slate. Returns the next serial number."""
        items = [item["id"] for item in slate["items"]]
        self.rng.shuffle(items)
        body: dict[str, Any] = {"groups": [items[:2], *([item] for item in items[2:])]}
        if self.rng.random() < 0.1:
            body = {"verdict": self.rng.choice(["all bad", "cannot tell", "skip", "broken"])}
        self.requests += 1
        sent = {**body, "revision": revision, "elapsed_ms": serial}
        status, content = await self.http.request("PUT", f"/v1/slates/{slate['id']}/answer", sent)
        if status == 409 and json.loads(content)["error"]["kind"] == "SlateGone":
            self.gone += 1  # somebody took back the answer that this slate builds on
        elif status != 200:
            raise RuntimeError(f"answer: {status} {content[:300]!r}")
        else:
            self.told[slate["id"]] = serial
        return serial + RATERS

    async def _think_again(self, serial: int) -> int:
        """Take the last answer back and give another; not where the search has gone on."""
        self.requests += 1
        status, content = await self.http.request("POST", f"/v1/studies/{STUDY}/undo", {})
        if status == 409:
            return serial
        if status != 200:
            raise RuntimeError(f"undo: {status} {content[:300]!r}")
        slate = json.loads(content)["slate"]
        del self.told[slate["id"]]
        return await self._answer(slate, serial, slate["revision"] + 1)


async def look(server: ServerProcess, workers: Sequence[Worker], deadline: float) -> list[tuple[int, float]]:
    """The owner, who looks at everything. (answers, MiB) every 15 s, and at the end."""
    http, seen, then = Http("127.0.0.1", server.port, server.owner), [], 0.0
    while (now := time.perf_counter()) < deadline:
        for what in (*LOOKS, *(["export?format=csv"] if now - then >= 15.0 else [])):
            status, content = await http.request("GET", f"/v1/studies/{STUDY}/{what}")
            if status != 200:
                raise RuntimeError(f"{what}: {status} {content[:300]!r}")
        if now - then >= 15.0:
            seen.append((sum(len(worker.told) for worker in workers), server.resident()))
            print(f"  {seen[-1][0]:6,} answers   {seen[-1][1]:6.1f} MiB   {server.cpu():6.1f} CPU s", flush=True)
            then = now
        await asyncio.sleep(2.0)
    http.close()
    return [*seen, (sum(len(worker.told) for worker in workers), server.resident())]


async def work(server: ServerProcess, seconds: float) -> tuple[list[Worker], list[tuple[int, float]]]:
    deadline = time.perf_counter() + seconds
    workers = [
        Worker(Http("127.0.0.1", server.port, token), random.Random(number))
        for number, token in enumerate(server.tokens.values())
    ]
    async with asyncio.TaskGroup() as group:
        for number, worker in enumerate(workers):
            group.create_task(worker.run(number, deadline))
        looking = group.create_task(look(server, workers, deadline))
    return workers, looking.result()


def main(arguments: Sequence[str]) -> int:
    """The soak; the exit status."""
    seconds = float(arguments[0]) if arguments else SECONDS
    with TemporaryDirectory() as folder:
        store = Path(folder) / "soak.db"
        make_study(store)
        raters = [f"rater {i}" for i in range(RATERS)]
        server = ServerProcess(store, raters, "--renderer", RENDERER, "--rate", "1000000")
        try:
            workers, seen = asyncio.run(work(server, seconds))
        finally:
            server.stop()
        opt = bbopt.Optimizer.open(store, STUDY)
        stored = [answer.details["elapsed_ms"] for answer in opt.rankings()]
        withdrawn = len(opt.rankings(withdrawn=True)) - len(stored)
        opt.close()
    told = {serial for worker in workers for serial in worker.told.values()}
    right = len(stored) == len(set(stored)) and set(stored) == told
    quarter = seen[len(seen) // 4]
    growth = 1000 * (seen[-1][1] - quarter[1]) / max(seen[-1][0] - quarter[0], 1)
    requests, waited, gone = (
        sum(getattr(worker, name) for worker in workers) for name in ("requests", "waited", "gone")
    )
    print(
        f"{requests:,} requests, {waited:,} times no slate; {withdrawn:,} answers were taken back, {gone:,} slates went with them"
    )
    print(f"memory: {growth:.1f} MiB for 1,000 answers")
    print(
        f"{'passed' if right else 'MISSED'}: the store has {len(stored):,} answers, {len(told):,} stand as acknowledged"
    )
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
