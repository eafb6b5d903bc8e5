"""What travels between a study and those who evaluate its rows: batches out, outcomes back.

A Batch names rows of one query that are handed out together, at array level: nothing is decoded on this side. An Outcome
says what became of some of them. Results are whatever the user's function returned; they are read where they are told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bbopt.query import Query

Array = np.ndarray[Any, np.dtype[Any]]


class Impossible(Exception):
    """Raised by a user's function for a point that cannot work: it is not asked again, and its like are avoided."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of one query that are handed out together.

    rows: (n,) indices of the rows in the query; attempt: 1, or more if the rows are given out again.

    >>> batch = Batch(Query(np.zeros((5, 2)), first=10), np.array([1, 2, 4]), attempt=1)
    >>> len(batch), batch.numbers.tolist(), [part.rows.tolist() for part in batch.split(2)]
    (3, [11, 12, 14], [[1, 2], [4]])
    """

    query: Query
    rows: Array
    attempt: int = 1

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def numbers(self) -> Array:
        """(n,) trial numbers."""
        return self.query.first + self.rows

    @property
    def X(self) -> Array:  # noqa: N802
        """(n, D) the encoded rows, built now where the query's are lazy: not for wide ones."""
        return np.asarray(self.query.X[self.rows])

    def take(self, part: slice | Array) -> Batch:
        """The batch of some of these rows, by position."""
        return replace(self, rows=self.rows[part])

    def split(self, size: int) -> list[Batch]:
        """Batches of at most `size` rows, in order."""
        if len(self) <= size:
            return [self]
        return [self.take(slice(start, start + size)) for start in range(0, len(self), size)]


@dataclass(frozen=True, eq=False)
class Failure:
    """Why a row has no result. error: what the function raised; reason: as it is recorded, with the traceback; lost: its
    worker died or ran out of time, so that nothing is known of the row and it is always tried again."""

    error: BaseException | None
    reason: str
    lost: bool = False


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of the rows of a batch, exactly these.

    results: per row what the function returned, as a list, or (n, metrics) numbers in the order of `task.metrics` from a
    function that takes many rows; failures: by position in the batch, for rows without a result (their entry in `results`
    means nothing).
    """

    batch: Batch
    results: list[Any] | Array
    failures: Mapping[int, Failure] = field(default_factory=dict)


def portable(failure: Failure, dumps: Callable[[Any], Any], loads: Callable[[Any], Any]) -> Failure:
    """The same failure, with an exception that survives the way to another process.

    Exceptions come back from `loads(dumps(error))` only if their class can be found there and its constructor takes their
    `args`. Otherwise what arrives is an exception of the same class with its text alone, or a RuntimeError that says both.
    """
    error = failure.error
    if error is None or _returns(error, dumps, loads):
        return failure
    bare: Any = _Bare(type(error), str(error))
    if _returns(bare, dumps, loads, type(error)):
        return replace(failure, error=bare)
    return replace(failure, error=RuntimeError(f"{type(error).__name__}: {error}"))


def _returns(
    sent: Any, dumps: Callable[[Any], Any], loads: Callable[[Any], Any], kind: type[BaseException] | None = None
) -> bool:
    try:
        back = loads(dumps(sent))
        return type(back) is (kind or type(sent)) and str(back) == str(sent)
    except Exception:  # whatever a user's class does when it is copied
        return False


class _Bare:
    """Becomes, on arrival, an exception made without its constructor."""

    def __init__(self, kind: type[BaseException], text: str) -> None:
        self.kind, self.text = kind, text

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        return _without_constructor, (self.kind, self.text)


def _without_constructor(kind: type[BaseException], text: str) -> BaseException:
    error = kind.__new__(kind)
    error.args = (text,)
    return error
