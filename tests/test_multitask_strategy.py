"""The `gp` strategy where a context is a category: when its values are modelled as tasks, and what that brings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bbopt
from bbopt.strategies.gp import GP
from bbopt.strategies.gp_model import build
from bbopt.strategies.gp_tasks import log_likelihood
from surrogates.columns import Inputs
from surrogates.gp import fit_gp
from surrogates.map_fit import Prior
from surrogates.multitask import TaskProcess

SPACE = bbopt.Space(
    x=bbopt.Float(0, 1), y=bbopt.Float(0, 1), machine=bbopt.Categorical(["a", "b", "c"], role="context")
)
SIGNS = {"a": 1.0, "b": -1.0, "c": 1.0}


def opposed(params: Mapping[str, Any], machine: str) -> float:
    """The best point of one machine is about the worst of another."""
    x, y = params["x"], params["y"]
    return SIGNS[machine] * (np.sin(4 * x) + np.cos(3 * y) * x + (0.2 * y if machine == "c" else 0.0))


def alike(params: Mapping[str, Any], machine: str) -> float:
    return float(np.sin(4 * params["x"]) + np.cos(3 * params["y"]) * params["x"] + 0.02 * "abc".index(machine))


def study(value: Any, rows: int, **options: Any) -> bbopt.Optimizer:
    """Space-filling rows, machines in turn."""
    opt = bbopt.Optimizer(bbopt.Task(SPACE), GP(initial=1, **options), seed=0)
    rng = np.random.default_rng(0)
    for i in range(rows):
        params, machine = {"x": float(rng.random()), "y": float(rng.random())}, "abc"[i % 3]
        opt.add({**params, "machine": machine}, value(params, machine))
    return opt


@pytest.mark.parametrize("kernel", ["rbf", "matern52"])
def test_evidence_decides_between_tasks_and_one_lengthscale(kernel: Any) -> None:
    for value, tasks in ((opposed, True), (alike, False)):
        opt = study(value, 24)
        model = build(opt.task, opt._state(), {}, kernel)
        assert isinstance(model.gp, TaskProcess) == tasks == ("tasks" in model.memo)


def test_a_task_learns_from_the_others() -> None:
    """Two machines have 20 rows each, the opposed one 2: the model knows it better than one that has only those."""
    opt = study(lambda params, machine: opposed(params, machine), 30)
    few = bbopt.Optimizer(opt.task, GP(initial=1), seed=0)
    for i, trial in enumerate(t for t in opt.trials() if t.context["machine"] != "b" or t.number < 8):
        few.add({**trial.params, **trial.context}, trial.values or {}, std=None)
        assert i < 30
    rng = np.random.default_rng(1)
    points = [{"x": float(a), "y": float(b)} for a, b in rng.random((60, 2))]
    truth = np.array([opposed(point, "b") for point in points])
    rows = np.array([opt.task.space.encode({**point, "machine": "b"}) for point in points])
    model = build(few.task, few._state(), {}, "rbf")
    assert isinstance(model.gp, TaskProcess)
    found = model.warps[0].inverse(model.gp.mean_variance(rows)[0][:, 0])
    mine = few._state().X[:, 2] == 1
    alone = fit_gp(Inputs.continuous(2), few._state().X[mine][:, :2], few._state().values[mine], [Prior.noiseless(2)])
    assert np.abs(found - truth).mean() < 0.3 * np.abs(alone.mean_variance(rows[:, :2])[0][:, 0] - truth).mean()


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"kernel": "matern52"}, marks=pytest.mark.slow),
        pytest.param({"acquisition": "frazier"}, marks=pytest.mark.slow),
        pytest.param({"batch": "liar-min"}, marks=pytest.mark.slow),
    ],
)
def test_asks_in_every_context_with_every_option(options: dict[str, Any]) -> None:
    task = bbopt.Task(
        SPACE, [bbopt.Objective("cost", noise="unknown" if "acquisition" in options else None)],
        constraints=[] if "kernel" in options else [bbopt.Constraint("load", upper=1.2)],
    )  # fmt: skip
    opt = bbopt.Optimizer(task, GP(initial=9, **options), seed=0)
    used = False
    for i in range(20):
        machine = "abc"[i % 3]
        trial = opt.ask(1 if i < 18 else 2, context={"machine": machine})[0]  # a second one stays out
        assert trial.context == {"machine": machine} and "failed" not in trial.note
        used = used or "tasks" in opt._book.records[-1].query.memo
        values = {"cost": opposed(trial.params, machine), "load": trial.params["x"] + trial.params["y"]}
        opt.tell(trial, {name: values[name] for name in task.metrics})
    assert used and opt.recommend() is not None


def test_asks_after_reopening_are_the_same_to_the_bit(tmp_path: Path) -> None:
    whole = bbopt.Optimizer(bbopt.Task(SPACE), GP(initial=9), seed=3, store=tmp_path / "a.db")
    parts = bbopt.Optimizer(bbopt.Task(SPACE), GP(initial=9), seed=3, store=tmp_path / "b.db")
    for i in range(15):
        if i in (11, 14):
            parts.close()
            parts = bbopt.Optimizer.open(tmp_path / "b.db")
        context = {"machine": "abc"[i % 3]}
        trials = whole.ask(context=context), parts.ask(context=context)
        assert trials[0].params == trials[1].params
        for opt, trial in zip((whole, parts), trials, strict=True):
            opt.tell(trial, opposed(trial.params, context["machine"]))


def test_the_likelihood_is_that_of_a_normal_density() -> None:
    from scipy.stats import multivariate_normal

    rng = np.random.default_rng(0)
    X, z = rng.random((6, 2)), rng.standard_normal(6)
    model = fit_gp(Inputs.continuous(2), X, z[:, None], [Prior.botorch(2)])
    fitted, L = model.fitted[0], model.factors[0]
    expected = multivariate_normal(np.full(6, fitted.mean), fitted.scale * L @ L.T).logpdf(z)
    assert log_likelihood(Inputs.continuous(2), X, z, fitted, "rbf", None) == pytest.approx(expected, rel=1e-8)
