"""The `amortised-gp` strategy: easy problems, batches, odd data, failing regions, its model between fits, and its memo."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import problems
from bbopt import (
    BboptError,
    Categorical,
    Constraint,
    Exhausted,
    Float,
    Int,
    Objective,
    Optimizer,
    Space,
    Task,
    UsageError,
)
from bbopt.query import Key, Request
from bbopt.strategies import amortised_model
from bbopt.strategies.amortised import Amortised
from bbopt.strategies.amortised_model import AmortisedModel, build, representatives
from bbopt.strategies.gp_state import GPState
from surrogates.amortised.components import Components, Diagnosis
from surrogates.amortised.fit import fit_amortised
from surrogates.amortised.hyperprior import Hyperprior
from surrogates.warped_fit import fit_warped

Function = Callable[[Mapping[str, Any]], Any]
Array = np.ndarray
SQUARE = Space(a=Float(0, 1), b=Float(0, 1))
LIMITED = Task(SQUARE, objectives=[Objective("f")], constraints=[Constraint("g", upper=0.0)])


def study(task: Task, function: Function, asks: int, seed: int = 0, strategy: Any = None) -> Optimizer:
    """After `asks` answers; None stands for a point that cannot work."""
    opt = Optimizer(task, strategy=strategy or Amortised(), seed=seed)
    for _ in range(asks):
        trial = opt.ask()
        value = function(trial.params)
        if value is None:
            opt.fail(trial, "cannot work", impossible=True)
        else:
            opt.tell(trial, value)
    return opt


def lowest(opt: Optimizer) -> float:
    best = opt.best()
    assert best is not None and best.values is not None
    return float(best.values[opt.task.metrics[0]])


def params(opt: Optimizer) -> list[dict[str, Any]]:
    return [trial.params for trial in opt.trials()]


def bowl(p: Mapping[str, Any]) -> float:
    return float((p["a"] - 0.3) ** 2 + (p["b"] - 0.6) ** 2)


def told(n: int, outputs: int = 1, d: int = 2, seed: int = 0) -> GPState:
    X = np.random.default_rng(seed).random((n, d))
    y = [
        np.sin(5.0 * X[:, 0]) + (X[:, 1] - 0.4) ** 2,
        *(100.0 * (X[:, j % d] - 0.5 * X[:, 0]) for j in range(outputs - 1)),
    ]
    values = np.column_stack(y)
    return GPState(X, values, np.full(values.shape, np.nan), X[:0], np.zeros(n, bool))


def request(task: Task, number: int, n: int = 1) -> Request:
    return Request(n, number, np.zeros((0, task.space.dimension)))


# -- easy problems ---------------------------------------------------------------------------------------------------------


def gap(name: str, asks: int, seed: int) -> float:
    problem = problems.get(name)
    optimum = problem.optimum.value
    assert optimum is not None
    return lowest(study(problem.task, problem, asks, seed)) - optimum


def test_branin_in_25_evaluations() -> None:
    assert gap("branin", 25, 0) <= 0.02


def test_jlh1_in_20_evaluations() -> None:
    """Two inputs, one constraint that is active at the optimum, 0.03125."""
    assert gap("jlh1", 20, 0) <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("name", "asks", "limit"), [("branin", 30, 0.005), ("jlh1", 25, 1e-4), ("gkxwc1", 30, 0.02)])
def test_easy_problems_at_the_median_of_ten_seeds(name: str, asks: int, limit: float) -> None:
    found = [gap(name, asks, seed) for seed in range(10)]
    assert np.median(found) <= limit, found


def test_a_feasible_point_is_sought_while_none_is_known() -> None:
    """A disc of 5 % of the square; the optimum of the objective is far from it."""

    def disc(p: Mapping[str, Any]) -> dict[str, float]:
        return {"f": p["a"] + p["b"], "g": float(np.hypot(p["a"] - 0.75, p["b"] - 0.7)) - float(np.sqrt(0.05 / np.pi))}

    opt = study(LIMITED, disc, 18, 1)
    assert not any(trial.feasible for trial in opt.trials()[:6])  # of the design
    assert lowest(opt) <= 1.45 - np.sqrt(2.0 * 0.05 / np.pi) + 0.02


@pytest.mark.parametrize("rule", ["cei", "cei+", "penalty"])
def test_every_rule_beats_the_middle_of_the_design(rule: Any) -> None:
    def line(p: Mapping[str, Any]) -> dict[str, float]:
        return {"f": -p["a"], "g": 4.0 * (p["a"] + p["b"] - 1.2)}

    opt = study(LIMITED, line, 12, 2, Amortised(acquisition=rule))
    assert lowest(opt) <= -0.95
    chosen = opt.recommend()
    assert chosen is not None and chosen.feasible


def test_without_constraints_the_rules_are_one_to_the_bit() -> None:
    asked = [
        params(study(Task(SQUARE), bowl, 8, 3, Amortised(acquisition=rule))) for rule in ("cei", "cei+", "penalty")
    ]
    assert asked[0] == asked[1] == asked[2]


@pytest.mark.parametrize("options", [{"acquisition": "ei"}, {"failures": "svm"}, {"initial": 0}, {"budget": 2.5}])
def test_options_that_are_none_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        Amortised(**options)


# -- kinds of tasks --------------------------------------------------------------------------------------------------------


def test_eight_at_once_and_one_more_are_apart() -> None:
    opt = study(LIMITED, lambda p: {"f": bowl(p), "g": p["a"] - 0.5}, 8, 5, Amortised(initial=6))
    X = np.array([list(trial.params.values()) for trial in [*opt.ask(8), opt.ask()]])
    assert (np.abs(X[:, None] - X[None]).max(axis=2) + np.eye(9)).min() > 1e-3


def test_fixed_and_context_values_are_kept() -> None:
    task = Task(Space(a=Float(0, 1), b=Float(0, 1), heat=Float(0, 1, role="context")))
    opt = Optimizer(task, strategy=Amortised(initial=4), seed=0)
    rng = np.random.default_rng(0)
    for step in range(9):
        heat = float(rng.random())
        held = {"b": 0.25} if step % 3 == 0 else None
        trial = opt.ask(context={"heat": heat}, fixed=held)
        assert trial.context["heat"] == pytest.approx(heat)
        assert held is None or trial.params["b"] == pytest.approx(0.25)
        opt.tell(trial, (trial.params["a"] - heat) ** 2 + trial.params["b"])


def test_numbers_levels_and_categories_together() -> None:
    space = Space(x=Float(0, 1), k=Int(0, 20), c=Categorical(["r", "g", "b"]))
    cost = {"r": 1.0, "g": 0.0, "b": 0.5}
    opt = study(Task(space), lambda p: (p["x"] - 0.3) ** 2 + (p["k"] - 7) ** 2 / 50 + cost[p["c"]], 25)
    best = opt.best()
    assert best is not None and (best.params["k"], best.params["c"]) == (7, "g")
    assert abs(best.params["x"] - 0.3) < 0.05


def test_a_finite_space_is_used_up_and_then_says_so() -> None:
    task = Task(Space(k=Int(0, 2), c=Categorical(["r", "g"]), m=Int(1, 2)))
    opt = study(task, lambda p: p["k"] + (p["c"] == "r") + p["m"], 12)
    assert len({str(each) for each in params(opt)}) == 12
    with pytest.raises(Exhausted):
        opt.ask()


def test_conditions_hold() -> None:
    opt = study(Task(SQUARE, where=["a + b <= 1"]), lambda p: -(2.0 * p["a"] + p["b"]), 11)
    assert all(p["a"] + p["b"] <= 1.0 + 1e-9 for p in params(opt))
    assert lowest(opt) <= -1.95


@pytest.mark.parametrize("noise", ["unknown", 0.02])
def test_noise_is_seen_through(noise: Any) -> None:
    rng = np.random.default_rng(0)
    task = Task(SQUARE, objectives=[Objective("f", noise=noise)])
    opt = study(task, lambda p: bowl(p) + 0.02 * rng.standard_normal(), 18, 0)
    chosen = opt.recommend()
    assert chosen is not None and bowl(chosen.params) <= 0.03


# -- odd data --------------------------------------------------------------------------------------------------------------

TROUBLE: dict[str, Function] = {
    "constant": lambda p: 1.0,
    "huge": lambda p: 1e300 * (p["a"] - 0.5),
    "huge and small": lambda p: 1e300 if p["a"] > 0.5 else p["b"],
    "tiny": lambda p: 1e-300 * p["a"],
    "all failed": lambda p: None,
    "one answer": lambda p: 1.0 if p["a"] > 0.8 else None,
}


@pytest.mark.parametrize("name", TROUBLE)
def test_numerical_trouble_never_reaches_the_user(name: str) -> None:
    opt = study(Task(SQUARE), TROUBLE[name], 7, strategy=Amortised(initial=3))
    assert len({str(each) for each in params(opt)}) == 7


@pytest.mark.parametrize("limit", [lambda p: 1.0, lambda p: 0.0, lambda p: 1e300 * (p["b"] - 0.5)])
def test_strange_constraints_never_reach_the_user(limit: Callable[[Mapping[str, Any]], float]) -> None:
    opt = study(LIMITED, lambda p: {"f": p["a"], "g": limit(p)}, 6, strategy=Amortised(initial=3))
    assert len({str(each) for each in params(opt)}) == 6


def test_a_point_told_many_times() -> None:
    opt = Optimizer(Task(SQUARE), strategy=Amortised(initial=2), seed=0)
    for _ in range(8):
        opt.add({"a": 0.5, "b": 0.5}, 1.0)
    assert set(opt.ask().params) == {"a", "b"}


def test_hundreds_of_nearly_equal_points() -> None:
    opt = Optimizer(Task(SQUARE), strategy=Amortised(), seed=0)
    for shift in 1e-9 * np.random.default_rng(0).standard_normal((320, 2)):
        opt.add({"a": 0.5 + shift[0], "b": 0.5 + shift[1]}, 1.0 + float(shift.sum()))
    assert set(opt.ask().params) == {"a", "b"}


# -- points that cannot work -----------------------------------------------------------------------------------------------


def beside(p: Mapping[str, Any]) -> float | None:
    """The optimum 0 lies 0.05 from the edge of the half that fails."""
    return None if p["a"] > 0.5 else float((p["a"] - 0.45) ** 2 + (p["b"] - 0.5) ** 2)


@pytest.mark.parametrize("failures", ["distance", "pfn"])
def test_a_failing_half_space_is_learnt(failures: Any) -> None:
    """With nothing learnt of it half of the asks would go there."""
    opt = study(Task(SQUARE), beside, 17, 0, Amortised(failures=failures))
    assert sum(trial.status == "impossible" for trial in opt.trials()[10:]) <= 3
    assert lowest(opt) <= 0.02


def test_tabpfn_without_weights_names_what_it_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TABPFN_MODEL_CACHE_DIR", str(tmp_path))
    opt = Optimizer(Task(SQUARE), strategy=Amortised(initial=2, failures="tabpfn"), seed=0)
    opt.tell(opt.ask(), 1.0)
    opt.fail(opt.ask(), "no", impossible=True)
    with pytest.raises(BboptError, match="TabPFN"):
        opt.ask()


# -- the model -------------------------------------------------------------------------------------------------------------


class Fits:
    """Counts the calls of the fit and keeps what it was given; the diagnosis can be another."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *diagnosis: Diagnosis) -> None:
        self.calls: list[tuple[Any, ...]] = []

        def fit(inputs: Any, X: Array, Z: Array, priors: Any = None, variances: Any = None) -> Any:
            self.calls.append((X, Z, priors, variances))
            found = fit_amortised(inputs, X, Z, priors, variances)
            return replace(found, diagnosis=diagnosis) if diagnosis else found

        monkeypatch.setattr(amortised_model, "fit_amortised", fit)


