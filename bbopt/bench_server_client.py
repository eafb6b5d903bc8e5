"""Raters of a benchmark: coroutines that rank over HTTP as the page does, and repeat a request until it is answered.

Answers arrive at fixed times, whether anybody is free or not, so that a slow server cannot thin out its own load; whoever
holds a slate takes the next one. Each answer has a serial number, sent as its `elapsed_ms`, by which it is found in the
store afterwards. What a rater thinks of a slate is a function of the points that it is shown, so that the store can be
checked against what was meant, ties and unseen items too.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

__all__ = ["Answered", "Arrivals", "Http", "Rater", "judgement", "shown"]

RETRY_SECONDS = 0.05
GIVE_UP_SECONDS = 60.0


def shown(params: Mapping[str, Any]) -> str:
    """The renderer of the benchmark: the point itself, for raters that can read."""
    return json.dumps({name: float(value) for name, value in params.items()})


def judgement(points: Sequence[Mapping[str, float]]) -> tuple[list[list[int]], list[int]]:
    """Groups, best first, and unseen positions of a slate: by distance from the point with 0.7 everywhere. The two behind the
    best are tied, the last is not looked at.

    >>> judgement([{"x": 0.1}, {"x": 0.7}, {"x": 0.5}, {"x": 0.8}, {"x": 0.2}])
    ([[1], [3, 2], [4]], [0])
    """
    order = sorted(range(len(points)), key=lambda i: sum((value - 0.7) ** 2 for value in points[i].values()))
    if len(order) < 4:
        return [[row] for row in order], []
    return [order[:1], order[1:3], *([row] for row in order[3:-1])], order[-1:]


class Http:
    """One connection, kept open: HTTP/1.1 in as many lines as are needed to talk to a server of ours, so that the client
    takes little of the cores that it measures on. Raises OSError when the connection breaks."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._host, self._port = host, port
        self._head = f"Host: {host}:{port}\r\nAuthorization: Bearer {token}\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and content of the answer."""
        content = b"" if body is None else json.dumps(body).encode()
        kind = "" if body is None else f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(self._host, self._port)
            reader, writer = self._streams
            writer.write(f"{method} {path} HTTP/1.1\r\n{self._head}{kind}\r\n".encode() + content)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            data = await reader.readexactly(int(fields.get("content-length", 0)))
        except (OSError, EOFError) as error:
            self.close()
            raise ConnectionError(str(error)) from error
        if fields.get("connection") == "close":
            self.close()
        return int(head[0].split()[1]), data

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass
class Answered:
    """An answer that was sent. slate, rater; due: when it arrived; done: when it was acknowledged, None before; times are
    those of time.perf_counter."""

    serial: int
    rater: str
    slate: str
    due: float
    done: float | None = None
    tries: int = 0


class Arrivals:
    """Serial numbers of answers, from `first`, and when they are due: `rate` in a second, until `stop` or `most` of them. They
    begin when all `raters` have a slate; `began` is when that was."""

    def __init__(self, rate: float, raters: int, most: int | None = None, first: int = 1) -> None:
        self._rate, self._raters, self._most, self._first = rate, raters, most, first
        self._ready = asyncio.Semaphore(0)
        self.began = 0.0
        self._due: asyncio.Queue[tuple[int, float] | None] = asyncio.Queue()
        self._stopped = False

    async def run(self) -> None:
        """Let them come; at the end, send the raters home."""
        for _ in range(self._raters):
            await self._ready.acquire()
        self.began = time.perf_counter()
        for number in count(1):
            due = self.began + number / self._rate
            await asyncio.sleep(max(due - time.perf_counter(), 0.0))
            if self._stopped:
                break
            self._due.put_nowait((self._first + number - 1, due))
            if number == self._most:
                break
        for _ in range(self._raters):
            self._due.put_nowait(None)

    def stop(self) -> None:
        self._stopped = True

    def ready(self) -> None:
        """A rater has the first slate."""
        self._ready.release()

    async def next(self) -> tuple[int, float] | None:
        """The next one, None at the end."""
        return await self._due.get()


@dataclass
class Rater:
    """Somebody who ranks one slate after the other. seconds: of each `next` and each item that were answered at once."""

    name: str
    study: str
    http: Http
    answers: list[Answered] = field(default_factory=list)
    next_seconds: list[float] = field(default_factory=list)
    item_seconds: list[float] = field(default_factory=list)
    waited: int = 0

    async def run(self, arrivals: Arrivals) -> None:
        """Rank until nothing arrives any more."""
        for turn in count():
            slate = await self._slate()
            groups, unseen = judgement([await self._point(item["url"]) for item in slate["items"]])
            if not turn:
                arrivals.ready()
            arrival = await arrivals.next()
            if arrival is None:
                break
            await self._answer(slate, groups, unseen, *arrival)
        self.http.close()

    async def _slate(self) -> dict[str, Any]:
        while True:
            start = time.perf_counter()
            found = json.loads(await self._until_answered("GET", f"/v1/studies/{self.study}/next"))
            if found["slate"] is not None:
                self.next_seconds.append(time.perf_counter() - start)
                slate: dict[str, Any] = found["slate"]
                return slate
            self.waited += 1
            await asyncio.sleep(RETRY_SECONDS)

    async def _point(self, url: str) -> dict[str, float]:
        start = time.perf_counter()
        point: dict[str, float] = json.loads(await self._until_answered("GET", url))
        self.item_seconds.append(time.perf_counter() - start)
        return point

    async def _answer(
        self, slate: dict[str, Any], groups: list[list[int]], unseen: list[int], serial: int, due: float
    ) -> None:
        items = [item["id"] for item in slate["items"]]
        body = {
            "groups": [[items[row] for row in group] for group in groups],
            "unseen": [items[row] for row in unseen],
            "revision": slate["revision"] + 1,
            "elapsed_ms": serial,
        }
        answer = Answered(serial, self.name, slate["id"], due)
        self.answers.append(answer)
        await self._until_answered("PUT", f"/v1/slates/{slate['id']}/answer", body, answer)
        answer.done = time.perf_counter()

    async def _until_answered(self, method: str, path: str, body: Any = None, answer: Answered | None = None) -> bytes:
        """The content of a 200, however often the server has to be asked: it may be killed at any moment."""
        deadline = time.perf_counter() + GIVE_UP_SECONDS
        while True:
            if answer is not None:
                answer.tries += 1
            try:
                status, content = await self.http.request(method, path, body)
            except ConnectionError as error:
                status, content = 503, str(error).encode()
            if status == 200:
                return content
            if status not in (429, 503) or time.perf_counter() > deadline:
                raise RuntimeError(f"{self.name}: {method} {path}: {status} {content[:500]!r}")
            await asyncio.sleep(RETRY_SECONDS)
