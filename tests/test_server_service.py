"""What a rater lives through: slates, answers, corrections, taking back; durable, idempotent, the same after a restart."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from server_inside import STUDY, inside, kinds, make, refusal, shown, taste

from server.ids import Place
from server.ledger import REPEAT


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make(tmp_path / "runs.db")


# -- the flow ------------------------------------------------------------------------------------------------------------


def test_a_slate_is_shown_until_it_is_answered(store: Path) -> None:
    with inside(store) as server:
        first, again = server.slate(), server.slate()
        assert (first["id"], shown(first), first["revision"], first["draft"]) == (again["id"], shown(again), 0, None)
        assert len(set(shown(first))) == len(first["items"]) > 1
        assert all(item["url"] == f"/v1/items/{item['id']}" and item["kind"] == "table" for item in first["items"])
        media = server.get(first["items"][0]["url"], "ann")
        assert media.status_code == 200 and media.headers["content-type"].startswith("text/html")
        receipt = server.answer(first, {"groups": [[name] for name in shown(first)], "elapsed_ms": 1500}).json()
        assert receipt["applied"] and receipt["revision"] == 1 and receipt["slate"] == first["id"]
        assert (
            receipt["progress"]["answers"] == receipt["progress"]["answers_all"] == receipt["progress"]["raters"] == 1
        )
        assert server.slate()["id"] != first["id"]
        (stored,) = server.opt.rankings()
        assert stored.rater == "ann" and stored.details == {"revision": 1, "elapsed_ms": 1500}
        assert stored.time == receipt["recorded"]


def test_items_are_shown_in_an_order_of_the_rater(tmp_path: Path) -> None:
    """The order of rows says nothing: two raters see one slate in different orders, and neither in that of the rows."""
    store = make(tmp_path / "runs.db", strategy="cmaes", quorum=3)
    with inside(store) as server:
        orders = []
        for who in ("ann", "bob", "eve"):
            slate = server.slate(who)
            places = [server.state.rooms.ids.open("item", STUDY, who, name) for name in shown(slate)]
            orders.append([place.row for place in places if place])
        assert len({tuple(order) for order in orders}) == 3
        assert all(sorted(order) == list(range(len(order))) for order in orders)


def test_ids_are_the_raters_own(store: Path) -> None:
    with inside(store) as server:
        slate = server.slate("ann")
        body = {"groups": [shown(slate)], "revision": 1}
        assert refusal(server.put(f"/v1/slates/{slate['id']}/answer", body, "bob")) == (404, "UnknownSlate")
        assert refusal(server.get(slate["items"][0]["url"], "bob")) == (404, "UnknownItem")
        assert refusal(server.get(slate["items"][0]["url"], "owner")) == (404, "UnknownItem")
        assert refusal(server.put("/v1/slates/AAAAAAAAAAAAAAAAAAAAAAAA/answer", body)) == (404, "UnknownSlate")
        other = server.slate("bob")
        mixed = {"groups": [shown(slate)[:-1] + shown(other)[:1]]}
        assert refusal(server.answer(slate, mixed)) == (422, "UnknownItem")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"groups": "all"}, "Unprocessable"),
        ({"groups": [["first"], ["first"]], "unseen": "rest"}, "Twice"),
        ({"groups": [["first"]]}, "Incomplete"),
        ({}, "Incomplete"),
        ({"groups": [["first"]], "unseen": "rest", "verdict": "all bad"}, "Contradiction"),
        ({"verdict": "fine"}, "Unprocessable"),
        ({"verdict": "skip", "revision": 0}, "Unprocessable"),
        ({"verdict": "skip", "revision": True}, "Unprocessable"),
        ({"verdict": "skip", "revision": 2**80}, "Unprocessable"),
        ({"verdict": "skip", "elapsed_ms": -1}, "Unprocessable"),
        ({"verdict": "skip", "mood": "good"}, "Unprocessable"),
    ],
)
def test_answers_that_do_not_fit_the_slate(store: Path, body: dict[str, Any], kind: str) -> None:
    with inside(store) as server:
        slate = server.slate()
        first, *rest = shown(slate)
        filled = {
            key: rest if value == "rest" else [[first] for _ in value] if key == "groups" and value != "all" else value
            for key, value in body.items()
        }
        assert refusal(server.answer(slate, filled)) == (422, kind)
        assert kinds(server.opt) == ["ask"] and server.slate()["id"] == slate["id"]


def test_verdicts_ties_and_what_was_not_looked_at(store: Path) -> None:
    with inside(store) as server:
        slate = server.slate()
        a, b, c, *rest = shown(slate)
        assert server.answer(slate, {"groups": [[a], [b, c]], "unseen": rest}).status_code == 200
        for verdict in ("all bad", "cannot tell", "skip", "broken"):
            assert server.answer(server.slate(), {"verdict": verdict}).status_code == 200
        ranked = [answer.ranking for answer in server.opt.rankings()]
        assert [len(group) for group in ranked[0].groups] == [1, 2] and len(ranked[0].unseen) == len(rest)
        assert [ranking.verdict for ranking in ranked] == [None, "all bad", "cannot tell", None, None]
        size = len(slate["items"])
        assert not ranked[3].groups and len(ranked[3].unseen) == size
        assert [answer.details.get("kind") for answer in server.opt.rankings()[3:]] == ["skip", "broken"]
        assert server.next()["progress"]["tie_rate"] == 1 / 3, "of the pairs that were judged, one was tied"


# -- once, and only once -------------------------------------------------------------------------------------------------


def test_a_thousand_duplicates_are_one_answer(store: Path) -> None:
    with inside(store) as server:
        slate = server.slate()
        body = {"groups": [[name] for name in shown(slate)], "elapsed_ms": 100}
        with ThreadPoolExecutor(8) as pool:
            receipts = list(pool.map(lambda _: server.answer(slate, body).json()["receipt"], range(1000)))
        assert len(set(receipts)) == 1 and kinds(server.opt) == ["ask", "rank"]


def test_revisions(store: Path) -> None:
    with inside(store) as server:
        slate = server.slate()
        names = shown(slate)
        path = f"/v1/slates/{slate['id']}/answer"
        first = {"groups": [[name] for name in names], "revision": 1}
        other = {"groups": [[name] for name in names[::-1]], "revision": 1}
        receipt = server.put(path, first).json()
        conflict = server.put(path, other)
        assert refusal(conflict) == (409, "Conflict")
        assert conflict.json()["stored"]["groups"] == first["groups"] and not conflict.json()["stored"]["withdrawn"]
        corrected = server.put(path, {**other, "revision": 2}).json()
        assert corrected["revision"] == 2 and corrected["receipt"] != receipt["receipt"]
        assert server.put(path, {**other, "revision": 2}).json() == corrected
        late = server.put(path, first)
        assert refusal(late) == (409, "Conflict") and late.json()["stored"]["groups"] == other["groups"]
        (stored,) = server.opt.rankings()
        assert stored.details["revision"] == 2 and server.next()["progress"]["answers"] == 1
        server.rate()  # the line search builds on it
        stands = server.put(path, {**first, "revision": 3})
        assert refusal(stands) == (409, "Depends") and stands.json()["stored"]["revision"] == 2
        assert server.put(path, {**other, "revision": 2}).json()["receipt"] == corrected["receipt"]


def test_a_skip_may_be_corrected(store: Path) -> None:
    with inside(store) as server:
        slate = server.slate()
        path = f"/v1/slates/{slate['id']}/answer"
        assert server.put(path, {"verdict": "skip", "revision": 1}).status_code == 200
        assert server.put(path, {"verdict": "broken", "revision": 2}).json()["revision"] == 2
        assert server.put(path, {"verdict": "skip", "revision": 1}).json()["stored"]["verdict"] == "broken"
        assert server.put(path, {"groups": [shown(slate)], "revision": 3}).json()["revision"] == 3
        assert server.opt.rankings()[0].details == {"revision": 3, "elapsed_ms": None}


# -- taking back ---------------------------------------------------------------------------------------------------------


def test_undo_puts_the_search_back(store: Path) -> None:
    """State and next slate are those from before the answer, to the bit; the slate comes again with the old answer."""
    with inside(store) as server:
        server.rate(slates=5)
        slate = server.slate()
        before = server.strategy_state()
        groups = server.order(slate, "ann")
        server.answer(slate, {"groups": groups})
        later = server.slate()
        assert server.strategy_state() != before
        back = server.undo().json()["slate"]
        assert (back["id"], shown(back), back["revision"]) == (slate["id"], shown(slate), 1)
        assert [sorted(group) for group in back["draft"]] == [sorted(group) for group in groups]
        assert server.strategy_state() == before
        gone = server.answer(later, {"groups": server.order(later, "ann")})
        assert refusal(gone) == (409, "SlateGone")
        assert server.slate()["id"] == slate["id"] and server.slate()["draft"] is not None
        replayed = server.put(f"/v1/slates/{slate['id']}/answer", {"groups": groups, "revision": 1})
        assert refusal(replayed) == (409, "Conflict") and replayed.json()["stored"]["withdrawn"]
        assert server.answer(back, {"groups": groups}).json()["revision"] == 2
        assert server.next()["progress"]["answers"] == 6


def test_undo_step_by_step_to_the_start(store: Path) -> None:
    with inside(store) as server:
        states = [server.strategy_state()]
        for _ in range(6):
            server.rate()
            states.append(server.strategy_state())
        for state in states[-2::-1]:
            assert server.undo().status_code == 200
            assert server.strategy_state() == state
        assert refusal(server.undo()) == (409, "NothingToUndo")


def test_undo_of_an_answer_that_was_built_on(store: Path) -> None:
    with inside(store) as server:
        slate = server.slate()
        server.rate(slates=4)
        state = server.strategy_state()
        assert refusal(server.undo(slate=slate["id"])) == (409, "Depends")
        assert refusal(server.undo(slate="AAAAAAAAAAAAAAAAAAAAAAAA")) == (404, "UnknownSlate")
        assert refusal(server.post(f"/v1/studies/{STUDY}/undo?cascade=true", {}, "ann")) == (403, "WrongRole")
        assert server.strategy_state() == state and server.room.ledger().total == 4


def test_an_owner_takes_back_with_everything_that_followed(store: Path) -> None:
    with inside(store) as server:
        server.rate(slates=2)
        before = server.strategy_state()
        server.rate(slates=4)
        history = server.get(f"/v1/studies/{STUDY}/history").json()["slates"]
        third = next(slate for slate in history if slate["query"] == 2)
        path = f"/v1/studies/{STUDY}/undo"
        assert refusal(server.post(path, {"slate": third["slate"]})) == (409, "Depends")
        assert server.post(f"{path}?cascade=true", {"slate": third["slate"]}).json() == {"slate": None, "undone": 4}
        assert server.strategy_state() == before
        assert server.post(path, {"rater": "ann"}).json()["undone"] == 1
        assert refusal(server.post(path, {"rater": "bob"})) == (409, "NothingToUndo")


# -- repeats -------------------------------------------------------------------------------------------------------------


def test_slates_are_shown_again(store: Path) -> None:
    """With a share close to 1, every slate that may be repeated is, once; second looks teach the strategy nothing."""
    with inside(store, repeats=0.99) as server:
        looks = []
        for _ in range(12):
            slate = server.slate()
            looks.append(server.place(slate, "ann"))
            assert server.slate()["id"] == slate["id"]
            server.answer(slate, {"groups": server.order(slate, "ann", lambda p: round(taste(p), 1))})
        repeats = [query for query, look in looks if look == REPEAT]
        assert len(repeats) >= 4 and len(set(repeats)) == len(repeats)
        firsts = [query for query, look in looks if look != REPEAT]
        assert set(repeats) <= set(firsts) and sorted(firsts) == firsts
        second = [answer for answer in server.opt.rankings() if answer.rater == "ann/repeat"]
        assert len(second) == len(repeats) and not any(answer.applied for answer in second)
        assert server.next()["progress"] | {"answers": 12, "raters": 1} == server.next()["progress"]
    with inside(store, repeats=0.99) as server:
        query, _ = server.place(server.slate(), "ann")
        assert query not in repeats


def test_a_repeat_of_what_was_taken_back_is_gone(tmp_path: Path) -> None:
    with inside(make(tmp_path / "runs.db", strategy="cmaes"), repeats=0.99) as server:
        slate, look = server.slate(), 0
        while look != REPEAT:
            server.answer(slate, {"groups": server.order(slate, "ann")})
            slate = server.slate()
            query, look = server.place(slate, "ann")
        first = server.state.rooms.ids.seal("slate", STUDY, "ann", Place(query))
        assert server.undo(slate=first).status_code == 200
        assert refusal(server.answer(slate, {"verdict": "skip"})) == (409, "SlateGone")


def test_with_an_answer_its_repeat_is_taken_back(tmp_path: Path) -> None:
    with inside(make(tmp_path / "runs.db", strategy="cmaes"), repeats=0.99) as server:
        for _ in range(12):
            slate = server.slate()
            query, look = server.place(slate, "ann")
            server.answer(slate, {"groups": server.order(slate, "ann")})
            if look == REPEAT:
                break
        assert look == REPEAT
        history = server.get(f"/v1/studies/{STUDY}/history").json()["slates"]
        answers = next(slate for slate in history if slate["query"] == query)["answers"]
        assert [answer["repeat"] for answer in answers] == [False, True]
        assert answers[0]["groups"] == answers[1]["groups"], "the same items, whatever they were called"
        undone = server.undo().json()["slate"]
        assert server.place(undone, "ann") == (query, REPEAT)
        server.answer(undone, {"verdict": "skip"})
        first = server.state.rooms.ids.seal("slate", STUDY, "ann", Place(query))
        assert server.undo(slate=first).json()["undone"] == 2
        assert not [answer for answer in server.opt.rankings() if answer.query == query]
