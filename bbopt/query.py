"""What is asked and what comes back: queries, their rows, and the two kinds of answer.

A Query is a group of points that gets one answer; its rows are trials. `Values` are numbers per row, a `Ranking` is an
order of the rows. Everything here is frozen data in encoded units; people see `Trial`s, which carry Python values.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from bbopt.deadline import Deadline
from bbopt.errors import UsageError, ValueRefused
from bbopt.lazy_rows import CoordinateRows, DirectionRows, Rows, freeze, rows_from_plain, rows_to_plain

__all__ = [
    "Answer", "CoordinateRows", "DirectionRows", "Key", "Query", "Ranking", "Request", "Rows", "Values", "freeze", "pool",
    "rows_from_plain", "rows_to_plain",
]  # fmt: skip

Array = np.ndarray[Any, np.dtype[Any]]
STATUSES = ("ok", "lost", "impossible")


@dataclass(frozen=True, eq=False)
class Query:
    """A group of points that gets one answer.

    X: (k, D) encoded rows, an array or lazy rows; memo: plain data (JSON values and arrays) that the strategy wants back
    with the answer; origin: "strategy", or "user" for a point that a person enqueued or added. `id` and `first` are given
    by the optimizer: the rows are the trials `first` to `first + size - 1`.
    """

    X: Rows
    memo: Mapping[str, Any] = field(default_factory=dict)
    origin: Literal["strategy", "user"] = "strategy"
    id: int = -1
    first: int = -1

    def __post_init__(self) -> None:
        if not isinstance(self.X, CoordinateRows | DirectionRows):
            X = np.asarray(self.X, float)
            if X.ndim != 2 or not len(X):
                raise UsageError(f"Query: expected rows as an array (k, D) with k >= 1, got shape {X.shape}")
            object.__setattr__(self, "X", freeze(X))

    @property
    def size(self) -> int:
        """Number of rows k."""
        return len(self.X)

    @property
    def numbers(self) -> range:
        """Trial numbers of the rows."""
        return range(self.first, self.first + self.size)

    @property
    def lazy(self) -> bool:
        return not isinstance(self.X, np.ndarray)

    def fingerprint(self) -> str:
        """A hash of the rows, by which a replayed query is recognised."""
        digest = hashlib.sha256()
        for key, value in _leaves(rows_to_plain(self.X)):
            digest.update(f"{key} {np.shape(value)}".encode())
            digest.update(
                np.ascontiguousarray(value).tobytes() if isinstance(value, np.ndarray) else str(value).encode()
            )
        return digest.hexdigest()[:24]


def _leaves(plain: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of nested plain data."""
    for key, value in plain.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


@dataclass(frozen=True, eq=False)
class Values:
    """Numbers for rows of a query, in inside units: Y is minimised, G at or below 0 is feasible.

    Y: (k, m); G: (k, c); std: (k, m + c) standard errors, NaN where unknown; cost: (k,), NaN where unknown;
    status: k of "ok", "lost", "impossible" (numbers of the latter two are NaN); rows: (k,) which rows of the query;
    slopes: (k, m + c, D) derivatives in the encoded columns, NaN where none was told, or None where none was told at all.

    >>> Values.of(np.array([[1.0], [2.0]])).rows.tolist()
    [0, 1]
    """

    Y: Array
    G: Array
    std: Array
    cost: Array
    status: tuple[str, ...]
    rows: Array
    slopes: Array | None = None

    @staticmethod
    def of(
        Y: Any,
        G: Any = None,
        *,
        std: Any = None,
        cost: Any = None,
        status: tuple[str, ...] | None = None,
        rows: Any = None,
    ) -> Values:
        """Values from what is known; the rest is filled in (no constraints, unknown errors and costs, all "ok")."""
        y = np.asarray(Y, float)
        y = y[:, None] if y.ndim == 1 else y
        k = len(y)
        g = np.zeros((k, 0)) if G is None else np.asarray(G, float).reshape(k, -1)
        columns = y.shape[1] + g.shape[1]
        return Values(
            y,
            g,
            np.full((k, columns), np.nan) if std is None else np.asarray(std, float).reshape(k, columns),
            np.full(k, np.nan) if cost is None else np.asarray(cost, float).reshape(k),
            ("ok",) * k if status is None else tuple(status),
            np.arange(k) if rows is None else np.asarray(rows, np.int64).reshape(k),
        )

    def __post_init__(self) -> None:
        k = len(self.Y)
        for name, shape in (("G", (k,)), ("std", (k,)), ("cost", (k,)), ("rows", (k,))):
            if np.shape(getattr(self, name))[:1] != shape:
                raise ValueRefused(
                    f"Values: expected {k} rows in {name} as in Y, got shape {np.shape(getattr(self, name))}"
                )
        if len(self.status) != k or not set(self.status) <= set(STATUSES):
            raise ValueRefused(f"Values: expected {k} of {', '.join(STATUSES)} as status, got {self.status!r}")

    @property
    def ok(self) -> Array:
        """(k,) bool: rows that have numbers."""
        if self.status.count("ok") == len(self.status):  # most often, and quick for a wide query
            return np.ones(len(self.status), bool)
        return np.array([status == "ok" for status in self.status], bool)


