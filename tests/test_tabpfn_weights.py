"""Finding TabPFN's weights: where they are looked for, what is refused, and errors that come at once."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tabpfn_checkpoint import INPUTS, LABELS, MISSING, NAMES, Q, X, Y, checkpoints, undisturbed

import surrogates.tabpfn_weights
from bbopt.errors import MissingPackage, UsageError
from surrogates.tabpfn import fit_tabpfn, fit_tabpfn_classes
from surrogates.tabpfn_weights import at_hand, cache_folder, calling_the_package, find_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def no_network_no_prompt_no_trace(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with undisturbed(monkeypatch):
        yield


def test_weights_are_found_by_path_folder_variable_and_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
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


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_importing_the_package_leaves_no_trace(folder: Path) -> None:
    """In a process of its own. The package and what it imports set variables and draw from `random` when imported."""
    code = f"""
import os, random, warnings
import numpy as np, torch
from surrogates.columns import Inputs
from surrogates.tabpfn import fit_tabpfn
def state():
    return (dict(os.environ), random.getstate(), list(warnings.filters), torch.get_num_threads(), torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(), torch.get_default_dtype(), torch.get_float32_matmul_precision(), np.geterr())
before = state()
X = np.random.default_rng(0).random((9, 2))
fit_tabpfn(Inputs.continuous(2), X, X, {str(folder)!r}).mean_variance(X)
print([i for i, (old, new) in enumerate(zip(before, state(), strict=True)) if old != new])
"""
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=root)
    assert done.returncode == 0 and done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tabpfn", None)
    for call in (
        lambda: fit_tabpfn(INPUTS, X, Y, tmp_path),
        lambda: fit_tabpfn_classes(INPUTS, X, LABELS, tmp_path),
    ):
        with pytest.raises(MissingPackage, match=r'pip install "bbopt\[tabpfn\]"'):
            call()
    assert at_hand("regressor") is None


def test_examples_in_the_docstrings_run() -> None:
    result = doctest.testmod(surrogates.tabpfn_weights)
    assert result.failed == 0 and result.attempted > 0
