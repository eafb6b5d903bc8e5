"""The synthetic functions against BoTorch's, their optima, and how shifts and rotations move them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

import problems
from bbopt.errors import UsageError
from problems.synthetic import FAMILIES, rotation, synthetic

FIXED = {"branin": 2, "hartmann3": 3, "hartmann6": 6}
NAMED = [(name, None) for name in FIXED] + [
    (name, family.smallest + extra) for name, family in FAMILIES.items() for extra in (0, 4)
]


def point(problem):
    """The optimum as an array."""
    return np.concatenate([np.ravel(value) for value in problem.optimum.params.values()])


def box(problem):
    parameters = problem.task.space.parameters.values()
    return tuple(
        np.array([bound for p in parameters for bound in [getattr(p, end)] * p.size]) for end in ("low", "high")
    )


def values(problem, V):
    space = problem.task.space
    columns = {
        name: V[:, space.slice(name)] if p.shape else V[:, space.slice(name)][:, 0]
        for name, p in space.parameters.items()
    }
    return problem.formula(columns)["f"]


BOTORCH = {
    "ackley": "Ackley",
    "levy": "Levy",
    "rosenbrock": "Rosenbrock",
    "rastrigin": "Rastrigin",
    "griewank": "Griewank",
    "styblinski_tang": "StyblinskiTang",
}
PAIRS = [("branin", "Branin", {}), ("hartmann3", "Hartmann", {"dim": 3}), ("hartmann6", "Hartmann", {"dim": 6})] + [
    (f"{name}_{d}", function, {"dim": d})
    for name, function in BOTORCH.items()
    for d in (1, 2, 3, 7)
    if d >= FAMILIES[name].smallest
]


@pytest.mark.parametrize(("name", "function", "options"), PAIRS)
def test_values_and_optima_are_those_of_botorch(name, function, options):
    """Same forms. BoTorch keeps the tables of Hartmann in single precision and prints optima to 4 to 6 digits."""
    torch = pytest.importorskip("torch")
    botorch = pytest.importorskip("botorch.test_functions.synthetic")
    problem, other = problems.get(name), getattr(botorch, function)(**options)
    low, high = box(problem)
    V = np.random.default_rng(0).uniform(low, high, (300, len(low)))
    theirs = other._evaluate_true(torch.tensor(V)).numpy()
    assert values(problem, V) == pytest.approx(theirs, rel=1e-6 if function == "Hartmann" else 1e-10, abs=1e-9)
    assert problem.optimum.value == pytest.approx(other._optimal_value, rel=2e-6, abs=1e-9)
    nearest = min(np.abs(np.array(at) - point(problem)).max() for at in other._optimizers or [point(problem)])
    assert nearest < 5e-5 * max(1.0, (high - low).max())


def test_sphere_and_ellipsoid_in_closed_form():
    V = np.array([[1.0, 2.0, -3.0], [0.5, 0.0, 0.0]])
    assert values(problems.get("sphere_3"), V).tolist() == [14.0, 0.25]
    assert values(problems.get("ellipsoid_3"), V) == pytest.approx([1 + 4e3 + 9e6, 0.25], rel=1e-14)


def test_all_three_optima_of_branin():
    V = np.array([[-np.pi, 12.275], [np.pi, 2.275], [3 * np.pi, 2.475]])
    assert values(problems.get("branin"), V) == pytest.approx([problems.get("branin").optimum.value] * 3, abs=1e-14)


def test_the_second_basin_of_hartmann6():
    """Regret 0.119: the trap that the issue's check of `gp` is about."""
    problem = problems.get("hartmann6")
    start = np.array([0.4, 0.88, 0.85, 0.57, 0.1, 0.03])
    found = minimize(lambda v: values(problem, v[None])[0], start, bounds=[(0, 1)] * 6)
    assert found.fun - problem.optimum.value == pytest.approx(0.119, abs=1e-3)


