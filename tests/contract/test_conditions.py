"""Known conditions are never violated: random feasible problems, 10,000 asks over all strategies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, seed, settings
from hypothesis import strategies as st

from bbopt.errors import Exhausted
from bbopt.optimizer import Optimizer
from bbopt.parameters import Categorical, Float, Int, Parameter
from bbopt.space import Space
from bbopt.task import Task
from contract.study import ask_some
from contract.subjects import SUBJECTS, Subject
from contract.tasks import Case

PARTS = 4  # tests that can run side by side
PROBLEMS = 10
ASKS = 2_500
MODEL_ASKS = 2  # of a strategy that fits models, per problem; the others share the rest

NUMBERS: list[st.SearchStrategy[Parameter]] = [
    st.builds(
        lambda low, width: Float(low, low + width),
        st.sampled_from([-5.0, 0.0, 0.1]),
        st.sampled_from([0.5, 1.0, 100.0]),
    ),
    st.builds(lambda low: Float(low, low * 1000.0, log=True), st.sampled_from([1e-4, 0.1, 3.0])),
    st.builds(lambda step: Float(0.0, 2.0, step=step), st.sampled_from([0.0625, 0.1, 0.5])),
    st.builds(lambda low, width: Int(low, low + width), st.integers(-3, 3), st.integers(1, 40)),
]
CATEGORIES: list[st.SearchStrategy[Parameter]] = [
    st.builds(lambda n: Categorical(tuple("abcdef"[:n]), ordered=True), st.integers(2, 6)),
    st.builds(lambda n: Categorical(tuple("abcdef"[:n])), st.integers(2, 4)),
]


@st.composite
def feasible_tasks(draw: st.DrawFn) -> Task:
    """A space, a point of it, and conditions that this point satisfies: linear, order, product, sum, forbidden pairs."""
    parameters = {f"x{i}": draw(st.one_of(NUMBERS)) for i in range(draw(st.integers(2, 4)))}
    parameters |= {f"c{i}": draw(st.one_of(CATEGORIES)) for i in range(draw(st.integers(0, 2)))}
    space = Space(parameters)
    u = draw(st.lists(st.floats(0.02, 0.98), min_size=space.dimension, max_size=space.dimension))
    point = space.decode(space.from_uniform(np.array([u]))[0])
    numbers = [name for name in parameters if name.startswith("x")]
    choices = [name for name in parameters if name.startswith("c")]
    where = []
    for _ in range(draw(st.integers(1, 3))):
        a, b = draw(st.permutations(numbers))[:2]
        p, q = point[a], point[b]
        kind = draw(st.sampled_from(["linear", "order", "product", "sum", "ring", "forbidden", "either", "bound"]))
        slack = draw(st.sampled_from([0.0, 0.05, 0.5]))
        if kind == "linear":
            s, t = draw(st.integers(1, 5)), draw(st.integers(-5, 5))
            where.append(f"{s} * {a} + {t} * {b} <= {s * p + t * q + slack * (1 + abs(s * p + t * q))!r}")
        elif kind == "order":
            where.append(f"{a} <= {b}" if p <= q else f"{b} <= {a}")
        elif kind == "product":
            where.append(f"{a} * {b} <= {p * q + slack * (1 + abs(p * q))!r}")
        elif kind == "sum":
            total = float(sum(point[name] for name in numbers))
            where.append(f"{' + '.join(numbers)} >= {total - slack * (1 + abs(total))!r}")
        elif kind == "ring":
            radius = 1.0 + slack
            where.append(f"({a} - {p!r}) ** 2 + ({b} - {q!r}) ** 2 <= {radius * max(1.0, abs(p), abs(q)) ** 2!r}")
        elif kind == "bound":
            where.append(f"{a} >= {p!r}" if draw(st.booleans()) else f"sqrt(abs({a})) <= {abs(p) ** 0.5 + slack!r}")
        elif kind == "forbidden" and choices:
            c = draw(st.sampled_from(choices))
            other = next(value for value in ("a", "b") if value != point[c])
            where.append(f"not ({c} == {other!r} and {a} > {p!r})")
        elif kind == "either" and choices:
            c = draw(st.sampled_from(choices))
            where.append(f"{c} == {point[c]!r} or {a} + {b} <= {p + q!r}")
    if not where:
        where.append(f"{numbers[0]} >= {point[numbers[0]]!r} or {numbers[1]} <= {point[numbers[1]]!r}")
    return Task(space, where=tuple(where))


def value(params: dict[str, Any]) -> float:
    return float(sum(v if not isinstance(v, str) else "abcdef".index(v) for v in params.values()))


def ask_and_check(subject: Subject, task: Task, rows: int) -> int:
    """Ask, tell and go on until `rows` were given out or the space is used up; each row satisfies every condition."""
    case = Case(task, lambda params: {"objective": value(dict(params))})
    opt = Optimizer(task, subject.make(), seed=1)
    start = task.feasible.sample(4, np.random.default_rng(0))
    opt.add_many([(point, value(point)) for point in map(task.space.decode, start)])
    given_out = 0
    while given_out < rows:
        try:
            trials = ask_some(opt, case, min(25, rows - given_out))
        except Exhausted:
            break
        rows_asked = np.array([task.space.encode(trial.params) for trial in trials]).reshape(len(trials), -1)
        bad = [trial.params for trial, good in zip(trials, task.known(rows_asked), strict=True) if not good]
        assert not bad, f"{subject} asked for {bad[0]}"
        given_out += len(trials)
        trials = trials or [trial for trial in opt.trials() if trial.status == "open"]
        opt.tell_many([(trial, value(trial.params)) for trial in trials])
    return given_out


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, PARTS))])
def test_ten_thousand_asks_violate_nothing(part: int) -> None:
    """2,500 of them in each part, over 10 problems of its own."""
    total = 0

    @seed(part)
    @settings(max_examples=PROBLEMS, derandomize=False, suppress_health_check=list(HealthCheck))
    @given(task=feasible_tasks())
    def search(task: Task) -> None:
        nonlocal total
        note(f"where: {task.where}")
        able = [subject for subject in SUBJECTS if task.needs() <= subject.make().handles]
        cheap = [subject for subject in able if subject.rows(1, 0)]
        for subject in able:
            rows = int(1.3 * ASKS / PROBLEMS / len(cheap)) if subject in cheap else MODEL_ASKS
            total += ask_and_check(subject, task, rows)

    search()
    assert total >= ASKS, f"only {total} asks: small spaces were used up too often, raise the share per problem"