def plain(value: Any) -> bool:
    """Whether it is JSON with arrays."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and plain(each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return all(plain(each) for each in value)
    return value is None or isinstance(value, str | int | float | bool | np.ndarray | np.integer | np.floating)


def test_all_outputs_are_fitted_at_once_with_what_is_known_of_their_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task(
        SQUARE, [Objective("f", noise="unknown")],
        [Constraint("g", upper=0.0), Constraint("h", upper=0.0, noise=0.5)],
    )  # fmt: skip
    fits = Fits(monkeypatch)
    state = told(12, 3)
    model = build(task, state, {})
    ((X, Z, priors, variances),) = fits.calls
    assert X.shape == (12, 2) and Z.shape == (12, 3)
    assert priors == [Hyperprior.noisy(), Hyperprior(), Hyperprior()]
    assert model.noisy.tolist() == [True, False, True]
    slope = model.warps[2].slope(state.values[:, 2])
    np.testing.assert_allclose(variances, np.column_stack([np.zeros((12, 2)), 0.25 * slope**2]))
    exact = Task(SQUARE, [Objective("f")], [Constraint("g", upper=0.0)])
    assert build(exact, told(12, 2), {}).posterior.variances is None


def test_a_constraint_s_threshold_stays_where_it_is() -> None:
    """z is at most 0 exactly where g is."""
    model, state = build(LIMITED, told(20, 2), {}), told(20, 2)
    assert ((model.posterior.Z[:, 1] <= 0.0) == (state.values[:, 1] <= 0.0)).all()


def test_hyperparameters_are_kept_between_fits_and_their_weights_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 100 to 300 rows they are found again at every fifth."""
    task, state = Task(SQUARE), told(108)

    def first(n: int) -> GPState:
        return replace(state, X=state.X[:n], values=state.values[:n], std=state.std[:n], outcomes=state.outcomes[:n])

    fits = Fits(monkeypatch)
    start = build(task, first(101), {})
    assert len(fits.calls) == 1
    later = build(task, first(104), replace(first(104), memo=start.memo).warm(()))
    assert len(fits.calls) == 1 and later.memo["fitted"] == 101 and later.memo["seen"] == 104
    by_hand = start.posterior.given(later.posterior.X[101:], later.posterior.Z[101:])
    Q = np.random.default_rng(1).random((9, 2))
    for mine, other in zip(later.posterior.mean_variance(Q), by_hand.mean_variance(Q), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-8)
    assert not np.allclose(later.posterior.log_weight, start.posterior.log_weight)
    again = build(task, first(104), replace(first(104), memo=later.memo).warm(()))  # from its own memo: the same
    np.testing.assert_array_equal(again.posterior.log_weight, later.posterior.log_weight)
    build(task, first(106), replace(first(106), memo=later.memo).warm(()))
    assert len(fits.calls) == 2


