"""People who do what they like: whatever they do in whatever order, the store holds exactly what was acknowledged."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from contract.hand import content
from server_inside import STUDY, Inside, inside, make

import bbopt
from server import api_people

RATERS = ("ann", "bob", "eve")
Known = dict[tuple[int, str], tuple[int, Any]]
"""By query and name: revision and body of the last acknowledged answer that was not taken back."""


class Person:
    """One rater with a page open: the slates seen so far, and what was sent for each."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: dict[str, dict[str, Any]] = {}
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def body(self, slate: dict[str, Any], rng: random.Random, revision: int) -> dict[str, Any]:
        names = [item["id"] for item in slate["items"]]
        rng.shuffle(names)
        kind = rng.choice(["order", "order", "ties", "unseen", "all bad", "cannot tell", "skip", "broken"])
        if kind == "order":
            return {"groups": [[name] for name in names], "revision": revision}
        if kind == "ties":
            return {"groups": [names[:2], names[2:]], "revision": revision}
        if kind == "unseen":
            return {"groups": [names[:1], names[1:-1]], "unseen": names[-1:], "revision": revision}
        return {"verdict": kind, "revision": revision}


def act(server: Inside, person: Person, rng: random.Random, known: Known) -> str:
    """One thing that a person does; `known` follows what the server acknowledged."""
    action = rng.choice(["next", "answer", "answer", "answer", "again", "correct", "old", "undo"])
    if action == "next" or (action in ("answer", "correct") and not person.seen):
        slate = server.next(person.name)["slate"]
        if slate is not None:
            person.seen[slate["id"]] = slate
    elif action == "answer":
        slate = server.next(person.name)["slate"]
        if slate is not None:
            person.seen[slate["id"]] = slate
            send(server, person, slate, person.body(slate, rng, slate["revision"] + 1), known)
    elif action in ("again", "old") and person.sent:
        name, body = person.sent[-1] if action == "again" else rng.choice(person.sent)
        send(server, person, person.seen[name], body, known)
    elif action == "correct":
        slate = rng.choice(list(person.seen.values()))
        query, look = server.place(slate, person.name)
        revision = known.get((query, f"{person.name}{look}"), (0, None))[0]
        send(server, person, slate, person.body(slate, rng, revision + 1), known)
    elif action == "undo":
        response = server.undo(person.name)
        if response.status_code == 200:
            slate = response.json()["slate"]
            person.seen[slate["id"]] = slate
            query, look = server.place(slate, person.name)
            for gone in {look, 1}:  # with a first look goes its repeat
                known.pop((query, f"{person.name}{gone}"), None)
        else:
            assert response.status_code == 409
    return action


def send(server: Inside, person: Person, slate: dict[str, Any], body: dict[str, Any], known: Known) -> None:
    person.sent.append((slate["id"], body))
    response = server.put(f"/v1/slates/{slate['id']}/answer", body, person.name)
    query, look = server.place(slate, person.name)
    key = (query, f"{person.name}{look}")
    if response.status_code == 200:
        receipt = response.json()
        if receipt["revision"] == body["revision"]:
            known[key] = (body["revision"], said(server, person.name, body))
        assert known[key][0] == receipt["revision"] and known[key][1] == said(server, person.name, body)
    else:
        assert response.status_code == 409, response.text
        assert response.json()["error"]["kind"] in ("Conflict", "Depends", "SlateGone")


def said(server: Inside, who: str, body: dict[str, Any]) -> Any:
    """What a body says, by rows."""

    def row(name: str) -> int:
        place = server.state.rooms.ids.open("item", STUDY, who, name)
        assert place is not None
        return place.row

    groups = [sorted(map(row, group)) for group in body.get("groups", []) if group]  # of two items, one is empty
    return groups, sorted(map(row, body.get("unseen", []))), body.get("verdict")


def stored(server: Inside) -> Known:
    found: Known = {}
    for answer in server.opt.rankings():
        rater, repeat, _ = answer.rater.partition("/repeat")
        kind = answer.details.get("kind")
        ranking = answer.ranking
        groups = [sorted(group) for group in ranking.groups]
        what = ([], [], kind) if kind else (groups, sorted(ranking.unseen), ranking.verdict)
        found[answer.query, f"{rater}{1 if repeat else 0}"] = (answer.details["revision"], what)
    return found


@pytest.mark.parametrize(
    ("seed", "strategy", "quorum"), [(0, "rank-sgd", 1), (1, "rank-sgd", 2), (2, "cmaes", 2), (3, "openes", 1)]
)
def test_the_store_holds_what_was_acknowledged(tmp_path: Path, seed: int, strategy: str, quorum: int) -> None:
    store = make(tmp_path / "runs.db", strategy=strategy, quorum=quorum)
    rng, known = random.Random(seed), {}
    people = [Person(name) for name in RATERS]
    done: set[str] = set()
    for _ in range(3):  # restarts
        with inside(store, repeats=0.3, lease_seconds=0.05) as server:
            for _ in range(35):
                done.add(act(server, rng.choice(people), rng, known))
            assert stored(server) == known
            live = server.strategy_state()
    assert done == {"next", "answer", "again", "correct", "old", "undo"} and len(known) > 5
    with bbopt.Optimizer.open(store, STUDY) as again:
        assert content(again._state()) == live


def test_a_slow_strategy_keeps_nobody_from_answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asks wait in threads of their own: an answer comes back while they do, and who is too far back in line is told so."""
    monkeypatch.setattr(api_people, "PATIENCE", 0.3)
    with inside(make(tmp_path / "runs.db")) as server:
        slate, ask = server.slate("ann"), server.opt.ask_query
        release, inside_now = threading.Event(), threading.Semaphore(0)

        def slow(*args: Any, **options: Any) -> bbopt.Query:
            inside_now.release()
            assert release.wait(30)
            return ask(*args, **options)

        monkeypatch.setattr(server.opt, "ask_query", slow)
        names = [f"rater {i}" for i in range(6)]
        for name in names:
            server.token(name)
        with ThreadPoolExecutor(len(names)) as pool:
            waiting = [pool.submit(server.next, name) for name in names]
            for _ in range(4):
                assert inside_now.acquire(timeout=30)
            assert server.answer(slate, {"verdict": "skip"}, "ann").status_code == 200
            while sum(found.done() for found in waiting) < 2:
                time.sleep(0.01)
            release.set()
            found = [future.result()["slate"] for future in waiting]
        assert sum(slate is None for slate in found) == 2, "four may wait for the strategy; the others come again"
