"""Several raters on one study: nobody waits for the others, what is late is recorded, and the search is the one in process."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract.hand import content
from server_inside import STUDY, Inside, inside, kinds, make, picture, refusal, taste

import bbopt
from server.ids import Ids, Place
from server.ledger import NOTHING, REPEAT, Ledger, Tally
from server.slates import OWNER, Leases, choose, repeat_for

RATERS = ("ann", "bob", "eve")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make(tmp_path / "runs.db", quorum=2)


def slates(server: Inside) -> dict[int, bbopt.Slate]:
    return {slate.query: slate for slate in server.opt.slates()}


# -- rank-sgd and several people -----------------------------------------------------------------------------------------


def test_gradient_slates_for_everybody_then_one_line_search_for_all(store: Path) -> None:
    with inside(store) as server:
        mine = {who: server.slate(who) for who in RATERS}
        queries = [server.place(slate, who)[0] for who, slate in mine.items()]
        assert queries == [0, 1, 2] and {slates(server)[q].memo["phase"] for q in queries} == {"gradient"}
        assert len({slates(server)[q].memo["step"] for q in queries}) == 1, "at one iterate"
        assert server.answer(mine["ann"], {"groups": server.order(mine["ann"], "ann")}).json()["applied"]
        line = server.slate("ann")
        query, _ = server.place(line, "ann")
        assert slates(server)[query].memo["phase"] == "line search" and slates(server)[query].quorum == 2
        first = server.answer(line, {"groups": server.order(line, "ann")}).json()
        assert not first["applied"], "two must answer"
        spare = server.slate("ann")
        assert slates(server)[server.place(spare, "ann")[0]].memo["phase"] == "gradient", "ann does not wait for them"
        server.answer(mine["bob"], {"groups": server.order(mine["bob"], "bob")}, "bob")
        shared = server.slate("bob")
        assert server.place(shared, "bob") == (query, 0) and shared["id"] != line["id"]
        assert server.answer(shared, {"groups": server.order(shared, "bob")}, "bob").json()["applied"]
        assert slates(server)[query].answered
        x = server.opt._state().x
        late = server.answer(mine["eve"], {"groups": server.order(mine["eve"], "eve")}, "eve").json()
        assert late["progress"]["answers_all"] == 5 and late["progress"]["raters"] == 3
        assert server.opt.rankings()[-1].rater == "eve", "recorded"
        np.testing.assert_array_equal(server.opt._state().x, x, "and the search stays where the line search led")
        query, _ = server.place(server.slate("eve"), "eve")
        assert slates(server)[query].memo["step"] > slates(server)[2].memo["step"], "eve goes on where the others are"


def test_a_late_answer_to_a_closed_slate_is_recorded_and_not_applied(store: Path) -> None:
    with inside(store, lease_seconds=0.05) as server:
        server.rate("ann")
        lines = {}
        for who in RATERS:  # leases end at once: all three have the line search before them
            lines[who] = server.slate(who)
            time.sleep(0.06)
        assert {server.place(slate, who) for who, slate in lines.items()} == {server.place(lines["ann"], "ann")}
        applied = [
            server.answer(lines[who], {"groups": server.order(lines[who], who)}, who).json()["applied"]
            for who in RATERS
        ]
        assert applied == [False, True, False]
        state = server.strategy_state()
        assert server.undo("eve").status_code == 200, "taking back what was not applied changes nothing"
        assert server.strategy_state() == state and server.room.ledger().total == 3


def test_two_raters_fifty_slates_in_parallel(tmp_path: Path) -> None:
    """No lost update: every acknowledged answer is in the log once, and the log folds to the live state."""
    with inside(make(tmp_path / "runs.db")) as server:
        for who in ("ann", "bob"):
            server.token(who)
        with ThreadPoolExecutor(2) as pool:
            receipts = list(pool.map(lambda who: server.rate(who, 50), ("ann", "bob")))
        assert all(len({receipt["slate"] for receipt in mine}) == 50 for mine in receipts)
        answers = server.opt.rankings()
        assert len(answers) == len({(answer.query, answer.rater) for answer in answers}) == 100
        live = server.strategy_state()
    with bbopt.Optimizer.open(tmp_path / "runs.db", STUDY) as again:
        assert content(again._state()) == live
        assert taste(again.best().params) > -0.05  # type: ignore[union-attr]


def test_one_rater_who_asks_twice_at_once_has_one_slate(tmp_path: Path) -> None:
    with inside(make(tmp_path / "runs.db")) as server:
        server.token("ann")
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: server.next("ann"), range(16)))
        assert len({answer["slate"]["id"] for answer in found if answer["slate"]}) == 1
        assert kinds(server.opt) == ["ask"]


# -- waiting, leases, deadlines, the end ---------------------------------------------------------------------------------


def test_a_strategy_that_waits(tmp_path: Path) -> None:
    """CMA-ES has one population out: bob waits for ann, and gets hers once she has left."""
    with inside(make(tmp_path / "runs.db", strategy="cmaes"), lease_seconds=0.3) as server:
        slate = server.slate("ann")
        waiting = server.next("bob")
        assert (waiting["slate"], waiting["why"], waiting["retry_seconds"]) == (None, "waiting", 2)
        time.sleep(0.2)
        assert server.post(f"/v1/slates/{slate['id']}/heartbeat", {}, "ann").status_code == 200
        time.sleep(0.2)
        assert server.next("bob")["slate"] is None
        time.sleep(0.2)
        taken = server.slate("bob")
        assert server.place(taken, "bob") == server.place(slate, "ann")
        assert server.next("ann")["slate"] is None, "it is bob's now"
        assert server.answer(taken, {"verdict": "cannot tell"}, "bob").json()["applied"]
        assert not server.answer(slate, {"verdict": "all bad"}, "ann").json()["applied"]


def test_a_search_that_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*_: Any, **__: Any) -> Any:
        raise bbopt.Exhausted("the search has ended")

    with inside(make(tmp_path / "runs.db")) as server:
        monkeypatch.setattr(server.opt, "ask_query", ended)
        assert (server.next()["slate"], server.next()["why"]) == (None, "finished")


def test_points_that_people_enqueued_are_no_slates(tmp_path: Path) -> None:
    with inside(make(tmp_path / "runs.db", strategy="random")) as server:
        for x in (0.1, 0.2):
            assert (
                server.post(f"/v1/studies/{STUDY}/enqueue", {"params": {"x0": x, "x1": x, "x2": x}}).status_code == 201
            )
        assert len(server.slate()["items"]) == 6 and len(server.slate("bob")["items"]) == 6


def test_paused_and_goal(tmp_path: Path) -> None:
    with inside(make(tmp_path / "runs.db"), goal=3) as server:
        slate = server.slate()
        assert server.post(f"/v1/studies/{STUDY}/pause", {"paused": True}).status_code == 200
        assert (server.next()["slate"], server.next()["why"]) == (None, "paused")
        assert refusal(server.post(f"/v1/studies/{STUDY}/ask", {})) == (409, "Paused")
        assert server.answer(slate, {"verdict": "skip"}).status_code == 200, "what is at hand is taken"
        assert server.post(f"/v1/studies/{STUDY}/pause", {"paused": False}).status_code == 200
        server.rate(slates=2)
        done = server.next()
        assert (done["slate"], done["why"], done["progress"]["goal"]) == (None, "finished", 3)
        assert server.slate("bob") and server.undo().status_code == 200
        assert server.slate()


def test_a_deadline_settles_with_the_answers_that_there_are(store: Path) -> None:
    with inside(store, deadline_seconds=0.4) as server:
        server.rate("ann", 2)
        assert not server.opt.rankings()[-1].applied
        for _ in range(50):
            if server.opt.rankings()[-1].applied:
                break
            time.sleep(0.05)
        assert kinds(server.opt) == ["ask", "rank", "ask", "rank", "settle"]
        assert server.room.settle_due(0.0, time.time()) == 0, "what nobody has answered is not settled"


# -- the choice, as a function -------------------------------------------------------------------------------------------


def study(quorum: int = 1, strategy: Any = "random") -> bbopt.Optimizer:
    return bbopt.Optimizer(picture(2), strategy, quorum=quorum, name=STUDY)


IDS = Ids(b"sixteen bytes or")


def choice(opt: bbopt.Optimizer, who: str, leases: Leases, now: float, repeats: float = 0.0) -> Place | None:
    return choose(Ledger.of(opt), who, leases, IDS, STUDY, repeats, now)


def test_choice_among_open_slates() -> None:
    opt, now = study(quorum=2), time.time()
    leases = Leases(100.0, now)
    for who in ("ann", "bob"):
        opt.ask_query(4, owner=OWNER + who)
    assert choice(opt, "ann", leases, now) == Place(0) and choice(opt, "bob", leases, now) == Place(1)
    assert choice(opt, "eve", leases, now) == Place(0), "ann works on it, one more is wanted"
    leases.take(0, "eve", now)
    assert choice(opt, "joe", leases, now) == Place(1)
    leases.take(1, "joe", now)
    assert choice(opt, "zoe", leases, now) is None, "two people work on each: a new one must be asked"
    assert choice(opt, "zoe", leases, now + 99) is None and choice(opt, "zoe", leases, now + 101) == Place(0)
    opt.rank([0, 1, 2, 3], rater="ann")
    assert choice(opt, "ann", leases, now) is None and choice(opt, "eve", leases, now) == Place(0)
    leases.drop(0, "eve")
    opt.rank([0, 1, 2, 3], rater="eve")
    assert choice(opt, "zoe", leases, now) is None and choice(opt, "bob", leases, now) == Place(1)
    opt.cancel(4), opt.cancel(5), opt.cancel(6), opt.cancel(7)
    assert choice(opt, "bob", leases, now) is None


def test_a_line_search_comes_before_older_slates() -> None:
    opt, now = study(2, "rank-sgd"), time.time()
    leases = Leases(100.0, now)
    for who in ("ann", "bob"):
        opt.ask_query(owner=OWNER + who)
    opt.rank(list(opt.slates()[0].numbers), rater="ann")
    opt.ask_query(owner=OWNER + "ann")
    assert [slate.memo["phase"] for slate in opt.slates()] == ["gradient", "gradient", "line search"]
    assert choice(opt, "eve", leases, now) == Place(2), "it needs two people"
    assert choice(opt, "eve", leases, now + 101) == Place(2), "and goes before what bob has left"
    assert choice(opt, "bob", leases, now + 101) == Place(1), "who finds his own again"


def test_what_a_program_asked_is_the_programs_for_a_while() -> None:
    opt, now = study(), time.time()
    leases = Leases(100.0, now - 500.0)
    opt.ask_query(4, owner="ann")  # a program of this name is not the rater
    assert choice(opt, "ann", leases, now) is None and choice(opt, "ann", leases, now + 101) == Place(0)
    opt.ask_query(4, owner=OWNER + "ann")
    assert choice(opt, "ann", leases, now) == Place(1)


def test_leases_that_have_ended_are_forgotten() -> None:
    opt, leases = study(), Leases(10.0, 0.0)
    for query in range(2000):
        leases.take(query, "ann", float(query))
    assert len(leases._held) <= 500
    opt.ask_query(2)
    leases.take(0, "ann", 5000.0)
    assert leases.end(opt.slates()[0], "ann") == 5010.0
    leases.drop(0, "ann")
    assert leases.end(opt.slates()[0], "ann") == 0.0


def test_a_second_look_counts_for_nobody() -> None:
    opt, leases = study(quorum=2), Leases(1.0, 0.0)
    opt.ask_query(3, owner="somebody")
    opt.rank([0, 1, 2], rater="ann")
    opt.rank([0, 1, 2], rater="ann/repeat")
    assert choice(opt, "bob", leases, time.time() + 10) == Place(0)


def test_the_share_of_repeats() -> None:
    opt = study()
    for _ in range(400):
        query = opt.ask_query(2, owner=OWNER + "ann")
        opt.rank([query.first], rater="ann")
    ledger = Ledger.of(opt)
    shares = []
    for share in (0.05, 0.3):
        found = 0
        for count in range(400):
            cut = replace(ledger, tallies={"ann": Tally(ledger.answers[:count])})
            place = repeat_for(cut, "ann", IDS, STUDY, share)
            found += place is not None
            assert place is None or (place.look == REPEAT and place.query < count - 2)
        shares.append(found / 400)
    np.testing.assert_allclose(shares, [0.05, 0.3], atol=0.05)


@pytest.mark.parametrize("strategy", ["random", "rank-sgd"])
def test_the_ledger_grows_as_one_that_is_read_anew(strategy: str) -> None:
    opt = study(2, strategy)
    ledger = Ledger.of(opt)

    def grown() -> Ledger:
        longer, fresh = Ledger.of(opt, ledger), Ledger.of(opt)
        assert (longer.slates, longer.answers, longer.last) == (fresh.slates, fresh.answers, fresh.last)
        assert list(longer.open.items()) == list(fresh.open.items()) and +Counter(longer.ended) == +Counter(fresh.ended)
        for rater in ("ann", "bob"):
            mine, theirs = longer.tallies.get(rater, NOTHING), fresh.tallies.get(rater, NOTHING)
            assert (mine.answers, mine.pairs, mine.ties) == (theirs.answers, theirs.pairs, theirs.ties)
        assert (longer.total, longer.round) == (fresh.total, fresh.round)
        return longer

    for step in range(12):
        query = opt.ask_query(3, owner=OWNER + "ann")
        opt.rank([list(query.numbers)[:2]], rater="ann")
        ledger = grown()
        if step % 3:
            opt.rank(list(query.numbers)[::-1], rater="bob", details={"revision": step})
        if step % 4 == 3:
            opt.rank(list(query.numbers), rater="ann", replace=True)
        ledger = grown()
        if step == 7:
            opt.rank(list(query.numbers), rater="ann/repeat")
        if step == 8:
            opt.settle(query.first)
        if step % 5 == 4:
            opt.retract(query.first, rater="ann")
        if step == 10 and strategy == "random":
            opt.retract(opt.slates()[1].numbers[0], rater="bob")  # open again, before others that are
        ledger = grown()


# -- the same search as in process ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("strategy", "count"), [("rank-sgd", 40), ("cmaes", 12), ("openes", 12), ("preference-gp", 6)])
def test_over_http_the_search_is_the_one_in_process(tmp_path: Path, strategy: str, count: int) -> None:
    """A rater that drives nothing but HTTP reaches the iterates of ask and rank with an equal seed, bit for bit."""
    here = bbopt.Optimizer(picture(4), strategy, seed=7, name=STUDY)
    for _ in range(count):
        query = here.ask_query(6)
        worth = {number: taste(here.trial(number).params) for number in query.numbers}
        here.rank(
            [[n for n in worth if worth[n] == value] for value in sorted(set(worth.values()), reverse=True)],
            rater="ann",
        )
    store = make(tmp_path / "runs.db", picture(4), strategy, seed=7)
    with inside(store) as server:
        server.rate(slates=count)
        assert server.strategy_state() == content(here._state())
        assert [trial.params for trial in server.opt.trials()] == [trial.params for trial in here.trials()]
        best = server.get(f"/v1/studies/{STUDY}/best").json()["best"]
        assert best["params"] == here.best().params  # type: ignore[union-attr]