@dataclass(frozen=True)
class Ranking:
    """An order of a query's rows: groups of tied rows, best first, by row index within the query.

    Rows in `unseen` were not looked at and carry no information. A `verdict` speaks of the whole slate: "all bad" or
    "cannot tell". Several people's answers are pooled into one by `pool`.

    >>> Ranking(((2,), (0, 1)), unseen=(3,)).scores(4).tolist()
    [-1.0, -1.0, 2.0, 0.0]
    """

    groups: tuple[tuple[int, ...], ...] = ()
    unseen: tuple[int, ...] = ()
    verdict: Literal["all bad", "cannot tell"] | None = None

    def scores(self, rows: int) -> Array:
        """(rows,) for each row: number ranked worse minus number ranked better; 0 for unseen ones."""
        score = np.zeros(rows)
        seen = sum(len(group) for group in self.groups)
        better = 0
        for group in self.groups:
            score[list(group)] = (seen - better - len(group)) - better
            better += len(group)
        return score

    def to_plain(self) -> dict[str, Any]:
        return {"groups": [list(group) for group in self.groups], "unseen": list(self.unseen), "verdict": self.verdict}

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> Ranking:
        groups = tuple(tuple(int(i) for i in group) for group in plain["groups"])
        return Ranking(groups, tuple(int(i) for i in plain["unseen"]), plain["verdict"])


def pool(rankings: tuple[Ranking, ...], rows: int) -> Ranking:
    """One ranking from several people's: rows by the share of their comparisons that they won, less the share that they
    lost; equal shares are tied.

    A comparison is a pair of rows that one person looked at. Where everybody looked at every row this is Borda's count
    with ties (the order of summed scores). A row that few people looked at is judged by these, neither better nor worse
    for it: its share is its summed score by the number of its comparisons. (It still matters beside which rows it was
    seen.) A row that nobody compared with another stays unseen, so that a skipped slate, all of it unseen, changes nothing.
    Verdicts say nothing about order; where nobody gave an order, the pooled answer is the most frequent of them, and
    "cannot tell" where they are equally frequent.

    >>> pool((Ranking(((0,), (1,))), Ranking(((1,), (0,))), Ranking(((0,), (1,)))), 2).groups
    ((0,), (1,))
    >>> pool((Ranking(((0,), (1,), (2,))), Ranking(((0,), (2,)), unseen=(1,))), 3).groups
    ((0,), (1,), (2,))
    """
    if len(rankings) == 1:
        return rankings[0]
    won, compared = np.zeros(rows, int), np.zeros(rows, int)
    for ranking in rankings:
        seen = [row for group in ranking.groups for row in group]
        won[seen] += ranking.scores(rows)[seen].astype(int)
        compared[seen] += len(seen) - 1
    verdicts = [ranking.verdict for ranking in rankings if ranking.verdict is not None]
    if not compared.any() and verdicts:
        bad = verdicts.count("all bad")
        return Ranking(verdict="all bad" if 2 * bad > len(verdicts) else "cannot tell")
    shares = {
        row: won[row] / compared[row] for row in np.flatnonzero(compared).tolist()
    }  # equal fractions are equal floats
    groups = tuple(
        tuple(row for row in shares if shares[row] == share) for share in sorted(set(shares.values()), reverse=True)
    )
    return Ranking(groups, tuple(row for row in range(rows) if row not in shares))


Answer = Values | Ranking


@dataclass(frozen=True)
class Key:
    """The source of randomness of one call: a function of the study's seed, the query's number and the purpose.

    >>> Key(0, 3).rng("design").random() == Key(0, 3).rng("design").random()
    True
    """

    seed: int
    query: int

    def rng(self, purpose: str) -> np.random.Generator:
        """A generator that is the same for the same (seed, query, purpose), in every process."""
        return np.random.Generator(np.random.PCG64([self.seed, self.query + 1, zlib.crc32(purpose.encode())]))


@dataclass(frozen=True, eq=False)
class Request:
    """What an ask wants, and what is already out.

    n: rows wanted; number: the number that the next trial will get (rows made so far); pending: (p, D) rows out without
    an answer, the user's own points included; open: this strategy's own queries without a complete answer;
    fixed: column to encoded value, for this ask only; context: columns given by the caller, in the same form;
    deadline: by when it should be back, None for as long as it takes.
    """

    n: int
    number: int
    pending: Array
    open: tuple[Query, ...] = ()
    fixed: Mapping[int, float] = field(default_factory=dict)
    context: Mapping[int, float] = field(default_factory=dict)
    deadline: Deadline | None = None

    @property
    def held(self) -> dict[int, float]:
        """Columns that this ask holds at a value: `fixed` and `context` together."""
        return {**self.context, **self.fixed}
