"""Laws for strategies that take rankings: people who rank, partly, late, twice, or not at all, and take answers back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bbopt.errors import NotHandled, UsageError, Waiting
from bbopt.optimizer import Optimizer
from bbopt.query import Query
from bbopt.slates import RankRequest
from bbopt.strategy import Strategy
from bbopt.task import Task
from contract.hand import content
from contract.study import reopen
from contract.tasks import plain

CASE = plain(2)
TASK = Task(CASE.task.space, feedback="ranking")
SIZE = 4

NOTHING: tuple[dict[str, Any], ...] = (
    {"verdict": "all bad"},
    {"verdict": "cannot tell"},
    {"skip": True},
    {"tied": True},
)
"""Answers without an order."""


def answer(opt: Optimizer, query: Query, rater: str, rng: np.random.Generator) -> RankRequest:
    """An honest answer in one of the forms that people use: full, the best and the worst, ties, some rows not looked at."""
    worth = {number: CASE.function(opt.trial(number).params)["objective"] for number in query.numbers}
    order = sorted(worth, key=lambda number: worth[number])
    form = rng.integers(4) if len(order) > 2 else 0
    if form == 1:
        return RankRequest([order[0], order[1:-1], order[-1]], rater=rater)
    if form == 2:
        return RankRequest(order[:1], rater=rater)
    if form == 3:
        hidden = int(rng.choice(order))
        return RankRequest([number for number in order if number != hidden], [hidden], rater=rater)
    return RankRequest(order, rater=rater)


def next_query(opt: Optimizer) -> Query:
    """A query to rank: a new one, or the first open one where the strategy waits."""
    try:
        return opt.ask_query(SIZE)
    except Waiting:
        waiting = [slate for slate in opt.slates() if slate.open]
        assert waiting, "waiting for answers, yet no query is open"
        return opt._book.records[waiting[0].query].query


def people_rank(strategy: Strategy, folder: Path, slates: int) -> None:
    """Two people, quorum 2: each query is answered, closed early, or ranked late; the last answer can be taken back, and
    the state is then what it was; the file gives the live state, and goes on as a study in memory does."""
    if "rankings" not in strategy.handles:
        with pytest.raises(NotHandled, match="rankings"):
            Optimizer(CASE.task, strategy).rank_many([])
        return
    path = folder / "people.db"
    studies = [Optimizer(TASK, strategy, seed=2, quorum=2, store=path), Optimizer(TASK, strategy, seed=2, quorum=2)]
    for step in range(slates):
        queries = [next_query(opt) for opt in studies]
        assert content(queries[0].X) == content(queries[1].X), "a study in memory takes another path than one on disk"
        for opt, query in zip(studies, queries, strict=True):
            _one_slate(opt, query, step)
        if step == slates // 2:
            live = content(studies[0]._state())
            studies[0] = reopen(studies[0], path, strategy)
            assert content(studies[0]._state()) == live
    best = [opt.best() for opt in studies]
    assert best[0] is not None and best[1] is not None and best[0].number == best[1].number
    assert studies[0].agreement().pairs[0].slates > 0
    studies[0].close()


def _one_slate(opt: Optimizer, query: Query, step: int) -> None:
    rng = np.random.default_rng(step)
    slate = opt.slates()[query.id]
    first, second, late = (answer(opt, query, rater, rng) for rater in ("ann", "bob", "cyd"))
    before = content(opt._state())
    assert opt.rank_many([first]) == [None]
    if slate.quorum > 1 and step % 3 == 1:
        opt.settle(query.first)
        assert opt.rank_many([second]) == [None]
    elif slate.quorum > 1:
        assert content(opt._state()) == before, "an answer that is not enough teaches nothing"
        assert opt.rank_many([second]) == [None]
    after = content(opt._state())
    if step % 2:
        assert opt.rank_many([late]) == [None]
        assert content(opt._state()) == after, "an answer after the quorum teaches nothing"
    if step % 4 == 3:
        opt.retract(query.first)
        assert content(opt._state()) == before, "undo does not give the state before"
        assert opt.slates()[query.id].open
        assert opt.rank_many([first, second]) == [None, None]
        if step % 3 != 1 or slate.quorum == 1:
            assert content(opt._state()) == after


def survives_answers(strategy: Strategy, said: dict[str, Any], slates: int) -> None:
    """Nobody ever gives an order: asking goes on, in the space, and the study can still learn afterwards."""
    if "rankings" not in strategy.handles:
        return
    opt = Optimizer(TASK, strategy)
    for _ in range(slates):
        query = next_query(opt)
        numbers = list(query.numbers)
        if "skip" in said:
            opt.rank([], unseen=numbers)
        else:
            opt.rank([numbers], verdict=said.get("verdict"))
        X = np.asarray(query.X[np.arange(query.size)])
        assert np.isfinite(X).all() and TASK.known(X).all()
    query = next_query(opt)
    assert opt.rank_many([answer(opt, query, "ann", np.random.default_rng(0))]) == [None]
    with pytest.raises(UsageError):
        opt.settle(next_query(opt).first)
    opt.best()
