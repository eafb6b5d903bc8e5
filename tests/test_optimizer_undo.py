"""Rankings that are taken back or corrected: the state before, exactly; and many people in threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from contract.hand import content
from contract.tasks import plain
from contract.toys import Ladder, Population, Walk

from bbopt.errors import AlreadyTold, BboptError, UsageError, Waiting
from bbopt.optimizer import Optimizer
from bbopt.parameters import Float
from bbopt.query import Ranking
from bbopt.slates import RankRequest
from bbopt.space import Space
from bbopt.task import Task

TASK = Task(plain(2).task.space, feedback="ranking")


# -- undo ----------------------------------------------------------------------------------------------------------------


def test_undo_of_a_machine_of_steps() -> None:
    """The state before, exactly; what was asked because of the answer is cancelled, what was out before it is not."""
    opt = Optimizer(TASK, Ladder())
    one, two = opt.ask_query(), opt.ask_query()
    start = content(opt._state())
    opt.rank(one.numbers, rater="ann")
    after_one = content(opt._state())
    decision = opt.ask_query()
    opt.rank(two.numbers, rater="bob")  # late: the decision was out before it
    spare = opt.ask_query()
    opt.retract(two.first, rater="bob")
    assert content(opt._state()) == after_one
    assert [slate.cancelled for slate in opt.slates()] == [False] * 4, "the decision does not depend on bob's look"
    opt.rank(two.numbers, rater="bob")
    opt.rank(decision.numbers, rater="ann")
    with pytest.raises(UsageError, match=r"gone on.*later answers back first"):
        opt.retract(one.first)
    with pytest.raises(UsageError, match="gone on"):
        opt.rank(list(one.numbers)[::-1], rater="ann", replace=True)
    opt.retract(two.first, rater="bob")  # nothing was asked because of it
    opt.retract(decision.first, rater="ann")
    assert content(opt._state()) == after_one
    opt.retract(one.first, rater="ann")
    assert content(opt._state()) == start
    assert [slate.cancelled for slate in opt.slates()] == [False, False, True, False], (
        "the decision was asked because of it"
    )
    with pytest.raises(UsageError, match="cancelled"):
        opt.rank(decision.numbers, rater="eve")
    assert spare.memo["step"] == 0
    opt.rank(two.numbers, rater="bob")
    again = opt.ask_query()
    assert again.memo["step"] == 1 and again.id not in (one.id, two.id, decision.id, spare.id)


def test_undo_of_a_script() -> None:
    """Slates of one step do not depend on each other: each can be taken back while nothing after them is answered."""
    opt = Optimizer(TASK, Walk())
    start = opt.ask(4)
    opt.rank(start, rater="ann")
    slates = opt.ask_query(3), opt.ask_query(3)
    state = content(opt._state())
    for slate in slates:
        opt.rank(slate.numbers, rater="bob")
    later = opt.ask_query(3)
    opt.retract(slates[0].first)
    assert opt.slates()[-1].cancelled and opt.slates()[2].answered
    opt.retract(slates[1].first)
    assert content(opt._state()) == state
    assert later.memo["step"] == 2
    opt.rank(slates[0].numbers, rater="bob")
    with pytest.raises(UsageError, match="gone on"):
        opt.retract(start[0])


def test_amending_one_answer_of_a_step_cancels_later_steps_only() -> None:
    opt = Optimizer(plain(2).task, Walk())
    for trial in opt.ask(4):
        opt.tell(trial, float(trial.number))
    one, two = opt.ask_query(3), opt.ask_query(3)
    for number in one.numbers:
        opt.tell(number, float(number))
    later = opt.ask_query(3)
    opt.amend(one.first, -1.0)
    assert [opt.trial(query.first).status for query in (one, two, later)] == ["ok", "open", "cancelled"]


def test_memos_are_checked_when_they_are_asked() -> None:
    """Before they are on record: afterwards nobody could read the log."""
    for memo in ({"quorum": 0}, {"quorum": "two"}, {"step": -1}, {"step": 0.5}, {"quorum": True}):

        class Wrong(Population):
            def ask(self, *arguments: Any, memo: dict[str, Any] = memo) -> Any:
                query = super().ask(*arguments)
                return type(query)(query.X, memo)

        opt = Optimizer(TASK, Wrong())
        with pytest.raises(BboptError, match=next(iter(memo))):
            opt.ask_query()
        assert opt.position == 0


@pytest.mark.parametrize("columns", [2, 300])
def test_a_correction_anywhere_gives_the_fold_of_the_corrected_log(columns: int) -> None:
    """Also where the fold goes on from a state that was kept: of narrow tasks some are, of wide ones none."""
    task = Task(Space(w=Float(0.0, 1.0, shape=(columns,))), feedback="ranking")
    opt = Optimizer(task, Population(), quorum=2)
    rng = np.random.default_rng(0)
    for _ in range(25):
        query = opt.ask_query()
        for rater in ("ann", "bob"):
            opt.rank([query.first + int(row) for row in rng.permutation(5)], rater=rater)
        opt._state()
    assert len(opt._fold._states) == (8 if columns == 2 else 1)
    for first in (120, 115, 60, 0, 60, 120):
        opt.rank([first + int(row) for row in rng.permutation(5)], rater="ann", replace=True)
        live = content(opt._state())
        opt._forget()
        opt._sync()
        assert content(opt._state()) == live


# -- threads -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Thinker(Ladder):
    """Asks outside the transaction, as strategies with a model do."""

    instant: ClassVar[bool] = False

    def recommend(self, task: Task, state: Any) -> Any:
        return state.x


@pytest.mark.parametrize(
    ("strategy", "on_disk", "rounds"), [(Ladder(), False, 8), (Ladder(), True, 8), (Thinker(), True, 5)]
)
def test_many_people_in_threads(strategy: Ladder, on_disk: bool, rounds: int, tmp_path: Path) -> None:
    """Asks, answers, undo and looks from eight threads on one object: every acknowledged answer is there, once."""
    opt = Optimizer(TASK, strategy, quorum=2, store=tmp_path / "threads.db" if on_disk else None)
    stands: dict[tuple[int, str], tuple[int, ...]] = {}
    refusals: list[BboptError] = []

    def person(index: int) -> None:
        rng = np.random.default_rng(index)
        rater = f"rater {index}"
        for _ in range(rounds):
            try:
                query = opt.ask_query(owner=rater)
            except Waiting:
                query = opt.open_queries()[0]
            order = [query.first + int(row) for row in rng.permutation(query.size)]
            requests = [RankRequest(order, rater=rater, details={"by": index})]
            requests += [
                RankRequest(slate.numbers, rater=rater)
                for slate in opt.slates()
                if slate.open and rater not in slate.raters
            ][:2]
            for request, refused in zip(requests, opt.rank_many(requests), strict=True):
                if refused is None:
                    stands[opt.trial(request.order[0]).query, rater] = tuple(request.order)
                else:
                    refusals.append(refused)
            if rng.random() < 0.3:
                try:
                    opt.retract(query.first, rater=rater)
                    del stands[query.id, rater]
                except UsageError as error:
                    refusals.append(error)
            opt.best(), opt.agreement()

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(person, index) for index in range(8)]:
            done.result(timeout=60)
    found = {(answer.query, answer.rater): answer for answer in opt.rankings()}
    assert len(found) == len(opt.rankings()) and found.keys() == stands.keys()
    for (query, rater), order in stands.items():
        first = found[query, rater].first
        assert found[query, rater].ranking == Ranking(tuple((number - first,) for number in order))
    assert all(isinstance(error, UsageError | AlreadyTold) for error in refusals)
    live = content(opt._state())
    opt._forget()
    opt._sync()
    assert content(opt._state()) == live
    opt.close()
