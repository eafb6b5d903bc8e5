"""Slates as people meet them: what they rank, what they answer, and what became of that."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bbopt.errors import UsageError
from bbopt.query import Ranking

__all__ = ["RankRequest", "Ranked", "Slate", "Verdict", "is_second_look", "read_details"]

Verdict = Literal["all bad", "cannot tell"]
SECOND_LOOK = "/repeat"


def is_second_look(rater: str) -> bool:
    """Whether a rater's name says that this was a second look at a slate: "ann/repeat" is ann's. Second looks show how
    consistent somebody is; they count into no quorum and are never pooled."""
    return rater.endswith(SECOND_LOOK)


@dataclass(frozen=True)
class RankRequest:
    """One answer for `Optimizer.rank_many`; the fields are the arguments of `Optimizer.rank`."""

    order: Sequence[Any]
    unseen: Sequence[Any] = ()
    rater: str = ""
    verdict: Verdict | None = None
    details: Mapping[str, Any] | None = None
    replace: bool = False


@dataclass(frozen=True)
class Ranked:
    """One person's answer to one query, as the log has it.

    query: its id; first, size: its trials are `first` to `first + size - 1`; ranking: by row index in the query;
    applied: whether it is part of the pooled answer (False before the quorum is there, for answers that came later, and
    for second looks); time: UTC in ISO 8601; details: what was kept with it; position: in the log; withdrawn: it was
    retracted or replaced since.
    """

    query: int
    first: int
    size: int
    rater: str
    ranking: Ranking
    applied: bool = False
    time: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    position: int = 0
    withdrawn: bool = False


@dataclass(frozen=True)
class Slate:
    """A query as something to be answered, with nothing decoded.

    query: its id; numbers: of its trials; memo: the strategy's own notes on it; origin: "strategy" or "user"; quorum: how
    many people must rank it; raters: who ranks it so far, second looks and late answers included; answered: it has its
    answer; cancelled: nobody needs to answer it any more; owner, asked: to whom and when (UTC in ISO 8601) it was last
    given out, empty before.
    """

    query: int
    numbers: range
    memo: Mapping[str, Any]
    origin: str
    quorum: int
    raters: tuple[str, ...] = ()
    answered: bool = False
    cancelled: bool = False
    owner: str = ""
    asked: str = ""

    @property
    def open(self) -> bool:
        """Whether an answer is waited for."""
        return not (self.answered or self.cancelled)


def read_details(details: Any) -> dict[str, Any]:
    """What is kept with an answer: a mapping of JSON values. Raises UsageError.

    >>> read_details({"elapsed_ms": 5300, "groups": (1, 2)})
    {'elapsed_ms': 5300, 'groups': [1, 2]}
    """
    if details is None:
        return {}
    try:
        if not isinstance(details, Mapping):
            raise TypeError(f"a {type(details).__name__}")
        text = json.dumps(dict(details), allow_nan=False)
        if '"__' in text:  # the store marks its own entries so
            raise ValueError('a name or text that begins with "__"')
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"rank: details: expected a mapping of JSON values, got {error}") from None
    read: dict[str, Any] = json.loads(text)
    return read
