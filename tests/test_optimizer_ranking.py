"""Several people and their rankings: quorums, what comes late, settling, details, the best, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract.hand import content
from contract.study import reopen
from contract.tasks import plain
from contract.toys import Ladder, Population

from bbopt.errors import AlreadyTold, BboptError, UnknownTrial, UsageError
from bbopt.optimizer import Optimizer
from bbopt.query import Ranking
from bbopt.slates import RankRequest
from bbopt.task import Task

TASK = Task(plain(2).task.space, feedback="ranking")


# -- one answer ----------------------------------------------------------------------------------------------------------


def test_details_are_kept_with_the_answer(tmp_path: Path) -> None:
    opt = Optimizer(TASK, Population(), store=tmp_path / "details.db")
    opt.ask(5)
    details = {"slate": "a7", "revision": 1, "elapsed_ms": 5300, "marks": [1, None, "é\ud800"]}
    opt.rank([0, 1, 2, 3, 4], rater="ann", details=details)
    opt.rank([0, 1, 2, 3, 4], rater="ann", details={"revision": 2})  # the same answer: a no-op
    opt = reopen(opt, tmp_path / "details.db", Population())
    (answer,) = opt.rankings()
    assert answer.details == details and answer.details is not details
    assert (answer.rater, answer.query, answer.first, answer.size, answer.applied) == ("ann", 0, 0, 5, True)
    assert answer.time.startswith("20") and answer.position == 2
    opt.close()


@pytest.mark.parametrize(
    "details",
    [[1], "text", {"a": {1, 2}}, {"a": float("nan")}, {"a": np.zeros(2)}, {"__array__": [1]}, {"a": {"__bytes__": 0}}],
)
def test_details_that_are_not_json(details: Any) -> None:
    """Also names by which the store marks arrays: they would make the log unreadable."""
    opt = Optimizer(TASK, Population())
    opt.ask(5)
    with pytest.raises(UsageError, match="details"):
        opt.rank([0, 1, 2, 3, 4], details=details)
    assert opt.rankings() == []


def test_a_skipped_slate_is_an_answer_without_information() -> None:
    opt = Optimizer(TASK, Ladder())
    state = opt._state()
    opt.ask_query()
    opt.rank([], unseen=[0, 1, 2], rater="ann")
    assert opt.trial(0).status == "ranked" and opt.best() is None
    assert content(opt._state().x) == content(state.x)
    opt.ask_query()
    with pytest.raises(UsageError, match="none and 2 not unseen"):
        opt.rank([], unseen=[3])
    opt.rank([[3, 4, 5]])
    best = opt.best()
    assert best is not None and best.number == 3


WRONG: list[tuple[dict[str, Any], type[BboptError], str]] = [
    ({"order": [0, 1, 1]}, UsageError, "once"),
    ({"order": []}, UsageError, "once"),
    ({"order": [0, 5]}, UsageError, "one query"),
    ({"order": [99]}, UnknownTrial, "99"),
    ({"order": "0123"}, UsageError, "order"),
    ({"order": 3}, UsageError, "order"),
    ({"order": [0.5]}, UsageError, "0.5"),
    ({"order": [True]}, UsageError, "True"),
    ({"order": [[[0]]]}, UsageError, "number"),
    ({"order": [0], "unseen": 1}, UsageError, "unseen"),
    ({"order": [0], "rater": None}, UsageError, "rater"),
    ({"order": [0], "rater": 7}, UsageError, "rater"),
    ({"order": [0], "verdict": "fine"}, UsageError, "all bad"),
    ({"order": [0], "verdict": ["all bad"]}, UsageError, "verdict"),
    ({"order": [0], "details": 3}, UsageError, "details"),
]


@pytest.mark.parametrize(("answer", "kind", "named"), WRONG, ids=[str(item[0]) for item in WRONG])
def test_wrong_answers_are_refused(answer: dict[str, Any], kind: type[BboptError], named: str) -> None:
    """By `rank`, and in a group without harm to the others; nothing of it is written."""
    opt = Optimizer(TASK, Population())
    opt.ask(5)
    with pytest.raises(kind, match=named):
        opt.rank(**answer)
    assert opt.position == 1
    refused = opt.rank_many([answer, {"order": [0, 1, 2, 3, 4]}, RankRequest(**answer)])
    assert [type(error) for error in refused] == [kind, type(None), kind]
    assert opt.position == 2 and opt.trial(0).status == "ranked"


def test_wrong_items_of_a_group() -> None:
    opt = Optimizer(TASK, Population())
    opt.ask(5)
    bad: list[Any] = [{"order": [0], "who": "ann"}, {"rater": "ann"}, [0, 1, 2], None, {"order": [0], 3: 1}]
    assert [type(error) for error in opt.rank_many(bad)] == [UsageError] * 5
    assert "who" in str(opt.rank_many(bad)[0])
    assert opt.rank_many([]) == [] and opt.position == 1


def test_ranked_or_told_but_not_both() -> None:
    """Also while a quorum is not there yet."""
    opt = Optimizer(TASK, Population(), quorum=2)
    query = opt.ask_query()
    opt.rank([0, 1, 2, 3, 4], rater="ann")
    with pytest.raises(AlreadyTold, match=r"'ann'.*retract"):
        opt.tell(0, 1.0)
    with pytest.raises(AlreadyTold, match="ann"):
        opt.tell_query(query, np.zeros(5))
    opt.retract(0, rater="ann")
    opt.tell(0, 1.0)
    with pytest.raises(AlreadyTold, match="values"):
        opt.rank([0, 1, 2, 3, 4], rater="ann")


def test_a_queued_query_can_be_ranked() -> None:
    """Rows that nobody was given yet are queued again when the answer is taken back: they still go out."""
    opt = Optimizer(TASK, Population())
    opt.ask(2)
    assert [trial.status for trial in opt.trials()] == ["open"] * 2 + ["queued"] * 3
    opt.rank([4, 3, 2, 1, 0])
    opt.retract(4)
    assert [trial.status for trial in opt.trials()] == ["open"] * 2 + ["queued"] * 3
    opt.rank([1])
    assert opt.rankings()[0].ranking == Ranking(((1,), (0,)), unseen=(2, 3, 4)), "nobody can have seen 2 to 4"
    opt.retract(0)
    assert [trial.number for trial in opt.ask(3)] == [2, 3, 4]
    opt.rank([1])
    assert opt.rankings()[0].ranking == Ranking(((1,), (0, 2, 3, 4)))


def test_a_cancelled_query_is_not_ranked() -> None:
    opt = Optimizer(TASK, Population())
    opt.ask_query()
    for number in range(5):
        opt.cancel(number)
    with pytest.raises(UsageError, match="cancelled"):
        opt.rank([0, 1, 2, 3, 4])
    (slate,) = opt.slates()
    assert slate.cancelled and not slate.answered and not slate.open


def test_a_query_of_lost_rows_can_still_be_ranked() -> None:
    """It had been told as lost: the ranking takes that lesson's place, and undo brings it back."""
    opt = Optimizer(TASK, Population(), retries=0)
    opt.ask(5)
    for number in range(5):
        opt.fail(number, "nobody there")
    lost = content(opt._state())
    opt.rank([2, 1, 0, 3, 4], rater="ann")
    ranked = content(opt._state())
    assert ranked != lost and {trial.status for trial in opt.trials()} == {"ranked"}
    plain_study = Optimizer(TASK, Population(), retries=0)
    plain_study.ask(5)
    plain_study.rank([2, 1, 0, 3, 4], rater="ann")
    assert content(plain_study._state()) == ranked
    opt.retract(0)
    assert content(opt._state()) == lost and {trial.status for trial in opt.trials()} == {"lost"}
    opt.rank([0, 1, 2, 3, 4], rater="ann")


