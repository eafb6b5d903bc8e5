"""The weights that come with the package: found beside this file, loaded once, verified by checksum, never fetched."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from surrogates.amortised.network import HyperNetwork, Shape
from surrogates.training.weights import load_weights

__all__ = ["load_network", "shipped"]

PATH = Path(__file__).with_name("weights.safetensors")


def load_network(path: Path) -> tuple[HyperNetwork, dict[str, Any]]:
    """The network in a file, ready to propose, and its header. Raises ValueRefused where the file is damaged or not ours."""
    return load_weights(path, lambda shape: HyperNetwork(Shape(**shape)))


@cache
def shipped() -> tuple[HyperNetwork, dict[str, Any]]:
    """The network and the header of its file.

    >>> network, header = shipped()
    >>> header["version"]
    1
    """
    return load_network(PATH)
