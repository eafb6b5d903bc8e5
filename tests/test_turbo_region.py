"""The trust region's state machine against the published rules written once more, and its sides and candidates."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bbopt.acquisition.domain import Domain
from bbopt.parameters import Categorical, Float, Int
from bbopt.query import Query, Values
from bbopt.space import Space
from bbopt.strategies.gp_domain import domain_of
from bbopt.strategies.turbo import Turbo
from bbopt.strategies.turbo_candidates import box, candidates, moving, sides
from bbopt.strategies.turbo_region import TurboState, tolerance, violations
from bbopt.task import Constraint, Task


class Published:
    """TuRBO-1 of Eriksson et al. 2019 with the success rule of SCBO (2021), batch by batch, as their code counts.

    Values are minimised; a row is (objective, constraint).
    """

    def __init__(self, d: int, q: int) -> None:
        self.failtol, self.succtol = math.ceil(max(4.0 / q, d / q)), 3
        self.restart([])

    def restart(self, rows: list[tuple[float, float]]) -> None:
        self.length, self.succ, self.fail = 0.8, 0, 0
        self.best: tuple[float, float] | None = None
        self.look(rows)

    def look(self, rows: list[tuple[float, float]]) -> None:
        for y, g in rows:
            key = (max(g, 0.0), y if g <= 0 else 0.0)
            if self.best is None or key < self.best:
                self.best = key

    def batch(self, rows: list[tuple[float, float]]) -> None:
        y, g = min(rows, key=lambda row: (max(row[1], 0.0), row[0] if row[1] <= 0 else 0.0))
        assert self.best is not None
        violation, value = self.best
        feasible = violation > 0 or y < value - 1e-3 * abs(value)
        success = feasible if g <= 0 else violation > 0 and g < violation
        self.succ, self.fail = (self.succ + 1, 0) if success else (0, self.fail + 1)
        if self.succ == self.succtol:
            self.length, self.succ = min(2 * self.length, 1.6), 0
        elif self.fail == self.failtol:
            self.length, self.fail = self.length / 2, 0
        self.look(rows)
        if self.length < 2**-7:
            self.restart([])


def task_of(d: int) -> Task:
    return Task(Space(x=Float(0, 1, shape=(d,))), constraints=(Constraint("g", upper=0.0),))


def told(
    strategy: Turbo, task: Task, state: TurboState, rows: list[tuple[float, float]], number: int, design: int = 0
) -> TurboState:
    """One query with its rows told one after the other."""
    rng = np.random.default_rng(number)
    query = Query(
        rng.random((len(rows), task.space.dimension)), {"region": state.number, "design": design, "held": []}, id=number
    )
    for i, (y, g) in enumerate(rows):
        state = strategy.tell(task, state, query, Values.of([[y]], [[g]], rows=[i]))
    return state


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), d=st.integers(1, 19), q=st.integers(1, 6), drift=st.sampled_from([0.0, 0.3, 1.0]))
def test_counters_and_lengths_are_the_published_ones(seed: int, d: int, q: int, drift: float) -> None:
    rng, task, strategy = np.random.default_rng(seed), task_of(d), Turbo()
    reference, state = Published(d, q), TurboState.empty(task)
    level, wall, start = 5.0, 2.0, True
    for number in range(80):
        level, wall = level - drift * rng.random(), wall - 0.2 * rng.random()
        rows = [(float(level + rng.random()), float(wall + rng.choice([-1, 1]))) for _ in range(q)]
        before = state.number
        state = told(strategy, task, state, rows, number, q if start else 0)
        if start:
            reference.look(rows)
        else:
            reference.batch(rows)
        start = state.number != before
        assert state.length == reference.length, number
        assert state.successes == reference.succ
        assert math.ceil(state.failures / q) == reference.fail


def test_a_region_that_is_given_up_starts_anew_and_knows_nothing() -> None:
    task, strategy = task_of(2), Turbo(failures=1)
    state = told(strategy, task, TurboState.empty(task), [(1.0, -1.0)], 0, design=1)
    for number in range(1, 8):
        state = told(strategy, task, state, [(2.0, -1.0)], number)
    assert (state.number, state.length, len(state.rows)) == (1, 0.8, 0)
    late = Query(np.full((1, 2), 0.5), {"region": 0, "design": 0, "held": []}, id=99)
    after = strategy.tell(task, state, late, Values.of([[0.0]], [[-1.0]]))
    assert (after.successes, after.failures, len(after.rows), len(after.told.X)) == (0, 0, 0, 9), (
        "a late row of the old one"
    )


def test_rows_under_held_columns_are_compared_with_their_like() -> None:
    task, strategy, state = task_of(2), Turbo(), TurboState.empty(task_of(2))
    for number, (x, y) in enumerate([(0.25, 1.0), (0.75, 5.0), (0.75, 4.0)]):
        query = Query(
            np.array([[x, 0.1 * number]]), {"region": 0, "design": int(number < 2), "held": [[0, x]]}, id=number
        )
        state = strategy.tell(task, state, query, Values.of([[y]], [[-1.0]]))
    assert state.successes == 1, "4 is better than 5, whatever was found at another value"


def test_failed_and_lost_rows() -> None:
    task, strategy = task_of(2), Turbo(failures=3)
    state = told(strategy, task, TurboState.empty(task), [(1.0, -1.0)], 0, design=1)
    query = Query(np.full((1, 2), 0.5), {"region": 0, "design": 0, "held": []}, id=1)
    nan = [[np.nan]]
    lost = strategy.tell(task, state, query, Values.of(nan, nan, status=("lost",)))
    failed = strategy.tell(task, state, query, Values.of(nan, nan, status=("impossible",)))
    assert (lost.failures, failed.failures, failed.failed) == (0, 1, 1)


def test_default_tolerance_and_violations() -> None:
    assert [tolerance(d) for d in (1, 4, 20, 200)] == [4, 4, 20, 20]
    assert violations(np.array([[1.0, np.e - 1, -3.0, np.e - 1]])).tolist() == [2.0]


@pytest.mark.parametrize("d", [3, 40])
def test_sides_are_the_published_ones(d: int) -> None:
    """Their code: weights / weights.mean(), then / prod(weights ** (1 / d)); so the volume is that of a cube."""
    lengthscales = np.random.default_rng(d).uniform(0.005, 2.0, d)
    weights = lengthscales / lengthscales.mean()
    weights = weights / np.prod(np.power(weights, 1.0 / d))
    ours = sides(lengthscales, np.ones(d, bool))
    assert np.allclose(ours, weights, rtol=1e-12) and np.isclose(np.prod(ours), 1.0)


@pytest.mark.parametrize("d", [2, 60])
def test_candidates_are_in_the_box_and_every_column_is_forced_now_and_then(d: int) -> None:
    rng, domain = np.random.default_rng(0), Domain.box(d)
    centre, weights = rng.uniform(0.2, 0.8, d), sides(rng.uniform(0.1, 2.0, d), np.ones(d, bool))
    rows = candidates(centre, 0.4, weights, domain, rng)
    low, high = box(centre, 0.4, weights, domain)
    assert len(rows) == min(100 * d, 5000) and (rows >= low).all() and (rows <= high).all()
    assert np.allclose(low, np.maximum(centre - 0.2 * weights, 0.0)) and np.allclose(
        high, np.minimum(centre + 0.2 * weights, 1.0)
    )
    share = (rows != centre).mean(axis=0)
    assert (rows != centre).any(axis=1).all(), "every candidate moves"
    expected = min(1.0, 20.0 / d)
    assert np.abs(share - expected).max() < 5.0 * math.sqrt(0.25 / len(rows)) + 1e-12, "the last column like the others"


def test_the_forced_column_is_any_of_them() -> None:
    """With 2000 columns a candidate often moves no column by chance: the last one is forced as often as the first."""
    d = 2000
    domain, rng = Domain.box(d), np.random.default_rng(1)
    rows = candidates(
        np.full(d, 0.5), 0.8, np.ones(d), replace(domain, fixed=dict.fromkeys(range(3, d - 3), 0.5)), rng, 600
    )
    assert set(np.flatnonzero((rows != 0.5).any(axis=0))) == {0, 1, 2, d - 3, d - 2, d - 1}


def test_steps_and_choices_move_in_a_small_region() -> None:
    task = Task(Space(n=Int(0, 10), kind=Categorical(["a", "b", "c"]), x=Float(0, 1), one=Int(3, 3)))
    domain, rng = domain_of(task, {}), np.random.default_rng(0)
    centre = task.space.encode({"n": 5, "kind": "b", "x": 0.5, "one": 3})
    assert moving(domain).tolist() == [True, True, True, False]
    rows = candidates(centre, 2.0**-6, np.ones(4), domain, rng)
    assert np.array_equal(task.space.canonical(rows), rows)
    assert {p["n"] for p in map(task.space.decode, rows)} == {4, 5, 6}
    assert {p["kind"] for p in map(task.space.decode, rows)} > {"b"}
    assert np.abs(rows[:, 2] - 0.5).max() <= 2.0**-7 + 1e-12


def test_known_constraints_hold_for_candidates() -> None:
    task = Task(Space(x=Float(0, 1), y=Float(0, 1)), where=("x + y <= 0.05",))
    rows = candidates(np.array([0.02, 0.02]), 0.8, np.ones(2), domain_of(task, {}), np.random.default_rng(0))
    assert len(rows) and task.feasible.contains(rows).all()
