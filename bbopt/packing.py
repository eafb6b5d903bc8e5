"""Plain data with arrays as one JSON text and one block of bytes, and back: the format of everything saved.

Small finite arrays are written into the text, where people can read them; others go into the block. Numbers keep every
bit. Tuples come back as lists; there are no other conversions, and nothing in a file is ever executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

INLINE = 256  # entries


def pack(plain: Any) -> tuple[str, bytes | None]:
    """JSON text and bytes (None if no array needed them) of nested mappings, lists, scalars and arrays.

    >>> text, block = pack({"a": np.arange(3.0), "b": "x"})
    >>> unpack(text, block)
    {'a': array([0., 1., 2.]), 'b': 'x'}
    """
    blocks: list[bytes] = []
    text = json.dumps(_simplify(plain, blocks), allow_nan=False, separators=(",", ":"))
    return text, b"".join(blocks) or None


def unpack(text: str, block: bytes | None) -> Any:
    """The data that `pack` was given; arrays are read-only."""
    return _restore(json.loads(text), block or b"")


def _simplify(value: Any, blocks: list[bytes]) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiub":
            raise TypeError(f"arrays of numbers and truth values can be saved, not of {value.dtype}")
        head = {"dtype": value.dtype.str, "shape": list(value.shape)}
        if value.size <= INLINE and np.isfinite(value).all():
            return {"__array__": value.ravel().tolist(), **head}
        start = sum(map(len, blocks))
        blocks.append(np.ascontiguousarray(value).tobytes())
        return {"__bytes__": start, **head}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"mappings with text as keys can be saved, got {list(value)!r}")
        return {key: _simplify(item, blocks) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_simplify(item, blocks) for item in value]
    return value


def _restore(value: Any, block: bytes) -> Any:
    if isinstance(value, dict):
        if "__array__" in value:
            array = np.array(value["__array__"], dtype=value["dtype"]).reshape(value["shape"])
            array.flags.writeable = False
            return array
        if "__bytes__" in value:
            dtype, shape = np.dtype(value["dtype"]), value["shape"]
            count = int(np.prod(shape, dtype=np.int64))
            return np.frombuffer(block, dtype, count, value["__bytes__"]).reshape(shape)
        return {key: _restore(item, block) for key, item in value.items()}
    if isinstance(value, list):
        return [_restore(item, block) for item in value]
    return value
