"""The network in a file of weights, as `surrogates.training.weights` writes and verifies it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from surrogates.pfn.network import Network, Shape
from surrogates.training import weights

__all__ = ["load_weights"]


def load_weights(path: Path) -> tuple[Network, dict[str, Any]]:
    """The network in a file, ready to predict, and its header. Raises ValueRefused where the file is damaged or not ours.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "w.safetensors"
    ...     weights.save_weights(path, Network(Shape(width=16, layers=1, heads=2, inner=16)), {"seed": 3})
    ...     network, header = load_weights(path)
    >>> header["seed"], network.shape.width
    (3, 16)
    """
    return weights.load_weights(path, lambda shape: Network(Shape(**shape)))
