"""TabPFN through the real package, on tiny random checkpoints built here: no weights are shipped and none fetched."""

from __future__ import annotations

import doctest
import os
import socket
import subprocess
import sys
import webbrowser
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtri

import surrogates.tabpfn
import surrogates.tabpfn_inputs
import surrogates.tabpfn_weights
from bbopt.errors import MissingPackage, UsageError
from surrogates.columns import Inputs
from surrogates.protocol import ClassPredictive, Predictive
from surrogates.tabpfn import fit_tabpfn, fit_tabpfn_classes
from surrogates.tabpfn_weights import at_hand, cache_folder, calling_the_package, find_weights, require_package

try:
    require_package()
    MISSING = ""
except MissingPackage as error:
    MISSING = str(error)
needs_package = pytest.mark.skipif(bool(MISSING), reason=MISSING)

NAMES = {
    ("v2", "regressor"): "tabpfn-v2-regressor.safetensors",
    ("v2.5", "regressor"): "tabpfn-v2.5-regressor-v2.5_default.safetensors",
    ("v2", "classifier"): "tabpfn-v2-classifier.safetensors",
    ("v2.5", "classifier"): "tabpfn-v2.5-classifier-v2.5_default.safetensors",
}
OURS = ("PYTEST_CURRENT_TEST", "TABPFN_MODEL_CACHE_DIR", "XDG_CACHE_HOME", "HOME")  # what the tests themselves set
RNG = np.random.default_rng(3)
X = RNG.random((30, 3))
Y = np.stack([np.sin(5.0 * X[:, 0]) + X[:, 1], 1e3 * X[:, 2] ** 2 - 5e4], axis=1)
LABELS = (Y[:, 0] > 0.8).astype(int) * 4 - 1
Q = RNG.random((12, 3))
INPUTS = Inputs.continuous(3)