@settings(max_examples=30)
@given(shift=st.none() | st.integers(0, 10**6), rotate=st.none() | st.integers(0, 10**6))
@pytest.mark.parametrize(("name", "dimension"), NAMED)
def test_moves_keep_the_value_and_the_optimum_inside(name, dimension, shift, rotate):
    problem, plain = synthetic(name, dimension, shift, rotate), synthetic(name, dimension)
    low, high = box(problem)
    at = point(problem)
    assert problem.optimum.value == plain.optimum.value
    assert problem(problem.optimum.params)["f"] == pytest.approx(plain.optimum.value, rel=1e-12, abs=1e-12)
    assert problems.get(problem.name).optimum == problem.optimum
    if shift is None:
        assert np.array_equal(at, point(plain))
    else:
        assert np.all((at >= low + 0.19 * (high - low)) & (at <= low + 0.81 * (high - low)))
        assert not np.array_equal(at, point(plain))
    V = np.random.default_rng(1).uniform(low, high, (50, len(low)))
    around = np.clip(at + 1e-3 * (high - low) * np.random.default_rng(2).standard_normal((50, len(low))), low, high)
    for points in (V, around):
        assert np.all(values(problem, points) >= problem.optimum.value - 1e-9 * max(1, abs(problem.optimum.value)))


@pytest.mark.parametrize(("name", "dimension"), NAMED)
def test_a_move_is_the_same_function_seen_from_elsewhere(name, dimension):
    """f(x* + R^T v) of the moved function equals f(z* + v) of the plain one."""
    plain, moved = synthetic(name, dimension), synthetic(name, dimension, shift=4, rotate=9)
    d = len(point(plain))
    v = 0.1 * np.random.default_rng(3).standard_normal((40, d))
    turned = v @ rotation(d, 9)
    assert values(moved, point(moved) + turned) == pytest.approx(values(plain, point(plain) + v), rel=1e-7, abs=1e-7)


def test_seeds_give_different_functions_and_the_same_seed_the_same():
    a, b, again = (problems.get(f"rastrigin_5@shift{s}+rotate{s}") for s in (1, 2, 1))
    V = np.random.default_rng(0).uniform(-5, 5, (10, 5))
    assert np.array_equal(values(a, V), values(again, V))
    assert not np.allclose(values(a, V), values(b, V))
    assert len({tuple(point(problems.get(f"sphere_3@shift{s}"))) for s in range(50)}) == 50


@pytest.mark.parametrize("dimension", [1, 2, 5, 40])
def test_a_rotation_is_one(dimension):
    matrix = rotation(dimension, 3)
    assert matrix @ matrix.T == pytest.approx(np.eye(dimension), abs=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="read-only"):
        matrix[0, 0] = 2.0


def test_rotations_are_uniform():
    """First entries of 4,000 random rotations in 3 dimensions are uniform on [-1, 1] (Archimedes)."""
    entries = np.sort([rotation(3, seed)[0, 0] for seed in range(4000)])
    ideal = np.linspace(-1, 1, 4000)
    assert np.abs(entries - ideal).max() / 2 < 1.95 / np.sqrt(4000)  # Kolmogorov-Smirnov, 1 in 1,000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sphere",), "needs a dimension of at least 1"),
        (("rosenbrock", 1), "at least 2"),
        (("branin", 3), "has 2 dimensions"),
        (("nothing", 3), "no synthetic function"),
        (("sphere", 2, -1), "shift is a seed"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        synthetic(*arguments)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dimension"), NAMED)
def test_local_searches_find_nothing_better(name, dimension):
    problem = synthetic(name, dimension, shift=5, rotate=6)
    low, high = box(problem)
    for start in np.random.default_rng(4).uniform(low, high, (200, len(low))):
        found = minimize(lambda v: values(problem, v[None])[0], start, bounds=list(zip(low, high, strict=True)))
        assert found.fun >= problem.optimum.value - 1e-8 * max(1, abs(problem.optimum.value))
