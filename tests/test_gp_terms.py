"""What users believe of the optimum and what evaluations cost: terms by hand, refusals, reductions, and searches that use them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bbopt import Categorical, Constraint, Fixed, Float, Int, Optimizer, Space, Task, UsageError
from bbopt.acquisition.terms import CostPer, UserPrior
from bbopt.query import Key, Query, Values
from bbopt.strategies.gp import GP
from bbopt.strategies.gp_terms import BETA, read_belief, with_terms
from surrogates.columns import Inputs
from surrogates.gp import fit_gp
from surrogates.map_fit import Prior

SPACE = Space(
    x=Float(0, 10), l=Float(1e-3, 1e3, log=True), k=Int(1, 9), v=Float(0, 1, shape=(2,)),
    c=Categorical(["a", "b", "z"]), size=Categorical([1, 5, 25], ordered=True), one=Fixed(3), day=Int(1, 7, role="context"),
)  # fmt: skip
TASK = Task(SPACE)
SQUARE = Task(Space(a=Float(0, 1), b=Float(0, 1)))


def belief(**entries: Any) -> UserPrior:
    found = read_belief(TASK, entries)
    assert found is not None
    return found


# -- beliefs -----------------------------------------------------------------------------------------------------------------


def test_numbers_are_normal_in_the_units_of_their_axis() -> None:
    """x within 2 of 5 on [0, 10] is 0.2 about 0.5; a factor of 10 about 1 on six decades is 1/6 about 1/2."""
    found = belief(x=[5, 2], l=[1.0, 9.0])
    assert np.allclose(found.centre, [0.5, 0.5]) and np.allclose(found.spread, [0.2, 0.5])  # 1 - 9 is below the range
    row = SPACE.from_uniform(np.full((1, SPACE.dimension), 0.5))
    row[0, 0] = 0.9
    value, gradient = belief(x=[5, 2]).log_chance(row, True)
    assert value[0] == pytest.approx(-2.0) and gradient[0, 0] == pytest.approx(-10.0) and not gradient[0, 1:].any()


def test_every_entry_of_a_vector_gets_the_belief() -> None:
    found = belief(v=[0.25, 0.1])
    assert len(found.columns) == 2 and np.allclose(found.centre, 0.25)


def test_choices_count_by_their_shares() -> None:
    found = belief(c={"a": 3, "z": 1}, size={25: 1, 5: 1})
    rows = np.concatenate([SPACE.encode({"x": 1, "l": 1, "k": 3, "v": [0, 0], "c": c, "size": s, "one": 3, "day": 1})[None] for c, s in (("a", 25), ("z", 25), ("b", 25), ("a", 1))])  # fmt: skip
    value, gradient = found.log_chance(rows, True)
    assert value[0] - value[1] == pytest.approx(np.log(3)) and not gradient.any()
    assert value[0] - value[2] == pytest.approx(np.log(3e6)) or value[0] > value[2] + 10.0
    assert value[0] > value[3] + 10.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"y": [1, 2]}, {"x": 3}, {"x": [1, 2, 3]}, {"x": ["a", 1]}, {"x": [11, 1]}, {"x": [1, 0]}, {"x": [1, float("nan")]},
        {"c": "a"}, {"c": {}}, {"c": {"q": 1}}, {"c": {"a": -1}}, {"c": {"a": 0}}, {"one": [3, 1]}, {"day": [1, 1]}, [1],
    ],
)  # fmt: skip
def test_what_cannot_be_believed_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="GP: belief"):
        read_belief(TASK, wrong)
    with pytest.raises(UsageError, match="GP: belief"):
        Optimizer(Task(Space(x=Float(0, 10), c=Categorical(["a", "b"]), one=Fixed(3))), GP(belief=wrong)).ask()


def test_without_a_belief_nothing_is_added() -> None:
    state = GP().init(SQUARE, Key(0, 0))
    assert with_terms(SQUARE, state, {}, "ignored", None, Inputs.continuous(2), None) is None
    also = belief(x=[5, 2])
    assert with_terms(SQUARE, state, {}, "told", None, Inputs.continuous(2), also) is also


def rounds(strategy: GP, rows: int, seed: int = 0) -> Optimizer:
    opt = Optimizer(SQUARE, strategy, seed=seed)
    for _ in range(rows):
        trial = opt.ask()
        a, b = trial.params["a"], trial.params["b"]
        opt.tell(trial, (a - 0.8) ** 2 + (b - 0.3) ** 2 + 0.05 * np.sin(20 * a), cost=1.0 + 50.0 * (a > 0.5))
    return opt


def best(opt: Optimizer, rows: int) -> float:
    return min(float((trial.values or {})["objective"]) for trial in opt.trials()[:rows])


def test_a_right_belief_helps_at_once_and_a_wrong_one_is_overcome() -> None:
    right, wrong = ({"a": [0.8, 0.1], "b": [0.3, 0.1]}, {"a": [0.1, 0.1], "b": [0.9, 0.1]})
    first = rounds(GP(belief=right), 6)
    assert first.trial(0).params == {"a": 0.8, "b": 0.3}
    none, misled = rounds(GP(search="whole"), 30), rounds(GP(belief=wrong), 30)
    assert best(first, 6) <= best(none, 6) and best(misled, 30) <= best(none, 30) + 0.01


def test_its_weight_fades_with_the_told_rows() -> None:
    rows = SQUARE.space.from_uniform(np.random.default_rng(0).random((20, 2)))
    state = GP().tell(SQUARE, GP().init(SQUARE, Key(0, 0)), Query(rows, {}), Values.of(rows.sum(axis=1)))
    term = with_terms(SQUARE, state, {"a": [0.5, 0.1]}, "ignored", None, Inputs.continuous(2), None)
    assert isinstance(term, UserPrior) and term.weight == BETA / 20


def test_a_study_with_a_belief_is_stored(tmp_path: Any) -> None:
    path = tmp_path / "a.db"
    with Optimizer(SQUARE, GP(belief={"a": [0.8, 0.1]}, cost="told"), store=path) as opt:
        first = opt.ask().params
    with Optimizer.open(path) as again:
        assert again.strategy == GP(belief={"a": [0.8, 0.1]}, cost="told") and first["a"] == 0.8


# -- costs -------------------------------------------------------------------------------------------------------------------


def test_the_term_is_the_mean_of_the_logarithm_with_its_gradient() -> None:
    X = np.random.default_rng(0).random((20, 2))
    gp = fit_gp(Inputs.continuous(2), X, X[:, :1], [Prior.botorch(2)])
    term, at, step = CostPer(gp.predictor, 0.5), np.random.default_rng(1).random((5, 2)), 1e-6
    value, gradient = term.log_chance(at, True)
    assert np.allclose(value, -0.5 * gp.mean_variance(at)[0][:, 0])
    for j in range(2):
        moved = step * np.eye(2)[j]
        numeric = (term.log_chance(at + moved, False)[0] - term.log_chance(at - moved, False)[0]) / (2 * step)
        assert np.allclose(gradient[:, j], numeric, rtol=1e-5, atol=1e-7)


def test_gain_per_cost_asks_more_cheap_points() -> None:
    """Half of the square costs 51 times the other; the optimum is in the dear half, and is still found."""
    plain, thrifty = rounds(GP(search="whole"), 25), rounds(GP(cost="told"), 25)
    spent = [sum(trial.cost or 0.0 for trial in opt.trials()) for opt in (plain, thrifty)]
    assert spent[1] < spent[0] and best(thrifty, 25) <= best(plain, 25) + 0.05


def test_costs_count_less_as_the_budget_is_used_up_and_not_at_all_where_none_is_told() -> None:
    rows = SQUARE.space.from_uniform(np.random.default_rng(0).random((20, 2)))
    values = Values.of(rows.sum(axis=1), cost=np.exp(rows[:, 0]))
    state = GP().tell(SQUARE, GP().init(SQUARE, Key(0, 0)), Query(rows, {}), values)
    terms = [with_terms(SQUARE, state, {}, "told", budget, Inputs.continuous(2), None) for budget in (None, 80, 40, 20)]
    weights = [term.weight if isinstance(term, CostPer) else 0.0 for term in terms]
    assert weights[1] == pytest.approx(0.75 * weights[0]) and weights[2] == pytest.approx(0.5 * weights[0])
    assert weights[3] == 0.0
    unknown = GP().tell(SQUARE, GP().init(SQUARE, Key(0, 0)), Query(rows, {}), Values.of(rows.sum(axis=1)))
    assert with_terms(SQUARE, unknown, {}, "told", None, Inputs.continuous(2), None) is None


def test_options_that_do_not_go_together() -> None:
    for options in ({"batch": "thompson"}, {"acquisition": "thompson"}):
        with pytest.raises(UsageError, match="thompson"):
            GP(cost="told", **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="cost"):
        GP(cost="some")  # type: ignore[arg-type]


@pytest.mark.parametrize("acquisition", ["logei", "mes", "jes", "kg", "frazier"])
def test_beliefs_and_costs_beside_limits_choices_and_failures(acquisition: str) -> None:
    task = Task(Space(a=Float(0, 1), c=Categorical(["x", "y"])), constraints=[Constraint("g", upper=0.0)])
    strategy = GP(initial=6, acquisition=acquisition, belief={"a": [0.7, 0.2], "c": {"y": 2, "x": 1}}, cost="told")
    opt = Optimizer(task, strategy, seed=0)
    for i, trial in enumerate(opt.ask(6)):
        if i == 2:
            opt.fail(trial, "broke", impossible=True)
        else:
            opt.tell(trial, {"objective": trial.params["a"], "g": 0.3 - trial.params["a"]}, cost=1.0 + i)
    assert len({tuple(trial.params.items()) for trial in opt.ask(3)}) == 3
