"""TabPFN through the real package, on tiny random checkpoints built here: no weights are shipped and none fetched."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from tabpfn_checkpoint import INPUTS, LABELS, NAMES, Q, X, Y, checkpoint, checkpoints, undisturbed

import surrogates.tabpfn
import surrogates.tabpfn_inputs
from bbopt.errors import UsageError
from surrogates.columns import Inputs
from surrogates.protocol import ClassPredictive, Predictive
from surrogates.tabpfn import fit_tabpfn, fit_tabpfn_classes
from surrogates.tabpfn_weights import calling_the_package


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints(tmp_path_factory.mktemp("weights"))


@pytest.fixture(params=["v2", "v2.5"])
def regressor(request: pytest.FixtureRequest, folder: Path) -> Path:
    return folder / NAMES[request.param, "regressor"]


@pytest.fixture(params=["v2", "v2.5"])
def classifier(request: pytest.FixtureRequest, folder: Path) -> Path:
    return folder / NAMES[request.param, "classifier"]


@pytest.fixture(autouse=True)
def no_network_no_prompt_no_trace(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with undisturbed(monkeypatch):
        yield


def test_predictions_have_the_right_shapes_and_agree_with_each_other(regressor: Path) -> None:
    model = fit_tabpfn(INPUTS, X, Y, regressor)
    assert isinstance(model, Predictive)
    mean, variance = model.mean_variance(Q)
    assert mean.shape == variance.shape == (12, 2) and (variance > 0.0).all()
    assert (np.ptp(mean, axis=0) > 0.02 * np.sqrt(variance).mean(axis=0)).all(), "the fixture's network is too dull"
    u = np.array([0.01, 0.3, 0.5, 0.99])
    quantiles = model.quantiles(Q, u)
    assert quantiles.shape == (12, 2, 4) and (np.diff(quantiles, axis=2) > 0.0).all()
    for k, probability in enumerate(u):
        below = [model.log_probability_below(Q[i : i + 1], quantiles[i, :, k])[0] for i in range(3)]
        np.testing.assert_allclose(np.exp(below), probability, rtol=1e-4)
    draws = model.sample(Q, 4000, np.random.default_rng(0))
    assert draws.shape == (4000, 12, 2)
    error = np.sqrt(variance / 4000.0)
    assert (abs(draws.mean(axis=0) - mean) < 4.5 * error).all()
    best = np.array([0.4, -4.98e4])
    gain = np.maximum(best - draws, 0.0)
    improvement = np.exp(model.log_expected_improvement(Q, best))
    assert (abs(gain.mean(axis=0) - improvement) < 4.5 * gain.std(axis=0) / np.sqrt(4000.0)).all()
    far = model.log_expected_improvement(Q, np.array([-50.0, -1e6]))
    assert np.isfinite(far).all() and (far < -400.0).all()
    assert np.array_equal(draws, model.sample(Q, 4000, np.random.default_rng(0)))


def test_closed_forms_agree_with_the_package_own(regressor: Path) -> None:
    model = fit_tabpfn(INPUTS, X, Y[:, :1], regressor)
    with calling_the_package():
        import torch
        from tabpfn import TabPFNRegressor

        options = {"FINGERPRINT_FEATURE": False, "MIN_UNIQUE_FOR_NUMERICAL_FEATURES": 0}
        plain = TabPFNRegressor(
            n_estimators=1, softmax_temperature=1.0, model_path=str(regressor), device="cpu", random_state=0,
            inference_precision=torch.float32,
            inference_config=options,
        ).fit(X, Y[:, 0])  # fmt: skip
        full = plain.predict(Q, output_type="full", quantiles=[0.001, 0.2, 0.999])
        criterion, logits = full["criterion"], full["logits"].double()
        variance = criterion.variance(logits).numpy()
        below = criterion.cdf(logits, torch.tensor([-2.5, 0.5, 3.0], dtype=torch.float64)).numpy()
    mean, ours = model.mean_variance(Q)
    np.testing.assert_allclose(mean[:, 0], full["mean"], atol=1e-5)
    np.testing.assert_allclose(ours[:, 0], variance, rtol=1e-5)
    np.testing.assert_allclose(model.quantiles(Q, np.array([0.001, 0.2, 0.999]))[:, 0].T, full["quantiles"], rtol=1e-3)
    for k, limit in enumerate([-2.5, 0.5, 3.0]):
        found = np.exp(model.log_probability_below(Q, np.array([limit])))[:, 0]
        np.testing.assert_allclose(found, below[:, k], rtol=1e-4)


@pytest.mark.parametrize("differentiable", [False, True])
def test_order_of_rows_chunks_and_scale_do_not_matter(regressor: Path, differentiable: bool) -> None:
    model = fit_tabpfn(INPUTS, X, Y, regressor, differentiable=differentiable)
    mean, variance = model.mean_variance(Q)
    sd = np.sqrt(variance)
    order = np.random.default_rng(1).permutation(30)
    shuffled = fit_tabpfn(INPUTS, X[order], Y[order], regressor, differentiable=differentiable)
    assert (abs(shuffled.mean_variance(Q)[0] - mean) < 1e-4 * sd).all()
    assert (abs(model.mean_variance(Q[:5])[0] - mean[:5]) < 1e-5 * sd[:5]).all()
    mapped = fit_tabpfn(INPUTS, X, 7.0 * Y + 3.0, regressor, differentiable=differentiable)
    moved, spread = mapped.mean_variance(Q)
    assert (abs(moved - (7.0 * mean + 3.0)) < 1e-5 * np.sqrt(spread)).all()
    np.testing.assert_allclose(np.sqrt(spread), 7.0 * sd, rtol=1e-5)


@pytest.mark.parametrize("estimators", [1, 3])
def test_gradients_match_differences(regressor: Path, estimators: int) -> None:
    """To 1 % of the largest slope: the network computes in float32, which limits what differences can show."""
    inputs = Inputs(("float", "float", "category", "float"), (0, 0, 3, 0), (0, 1, 2, 3))
    kinds = np.random.default_rng(2).integers(0, 3, size=(42, 1)).astype(float)
    rows = np.concatenate([X[:, :2], kinds[:30], np.full((30, 1), 0.5)], axis=1)
    points = np.concatenate([Q[:, :2], kinds[30:], np.full((12, 1), 0.5)], axis=1)
    model = fit_tabpfn(inputs, rows, Y, regressor, estimators=estimators, differentiable=True)
    bounds, h = np.array([0.3, -4.95e4]), 4e-3
    for with_gradient, value in (
        (model.mean_gradient, lambda P: model.mean_variance(P)[0]),
        (lambda P: model.log_expected_improvement_gradient(P, bounds), lambda P: model.log_expected_improvement(P, bounds)),
        (lambda P: model.log_probability_below_gradient(P, bounds), lambda P: model.log_probability_below(P, bounds)),
    ):  # fmt: skip
        values, slopes = with_gradient(points)
        assert slopes.shape == (12, 2, 4) and np.isfinite(slopes).all()
        np.testing.assert_allclose(values, value(points), rtol=1e-6)
        assert (slopes[..., 2:] == 0.0).all(), "a category and a column that never varied have no slope"
        for k in range(2):
            step = h * np.eye(4)[k]
            near = (value(points + step) - value(points - step)) / (2.0 * h)
            wide = (value(points + 2.0 * step) - value(points - 2.0 * step)) / (4.0 * h)
            change = (4.0 * near - wide) / 3.0  # Richardson: error of order h^4
            assert (abs(slopes[..., k] - change).max(axis=0) < 1e-2 * abs(slopes[..., :2]).max(axis=(0, 2))).all()


def test_gradients_must_be_asked_for(folder: Path) -> None:
    model = fit_tabpfn(INPUTS, X, Y, folder)
    with pytest.raises(UsageError, match="differentiable=True"):
        model.mean_gradient(Q)


def test_categories_and_columns_of_few_values(regressor: Path) -> None:
    """Numbers with few values stay numbers, and a category that was never told can be asked about."""
    inputs = Inputs(("category", "int", "float"), (4, 3, 0), (0, 1, 2))
    rng = np.random.default_rng(4)
    rows = np.stack([rng.integers(0, 3, 110), rng.integers(0, 2, 110), rng.random(110)], axis=1).astype(float)
    model = fit_tabpfn(inputs, rows, rows @ [1.0, 2.0, 3.0], regressor)
    asked = np.array([[3.0, 0.0, 0.5], [0.0, 0.5, 0.5], [1.0, 1.0, 0.5], [2.0, 0.0, 0.5]])
    mean, variance = model.mean_variance(asked)
    assert np.isfinite(mean).all() and (variance > 0.0).all() and len(np.unique(mean)) == 4


@pytest.mark.parametrize("differentiable", [False, True])
def test_data_that_the_package_refuses_are_handled_here(folder: Path, differentiable: bool) -> None:
    def fit(rows: np.ndarray, targets: np.ndarray) -> surrogates.tabpfn.TabPFN:
        return fit_tabpfn(INPUTS, rows, targets, folder, differentiable=differentiable)

    best = np.array([2.5])
    for rows, targets in ((X[:1], np.array([2.0])), (X, np.full(30, 2.0))):  # one row; a constant output
        mean, variance = fit(rows, targets).mean_variance(Q)
        np.testing.assert_allclose(mean, 2.0, atol=1e-9)
        assert (variance > 0.0).all() and (variance < 1e-10).all()
        improvement = fit(rows, targets).log_expected_improvement(Q, best)
        np.testing.assert_allclose(improvement, np.log(0.5), atol=1e-6)
        if differentiable:
            values, slopes = fit(rows, targets).log_expected_improvement_gradient(Q, best)
            np.testing.assert_allclose(values, improvement)
            assert (slopes == 0.0).all()
    mean, variance = fit(np.full((30, 3), 0.5), Y[:, 0]).mean_variance(Q)  # all rows at one point
    np.testing.assert_allclose(mean, Y[:, 0].mean())
    np.testing.assert_allclose(variance, Y[:, 0].var())
    mixed = fit(X, np.stack([np.zeros(30), Y[:, 0]], axis=1)).mean_variance(Q)  # constant beside one that is not
    assert np.isfinite(mixed).all() and (mixed[0][:, 0] == 0.0).all() and np.ptp(mixed[0][:, 1]) > 0.0
    constant = X.copy()
    constant[:, 1] = 0.25
    for rows, targets in (
        (X[:2], Y[:2, 0]),
        (constant, Y[:, 0]),  # a column that never varies
        (np.repeat(X[:5], 6, axis=0), Y[:, 0]),  # repeated rows with different targets
        (X, np.where(np.arange(30) == 3, 1e140, Y[:, 0])),
        (X, 1e-200 * Y[:, 0]),
    ):
        mean, variance = fit(rows, targets).mean_variance(Q)
        assert np.isfinite(mean).all() and (variance >= 0.0).all()
    assert fit(X, Y).mean_variance(np.empty((0, 3)))[0].shape == (0, 2)
    assert fit(X, Y).sample(np.empty((0, 3)), 5, np.random.default_rng(0)).shape == (5, 0, 2)


def test_bad_data_are_refused_at_the_boundary(folder: Path) -> None:
    broken = X.copy()
    broken[4, 2] = np.inf
    model = fit_tabpfn(INPUTS, X, Y, folder)
    kinds = fit_tabpfn_classes(INPUTS, X, LABELS, folder)
    for call, message in (
        (lambda: fit_tabpfn(INPUTS, broken, Y, folder), "inf in row 4, column 2"),
        (lambda: fit_tabpfn(INPUTS, X, np.where(Y > Y.max() - 1e-9, np.nan, Y), folder), "finite targets, got nan"),
        (lambda: fit_tabpfn(INPUTS, X, Y[:5], folder), "one row of targets"),
        (lambda: fit_tabpfn(INPUTS, X[:0], Y[:0], folder), "at least one"),
        (lambda: fit_tabpfn(INPUTS, X[:, :2], Y, folder), "3 columns"),
        (lambda: fit_tabpfn(INPUTS, X, 1e200 * Y, folder), "magnitude"),
        (lambda: fit_tabpfn(INPUTS, X, Y, folder, estimators=0), "estimators"),
        (lambda: fit_tabpfn_classes(INPUTS, broken, LABELS, folder), "inf in row 4"),
        (lambda: fit_tabpfn_classes(INPUTS, X, LABELS + 0.5, folder), "integer label"),
        (lambda: fit_tabpfn_classes(INPUTS, X, np.arange(30), folder), "TabPFN refuses"),  # more than 10 classes
        (lambda: model.mean_variance(broken), "inf in row 4"),
        (lambda: kinds.probabilities(broken), "inf in row 4"),
        (lambda: model.log_expected_improvement(Q, np.array([1.0])), "2 finite best values"),
        (lambda: model.log_probability_below(Q, np.array([1.0, np.nan])), "2 finite limits"),
        (lambda: model.quantiles(Q, np.array([0.0, 0.5])), "between 0 and 1"),
    ):
        with pytest.raises(UsageError, match=message):
            call()
    with pytest.raises(UsageError, match="TabPFN refuses"):
        fit_tabpfn(INPUTS, np.random.default_rng(0).random((1001, 3)), np.arange(1001.0), folder)


def test_classes(classifier: Path) -> None:
    model = fit_tabpfn_classes(INPUTS, X, LABELS, classifier)
    assert isinstance(model, ClassPredictive) and model.classes.tolist() == [-1, 3]
    p = model.probabilities(Q)
    assert p.shape == (12, 2) and (p > 0.0).all() and np.ptp(p[:, 0]) > 1e-3
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-14)
    order = np.random.default_rng(1).permutation(30)
    shuffled = fit_tabpfn_classes(INPUTS, X[order], LABELS[order], classifier)
    np.testing.assert_allclose(shuffled.probabilities(Q), p, atol=1e-5)
    np.testing.assert_allclose(model.probabilities(Q[:5]), p[:5], atol=1e-5)
    flags = fit_tabpfn_classes(INPUTS, X, LABELS > 0, classifier)
    assert flags.classes.tolist() == [0, 1]
    np.testing.assert_allclose(flags.probabilities(Q), p, atol=1e-6)
    three = fit_tabpfn_classes(INPUTS, X, np.arange(30) % 3, classifier, estimators=2)
    assert three.probabilities(Q).shape == (12, 3)
    assert model.probabilities(np.empty((0, 3))).shape == (0, 2)


def test_classes_that_the_package_refuses_are_handled_here(folder: Path) -> None:
    for rows, labels, shares in (
        (X, np.full(30, 7), [1.0]),
        (X[:1], np.array([7]), [1.0]),
        (np.full((4, 3), 0.5), np.array([0, 1, 1, 1]), [0.25, 0.75]),
    ):
        model = fit_tabpfn_classes(INPUTS, rows, labels, folder)
        np.testing.assert_allclose(model.probabilities(Q), np.tile(shares, (12, 1)))


def test_a_fit_is_reproducible_and_keeps_one_network_in_memory(regressor: Path) -> None:
    model = fit_tabpfn(INPUTS, X, Y, regressor, estimators=2, random_state=4)
    again = fit_tabpfn(INPUTS, X, Y, regressor, estimators=2, random_state=4)
    np.testing.assert_array_equal(model.mean_variance(Q), again.mean_variance(Q))
    first, second = (output.estimator for output in model.outputs)
    assert first.models_[0] is second.models_[0]
    assert first.get_inference_config().SOFTMAX_TEMPERATURE == 1.0


@pytest.mark.parametrize("version", ["v2.6", "v3", "v3.5"])
def test_later_versions(version: str, folder: Path, tmp_path: Path) -> None:
    """One file plays both roles from v3.5 on; the version is told from the file's name by the package."""
    path = checkpoint(version, "regressor", tmp_path / f"tabpfn-{version}-regressor.safetensors")
    for differentiable in (False, True):
        model = fit_tabpfn(INPUTS, X, Y[:, :1], path, differentiable=differentiable)
        mean, variance = model.mean_variance(Q)
        assert np.isfinite(mean).all() and (variance > 0.0).all() and np.ptp(mean) > 0.0
    values, slopes = model.log_expected_improvement_gradient(Q, np.array([0.3]))
    assert np.isfinite(values).all() and np.isfinite(slopes).all() and abs(slopes).max() > 0.0
    if version != "v3.5":
        path = checkpoint(version, "classifier", tmp_path / f"tabpfn-{version}-classifier.safetensors")
    p = fit_tabpfn_classes(INPUTS, X, LABELS, path).probabilities(Q)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-14)


@pytest.mark.parametrize("module", [surrogates.tabpfn, surrogates.tabpfn_inputs])
def test_examples_in_the_docstrings_run(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.failed == 0 and result.attempted > 0
