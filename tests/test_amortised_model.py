"""From told rows to an amortised process: priors by noise, schedules, weights between fits, and what a memo keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bbopt import Constraint, Float, Objective, Space, Task
from bbopt.query import Key, Request
from bbopt.strategies import amortised_model
from bbopt.strategies.amortised import Amortised
from bbopt.strategies.amortised_model import AmortisedModel, build, representatives
from bbopt.strategies.gp_state import GPState
from surrogates.amortised.components import Components, Diagnosis
from surrogates.amortised.fit import propose_components
from surrogates.warped_fit import fit_warped

Array = np.ndarray
SQUARE = Space(a=Float(0, 1), b=Float(0, 1))
LIMITED = Task(SQUARE, objectives=[Objective("f")], constraints=[Constraint("g", upper=0.0)])


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


class Fits:
    """Counts the calls of the fit and keeps what it was given; the diagnosis can be another."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *diagnosis: Diagnosis) -> None:
        self.calls: list[tuple[Any, ...]] = []

        def fit(inputs: Any, X: Array, Z: Array, priors: Any = None, variances: Any = None) -> Any:
            self.calls.append((X, Z, priors, variances))
            found, own = propose_components(inputs, X, Z, priors, variances)
            return found, diagnosis or own

        monkeypatch.setattr(amortised_model, "propose_components", fit)


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
    assert priors == [amortised_model.NOISY, amortised_model.EXACT, amortised_model.EXACT]
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
    Fits(monkeypatch, Diagnosis(1.5, "tempered", "no draw counted"))
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
