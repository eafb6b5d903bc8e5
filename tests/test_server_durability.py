"""Servers killed by kill -9: what was acknowledged is there once, and the search goes on from exactly where it was."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import bbopt
from bbopt.bench_server import RENDERER, STUDY, check, kill_often, make_study, people, rank
from bbopt.bench_server_client import Arrivals
from bbopt.bench_server_process import ServerProcess

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="the server's lock is that of POSIX systems")


class Person:
    """A rater without hurry: one request after the other."""

    def __init__(self, server: ServerProcess, name: str) -> None:
        headers = {"Authorization": f"Bearer {server.tokens[name]}"}
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{server.port}", headers=headers, timeout=30, trust_env=False
        )

    def close(self) -> None:
        self.http.close()

    def get(self, path: str) -> Any:
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def slate(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/v1/studies/{STUDY}/next")["slate"]
        return found

    def body(self, slate: dict[str, Any], worst: Any = None, revision: int = 1) -> dict[str, Any]:
        """The items in the order in which they came, but the point `worst` at the end."""
        shown = {item["id"]: json.loads(self.http.get(item["url"]).text) for item in slate["items"]}
        return {
            "groups": [[item] for item in sorted(shown, key=lambda item: shown[item] == worst)],
            "revision": revision,
        }

    def put(self, slate: dict[str, Any], body: dict[str, Any]) -> httpx.Response:
        return self.http.put(f"/v1/slates/{slate['id']}/answer", json=body)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    make_study(tmp_path / "study.db")
    server = ServerProcess(tmp_path / "study.db", ["ann", "bob"], "--renderer", RENDERER)
    yield server
    server.kill()


def restart(server: ServerProcess) -> None:
    server.kill()
    server.start()


def best(server: ServerProcess) -> dict[str, Any] | None:
    """What the running server takes for the best point, to the bit: JSON carries every digit of a float."""
    headers = {"Authorization": f"Bearer {server.owner}"}
    found: dict[str, Any] | None = httpx.get(
        f"http://127.0.0.1:{server.port}/v1/studies/{STUDY}/best", headers=headers, timeout=30, trust_env=False
    ).json()["best"]
    return found


def settled(server: ServerProcess, not_this: Any = None) -> dict[str, Any] | None:
    """The same, once it is another one than that: finding it may cost a model's time, so the server looks now and then."""
    deadline = time.monotonic() + 20.0
    while (found := best(server)) == not_this and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def copied(store: Path, to: Path) -> Path:
    """The store as it is now."""
    with closing(sqlite3.connect(store)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)
    return to


def ranked_while_killed(folder: Path, raters: int, kills: int, rate: float, seed: int) -> int:
    """Several rate while the server is killed; everything is checked. Returns how many answers there were."""
    store = folder / "killed.db"
    make_study(store)
    server = ServerProcess(store, [f"rater {i}" for i in range(raters)], "--renderer", RENDERER)
    arrivals, everybody = Arrivals(rate, raters), people(server)

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(rank(everybody, arrivals))
            group.create_task(kill_often(server, everybody, arrivals, kills, random.Random(seed)))

    try:
        asyncio.run(both())
        answers = [answer for rater in everybody for answer in rater.answers]
        # The live server's next slate, and that of a process which reads the log as it was just before.
        twin = bbopt.Optimizer.open(copied(store, folder / "twin.db"), STUDY)
        replayed = twin.ask_query(6, owner="rater:eve")
        token = httpx.post(
            f"http://127.0.0.1:{server.port}/v1/studies/{STUDY}/links",
            json={"name": "eve", "role": "rater", "seconds": 60},
            headers={"Authorization": f"Bearer {server.owner}"},
            trust_env=False,
        ).json()["token"]
        server.tokens["eve"] = token
        with closing(Person(server, "eve")) as eve:
            assert eve.slate() is not None
    finally:
        server.kill()
    after = bbopt.Optimizer.open(store, STUDY)
    (asked,) = [query for query in after.open_queries() if query.id == replayed.id]
    assert np.array_equal(np.asarray(asked.X), np.asarray(replayed.X)), "the live iterate is not the replayed one"
    assert asked.memo == replayed.memo
    after.close()
    twin.close()
    assert all(answer.done is not None for answer in answers)
    assert check(store, STUDY, answers).right, check(store, STUDY, answers)
    return len(answers)


