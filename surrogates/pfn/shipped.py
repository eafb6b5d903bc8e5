"""The weights that come with the package: found beside this file, loaded once, verified by checksum, never fetched."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from surrogates.pfn.network import Network
from surrogates.pfn.weights import load_weights

PATH = Path(__file__).with_name("weights.safetensors")


@cache
def shipped() -> tuple[Network, dict[str, Any]]:
    """The network and the header of its file.

    >>> network, header = shipped()
    >>> header["version"]
    1
    """
    return load_weights(PATH)


def shipped_network() -> Network:
    """The network that comes with the package."""
    return shipped()[0]
