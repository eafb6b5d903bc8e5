"""The numbers of a CIFAR-10 file of the Python version, without running what is in it.

Such a file is a program for Python's pickle machine, and running it can do anything. Here the program is only read:
a small stack machine that knows the data instructions of protocol 2 and keeps every call as a description of that
call. Whatever is not the published form (a mapping with `labels`, a list of whole numbers, and `data`, an array of
bytes) is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bbopt.errors import UsageError

__all__ = ["read_batch"]

Bytes = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

LARGEST = 2**27  # bytes of a file that are read at all; the published ones have 31 million
_MARK = object()
_NUMBERS = {"BININT", "BININT1", "BININT2"}
_TEXTS = {"SHORT_BINSTRING", "BINSTRING"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass
class _Call:
    """A call that the file asks for, not made: the name called, its arguments, and the state set afterwards."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None


@dataclass
class _Machine:
    """The stack, what was remembered by number, and where the innermost open marks are."""

    stack: list[Any] = field(default_factory=list)
    memory: dict[int, Any] = field(default_factory=dict)

    def since_mark(self) -> list[Any]:
        """What was put on the stack since the last mark, taken off with the mark."""
        at = len(self.stack) - 1 - next(i for i, item in enumerate(reversed(self.stack)) if item is _MARK)
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def take(self, n: int) -> list[Any]:
        if len(self.stack) < n:
            raise IndexError("the stack is empty")
        items = self.stack[len(self.stack) - n :]
        del self.stack[len(self.stack) - n :]
        return items

    def step(self, name: str, argument: Any) -> None:
        """One instruction. Raises KeyError for one that data do not need."""
        stack = self.stack
        if name in _NUMBERS or name in _TEXTS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            stack.append(tuple(self.take(_TUPLES[name])))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memory[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memory[argument])
        else:
            self._compose(name, argument)

    def _compose(self, name: str, argument: Any) -> None:
        """Instructions that put several things together."""
        stack = self.stack
        match name:
            case "PROTO":
                pass
            case "MARK":
                stack.append(_MARK)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "TUPLE":
                stack.append(tuple(self.since_mark()))
            case "APPEND":
                (item,) = self.take(1)
                stack[-1].append(item)
            case "APPENDS":
                items = self.since_mark()
                stack[-1].extend(items)
            case "SETITEM":
                key, value = self.take(2)
                stack[-1][key] = value
            case "SETITEMS":
                items = self.since_mark()
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
            case "GLOBAL":
                stack.append(_Call(argument))
            case "REDUCE":
                called, arguments = self.take(2)
                stack.append(_Call(called.name, arguments))
            case "BUILD":
                (state,) = self.take(1)
                stack[-1].state = state
            case _:
                raise KeyError(name)


def read_batch(path: Path, rows: int, pixels: int) -> tuple[Bytes, Bytes]:
    """Pixels (rows, pixels) and classes (rows,), both uint8, of a file of CIFAR-10's Python version.

    Raises `UsageError` where the file holds anything else.
    """
    size = path.stat().st_size
    if size > LARGEST:
        raise UsageError(f"cifar10: expected some {rows * pixels} bytes in {path}, got {size}; get the file again")
    try:
        labels, data = _contents(path.read_bytes())
    except (LookupError, ValueError, TypeError, AttributeError, StopIteration) as error:
        raise UsageError(
            f"cifar10: expected a file of the Python version of CIFAR-10 (labels and data as one array of bytes) in "
            f"{path}, which this is not ({type(error).__name__}: {error}); get it again, or use the binary version"
        ) from None
    if len(labels) != rows or len(data) != rows * pixels:
        raise UsageError(
            f"cifar10: expected {rows} labels and {rows * pixels} bytes of pixels in {path}, "
            f"got {len(labels)} and {len(data)}; get the file again"
        )
    return np.frombuffer(data, np.uint8).reshape(rows, pixels), np.array(labels, np.uint8)


def _contents(program: bytes) -> tuple[list[int], bytes]:
    """The list of labels and the bytes of the array, as described by the program."""
    machine = _Machine()
    for name, argument in _instructions(program):
        if name == "STOP":
            break
        machine.step(name, argument)
    (batch,) = machine.stack
    labels, array = batch["labels"], batch["data"]
    if array.name != "numpy.core.multiarray _reconstruct" or not all(type(n) is int and 0 <= n < 256 for n in labels):
        raise ValueError("labels or data are of another kind")
    _, _, kind, by_columns, data = array.state  # of NumPy's arrays: version, shape, type, order, bytes
    if kind.name != "numpy dtype" or kind.arguments[0] != "u1" or by_columns:
        raise ValueError("data are no bytes in the order of rows")
    return labels, data.encode("latin-1")


def _instructions(program: bytes) -> Iterator[tuple[str, Any]]:
    for code, argument, _ in pickletools.genops(program):
        yield code.name, argument
