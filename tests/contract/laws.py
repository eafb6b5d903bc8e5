"""Laws of a strategy's three functions, checked by hand without the optimizer (DESIGN.md, laws 1, 2, 3, 5 and 6).

Each function takes any strategy and a case that it handles and raises AssertionError where a law is broken. Nothing here
looks at names: only at `handles`, `learns` and `instant`. The laws that need the optimizer are in `study_laws.py`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from bbopt.errors import BboptError, Waiting
from bbopt.packing import pack, unpack
from bbopt.query import Array, Key, Query, Values
from bbopt.strategy import ABILITIES, Strategy
from contract.hand import Hand, content, one_row, plain, surroundings
from contract.tasks import Case


def is_a_strategy(strategy: Strategy) -> None:
    """A frozen dataclass of JSON fields that declares its traits and can be rebuilt from its fields."""
    assert isinstance(strategy, Strategy)
    assert dataclasses.is_dataclass(strategy) and type(strategy).__dataclass_params__.frozen
    assert isinstance(strategy.handles, frozenset) and strategy.handles <= set(ABILITIES), strategy.handles
    assert strategy.learns in ("rows", "queries")
    assert isinstance(strategy.instant, bool)
    fields = {item.name: getattr(strategy, item.name) for item in dataclasses.fields(strategy) if item.init}
    back = json.loads(json.dumps(fields, allow_nan=False))
    again: Any = type(strategy)(**{name: tuple(v) if isinstance(v, list) else v for name, v in back.items()})
    assert again == strategy


def ask_is_pure(strategy: Strategy, case: Case, steps: int) -> None:
    """Same arguments, same query; arguments, random state, threads and settings of the process as they were."""
    hand = Hand(strategy, case)
    for step in range(steps):
        request = hand.request(1 + step % 2)
        key = Key(hand.seed, hand.asked)
        before = content((plain(hand.state), request, hand.task)), surroundings()
        first = strategy.ask(hand.task, hand.state, request, key)
        assert content((plain(hand.state), request, hand.task)) == before[0], "ask modified its arguments"
        after = surroundings()
        for name, value in before[1].items():
            if name in after:
                assert after[name] == value, f"ask changed the process: {name}"
        second = strategy.ask(hand.task, hand.state, request, key)
        assert content(first) == content(second), "two asks with the same arguments differ"
        hand.step(1 + step % 2)


def tell_is_pure(strategy: Strategy, case: Case, steps: int) -> None:
    """`tell` returns a new state and leaves the old one, the query, the answer and the process alone."""
    hand = Hand(strategy, case)
    for _ in range(steps):
        query = hand.ask(2)
        answers = hand.values(query)
        parts = [one_row(answers, row) for row in range(query.size)] if strategy.learns == "rows" else [answers]
        state = hand.state
        for answer in parts:
            before = content((plain(state), query, answer)), surroundings()
            new = strategy.tell(hand.task, state, query, answer)
            again = strategy.tell(hand.task, state, query, answer)
            assert content((plain(state), query, answer)) == before[0], "tell modified its arguments"
            assert surroundings() == before[1], "tell changed the process"
            assert plain(new) == plain(again), "two tells with the same arguments differ"
            state = new
        hand.state = state
        hand.open.remove(query)


def state_is_plain(strategy: Strategy, case: Case, steps: int) -> None:
    """The state is frozen data without lists, mappings or functions; the memo survives saving exactly."""
    hand = Hand(strategy, case)
    plain(hand.state)
    for _ in range(steps):
        query = hand.ask(2)
        text, block = pack(dict(query.memo))
        assert content(_as_lists(unpack(text, block))) == content(_as_lists(query.memo)), (
            "the memo does not survive saving"
        )
        hand.tell(query, hand.values(query))
        plain(hand.state)


def fold_gives_the_state(strategy: Strategy, case: Case, steps: int) -> None:
    """`init` and the tells alone give the live state; the next ask from it is the same to the bit."""
    hand = Hand(strategy, case)
    for step in range(steps):
        hand.step(1 + step % 3)
    folded = strategy.init(hand.task, Key(hand.seed, -1))
    for query, answer in hand.log:
        text, block = pack({"memo": query.memo, "X": query.X[np.arange(query.size)]})
        saved = unpack(text, block)
        stored = dataclasses.replace(query, X=saved["X"] if not query.lazy else query.X, memo=saved["memo"])
        folded = strategy.tell(hand.task, folded, stored, answer)
    assert plain(folded) == plain(hand.state), "the fold of the log differs from the live state"
    live = hand.propose(2)
    hand.state = folded
    assert content(hand.propose(2)) == content(live)


def queries_are_canonical(strategy: Strategy, case: Case, steps: int) -> None:
    """Rows are finite, canonical, inside the space, and there is at least one; the context is kept where it is given."""
    hand = Hand(strategy, case)
    for step in range(steps):
        query = hand.propose(1 + step % 3)
        _check_rows(query, hand)
        if strategy.learns == "rows":
            assert query.size == 1 + step % 3, "a free batch has as many rows as were wanted"
        hand.step(1 + step % 3)


def repeated_asks_work(strategy: Strategy, case: Case, asks: int) -> None:
    """Asks before any tell: a free batch always gives rows, new ones; a strategy may wait only while a query is open."""
    hand = Hand(strategy, case)
    for step in range(asks):
        try:
            query = hand.ask(1 + step % 3)
        except Waiting:
            assert hand.open, "waiting for answers while no query is open: a livelock"
            assert strategy.learns == "queries", "a strategy that learns from rows has no reason to wait"
            waiting = hand.open[0]
            hand.tell(waiting, hand.values(waiting))
            continue
        _check_rows(query, hand)
    if strategy.learns == "rows":
        assert len(hand.open) == asks
        rows = np.concatenate([np.asarray(query.X) for query in hand.open])
        assert len(np.unique(rows, axis=0)) == len(rows), "repeated asks without a tell gave the same point again"


def survives(strategy: Strategy, case: Case, status: Mapping[int, str] | str, steps: int) -> None:
    """Failed rows: the given rows of every query (or all of them) are lost or impossible."""
    hand = Hand(strategy, case)
    for _ in range(steps):
        query = hand.ask(2)
        failed = dict.fromkeys(range(query.size), status) if isinstance(status, str) else status
        hand.tell(query, hand.values(query, {row: s for row, s in failed.items() if row < query.size}))
        plain(hand.state)
    _check_rows(hand.propose(2), hand)


def survives_values(strategy: Strategy, case: Case, levels: tuple[float, ...], steps: int) -> None:
    """Values from `levels` in turn (constants, 1e300, ...), for every objective and constraint."""
    hand = Hand(strategy, case)
    told = 0
    for _ in range(steps):
        query = hand.ask(2)
        numbers = np.array([levels[(told + row) % len(levels)] for row in range(query.size)])
        told += query.size
        Y = np.repeat(numbers[:, None], hand.task.m, axis=1)
        G = np.repeat(numbers[:, None], hand.task.c, axis=1)
        hand.tell(query, Values.of(Y, G))
    _check_rows(hand.propose(2), hand)


def survives_duplicates(strategy: Strategy, case: Case, steps: int) -> None:
    """The same user's point told many times, with equal and with different values."""
    hand = Hand(strategy, case)
    hand.step(2)
    row = np.asarray(hand.log[-1][0].X)[:1]
    for step in range(steps):
        user = Query(row, origin="user", id=hand.asked, first=hand.rows)
        hand.asked, hand.rows = hand.asked + 1, hand.rows + 1
        hand.open.append(user)
        hand.tell(user, Values.of(np.full((1, hand.task.m), float(step // 2)), np.full((1, hand.task.c), -1.0)))
    _check_rows(hand.propose(2), hand)


def _check_rows(query: Query, hand: Hand) -> None:
    X: Array = query.X[np.arange(query.size)]
    space = hand.task.space
    assert X.shape == (query.size, space.dimension) and query.size >= 1 and X.dtype == np.float64
    assert np.isfinite(X).all(), f"not finite: {X}"
    assert np.array_equal(space.canonical(X), X), f"not canonical: {X - space.canonical(X)}"
    for row in X:
        try:
            point = space.decode(row)
            assert np.array_equal(space.encode(point), row), "decoding and encoding changes the row"
        except BboptError as error:
            raise AssertionError(f"a row outside the space: {error}") from error


def _as_lists(value: Any) -> Any:
    """Saving turns tuples into lists, and that is all it may change."""
    if isinstance(value, Mapping):
        return {key: _as_lists(item) for key, item in value.items()}
    return [_as_lists(item) for item in value] if isinstance(value, tuple | list) else value
