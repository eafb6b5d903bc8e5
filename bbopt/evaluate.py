"""Evaluators turn trials into results.

`InProcess` calls the user's function here and now. Evaluators stream: results come back as they are ready, in any order.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from bbopt.trial import Trial


class Impossible(Exception):
    """Raised by a user's function for a point that cannot work: it is not asked again, and its like are avoided."""


@dataclass(frozen=True)
class Outcome:
    """What became of one evaluation: `values`, or a `failure` (with its traceback as `reason`)."""

    trial: Trial
    values: Any = None
    failure: BaseException | None = None
    reason: str = ""


Function = Callable[[dict[str, Any]], Any]


@runtime_checkable
class Evaluator(Protocol):
    """`capacity`: how many trials it works on at once; `evaluate`: outcomes of trials, as they come."""

    @property
    def capacity(self) -> int: ...

    def evaluate(self, function: Function, trials: Sequence[Trial]) -> Iterator[Outcome]: ...


@dataclass(frozen=True)
class InProcess:
    """One trial after the other, in this process.

    >>> from bbopt.trial import Trial
    >>> [outcome.values for outcome in InProcess().evaluate(lambda params: params["x"] ** 2, [Trial(0, {"x": 3.0})])]
    [9.0]
    """

    capacity: int = 1

    def evaluate(self, function: Function, trials: Sequence[Trial]) -> Iterator[Outcome]:
        for trial in trials:
            try:
                values = function(dict(trial.params))
            except Exception as error:  # the caller decides what it means
                yield Outcome(trial, failure=error, reason="".join(traceback.format_exception(error)))
            else:
                yield Outcome(trial, values)