def test_hyperparameters_of_other_data_are_not_taken_up() -> None:
    state = told(12)
    memo = build(Task(SQUARE), state, {}).memo
    assert replace(state, memo=memo).warm(()) == memo
    assert replace(state, values=state.values + 1.0, memo=memo).warm(()) == {}


def test_warps_are_chosen_again_every_ten_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def choose(objective: Any, y: Array, *others: Any) -> Any:
        calls.append(len(y))
        return fit_warped(objective, y, *others)

    monkeypatch.setattr(amortised_model, "fit_warped", choose)
    state, task = told(31), Task(SQUARE)
    state = replace(state, values=np.exp(4.0 * state.values))
    memo: dict[str, Any] = {}
    for n in (20, 24, 29, 30):
        part = replace(state, X=state.X[:n], values=state.values[:n], std=state.std[:n], outcomes=state.outcomes[:n])
        memo = build(task, part, replace(part, memo=memo).warm(())).memo
        assert (calls, memo["selected"]) == (([20], 20) if n < 30 else ([20, 30], 30))
    assert memo["names"][0] != "linear"


def test_many_rows_are_all_conditioned_on_though_some_are_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = Fits(monkeypatch)
    model = build(Task(SQUARE), told(340), {})
    assert len(fits.calls[0][0]) == 300 and len(model.posterior.X) == 340