# -- several people ------------------------------------------------------------------------------------------------------


def test_a_memo_says_how_many_must_rank_and_late_answers_are_not_applied(tmp_path: Path) -> None:
    opt = Optimizer(TASK, Ladder(), quorum=2, store=tmp_path / "ladder.db")
    looks = [opt.ask_query(owner=f"rater:{who}") for who in ("ann", "bob", "cyd")]
    assert [slate.quorum for slate in opt.slates()] == [1, 1, 1]
    assert [slate.owner for slate in opt.slates()] == ["rater:ann", "rater:bob", "rater:cyd"]
    opt.rank(looks[1].numbers, rater="bob")
    decision = opt.ask_query()
    assert opt.slates()[-1].quorum == 2 and decision.memo["step"] == 1
    spare = opt.ask_query()
    assert (spare.memo["step"], spare.memo["quorum"]) == (0, 1), "nobody waits"
    opt.rank(looks[0].numbers, rater="ann")
    assert opt._state().late == 1, "an answer to a step that is over: the strategy leaves it aside"
    opt.rank(decision.numbers, rater="ann")
    assert opt.slates()[3].raters == ("ann",) and opt.slates()[3].open
    opt.rank(decision.numbers, rater="bob")
    state = content(opt._state())
    opt.rank(list(decision.numbers)[::-1], rater="cyd")
    assert content(opt._state()) == state, "after the quorum: kept, not applied"
    assert [(answer.rater, answer.applied) for answer in opt.rankings()] == [
        ("bob", True), ("ann", True), ("ann", True), ("bob", True), ("cyd", False)
    ]  # fmt: skip
    opt = reopen(opt, tmp_path / "ladder.db", Ladder())
    assert content(opt._state()) == state and opt.slates()[3].raters == ("ann", "bob", "cyd")
    opt.close()


