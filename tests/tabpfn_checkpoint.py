"""Tiny random TabPFN checkpoints for tests: the real package loads them like its own, and no weights are fetched."""

from __future__ import annotations

import os
import socket
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import ndtri

from bbopt.errors import MissingPackage
from surrogates.columns import Inputs
from surrogates.tabpfn_weights import calling_the_package, require_package

try:
    require_package()
    MISSING = ""
except MissingPackage as error:
    MISSING = str(error)

RNG = np.random.default_rng(3)
X = RNG.random((30, 3))
Y = np.stack([np.sin(5.0 * X[:, 0]) + X[:, 1], 1e3 * X[:, 2] ** 2 - 5e4], axis=1)
LABELS = (Y[:, 0] > 0.8).astype(int) * 4 - 1
Q = RNG.random((12, 3))
INPUTS = Inputs.continuous(3)

NAMES = {
    ("v2", "regressor"): "tabpfn-v2-regressor.safetensors",
    ("v2.5", "regressor"): "tabpfn-v2.5-regressor-v2.5_default.safetensors",
    ("v2", "classifier"): "tabpfn-v2-classifier.safetensors",
    ("v2.5", "classifier"): "tabpfn-v2.5-classifier-v2.5_default.safetensors",
}
BUCKETS = 60
SMALL = {"emsize": 24, "nlayers": 2, "nhead": 2, "num_thinking_rows": 4, "embed_dim": 32, "dist_embed_num_blocks": 1,
         "dist_embed_num_heads": 2, "dist_embed_num_inducing_points": 8, "feat_agg_num_blocks": 1, "feat_agg_num_heads": 2,
         "feat_agg_num_cls_tokens": 2, "icl_num_heads": 2, "decoder_head_dim": 16, "decoder_num_heads": 2,
         "softmax_scaling_mlp_hidden_dim": 8}  # fmt: skip
"""Sizes of every version; each takes those that it knows."""


def checkpoint(version: str, role: str, path: Path) -> Path:
    """A random network of 2 layers as a .safetensors file; from v3.5 on it plays both roles, whichever is named."""
    with calling_the_package():
        from tabpfn.architectures import ARCHITECTURES
        from tabpfn.checkpoint import save_as_safetensors
        from tabpfn.constants import ModelVersion
        from tabpfn.inference_config import InferenceConfig

        name, both = f"tabpfn_{version.replace('.', '_')}", version >= "v3.5"
        regressor = both or role == "regressor"
        heads = {"num_buckets": BUCKETS if regressor else -1, "max_num_classes": 10 if both or not regressor else 0}
        config, _ = ARCHITECTURES[name].parse_config({**SMALL, **heads})
        random = torch.Generator().manual_seed(5)
        with torch.random.fork_rng(devices=[]):
            network = ARCHITECTURES[name].get_architecture(config)
        state = dict(network.state_dict())
        for key, tensor in network.named_parameters():
            scale = 1.2 / np.sqrt(tensor.shape[-1]) if tensor.ndim > 1 else 0.3  # outputs must depend on the inputs
            state[key] = scale * torch.randn(tensor.shape, generator=random)
        if regressor and version < "v3":  # later networks bring borders of their own
            borders = torch.tensor(1.5 * ndtri(np.linspace(0.002, 0.998, BUCKETS + 1)), dtype=torch.float32)
            state["criterion.borders"] = borders
            state["criterion.losses_per_bucket"] = torch.zeros(BUCKETS)
        extra = {} if version == "v2" else {"architecture_name": name}
        if version > "v2.5":
            kind = "regression" if role == "regressor" else "multiclass"
            extra["inference_config"] = asdict(InferenceConfig.get_default(kind, ModelVersion.V2_5))
        save_as_safetensors({"state_dict": state, "config": asdict(config), **extra}, path)
    return path


def checkpoints(place: Path) -> Path:
    """The folder, with the four files of `NAMES` in it; skips the test where the package is missing."""
    if MISSING:
        pytest.skip(MISSING)
    for (version, role), name in NAMES.items():
        checkpoint(version, role, place / name)
    return place


@contextmanager
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Host look-ups, connections, browsers and questions fail; environment, seeds, threads and dtype must not change."""

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"tried to reach out: {args}")

    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    monkeypatch.setattr(socket, "create_connection", forbidden)
    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(webbrowser, "open", forbidden)
    monkeypatch.setattr(sys.modules["builtins"], "input", forbidden)
    before = _globals()
    yield
    for name, now in _globals().items():
        assert now == before[name], f"{name} changed"


def _globals() -> dict[str, object]:
    set_by_tests = ("PYTEST_CURRENT_TEST", "TABPFN_MODEL_CACHE_DIR", "XDG_CACHE_HOME", "HOME")
    return {
        "environment": {k: v for k, v in os.environ.items() if k not in set_by_tests},
        "NumPy's generator": np.random.get_state()[1].tobytes(),  # noqa: NPY002
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
        "torch's settings": (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()),
    }