def test_a_fit_that_was_not_the_network_s_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    task, state = Task(SQUARE), told(9)
    assert "note" not in build(task, state, {}).memo
    Fits(monkeypatch, Diagnosis(1.5, "fitted", "no draw counted"))
    query = Amortised(initial=1).ask(task, state, request(task, 9), Key(0, 0))
    assert query.memo["note"] == "output 0: no draw counted"


def test_the_memo_is_plain_data_and_small() -> None:
    task = Task(SQUARE, [Objective("f")], [Constraint(f"g{j}", upper=0.0) for j in range(12)])
    memo = Amortised(initial=1).ask(task, told(60, 13), request(task, 60), Key(0, 0)).memo
    assert plain(memo)
    assert {"components", "fitted", "seen", "hash", "candidates"} <= set(memo)
    assert sum(part.nbytes for part in memo["components"].values()) < 10_000


def test_few_components_stand_for_many() -> None:
    rng = np.random.default_rng(0)
    many = Components(
        rng.integers(3, size=60), np.exp(rng.normal(size=(60, 4))), np.full(60, 1e-4), np.ones(60),
        np.log(rng.dirichlet(np.ones(60))),
    )  # fmt: skip
    few = representatives(many, 8)
    assert len(few) <= 8 and np.exp(few.log_weight).sum() == pytest.approx(1.0)
    for kernel in range(3):
        share = np.exp(many.log_weight)[many.kernel == kernel].sum()
        assert abs(np.exp(few.log_weight)[few.kernel == kernel].sum() - share) <= 1 / 8 + 1e-9
    assert representatives(few, 8) is few