def test_settled_early_and_what_comes_then() -> None:
    """Those who have ranked are enough; a later answer is kept. Taking a counted one back undoes the settling."""
    opt = Optimizer(TASK, Population(), quorum=3)
    opt.ask(5)
    with pytest.raises(UsageError, match=r"settle.*nobody.*0 to 4"):
        opt.settle(0)
    opt.rank([0, 1, 2, 3, 4], rater="ann/repeat")
    with pytest.raises(UsageError, match="settle"):
        opt.settle(0)
    opt.rank([0, 1, 2, 3, 4], rater="ann")
    opt.rank([0, 1, 2, 4, 3], rater="bob")
    before = content(opt._state())
    opt.settle(2)
    assert opt.trial(0).status == "ranked"
    assert opt._book.records[0].ranking == Ranking(((0,), (1,), (2,), (3, 4)))
    settled = content(opt._state())
    opt.settle(2)
    opt.rank([4, 3, 2, 1, 0], rater="cyd")
    assert content(opt._state()) == settled, "late"
    opt.retract(0, rater="cyd")
    assert content(opt._state()) == settled and opt.trial(0).status == "ranked"
    opt.rank([4, 3, 2, 1, 0], rater="cyd")
    opt.retract(0, rater="bob")
    assert content(opt._state()) == before and opt.trial(0).status == "open", "ann and cyd are not three"
    opt.settle(0)
    assert [(answer.rater, answer.applied) for answer in opt.rankings()] == [
        ("ann/repeat", False), ("ann", True), ("cyd", True)
    ]  # fmt: skip
    with pytest.raises(UnknownTrial):
        opt.settle(99)


def test_replacing_an_answer_is_one_event_and_keeps_its_place() -> None:
    opt = Optimizer(TASK, Population(), quorum=2)
    opt.ask(5)
    for rater, order in (("ann", [0, 1, 2, 3, 4]), ("bob", [0, 1, 2, 3, 4]), ("cyd", [4, 3, 2, 1, 0])):
        opt.rank(order, rater=rater)
    with pytest.raises(AlreadyTold, match=r"retract\(0, rater='ann'\).*replace=True"):
        opt.rank([4, 3, 2, 1, 0], rater="ann")
    position = opt.position
    opt.rank([4, 3, 2, 1, 0], rater="ann", replace=True, details={"revision": 2})
    assert opt.position == position + 1
    assert opt._book.records[0].ranking == Ranking(((0, 1, 2, 3, 4),)), "ann and bob count as before, cyd came late"
    opt.rank([4, 3, 2, 1, 0], rater="ann", replace=True, details={"revision": 2})
    assert opt.position == position + 1, "the same again is a no-op"
    opt.rank([4, 3, 2, 1, 0], rater="ann", replace=True, details={"revision": 3})
    assert opt.position == position + 2, "unless other details are to be kept"
    standing = [(answer.rater, answer.applied, answer.details) for answer in opt.rankings()]
    assert standing == [("bob", True, {}), ("cyd", False, {}), ("ann", True, {"revision": 3})]
    gone = [answer for answer in opt.rankings(withdrawn=True) if answer.withdrawn]
    assert [(answer.rater, answer.position, answer.applied) for answer in gone] == [
        ("ann", 2, False),
        ("ann", 5, False),
    ]
    other = Optimizer(TASK, Population(), quorum=2)
    other.ask(5)
    other.rank([4, 3, 2, 1, 0], rater="ann")
    other.rank([0, 1, 2, 3, 4], rater="bob")
    assert content(opt._state()) == content(other._state()), "as if it had been so always"


