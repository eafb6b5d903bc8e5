"""Objectives that take a batch of rows as one tensor on the worker's device.

    @bbopt.batched(device="auto", dtype="float32")
    def loss(X):                      # (n, D): one row per point, one column per scalar of the space, in its order
        return ((X - 0.3) ** 2).sum(1)

`batched` only marks the function; evaluators read the mark and call the function with many rows at once. The columns hold
decoded values in the user's units; a category is its index in `choices`, an inactive parameter is NaN, and parameters of
kind `Fixed` have no column. What comes back is a tensor (n,) for one metric, (n, metrics) in the order of `task.metrics`,
or a mapping from every metric to a tensor (n,); the user's sign, as everywhere.

How many rows go into one call follows from a budget of bytes for the rows themselves. A call that runs out of memory is
repeated with half as many rows, and the worker goes on with that number.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

import numpy as np

from bbopt.errors import MissingPackage, UsageError, ValueRefused
from bbopt.outcome import Impossible
from bbopt.query import Rows
from bbopt.space import Categorical, Fixed, Space
from bbopt.task import Task

if TYPE_CHECKING:
    import torch

__all__ = ["Batching", "DeviceFunction", "batched", "batching_of"]

Array = np.ndarray[Any, np.dtype[Any]]
F = TypeVar("F", bound=Callable[..., Any])
Device = Literal["auto", "cpu", "cuda"]

MARK = "__bbopt_batched__"
DTYPES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
DEFAULT_BYTES = 2**26
NO_MEMORY = ("can't allocate memory", "not enough memory")  # torch has no class for this on the CPU


@dataclass(frozen=True)
class Batching:
    """How a marked function wants its rows; see `batched`.

    >>> Batching(bytes=8000).rows(10)
    100
    """

    device: Device = "auto"
    dtype: str = "float64"
    bytes: int = DEFAULT_BYTES

    def __post_init__(self) -> None:
        if self.device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"batched: device: expected 'auto', 'cpu' or 'cuda', got {self.device!r}")
        if self.dtype not in DTYPES:
            raise UsageError(f"batched: dtype: expected one of {', '.join(DTYPES)}; got {self.dtype!r}")
        if isinstance(self.bytes, bool) or not isinstance(self.bytes, int) or self.bytes < 1:
            raise UsageError(f"batched: bytes: expected a whole number of at least 1, got {self.bytes!r}")

    def rows(self, dimension: int) -> int:
        """How many rows of so many columns go into one call; at least one."""
        return max(1, self.bytes // max(1, dimension * DTYPES[self.dtype]))


@overload
def batched(function: F, /, *, device: Device = ..., dtype: Any = ..., bytes: int = ...) -> F: ...
@overload
def batched(*, device: Device = ..., dtype: Any = ..., bytes: int = ...) -> Callable[[F], F]: ...
def batched(
    function: F | None = None,
    /,
    *,
    device: Device = "auto",
    dtype: Any = "float64",
    bytes: int = DEFAULT_BYTES,
) -> F | Callable[[F], F]:
    """Mark an objective that takes many rows at once: `function(X)` with a tensor (n, D), see `bbopt.device_batch`.

    A decorator with or without options, or a call: `bbopt.batched(function, device="cpu")`. The function itself comes
    back, marked; a callable that is no plain function (an object, a bound method) comes back wrapped. device: where X
    lies: "cuda", refused by a worker that has none, "cpu", or "auto", the GPU where the worker has one; dtype: of X, a
    name or a torch dtype; bytes: of X in one call, from which the number of rows follows. The function runs without
    recording gradients; one that needs them says `with torch.enable_grad():`.

    >>> import bbopt
    >>> @bbopt.batched
    ... def sphere(X):
    ...     return (X ** 2).sum(1)
    >>> task = bbopt.Task(bbopt.Space(x=bbopt.Float(-1, 1, shape=(3,))))
    >>> result = bbopt.minimize(sphere, task, 40, "cmaes", progress=False)  # called once per population
    >>> result.evaluations
    40
    """
    batching = Batching(device, str(dtype).removeprefix("torch."), bytes)
    if function is None:
        return lambda function: cast(F, _mark(function, batching))
    return cast(F, _mark(function, batching))


def _mark(function: Any, batching: Batching) -> Callable[..., Any]:
    if not callable(function):
        raise UsageError(f"batched: expected a function of a tensor of rows, got {function!r}")
    there = batching_of(function)
    if there is not None and there != batching:
        raise UsageError(
            f"batched: {_name(function)} is marked already, with {there}; mark another function that calls it"
        )
    # a function is pickled by its name, so the mark must be on the object that has this name; others carry their state
    marked = function if isinstance(function, types.FunctionType) or there else functools.partial(function)
    setattr(marked, MARK, batching)
    return cast(Callable[..., Any], marked)


def batching_of(function: Any) -> Batching | None:
    """How a function was marked by `batched`; None for one that takes a single point.

    Evaluators read it where the study is and send it along: in another process the function is imported again, and its
    mark may have been made by a line that does not run there.

    >>> batching_of(batched(abs, device="cpu"))
    Batching(device='cpu', dtype='float64', bytes=67108864)
    """
    mark = getattr(function, MARK, None)
    return mark if isinstance(mark, Batching) else None


class DeviceFunction:
    """A marked function on the device of this worker; `answer` evaluates any number of encoded rows.

    Made once per worker. Raises MissingPackage without torch, UsageError where a GPU was asked for and there is none.

    >>> import bbopt
    >>> task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 10)))
    >>> double = DeviceFunction(lambda X: 2 * X[:, 0], Batching(device="cpu"), task)
    >>> results, failures = double.answer(np.array([[0.1], [0.25]]))
    >>> results.tolist(), failures
    ([[2.0], [5.0]], [None, None])
    """

    def __init__(self, function: Callable[..., Any], batching: Batching, task: Task) -> None:
        self.function, self.task = function, task
        self.device = _device(batching.device, function)
        self.dtype = batching.dtype
        self.rows = batching.rows(task.space.dimension)

    def answer(self, rows: Rows) -> tuple[Array, list[BaseException | None]]:
        """(n, metrics) numbers in the order of `task.metrics`, and per row the exception that it failed with, or None.

        A failed call fails all its rows, but `Impossible` is narrowed down to the rows that raise it alone, and running
        out of memory is not a failure while there are rows to leave out.
        """
        results = np.full((len(rows), len(self.task.metrics)), np.nan)
        failures: list[BaseException | None] = [None] * len(rows)
        spans = [(0, len(rows))]
        while spans:
            start, end = spans.pop()
            stop = min(end, start + self.rows)
            if stop < end:
                spans.append((stop, end))
            try:
                results[start:stop] = self._call(np.asarray(rows[start:stop]))
            except Exception as error:
                middle = (start + stop + 1) // 2
                if stop - start > 1 and _out_of_memory(error):
                    self.rows = middle - start
                    spans.append((start, stop))
                elif stop - start > 1 and isinstance(error, Impossible):
                    spans += [(middle, stop), (start, middle)]
                else:
                    failures[start:stop] = [error] * (stop - start)
        return results, failures

    def _call(self, rows: Array) -> Array:
        import torch

        dtype = getattr(torch, self.dtype)
        with torch.no_grad():
            given = torch.from_numpy(decoded(self.task.space, rows)).to(device=self.device, dtype=dtype)
            return _read(self.function(given), len(rows), self.task.metrics, _name(self.function))


def decoded(space: Space, rows: Array) -> Array:
    """(n, D) values in the user's units of encoded rows: categories by their index, NaN where a parameter is inactive.

    >>> from bbopt.space import Int
    >>> decoded(Space(bolts=Int(2, 12), steel=Categorical(["S235", "S355"])), np.array([[0.5, 1.0]])).tolist()
    [[7.0, 1.0]]
    """
    values = np.empty(rows.shape)
    for name, parameter in space.parameters.items():
        part = space.slice(name)
        if isinstance(parameter, Categorical):
            values[:, part] = parameter.canonical(rows[:, part])
        elif not isinstance(parameter, Fixed):
            values[:, part] = parameter.values(rows[:, part])
    if space.conditional:
        values[~space.active(rows)] = np.nan
    return values


def _device(wanted: Device, function: Callable[..., Any]) -> torch.device:
    try:
        import torch
    except ImportError as missing:
        raise MissingPackage(
            f"{_name(function)} is marked by bbopt.batched, which needs torch ({missing}); pip install 'bbopt[botorch]'"
        ) from missing
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise UsageError(
            f"{_name(function)}: batched(device='cuda'): expected a GPU where it is evaluated, torch sees none there; "
            "use device='auto' or 'cpu', or workers with a GPU (RayEvaluator(gpus=1))"
        )
    return torch.device("cuda" if there and wanted != "cpu" else "cpu")


def _read(returned: Any, n: int, metrics: tuple[str, ...], name: str) -> Array:
    """(n, metrics) float64 from what a marked function returned. Raises ValueRefused for anything of another shape."""
    k = len(metrics)
    one = f"a tensor ({n},)" if k == 1 else f"a tensor ({n}, {k})"
    wanted = f"{one} or a mapping from {', '.join(metrics)} to tensors ({n},)"
    if isinstance(returned, Mapping):
        if set(returned) != set(metrics):
            raise ValueRefused(f"{name}: expected {wanted}, got the keys {', '.join(map(str, returned)) or 'none'}")
        columns = {metric: _numbers(returned[metric], name, wanted) for metric in metrics}
        wrong = [metric for metric, column in columns.items() if column.shape != (n,)]
        if wrong:
            raise ValueRefused(f"{name}: expected {wanted}, got shape {columns[wrong[0]].shape} for {wrong[0]}")
        return np.stack(list(columns.values()), axis=1)
    numbers = _numbers(returned, name, wanted)
    if numbers.shape != (n, k) and not (k == 1 and numbers.shape == (n,)):
        raise ValueRefused(f"{name}: expected {wanted}, got shape {numbers.shape}")
    return numbers.reshape(n, k)


def _numbers(returned: Any, name: str, wanted: str) -> Array:
    import torch

    if not isinstance(returned, torch.Tensor | np.ndarray):
        raise ValueRefused(f"{name}: expected {wanted}, got {returned!r}")
    tensor = torch.as_tensor(returned)
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise ValueRefused(f"{name}: expected {wanted}, got {tensor.dtype}")
    return np.asarray(tensor.detach().to("cpu", torch.float64).numpy())


def _out_of_memory(error: Exception) -> bool:
    import torch

    if isinstance(error, torch.cuda.OutOfMemoryError):
        torch.cuda.empty_cache()
        return True
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    )


def _name(function: Any) -> str:
    inner = function.func if isinstance(function, functools.partial) else function
    return str(getattr(inner, "__name__", type(inner).__name__))
