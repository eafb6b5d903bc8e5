"""Weights in a file: safetensors with a header that says what they are, and a checksum that is verified.

The header holds JSON: the version of this format, the shape of the network, the training configuration, what the
evaluation found, the SHA-256 of the tensors, and that of the header itself. No pickle is ever read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bbopt.errors import ValueRefused

__all__ = ["add_facts", "digest", "load_tensors", "load_weights", "save_tensors", "save_weights"]

N = TypeVar("N", bound=torch.nn.Module)

VERSION = 1
HEADER = "bbopt"
SEAL = "header_sha256"  # of the header without it


def save_weights(path: Path, network: torch.nn.Module, facts: Mapping[str, Any]) -> None:
    """Write a network's weights in half precision, with facts (JSON) about them.

    The network's attribute `shape`, a dataclass of JSON values, is what `load_weights` builds it from.

    >>> import tempfile
    >>> from surrogates.pfn.network import Network, Shape
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(Path(folder) / "w.safetensors", Network(Shape(width=16, layers=1, heads=2, inner=16)), {"seed": 3})
    ...     make = lambda shape: Network(Shape(**shape))
    ...     network, header = load_weights(Path(folder) / "w.safetensors", make)
    >>> header["seed"], network.shape.width
    (3, 16)
    """
    tensors = {name: part.detach().cpu().half().contiguous() for name, part in network.state_dict().items()}
    shape: Any = network.shape
    _save(path, tensors, {"shape": dataclasses.asdict(shape), "sha256": digest(tensors), **facts})


def add_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Write more facts (JSON), such as what an evaluation found, into the header of a file of weights."""
    tensors, header = _verified(path)
    _save(path, tensors, {**header, **facts})


def _save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors under a sealed header of facts."""
    header = {"version": VERSION, **{name: value for name, value in facts.items() if name != SEAL}}
    header = json.loads(json.dumps(header))  # as it will be read
    save_tensors(path, tensors, {**header, SEAL: _seal(header)})


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header; the file is replaced in one step, when all of it is on the disk."""
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        file.write(save(dict(tensors), {HEADER: json.dumps(header)}))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file. Raises ValueRefused where it is missing, damaged or not ours."""
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as trouble:
        raise ValueRefused(f"expected a safetensors file at {path}; it cannot be read ({trouble})") from trouble
    if not isinstance(header, dict):
        raise ValueRefused(f"expected a file of bbopt weights at {path}; its header names none")
    return tensors, header


def load_weights(path: Path, make: Callable[[Mapping[str, Any]], N]) -> tuple[N, dict[str, Any]]:
    """The network in a file, ready to predict, and its header.

    make: builds a network, with any weights, from the fields of its shape. Raises ValueRefused where the file is missing,
    damaged, of another format, or of another kind of network.
    """
    tensors, header = _verified(path)
    try:
        with torch.random.fork_rng(devices=[]):  # layers draw their first weights, which are replaced at once
            network = make(header["shape"])
        network.load_state_dict({name: part.float() for name, part in tensors.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as trouble:
        raise ValueRefused(f"the weights at {path} are not those that their header names ({trouble}); install bbopt again") from trouble  # fmt: skip
    return network.requires_grad_(False).eval(), header


def _verified(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file of weights. Raises ValueRefused where the version or a checksum is another."""
    tensors, header = load_tensors(path)
    if header.get("version") != VERSION:
        raise ValueRefused(f"expected weights of format {VERSION} at {path}, got {header.get('version')!r}; install the bbopt that wrote them")  # fmt: skip
    found = digest(tensors)
    if found != header.get("sha256"):
        raise ValueRefused(f"the weights at {path} are damaged: expected SHA-256 {header.get('sha256')}, got {found}; install bbopt again")  # fmt: skip
    if header.get(SEAL) != _seal(header):
        raise ValueRefused(
            f"the header of the weights at {path} is damaged: its checksum is another; install bbopt again"
        )
    return tensors, header


def _seal(header: Mapping[str, Any]) -> str:
    """SHA-256 of a header without its own checksum."""
    rest = {name: value for name, value in header.items() if name != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, types and bytes, in hexadecimal digits.

    >>> digest({"a": torch.zeros(2)})[:8]
    'e10f33bf'
    """
    total = hashlib.sha256()
    for name in sorted(tensors):
        part = tensors[name]
        total.update(f"{name} {tuple(part.shape)} {part.dtype}".encode())
        total.update(part.contiguous().view(torch.uint8).numpy().tobytes() if part.dim() else part.numpy().tobytes())
    return total.hexdigest()