def test_killed_while_people_rank(tmp_path: Path) -> None:
    assert ranked_while_killed(tmp_path, raters=3, kills=2, rate=15.0, seed=1) >= 15


@pytest.mark.slow
def test_killed_twenty_times_while_people_rank(tmp_path: Path) -> None:
    """200 submits or more."""
    assert ranked_while_killed(tmp_path, raters=10, kills=20, rate=10.0, seed=2) >= 200


def test_what_a_rater_did_holds_over_kills(server: ServerProcess) -> None:
    """The open slate comes again, a receipt is given again, and an undo is still undone, with the draft to start from."""
    with closing(Person(server, "ann")) as ann:
        what_ann_did(server, ann)


def what_ann_did(server: ServerProcess, ann: Person) -> None:
    gradient = ann.slate()
    assert ann.put(gradient, ann.body(gradient)).status_code == 200
    line = ann.slate()  # the incumbent is in it, and has a number from now on
    before = best(server)
    assert before is not None
    body = ann.body(line, worst=before["params"])
    receipt = ann.put(line, body).json()
    moved = settled(server, not_this=before)
    assert moved != before, "a step was made"
    restart(server)
    assert best(server) == moved
    for _ in range(20):
        repeated = ann.put(line, body)
        assert repeated.status_code == 200 and repeated.json()["receipt"] == receipt["receipt"]
    other = {**body, "groups": body["groups"][::-1]}
    refused = ann.put(line, other)
    assert refused.status_code == 409 and refused.json()["stored"]["groups"] == body["groups"]

    undone = ann.http.post(f"/v1/studies/{STUDY}/undo", json={}).json()["slate"]
    assert undone["id"] == line["id"] and undone["draft"] == body["groups"] and undone["revision"] == 1
    restart(server)
    assert best(server) == before, "the step was taken back, to the bit"
    again = ann.slate()
    assert (again["id"], again["items"]) == (line["id"], line["items"]), "the same slate in the same order"
    assert (again["draft"], again["revision"]) == (body["groups"], 1)
    assert ann.put(line, body).status_code == 409, "a delayed repetition of what was undone"
    assert ann.put(line, {**other, "revision": 2}).status_code == 200
    server.kill()
    opt = bbopt.Optimizer.open(server.store, STUDY)
    stored = opt.rankings()
    assert [(answer.query, answer.details["revision"]) for answer in stored] == [(0, 1), (1, 2)]
    assert len(opt.rankings(withdrawn=True)) == 3, "what was undone stays in the log"
    opt.close()


def test_two_raters_at_once_lose_no_update(tmp_path: Path) -> None:
    """Both answer 12 slates as fast as they can, of one study."""
    make_study(tmp_path / "study.db")
    server = ServerProcess(tmp_path / "study.db", ["ann", "bob"], "--renderer", "table")

    def work(name: str) -> list[str]:
        receipts: list[str] = []
        with closing(Person(server, name)) as person:
            while len(receipts) < 12:
                slate = person.slate()
                if slate is not None:
                    body = {"groups": [[item["id"]] for item in slate["items"]], "revision": 1}
                    receipts.append(person.put(slate, body).json()["receipt"])
        return receipts

    async def both() -> list[list[str]]:
        return await asyncio.gather(*(asyncio.to_thread(work, name) for name in ("ann", "bob")))

    try:
        receipts = [receipt for mine in asyncio.run(both()) for receipt in mine]
    finally:
        server.kill()
    assert len(set(receipts)) == 24
    opt = bbopt.Optimizer.open(server.store, STUDY)
    stored = opt.rankings()
    assert len(stored) == len({(answer.query, answer.rater) for answer in stored}) == 24
    assert [sum(answer.rater == name for answer in stored) for name in ("ann", "bob")] == [12, 12]
    opt.close()
