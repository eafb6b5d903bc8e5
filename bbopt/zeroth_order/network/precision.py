"""Full precision while differences are taken.

A TensorFloat-32 product keeps 10 bits of its factors and bfloat16 7, so a change of a few parts in a thousand is rounded
away; torch allows the first by default for convolutions on recent NVIDIA GPUs. Autocast does the same on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """A context in which float32 means float32 and cuDNN is deterministic; settings are put back on leaving.

    >>> with full_precision(torch.device("cpu")):
    ...     torch.is_autocast_enabled("cpu")
    False
    """
    places = _places()
    before = [(place, name, getattr(place, name)) for place, name, _ in places]
    try:
        for place, name, value in places:
            setattr(place, name, value)
        with ExitStack() as stack:
            for kind in {"cpu", device.type}:
                stack.enter_context(torch.autocast(kind, enabled=False))
            yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)


def _places() -> list[tuple[Any, str, Any]]:
    backends: Any = torch.backends
    found: list[tuple[Any, str, Any]] = [
        (backends.cudnn, "deterministic", True),
        (backends.cudnn, "benchmark", False),
    ]
    if hasattr(backends.cuda.matmul, "fp32_precision"):  # torch 2.9 and later; the old names refuse to be mixed with it
        sections: list[Any] = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
        sections += [backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]
        return found + [(section, "fp32_precision", "ieee") for section in sections]
    return found + [(backends.cuda.matmul, "allow_tf32", False), (backends.cudnn, "allow_tf32", False)]
