"""The `amortised-gp` strategy: easy problems, batches, odd data, failing regions, and what it costs the process."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
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
from bbopt.strategies.amortised import Amortised

Function = Callable[[Mapping[str, Any]], Any]
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
