"""Nothing better than the stated optima of the engineering suite: local searches, and enumeration of the mixed twins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

import problems
from problems import Problem
from problems.engineering_structures import BAR_AREAS

Array = np.ndarray[Any, np.dtype[np.float64]]

# --- local search --------------------------------------------------------------------------------------------------

SMOOTH = [
    name
    for suite in problems.suites()[:4]
    for name in problems.names(suite)
    if not name.endswith("_mixed") and problems.get(name).optimum.value is not None
] + ["welded_beam_coello"]


class Smooth:
    """A continuous problem on the unit cube for SLSQP: one evaluation gives all values and central differences.

    Columns that are not `free` stay as at `start`. The weights divide objective and constraints by the size of
    their gradients at `start`.
    """

    def __init__(self, problem: Problem, start: Array, free: Array | None = None) -> None:
        self.problem = problem
        self.free = np.ones(len(start), bool) if free is None else free
        self.base = start.copy()
        self.scale = 1.0, np.ones(problem.task.c)
        gradient, jacobian = self.derivatives(start[self.free])
        self.scale = max(np.abs(gradient).max(), 1e-9), np.maximum(np.abs(jacobian).max(axis=1), 1e-9)

    def values(self, U: Array) -> tuple[Array, Array]:
        full = np.repeat(self.base[None], len(U), axis=0)
        full[:, self.free] = U
        y, g = self.problem.task.to_inside(self.problem.evaluate(full))
        return y[0] / self.scale[0], g.T / self.scale[1]

    def derivatives(self, u: Array) -> tuple[Array, Array]:
        up, down = np.minimum(u + 1e-5 * np.eye(len(u)), 1), np.maximum(u - 1e-5 * np.eye(len(u)), 0)
        (y1, g1), (y0, g0) = self.values(up), self.values(down)
        width = np.diag(up - down)
        return (y1 - y0) / width, ((g1 - g0) / width[:, None]).T

    def search(self, u: Array) -> tuple[float, float]:
        """Where SLSQP ends from u: objective (unscaled) and largest scaled constraint."""
        found = minimize(
            lambda v: self.values(v[None])[0][0],
            u,
            jac=lambda v: self.derivatives(v)[0],
            bounds=[(0, 1)] * len(u),
            constraints={
                "type": "ineq",
                "fun": lambda v: -self.values(v[None])[1][0],
                "jac": lambda v: -self.derivatives(v)[1],
            },
            method="SLSQP",
            options={"ftol": 1e-13, "maxiter": 200},
        )
        y, g = self.values(np.clip(found.x, 0, 1)[None])
        return float(y[0] * self.scale[0]), float(g.max())


def unit_optimum(problem: Problem) -> Array:
    return problem.task.space.encode(problem.optimum.params)


def look_for_better(name: str, starts: int) -> float:
    """SLSQP from the optimum, from beside it and from random points finds nothing better; gives the best it found."""
    problem = problems.get(name)
    at = unit_optimum(problem)
    smooth = Smooth(problem, at)
    rng = np.random.default_rng(5)
    points = [at, np.clip(at + 0.01 * rng.standard_normal(len(at)), 0, 1), *rng.random((starts, len(at)))]
    allowed = 1e-6 * max(1e-2, abs(problem.optimum.value))
    best = np.inf
    with np.errstate(all="ignore"):
        for point in points:
            value, violation = smooth.search(point)
            if violation <= 1e-9:
                assert value >= problem.optimum.value - allowed, (name, point.tolist(), value)
                best = min(best, value)
    return float(best)


@pytest.mark.parametrize("name", SMOOTH)
def test_slsqp_finds_nothing_better_nearby(name):
    look_for_better(name, starts=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMOOTH)
def test_slsqp_finds_nothing_better_anywhere_and_finds_the_optimum(name):
    problem = problems.get(name)
    best = look_for_better(name, starts=100)
    if not name.startswith(("ackley", "keane")):  # too many local optima for so few starts
        assert best == pytest.approx(problem.optimum.value, rel=1e-6)


# --- the mixed twins, by enumeration ---------------------------------------------------------------------------------


def golden(cost: Callable[[Array], Array], low: Array, high: Array, steps: int = 60) -> Array:
    """The minima, shape (n,), of n unimodal functions on [low, high]."""
    ratio = (np.sqrt(5) - 1) / 2
    for _ in range(steps):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        left = cost(a) < cost(b)
        low, high = np.where(left, low, a), np.where(left, b, high)
    return np.minimum(np.minimum(cost(low), cost(high)), cost((low + high) / 2))


def test_the_mixed_vessel_by_enumeration():
    """All 99 x 99 thicknesses; the length is the shortest that holds the volume, the radius is searched.

    For a fixed R the cost grows with L; along the volume constraint it is convex in R (a sum of c/R, R^2 and R).
    """
    Ts, Th = (grid.ravel() for grid in np.meshgrid(*[0.0625 * np.arange(1, 100)] * 2))
    most = np.minimum(np.minimum(Ts / 0.0193, Th / 0.00954), 200.0)
    least = 40.319618724098565  # below, 200 in of length do not hold the volume
    Ts, Th, most = (values[most >= least] for values in (Ts, Th, most))

    def cost(R: Array) -> Array:
        L = np.clip((1_296_000 - 4 / 3 * np.pi * R**3) / (np.pi * R**2), 10, 200)
        return 0.6224 * Ts * R * L + 1.7781 * Th * R**2 + 3.1661 * Ts**2 * L + 19.84 * Ts**2 * R

    radii = np.linspace(0, 1, 400)[:, None] * (most - least) + least  # a scan first: nothing hangs on convexity
    scan = np.array([cost(R) for R in radii])
    start = scan.argmin(axis=0)
    step = (most - least) / 399
    best = golden(cost, np.maximum(least, least + (start - 1) * step), np.minimum(most, least + (start + 1) * step))
    assert best.min() == pytest.approx(problems.get("pressure_vessel_mixed").optimum.value, rel=1e-10)
    assert (Ts[best.argmin()], Th[best.argmin()]) == (0.8125, 0.4375)


@pytest.mark.parametrize(
    ("k", "value", "area"), [(7.35, 359.2080, 6.32), (7.375, 359.2080, 6.32), (7.735, 364.854, 6.16)]
)
def test_the_mixed_concrete_beam_by_enumeration(k, value, area):
    """76 areas x 13 depths; the width is the smallest that both constraints and the box allow."""
    A, p = (grid.ravel() for grid in np.meshgrid(BAR_AREAS, np.arange(28.0, 41.0)))
    spare = A * p - 180
    q = np.maximum(np.maximum(p / 4, 5), np.where(spare > 0, k * A**2 / np.where(spare > 0, spare, 1), np.inf))
    cost = np.where(q <= 10, 29.4 * A + 0.6 * p * q, np.inf)
    assert cost.min() == pytest.approx(value, abs=6e-4 if k == 7.735 else 1e-9)
    assert A[cost.argmin()] == area
    if k == 7.375:
        assert cost.min() == pytest.approx(problems.get("concrete_beam_mixed").optimum.value, rel=1e-12)


def test_the_mixed_cantilever_by_enumeration():
    """5 * 4^2 * 4^2 * 36 choices for the three inner segments; the two outer ones share what deflection is left.

    For a given height h of an outer segment its narrowest width is the largest of 1, h/20 and what the stress
    allows; both heights are on a grid of 0.02 cm, and the best choice is then solved exactly by SLSQP.
    """
    problem = problems.get("cantilever")
    P, L = 50_000.0, 100.0
    grids = np.meshgrid(np.arange(1.0, 6), [2.4, 2.6, 2.8, 3.1], [2.4, 2.6, 2.8, 3.1], [45.0, 50, 55, 60],
                        [45.0, 50, 55, 60], np.arange(30.0, 66), indexing="ij")  # fmt: skip
    b1, b2, b3, h1, h2, h3 = (grid.ravel() for grid in grids)
    good = np.ones(len(b1), bool)
    for b, h, k in ((b1, h1, 5), (b2, h2, 4), (b3, h3, 3)):
        good &= (6 * P * L * k / (b * h**2) <= 14_000) & (h / b <= 20)
    left = 2.7 - P * L**3 / (3 * 2e7) * 12 * (61 / (b1 * h1**3) + 37 / (b2 * h2**3) + 19 / (b3 * h3**3))
    good &= left > 0
    b1, b2, b3, h1, h2, h3, left = (values[good] for values in (b1, b2, b3, h1, h2, h3, left))
    heights = np.arange(30, 65.001, 0.02)

    def outer(k: int, weight: int) -> tuple[Array, Array]:
        width = np.maximum(np.maximum(1.0, heights / 20), 6 * P * L * k / (14_000 * heights**2))
        bends = P * L**3 / (3 * 2e7) * weight / (width * heights**3 / 12)
        return width * heights, np.where(width <= 5, bends, np.inf)

    (area4, bend4), (area5, bend5) = outer(2, 7), outer(1, 1)
    pairs, bends = (area4[:, None] + area5).ravel(), (bend4[:, None] + bend5).ravel()
    order = np.argsort(bends)
    cheapest = np.minimum.accumulate(pairs[order])
    position = np.searchsorted(bends[order], left, side="right") - 1
    total = L * (b1 * h1 + b2 * h2 + b3 * h3 + np.where(position >= 0, cheapest[np.maximum(position, 0)], np.inf))
    chosen = np.argsort(total)[:20]
    exact = []
    for i in chosen:
        start = (b1[i], b2[i], b3[i], 2.2, 1.75, h1[i], h2[i], h3[i], 44.0, 35.0)
        free = np.isin(np.arange(10), [3, 4, 8, 9])
        unit = problem.task.space.encode(dict(zip(problem.task.space.names, start, strict=True)))
        smooth = Smooth(problem, unit, free)
        value, violation = smooth.search(unit[free])
        assert violation <= 1e-8
        assert total[i] >= value - 1e-6 * value
        exact.append(value)
    assert min(exact) == pytest.approx(problems.get("cantilever_mixed").optimum.value, rel=1e-8)
    assert total[chosen[-1]] > min(exact) * 1.001  # and no later choice can be within the error of the grid


@pytest.mark.parametrize(("x8", "value"), [(0.345, 22.842969), (0.192, 23.355262)])
def test_the_mixed_car_by_enumeration(x8, value):
    car = problems.get("car_side_impact")
    materials = slice(7, 9)
    rng = np.random.default_rng(7)
    for x9 in (0.192, 0.345):
        found = []
        for start in (unit_optimum(car), *rng.random((4, 11))):
            start[materials] = (np.array([x8, x9]) - 0.192) / (0.345 - 0.192)
            free = ~np.isin(np.arange(11), [7, 8])
            y, violation = Smooth(car, start, free).search(start[free])
            if violation <= 1e-9:
                found.append(y)
        assert min(found) == pytest.approx(value, abs=1e-6)


def test_the_mixed_speed_reducer_by_enumeration():
    reducer = problems.get("speed_reducer")
    found = {}
    for teeth in range(17, 29):
        start = unit_optimum(reducer)
        start[2] = (teeth - 17) / 11
        free = np.arange(7) != 2
        value, violation = Smooth(reducer, start, free).search(start[free])
        found[teeth] = value if violation <= 1e-9 else np.inf
    assert min(found, key=found.__getitem__) == 17
    assert found[17] == pytest.approx(problems.get("speed_reducer_mixed").optimum.value, rel=1e-9)
