"""Random histories of people who rank: several raters, quorums per query, late answers, settling, replacing, undo."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bbopt.errors import AlreadyTold, BboptError, UsageError
from bbopt.optimizer import Optimizer
from bbopt.query import pool
from bbopt.slates import RankRequest, is_second_look
from bbopt.strategy import Strategy
from bbopt.task import Task
from contract.hand import content
from contract.tasks import plain
from contract.toys import Ladder, Population

TASK = Task(plain(2).task.space, feedback="ranking")
RATERS = st.sampled_from(["ann", "bob", "cyd", "", "ann/repeat"])
PICK = st.integers(0, 10**6)
SLATE = 3
ORDERS = st.one_of(
    st.permutations([0, 1, 2]).map(lambda rows: {"order": rows}),
    st.sampled_from(
        [
            {"order": [[0, 1], 2]},
            {"order": [1], "unseen": [2]},
            {"order": [2]},
            {"order": [], "unseen": [0, 1, 2]},
            {"order": [0], "verdict": "all bad"},
            {"order": [0], "verdict": "cannot tell"},
        ]
    ),
)


@dataclass
class Slate:
    """What a query must look like, by the rules as they are told to people."""

    step: int | None
    quorum: int
    asked: int  # log position known when it was asked
    cancelled: bool = False
    standing: dict[str, Any] = field(default_factory=dict)  # rater to ranking
    enough: tuple[str, ...] = ()  # settled with these
    closed: int = 0  # log position of its answer

    @property
    def counted(self) -> tuple[str, ...]:
        people = tuple(rater for rater in self.standing if not is_second_look(rater))
        if self.enough:
            return self.enough
        return people[: self.quorum] if len(people) >= self.quorum else ()


class RankMachine(RuleBasedStateMachine):
    """`strategy` is set by the subclasses; a twin is told one by one what `opt` is told in groups."""

    strategy: Strategy

    @initialize(quorum=st.integers(1, 3))
    def start(self, quorum: int) -> None:
        self.quorum = quorum
        self.opt = Optimizer(TASK, self.strategy, quorum=quorum)
        self.twin = Optimizer(TASK, self.strategy, quorum=quorum)
        self.slates: list[Slate] = []

    @property
    def scripted(self) -> bool:
        return getattr(self.strategy, "scripted", False)

    def both(self, call: str, *arguments: Any, **options: Any) -> None:
        for opt in (self.opt, self.twin):
            getattr(opt, call)(*arguments, **options)

    def request(self, pick: int, rater: str, said: dict[str, Any], swap: bool = False) -> RankRequest:
        first = SLATE * (pick % len(self.slates))
        order = [[first + row for row in item] if isinstance(item, list) else first + item for item in said["order"]]
        unseen = [first + row for row in said.get("unseen", ())]
        return RankRequest(order, unseen, rater, said.get("verdict"), replace=swap)

    def snapshot(self, opt: Optimizer) -> Any:
        """All that anybody can see, without times and log positions."""
        answers = [(replace(answer, time="", position=0)) for answer in opt.rankings()]
        slates = [(replace(slate, asked="", owner="", memo={})) for slate in opt.slates()]
        return content(opt._state()), answers, slates, [trial.status for trial in opt.trials()]

    def dependents(self, slate: Slate) -> list[Slate]:
        later = [
            other
            for i, other in enumerate(self.slates)
            if (
                other.step > slate.step
                if slate.step is not None and other.step is not None
                else i > self.slates.index(slate)
            )
        ]
        return [other for other in later if slate.closed and other.asked >= slate.closed]

    # -- rules ---------------------------------------------------------------------------------------------------------

    @rule()
    def ask(self) -> None:
        position = self.opt.position
        try:
            queries = [opt.ask_query(SLATE) for opt in (self.opt, self.twin)]
        except BboptError:
            assert any(slate.open for slate in self.opt.slates()), "waiting for nothing"
            return
        assert content(queries[0].X) == content(queries[1].X)
        memo = queries[0].memo
        if not self.scripted:
            assert queries[0].size == SLATE
        self.slates.append(Slate(memo.get("step"), memo.get("quorum", self.quorum), position))

    def take(self, request: RankRequest) -> type[BboptError] | None:
        """The rules for one answer: what refuses it, or None once it is on record."""
        numbers = [n for item in request.order for n in (item if isinstance(item, list) else [item])]
        slate = self.slates[(numbers + list(request.unseen))[0] // SLATE]
        ranking = self.opt_ranking(request)
        before = slate.standing.get(request.rater)
        if before == ranking:
            return None
        if slate.cancelled:
            return UsageError
        if before is not None and not request.replace:
            return AlreadyTold
        counted = slate.counted
        if before is not None and request.rater in counted and not self.undo(slate):
            return UsageError
        slate.standing[request.rater] = ranking
        if slate.counted and not counted:
            slate.closed = self.opt.position + 1
        return None

    def undo(self, slate: Slate) -> bool:
        """What depends on a counted answer goes, or refuses."""
        if not self.scripted:
            return True
        if any(other.standing for other in self.dependents(slate)):
            return False
        for other in self.dependents(slate):
            other.cancelled = True
        return True

    def opt_ranking(self, request: RankRequest) -> Any:
        from bbopt.telling_ranks import _ranking

        numbers = [n for item in request.order for n in (item if isinstance(item, list) else [item])]
        first = SLATE * ((numbers + list(request.unseen))[0] // SLATE)
        return _ranking(self.opt._read_request(request), self.opt._find(first)[0])

    @precondition(lambda self: self.slates)
    @rule(pick=PICK, rater=RATERS, said=ORDERS, swap=st.booleans())
    def rank(self, pick: int, rater: str, said: dict[str, Any], swap: bool) -> None:
        request = self.request(pick, rater, said, swap)
        refused = self.take(request)
        for opt in (self.opt, self.twin):
            (error,) = opt.rank_many([request])
            assert (None if error is None else type(error)) == refused, error

    @precondition(lambda self: self.slates)
    @rule(items=st.lists(st.tuples(PICK, RATERS, ORDERS), min_size=2, max_size=5))
    def rank_in_one_commit(self, items: list[tuple[int, str, dict[str, Any]]]) -> None:
        requests = [self.request(*item) for item in items]
        alone = []
        refused = []
        for request in requests:
            wanted = self.take_on_twin(request)
            refused.append(wanted)
            alone.append(type(self.twin.rank_many([request])[0]))
        together = self.opt.rank_many(requests)
        assert [type(error) for error in together] == alone
        assert [None if error is None else type(error) for error in together] == refused

    def take_on_twin(self, request: RankRequest) -> type[BboptError] | None:
        self.opt, self.twin = self.twin, self.opt  # positions are the twin's while it is ahead
        try:
            return self.take(request)
        finally:
            self.opt, self.twin = self.twin, self.opt

    @precondition(lambda self: self.slates)
    @rule(pick=PICK, rater=RATERS, said=ORDERS)
    def undo_of_the_last_answer_is_exact(self, pick: int, rater: str, said: dict[str, Any]) -> None:
        request = self.request(pick, rater, said)
        slate = pick % len(self.slates)
        if request.rater in self.slates[slate].standing or self.slates[slate].cancelled:
            return
        before = self.snapshot(self.opt)
        self.both("rank", request.order, unseen=request.unseen, rater=rater, verdict=request.verdict)
        self.both("retract", SLATE * slate, rater=rater)
        assert self.snapshot(self.opt) == before

    @precondition(lambda self: self.slates)
    @rule(pick=PICK, rater=st.one_of(st.none(), RATERS))
    def retract(self, pick: int, rater: str | None) -> None:
        slate = self.slates[pick % len(self.slates)]
        first = SLATE * (pick % len(self.slates))
        gone = list(slate.standing) if rater is None else [rater]
        counted = slate.counted
        fine = bool(gone) and set(gone) <= set(slate.standing)
        fine = fine and (set(gone).isdisjoint(counted) or self.undo(slate))
        if not fine:
            for opt in (self.opt, self.twin):
                with pytest.raises(UsageError, match="retract"):
                    opt.retract(first, rater=rater)
            return
        self.both("retract", first, rater=rater)
        for name in gone:
            del slate.standing[name]
        if not set(slate.enough).isdisjoint(gone):
            slate.enough = ()
        if not slate.counted:
            slate.closed = 0

    @precondition(lambda self: self.slates)
    @rule(pick=PICK)
    def settle(self, pick: int) -> None:
        slate = self.slates[pick % len(self.slates)]
        first = SLATE * (pick % len(self.slates))
        people = tuple(rater for rater in slate.standing if not is_second_look(rater))
        if not people or (slate.cancelled and not slate.counted):
            for opt in (self.opt, self.twin):
                with pytest.raises(UsageError, match="settle"):
                    opt.settle(first)
            return
        if not slate.counted:
            slate.enough, slate.closed = people, self.opt.position + 1
        self.both("settle", first)
        self.both("settle", first)  # a no-op

    @precondition(lambda self: self.slates)
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        slate = self.slates[pick % len(self.slates)]
        numbers = [SLATE * (pick % len(self.slates)) + row for row in range(SLATE)]
        if slate.counted:
            for opt in (self.opt, self.twin):
                with pytest.raises(AlreadyTold):
                    opt.cancel(numbers[0])
            return
        slate.cancelled = True
        for number in numbers:
            self.both("cancel", number)

    @rule()
    def read_the_log_again(self) -> None:
        before = self.snapshot(self.opt)
        self.opt._forget()
        assert self.snapshot(self.opt) == before, "the log does not add up to the live state"

    # -- invariants ----------------------------------------------------------------------------------------------------

    @invariant()
    def slates_are_as_the_rules_say(self) -> None:
        if not hasattr(self, "slates"):
            return
        found = self.opt.slates()
        assert len(found) == len(self.slates)
        by_query: dict[int, list[Any]] = {i: [] for i in range(len(found))}
        for answer in self.opt.rankings():
            by_query[answer.query].append(answer)
        for i, (slate, wanted) in enumerate(zip(found, self.slates, strict=True)):
            assert (slate.quorum, slate.raters) == (wanted.quorum, tuple(wanted.standing))
            assert (slate.answered, slate.cancelled) == (bool(wanted.counted), wanted.cancelled)
            assert {a.rater: a.ranking for a in by_query[i]} == wanted.standing
            assert {a.rater for a in by_query[i] if a.applied} == set(wanted.counted)
            status = "cancelled" if wanted.cancelled else "ranked" if wanted.counted else "open"
            assert {self.opt.trial(number).status for number in slate.numbers} == {status}
            if wanted.counted:
                answers = tuple(wanted.standing[rater] for rater in wanted.counted)
                assert self.opt._book.records[i].ranking == pool(answers, SLATE)

    def teardown(self) -> None:
        if hasattr(self, "slates"):
            assert self.snapshot(self.opt) == self.snapshot(self.twin), "a group of answers is not what each alone is"


class RankedSteps(RankMachine):
    strategy = Ladder()


class RankedPopulation(RankMachine):
    strategy = Population(size=SLATE)


TestRankedSteps, TestRankedPopulation = RankedSteps.TestCase, RankedPopulation.TestCase
TestRankedSteps.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestRankedPopulation.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