def test_a_model_that_fails_gives_design_points_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> AmortisedModel:
        raise FloatingPointError("nothing can be factored")

    monkeypatch.setattr(amortised_model, "build", fail)
    query = Amortised(initial=1).ask(Task(SQUARE), told(9), request(Task(SQUARE), 9), Key(0, 0))
    assert "nothing can be factored" in query.memo["note"] and query.X.shape == (1, 2)


# -- what an ask leaves behind ---------------------------------------------------------------------------------------------


def test_asks_depend_on_nothing_but_the_log(tmp_path: Path) -> None:
    straight = study(LIMITED, lambda p: {"f": bowl(p), "g": p["a"] - 0.5}, 11, 3)
    store = tmp_path / "runs.db"
    opt = Optimizer(LIMITED, strategy=Amortised(), seed=3, store=store, name="s")
    for i in range(11):
        if i == 8:
            opt = Optimizer.open(store, "s")
        trial = opt.ask()
        opt.tell(trial, {"f": bowl(trial.params), "g": trial.params["a"] - 0.5})
    assert params(opt) == params(straight)


def test_the_process_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads, types, seeds, gradients, NumPy's error handling; and no connection is opened."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    threads = torch.get_num_threads()

    def look() -> list[Any]:
        return [torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), np.geterr(),
                torch.get_rng_state().tolist(), str(np.random.get_state())]  # noqa: NPY002  # fmt: skip

    try:
        torch.set_num_threads(2)
        before = look()
        study(Task(SQUARE), beside, 7, 0, Amortised(initial=4)).recommend()
        assert look() == before
    finally:
        torch.set_num_threads(threads)


MISSING = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
from bbopt import Float, MissingPackage, Optimizer, Space, Task
opt = Optimizer(Task(Space(x=Float(0, 1))), strategy="amortised-gp", seed=0)
try:
    while True:
        opt.tell(opt.ask(), 1.0)
except MissingPackage as error:
    assert "amortised-gp" in str(error) and "pip install 'bbopt[pfn]'" in str(error), error
"""


@pytest.mark.parametrize("package", ["torch", "safetensors"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(package: str) -> None:
    command = [sys.executable, "-W", "error", "-c", MISSING.format(package=package)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