def checkpoint(version: str, role: str, path: Path) -> Path:
    """A random network of 2 layers, as a .safetensors file that the package loads like one of its own."""
    with calling_the_package():
        import torch
        from tabpfn.architectures import ARCHITECTURES
        from tabpfn.checkpoint import save_as_safetensors

        name, buckets, regressor = f"tabpfn_{version.replace('.', '_')}", 60, role == "regressor"
        sizes = {"emsize": 24, "nlayers": 2, "nhead": 2, "num_thinking_rows": 4}
        heads = {"num_buckets": buckets if regressor else -1, "max_num_classes": 0 if regressor else 10}
        config, _ = ARCHITECTURES[name].parse_config({**sizes, **heads})
        random = torch.Generator().manual_seed(5)
        with torch.random.fork_rng(devices=[]):
            network = ARCHITECTURES[name].get_architecture(config)
        state = dict(network.state_dict())
        for key, tensor in network.named_parameters():
            scale = 1.2 / np.sqrt(tensor.shape[-1]) if tensor.ndim > 1 else 0.3  # outputs must depend on the inputs
            state[key] = scale * torch.randn(tensor.shape, generator=random)
        if regressor:
            borders = torch.tensor(1.5 * ndtri(np.linspace(0.002, 0.998, buckets + 1)), dtype=torch.float32)
            state["criterion.borders"] = borders
            state["criterion.losses_per_bucket"] = torch.zeros(buckets)
        extra = {} if version == "v2" else {"architecture_name": name}
        save_as_safetensors({"state_dict": state, "config": asdict(config), **extra}, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if MISSING:
        pytest.skip(MISSING)
    place = tmp_path_factory.mktemp("weights")
    for (version, role), name in NAMES.items():
        checkpoint(version, role, place / name)
    return place


@pytest.fixture(params=["v2", "v2.5"])
def regressor(request: pytest.FixtureRequest, folder: Path) -> Path:
    return folder / NAMES[request.param, "regressor"]


@pytest.fixture(params=["v2", "v2.5"])
def classifier(request: pytest.FixtureRequest, folder: Path) -> Path:
    return folder / NAMES[request.param, "classifier"]


@pytest.fixture(autouse=True)
def no_network_no_prompt_no_trace(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Host look-ups, connections, browsers and questions fail; environment, seeds, threads and dtype are as before."""

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"tried to reach out: {args}")

    for owner, name in (
        (socket, "getaddrinfo"), (socket, "create_connection"), (socket.socket, "connect"), (webbrowser, "open"),
        (sys.modules["builtins"], "input"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, forbidden)
    before = _globals()
    yield
    for (name, old), new in zip(before.items(), _globals().values(), strict=True):
        assert old == new, f"{name} changed"


def _globals() -> dict[str, object]:
    state: dict[str, object] = {
        "environment": {k: v for k, v in os.environ.items() if k not in OURS},
        "NumPy's generator": np.random.get_state()[1].tobytes(),  # noqa: NPY002
        "torch": None,
    }
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        state["torch"] = (
            torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(),
            torch.get_rng_state().numpy().tobytes(),
        )  # fmt: skip
    else:
        import torch  # so that the two states compare

        return _globals()
    return state


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


def test_weights_are_found_by_path_folder_variable_and_cache(folder: Path, tmp_path: Path, monkeypatch) -> None:
    newest = folder / NAMES["v2.5", "regressor"]
    older = folder / NAMES["v2", "regressor"]
    assert find_weights("regressor", older) == older and find_weights("regressor", str(folder)) == newest
    monkeypatch.setenv("TABPFN_MODEL_CACHE_DIR", str(folder))
    assert find_weights("regressor") == newest == at_hand("regressor")
    assert find_weights("classifier").name == NAMES["v2.5", "classifier"]
    monkeypatch.delenv("TABPFN_MODEL_CACHE_DIR")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tabpfn" and at_hand("regressor") is None
    (tmp_path / "tabpfn").mkdir()
    (tmp_path / "tabpfn" / older.name).write_bytes(older.read_bytes())
    assert find_weights("regressor") == (tmp_path / "tabpfn" / older.name).resolve()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "tabpfn"


def test_a_pickle_is_refused_unless_it_is_trusted(folder: Path, tmp_path: Path) -> None:
    pickled = tmp_path / "tabpfn-v2-regressor.ckpt"
    with calling_the_package():
        import torch
        from tabpfn.checkpoint import Checkpoint

        torch.save(Checkpoint(folder / NAMES["v2", "regressor"]).load(), pickled)
    for given in (pickled, tmp_path):
        with pytest.raises(UsageError, match="allow_pickle_weights=True"):
            fit_tabpfn(INPUTS, X, Y, given)
    assert at_hand("regressor", tmp_path) is None
    trusted = fit_tabpfn(INPUTS, X, Y, tmp_path, allow_pickle_weights=True)
    safe = fit_tabpfn(INPUTS, X, Y, folder / NAMES["v2", "regressor"])
    np.testing.assert_allclose(trusted.mean_variance(Q), safe.mean_variance(Q))


def test_files_that_are_no_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    whole = (folder / NAMES["v2", "regressor"]).read_bytes()
    for content, message in (
        (whole[:-100], "get it again"),
        (whole[:50], "get it again"),
        (b"", "get it again"),
        (b"version https://git-lfs.github.com/spec/v1\n" * 9, "get it again"),
    ):
        (tmp_path / "broken.safetensors").write_bytes(content)
        with pytest.raises(UsageError, match=message):
            fit_tabpfn(INPUTS, X, Y, tmp_path / "broken.safetensors")
    (tmp_path / "weights.pt").write_bytes(whole)
    with pytest.raises(UsageError, match=r"as \.safetensors"):
        fit_tabpfn(INPUTS, X, Y, tmp_path / "weights.pt")
    with pytest.raises(UsageError, match="no TabPFN regressor"):
        fit_tabpfn(INPUTS, X, Y, folder / NAMES["v2.5", "classifier"])
    with pytest.raises(UsageError, match="no TabPFN classifier"):
        fit_tabpfn_classes(INPUTS, X, LABELS, folder / NAMES["v2", "regressor"])


@needs_package
def test_a_missing_file_is_our_error_within_a_second_without_loading_anything(tmp_path: Path) -> None:
    """In a process of its own, without a terminal; timed in CPU seconds, the imports of ours included."""
    code = """
import time; start = time.process_time()
import sys, socket
import numpy as np
def forbidden(*args, **kwargs): raise SystemExit("reached out")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = forbidden
from bbopt.errors import UsageError
from surrogates.columns import Inputs
from surrogates.tabpfn import fit_tabpfn, fit_tabpfn_classes
X = np.random.default_rng(0).random((5, 2))
for call, where in ((lambda: fit_tabpfn(Inputs.continuous(2), X, X), None),
                    (lambda: fit_tabpfn(Inputs.continuous(2), X, X, "no/such/tabpfn-v3.5.safetensors"), None),
                    (lambda: fit_tabpfn_classes(Inputs.continuous(2), X, np.arange(5)), None)):
    try:
        call()
    except UsageError as error:
        print(error)
print([name for name in ("tabpfn", "torch", "sklearn") if name in sys.modules], time.process_time() - start)
"""
    environment = {**os.environ, "TABPFN_MODEL_CACHE_DIR": str(tmp_path), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second, third, last = done.stdout.splitlines()
    assert str(tmp_path) in first and "tabpfn-v2-regressor.safetensors" in first and "TABPFN_MODEL_CACHE_DIR" in first
    assert "no/such/tabpfn-v3.5.safetensors" in second and "nothing is downloaded" in second
    assert "tabpfn-v2-classifier" in third
    assert last.startswith("[] ") and float(last.split()[1]) < 1.0, last
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tabpfn", None)
    for call in (
        lambda: fit_tabpfn(INPUTS, X, Y, tmp_path),
        lambda: fit_tabpfn_classes(INPUTS, X, LABELS, tmp_path),
    ):
        with pytest.raises(MissingPackage, match=r'pip install "bbopt\[tabpfn\]"'):
            call()
    assert at_hand("regressor") is None


def test_a_fit_is_reproducible_and_keeps_one_network_in_memory(regressor: Path) -> None:
    model = fit_tabpfn(INPUTS, X, Y, regressor, estimators=2, random_state=4)
    again = fit_tabpfn(INPUTS, X, Y, regressor, estimators=2, random_state=4)
    np.testing.assert_array_equal(model.mean_variance(Q), again.mean_variance(Q))
    first, second = (output.estimator for output in model.outputs)
    assert first.models_[0] is second.models_[0]
    assert first.get_inference_config().SOFTMAX_TEMPERATURE == 1.0


@pytest.mark.parametrize("module", [surrogates.tabpfn, surrogates.tabpfn_inputs, surrogates.tabpfn_weights])
def test_examples_in_the_docstrings_run(module) -> None:
    result = doctest.testmod(module)
    assert result.failed == 0 and result.attempted > 0
