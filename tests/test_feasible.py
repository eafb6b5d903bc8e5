"""Points that satisfy known conditions: always inside, near where they should be, evenly spread, the same every time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bbopt.conditions import Conditions, level_values
from bbopt.errors import Exhausted, TaskError
from bbopt.optimizer import Optimizer
from bbopt.parameters import Categorical, Float, Int, Parameter
from bbopt.region import to_uniform
from bbopt.space import Space
from bbopt.task import Task


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def is_good(task: Task, X: Any) -> None:
    assert np.isfinite(X).all()
    assert np.array_equal(task.space.canonical(X), X)
    assert task.known(X).all(), task.space.decode(X[~task.known(X)][0])


ABC = {"a": Float(0, 1), "b": Float(0, 1), "c": Float(0, 1)}
CASES: dict[str, tuple[dict[str, Parameter], list[str]]] = {
    "sum is one": (ABC, ["a + b + c == 1"]),
    "sum is one, ordered": (ABC, ["a + b + c == 1", "a <= b <= c"]),
    "terms cancel": ({k: Float(-1, 1) for k in "abc"}, ["a + b - c == 0"]),
    "simplex in 12": ({"w": Float(0, 1, shape=(12,))}, ["sum(w) == 1"]),
    "order of 10": ({k: Float(0, 1) for k in "abcdefghij"}, ["a <= b <= c <= d <= e <= f <= g <= h <= i <= j"]),
    "share of 1e-6": ({"a": Float(0, 1), "b": Float(-5, 5)}, ["abs(a - 0.3) <= 5e-4", "abs(b - 4) <= 5e-3"]),
    "sliver": (ABC, ["abs(a - b) <= 1e-7"]),
    "circle": ({"a": Float(-1, 1), "b": Float(-1, 1)}, ["a**2 + b**2 == 1", "a >= b"]),
    "kink": (ABC, ["max(a, b) == 0.5"]),
    "steep": (ABC, ["exp(20 * a) + b == 100"]),
    "pole": (ABC, ["1 / (a - b) == 3"]),
    "hardly defined": (ABC, ["sqrt(a) * sqrt(b) >= 0.5", "log(a - 0.9999) <= 0", "sqrt(b - 0.9999) >= 0"]),
    "two equalities, coupled": (ABC, ["a + b + c == 2", "a * b == c"]),
    "product on log axes": ({k: Float(1e-6, 1, log=True) for k in "ab"}, ["a * b == 1e-6"]),
    "unbounded, far out": ({"x": Float(scale=100.0), "y": Float(scale=1.0)}, ["x >= 5000", "y <= x"]),
    "unbounded, nonlinear": ({"x": Float(scale=1.0), "a": Float(0, 1)}, ["abs(x) >= 100", "a <= x"]),
    "whole numbers on a circle": ({k: Int(0, 1000) for k in "ab"}, ["a**2 + b**2 == 25"]),
    "one in a million": ({k: Int(1, 1000) for k in "ab"}, ["898951.9 <= a**2 + b**2 <= 898952.1", "a <= b"]),
    "unbounded equality": ({"x": Float(scale=100.0), "y": Float(scale=1e-3)}, ["x * y == 1"]),
    "whole numbers that sum up": ({"n": Int(0, 1000, shape=(6,))}, ["sum(n) == 1000"]),
    "whole numbers, ratio": ({"a": Int(1, 10**6, log=True), "b": Int(1, 10**6, log=True)}, ["a == 2 * b"]),
    "grid": ({k: Float(0, 1, step=0.05) for k in "abc"}, ["a + b + c == 1"]),
    "equal choices": (
        {f"s{i}": Categorical(list("abcdef")) for i in range(9)},
        [f"s{i} == s{i + 1}" for i in range(8)],
    ),
    "a rule for one choice": (
        {"s": Categorical(["x", "y"]), **ABC},
        ["s == 'y' or a == 0.5", "not (s == 'y' and b > c)"],
    ),
    "only through or": (ABC, ["a == 0 or b == 0"]),
    "mixed": (
        {
            "s": Categorical(["x", "y", "z"]),
            "n": Int(1, 10),
            "a": Float(1e-3, 10, log=True),
            "k": Float(scale=3.0),
            "g": Categorical([1, 2, 4], ordered=True),
        },
        ["not (s == 'x' and n > 3)", "s in ['x', 'z'] or a <= 0.01", "k >= n", "g * n <= 12"],
    ),
    "conditional": (
        {"a": Float(0, 1), "b": Float(0, 1, when="a > 0.5"), "n": Int(1, 3, when="b > 0.2")},
        ["a + b <= 0.9", "n >= 2"],
    ),
    "100 columns": ({"w": Float(0, 1, shape=(100,))}, ["sum(w) <= 30", "w[0] >= w[1]"]),
}


@pytest.mark.parametrize("name", CASES)
def test_samples_and_repairs_satisfy_every_condition(name: str) -> None:
    task = Task(Space(CASES[name][0]), where=CASES[name][1])
    X = task.feasible.sample(200, rng())
    assert X.shape == (200, task.space.dimension)
    is_good(task, X)
    is_good(task, task.feasible.repair(task.space.from_uniform(rng(1).random((60, task.space.dimension))), rng(2)))
    assert np.array_equal(task.feasible.repair(X, rng(3)), X), "a row that fits was moved"
    assert len(np.unique(X, axis=0)) >= (1 if name == "one in a million" else 3)


@pytest.mark.parametrize("name", ["sum is one, ordered", "sliver", "mixed", "share of 1e-6", "conditional"])
def test_same_generator_same_points_whatever_was_asked_before(name: str) -> None:
    fresh, used = (Task(Space(CASES[name][0]), where=CASES[name][1]) for _ in range(2))
    used.feasible.sample(7, rng(5))
    used.feasible.repair(used.space.from_uniform(rng(1).random((9, used.space.dimension))), rng(6))
    assert np.array_equal(fresh.feasible.sample(20, rng(3)), used.feasible.sample(20, rng(3)))


def test_without_conditions_a_sample_is_one_draw_of_the_generator() -> None:
    space = Space(a=Float(0, 1), n=Int(1, 9))
    X = Task(space).feasible.sample(5, rng(4), {1: 0.25})
    expected = space.from_uniform(rng(4).random((5, 2)))
    assert np.array_equal(X[:, 0], expected[:, 0]) and (X[:, 1] == 0.25).all()


def test_uniform_over_a_triangle() -> None:
    """Mean 1/3 and variance 1/18 of both coordinates, by drawing and by walking (means of 4000: standard error 0.004)."""
    wide = Task(Space(a=Float(0, 1), b=Float(0, 1)), where=["a + b <= 1"])
    narrow = Task(Space(a=Float(0, 1), b=Float(0, 1), c=Float(0, 1000)), where=["a + b <= 1", "0.3 <= c <= 0.4"])
    assert narrow.feasible._region({}).share < 4 / 8192  # so it walks
    for task in (wide, narrow):
        X = task.feasible.sample(4000, rng(1))[:, :2]
        assert np.abs(X.mean(axis=0) - 1 / 3).max() < 0.02
        assert np.abs(X.var(axis=0) - 1 / 18).max() < 0.008


def test_uniform_over_a_simplex() -> None:
    """Each coordinate of the uniform distribution on the simplex has mean 1/n and variance (n - 1) / (n^2 (n + 1))."""
    task = Task(Space(w=Float(0, 1, shape=(8,))), where=["sum(w) == 1"])
    X = task.feasible.sample(3000, rng(1))
    assert np.abs(X.mean(axis=0) - 1 / 8).max() < 0.02
    assert np.abs(X.var(axis=0) - 7 / (64 * 9)).max() < 0.004


def test_order_of_ten_has_the_means_of_order_statistics() -> None:
    task = Task(Space(CASES["order of 10"][0]), where=CASES["order of 10"][1])
    X = task.feasible.sample(1500, rng(1))
    assert np.abs(X.mean(axis=0) - np.arange(1, 11) / 11).max() < 0.05


def test_held_columns_keep_their_values() -> None:
    task = Task(Space(ABC), where=["a + b + c == 1", "a <= b"])
    X = task.feasible.sample(50, rng(), {2: 0.5})
    is_good(task, X)
    assert (X[:, 2] == 0.5).all()
    X = task.feasible.repair(rng(1).random((50, 3)), rng(), {0: 0.125, 1: 0.25})
    assert (X == [0.125, 0.25, 0.625]).all()


def test_repair_stays_near() -> None:
    """No repaired point is further than 1.5 times the distance to the set (half-space x + y <= 1, distance known)."""
    task = Task(Space(a=Float(0, 1), b=Float(0, 1)), where=["a + b <= 1"])
    X = task.space.canonical(rng(1).random((300, 2)))
    moved = np.linalg.norm(task.feasible.repair(X, rng(2)) - X, axis=1)
    distance = np.maximum(X.sum(axis=1) - 1, 0) / np.sqrt(2)
    assert (moved <= 1.5 * distance + 1e-9).all()


def test_repair_changes_only_what_it_must() -> None:
    task = Task(Space(s=Categorical(["x", "y"]), a=Float(0, 1), n=Int(1, 100_000)), where=["s == 'y' or n >= 90000"])
    X = task.space.canonical(np.array([[0.0, 0.3, 0.5]]))
    repaired = task.feasible.repair(X, rng())
    assert repaired[0, 1] == X[0, 1] and (repaired[0, [0, 2]] != X[0, [0, 2]]).sum() == 1


def test_enumerate_and_count() -> None:
    space = Space(a=Int(0, 2), b=Int(0, 2), s=Categorical(["x", "y"]), z=Int(1, 5, when="s == 'y'"))
    task = Task(space, where=["a + b <= 2"])
    points = task.feasible.enumerate(1000)
    assert points is not None
    assert len(points) == 6 * (1 + 5) == task.feasible.count  # six pairs; z has one value (none) for "x", five for "y"
    assert len(np.unique(points, axis=0)) == 36
    is_good(task, points)
    assert task.feasible.enumerate(89) is None  # 3 * 3 * 2 * 5 rows would have to be looked at
    assert Task(Space(a=Float(0, 1))).feasible.count is None
    assert Task(Space(a=Int(1, 10**6), b=Int(1, 10**6))).feasible.count == 10**12


def test_a_finite_set_is_drawn_evenly() -> None:
    task = Task(Space(a=Int(0, 2), b=Int(0, 2)), where=["a <= b"])
    _, counts = np.unique(task.feasible.sample(6000, rng(2)), axis=0, return_counts=True)
    assert len(counts) == 6 and counts.min() > 850  # 1000 each, standard deviation 29


@pytest.mark.parametrize(
    ("parameters", "where", "held", "message"),
    [
        (ABC, ["a + b >= 3"], {}, r"no point was found that satisfies 'a \+ b >= 3'; the closest one seen, .*by 1\)"),
        ({"n": Int(0, 3)}, ["n >= 2", "n <= 1"], {}, r"no point satisfies 'n >= 2' and 'n <= 1'"),
        (ABC, ["a + b + c == 1"], {0: 1.0, 1: 0.5}, r"with \{'a': 1.0, 'b': 0.5\} held"),
        (ABC, ["a + b + c == 1", "a <= b <= c"], {2: 0.1}, r"with \{'c': 0.1\} held; .* loosen"),
    ],
)
def test_an_empty_set_is_an_error_that_says_so(parameters: Any, where: list[str], held: Any, message: str) -> None:
    task = Task(Space(parameters), where=where)
    with pytest.raises(TaskError, match=message):
        task.feasible.sample(1, rng(), held)
    with pytest.raises(TaskError, match="where:"):
        task.feasible.repair(np.full((1, task.space.dimension), 0.5), rng(), held)


def test_levels_of_a_column_are_the_values_it_takes() -> None:
    space = Space(a=Int(1, 9, log=True), b=Float(0, 1, step=0.3), c=Categorical(["x", "y"]), d=Int(0, 10, step=5))
    for column, count in enumerate(space.columns.levels):
        values = level_values(space, column, np.arange(count))
        X = np.zeros((count, 4))
        X[:, column] = values
        assert np.array_equal(space.canonical(X)[:, column], values)
        assert len(np.unique(values)) == count


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6))
def test_the_unit_cube_and_back(seed: int) -> None:
    space = Space(
        a=Int(1, 90, log=True), b=Float(0, 1), c=Categorical([1, 2, 3]), d=Int(0, 10, step=5), e=Float(scale=3.0)
    )
    X = space.from_uniform(rng(seed).random((5, 5)))
    again = space.from_uniform(to_uniform(space, X))
    assert np.array_equal(again[:, :4], X[:, :4]) and np.allclose(again[:, 4], X[:, 4], rtol=1e-9, atol=1e-12)


def test_a_condition_is_seen_in_its_parts() -> None:
    task = Task(Space(ABC), where=["a <= b <= c and a + b == 1"])
    parts = Conditions(task)
    assert [part.rule.text for part in parts.parts] == ["a <= b", "b <= c", "a + b == 1"]
    X = np.array([[0.5, 0.25, 0.75]])
    assert np.allclose(parts.violations(X), [[0.25, 0.0, 0.25]], atol=1e-9)
    assert np.allclose(parts.residuals(X, parts.equalities), [[-0.25]], atol=1e-9)


# -- random feasible problems: a point is drawn first, and conditions are made that it satisfies --------------------------


@st.composite
def problems(draw: st.DrawFn) -> Task:
    parameters: dict[str, Parameter] = {}
    for i in range(draw(st.integers(2, 6))):
        kind = draw(st.sampled_from(["float", "float", "log", "step", "int", "logint", "unbounded", "choice", "grade"]))
        parameters[f"p{i}"] = {
            "float": Float(-2.0, 3.0),
            "log": Float(1e-4, 10.0, log=True),
            "step": Float(0.0, 2.0, step=0.25),
            "int": Int(-3, 12),
            "logint": Int(1, 1000, log=True),
            "unbounded": Float(scale=2.0),
            "choice": Categorical(["u", "v", "w"]),
            "grade": Categorical([1, 2, 5], ordered=True),
        }[kind]
    space = Space(parameters)
    anchor = space.decode(space.from_uniform(rng(draw(st.integers(0, 10**6))).random((1, space.dimension)))[0])
    numbers = [name for name in parameters if not isinstance(anchor[name], str)]
    choices = [name for name in parameters if isinstance(anchor[name], str)]
    smooth = [
        n for n, p in parameters.items() if isinstance(p, Float) and p.step is None and p.low is not None and not p.log
    ]
    where: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["linear", "product", "ring", "order", "sum", "forbidden", "in", "or"]))
        some = draw(st.permutations(numbers))[:3] if numbers else []
        slack = draw(st.sampled_from([0.05, 0.3, 1.0]))
        if kind == "linear" and some:
            weights = [draw(st.sampled_from([-2, -1, 0.5, 1])) for _ in some]
            value = sum(w * anchor[n] for w, n in zip(weights, some, strict=True))
            where.append(f"{' + '.join(f'{w} * {n}' for w, n in zip(weights, some, strict=True))} <= {value + slack!r}")
        elif kind == "product" and len(some) > 1:
            where.append(f"{some[0]} * {some[1]} >= {anchor[some[0]] * anchor[some[1]] - slack!r}")
        elif kind == "ring" and len(some) > 1:
            square = anchor[some[0]] ** 2 + anchor[some[1]] ** 2
            where.append(f"{square - 2 * slack!r} <= {some[0]}**2 + {some[1]}**2 <= {square + 2 * slack!r}")
        elif kind == "order" and len(some) > 1:
            where.append(" <= ".join(sorted(some, key=lambda name: anchor[name])))
        elif kind == "sum" and len(smooth) > 1 and not any("==" in text for text in where):
            where.append(f"{' + '.join(smooth)} == {sum(anchor[name] for name in smooth)!r}")
        elif kind == "forbidden" and choices and some:
            other = {"u": "v", "v": "w", "w": "u"}[anchor[choices[0]]]
            where.append(f"not ({choices[0]} == '{other}' and {some[0]} > {anchor[some[0]]!r})")
        elif kind == "in" and choices:
            where.append(f"{choices[0]} in ['{anchor[choices[0]]}', 'none']")
        elif kind == "or" and some:
            where.append(f"{some[0]} >= {anchor[some[0]]!r} or abs({some[-1]}) <= {slack}")
    return Task(space, where=where)


@settings(max_examples=50)
@given(task=problems(), seed=st.integers(0, 10**6))
def test_random_feasible_problems(task: Task, seed: int) -> None:
    is_good(task, task.feasible.sample(40, rng(seed)))
    U = rng(seed + 1).random((20, task.space.dimension))
    is_good(task, task.feasible.repair(task.space.from_uniform(U), rng(seed)))
    x = task.feasible.sample(1, rng(seed + 2))[0]
    column = seed % task.space.dimension
    held = {column: float(x[column])}
    for X in (task.feasible.sample(10, rng(seed), held), task.feasible.repair(x[None], rng(seed), held)):
        is_good(task, X)
        assert (X[:, column] == x[column]).all()


def asks_are_inside(task: Task, name: str, seed: int, asks: int) -> None:
    opt = Optimizer(task, strategy=name, seed=seed)
    seen: set[bytes] = set()
    for _ in range(asks):
        try:
            trial = opt.ask()
        except Exhausted:
            assert task.feasible.count in (None, len(seen))
            return
        x = task.space.encode(trial.params)
        is_good(task, x[None])
        assert x.tobytes() not in seen, "the same point twice"
        seen.add(x.tobytes())
        opt.tell(trial, float(x.sum()))


@settings(max_examples=20)
@given(task=problems(), name=st.sampled_from(["random", "sobol", "cmaes"]), seed=st.integers(0, 99))
def test_every_ask_satisfies_the_conditions(task: Task, name: str, seed: int) -> None:
    asks_are_inside(task, name, seed, 12)


@pytest.mark.slow
@settings(max_examples=400)
@given(task=problems(), name=st.sampled_from(["random", "sobol", "cmaes"]), seed=st.integers(0, 99))
def test_ten_thousand_asks_satisfy_the_conditions(task: Task, name: str, seed: int) -> None:
    asks_are_inside(task, name, seed, 25)