def test_other_details_of_the_same_ranking_change_no_path() -> None:
    """They can be corrected although the strategy has gone on; ties are the same in whichever order they are named."""
    opt = Optimizer(TASK, Ladder())
    first = opt.ask_query()
    opt.rank([0, [1, 2]], rater="ann", details={"why": "skip"})
    second = opt.ask_query()
    opt.rank(second.numbers, rater="bob")
    third, state = opt.ask_query(), content(opt._state())
    opt.rank([0, [2, 1]], rater="ann")
    opt.rank([0, [2, 1]], rater="ann", details={"why": "broken"}, replace=True)
    assert [answer.details for answer in opt.rankings() if answer.query == first.id] == [{"why": "broken"}]
    assert opt.rankings()[-1].applied
    assert content(opt._state()) == state and opt.slates()[third.id].open
    with pytest.raises(UsageError, match="gone on"):
        opt.rank([0, 1, 2], rater="ann", replace=True)


# -- best ----------------------------------------------------------------------------------------------------------------


def test_best_is_the_recommendation_or_the_last_winner() -> None:
    class Sure(Ladder):
        def recommend(self, task: Task, state: Any) -> Any:
            thoughts.append(1)
            return state.x

    thoughts: list[int] = []
    sure, unsure = Optimizer(TASK, Sure()), Optimizer(TASK, Ladder())
    for opt in (sure, unsure):
        assert opt.best() is None
        for order in ([1, 0, 2], [4, 3, 5]):
            opt.ask_query()
            opt.rank(order, rater="ann")
        query = opt.ask_query()
        opt.rank([], unseen=query.numbers)  # the strategy stays where it is
        best = opt.best()
        assert best is not None and best.number == 4
        opt.retract(query.first)
        opt.rank([query.first], verdict="all bad")
        assert opt.best() == best
    thoughts.clear()
    for _ in range(3):
        assert sure.best() == sure.recommend()
    assert thoughts == [], "the same state is thought about once"


# -- what is written -----------------------------------------------------------------------------------------------------


def test_answers_are_json() -> None:
    """What a client gets of rankings and agreement survives JSON."""
    opt = Optimizer(TASK, Population(), quorum=2)
    opt.ask(5)
    opt.rank([0, 1, 2, 3, 4], rater="ann")
    opt.rank([1, 0, 2, 3, 4], rater="bob")
    document = opt.agreement().to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_a_failed_commit_forgets_the_group(tmp_path: Path) -> None:
    """Answers that were applied but could not be written are gone, in this object too."""
    opt = Optimizer(TASK, Population(), store=tmp_path / "full.db")
    opt.ask(5)
    ok: Callable[..., Any] = opt._store.writing

    class Broken(Exception):
        pass

    @contextmanager
    def writing(name: str) -> Any:
        with ok(name) as writer:
            yield writer
            raise Broken

    opt._store.writing = writing  # type: ignore[method-assign]
    with pytest.raises(Broken):
        opt.rank_many([RankRequest([0, 1, 2, 3, 4])])
    opt._store.writing = ok  # type: ignore[method-assign]
    assert opt.rankings() == [] and opt.position == 1 and opt.slates()[0].open
    opt.rank([4, 3, 2, 1, 0])
    assert [answer.ranking.groups[0] for answer in opt.rankings()] == [(4,)]
    opt.close()
