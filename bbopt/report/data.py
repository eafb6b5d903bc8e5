"""What a benchmark report is made from: plain records, no store, no strategy, no figure.

One `Run` is one strategy on one problem with one seed; its arrays have one entry per evaluation, in the order in
which the points were asked. `ProblemFacts` says what the numbers mean. Everything else in the report is computed
from these two by `bbopt.report.statistics`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bbopt.report.theme import number

__all__ = ["Bench", "Limit", "Parameter", "ProblemFacts", "Run"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Parameter:
    """One input of a problem, as the table of best designs shows it: its domain in words and its unit (may be empty)."""

    name: str
    domain: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Limit:
    """One outcome constraint: `lower <= value <= upper`, each side may be absent.

    >>> Limit("stress", upper=250.0).text
    '≤ 250'
    """

    name: str
    lower: float | None = None
    upper: float | None = None

    @property
    def text(self) -> str:
        """The limit as a reader wants it."""
        low, high = (None if limit is None else number(limit, 7) for limit in (self.lower, self.upper))
        if low is not None and high is not None:
            return f"{low} … {high}"
        return f"≥ {low}" if low is not None else f"≤ {high}" if high is not None else ""


@dataclass(frozen=True)
class ProblemFacts:
    """A problem in the user's own sign: names, limits, and the known optimum where there is one."""

    name: str
    objective: str
    title: str = ""
    maximize: bool = False
    parameters: tuple[Parameter, ...] = ()
    constraints: tuple[Limit, ...] = ()
    optimum: float | None = None
    optimum_params: Mapping[str, Any] | None = None
    optimum_constraints: Mapping[str, float] | None = None
    dimension: int = 0
    docs: str = ""
    source: str = ""

    @property
    def label(self) -> str:
        """The name for headings: the title, or the name made readable.

        >>> ProblemFacts("welded_beam", "cost").label, ProblemFacts("gkxwc2", "f").label, ProblemFacts("ackley_2d", "f").label
        ('Welded beam', 'GKXWC2', 'Ackley 2D')
        """
        if self.title:
            return self.title
        words = self.name.replace("-", "_").split("_")
        code = [bool(re.search(r"\d", word)) and not re.search(r"[aeiou]", word) for word in words]
        text = " ".join(word.upper() if short else word for word, short in zip(words, code, strict=True))
        return text[:1].upper() + text[1:]

    @property
    def sign(self) -> float:
        """+1 where the objective is minimised, -1 where it is maximised."""
        return -1.0 if self.maximize else 1.0


@dataclass(frozen=True)
class Run:
    """One strategy on one problem with one seed; n evaluations.

    `objective` (n,) and `constraints` (n, c) are in the user's sign and NaN where the evaluation gave no numbers;
    `feasible` (n,); `violation` (n,) is the largest violation (0 where feasible, NaN where unknown); `seconds` (n,) are
    CPU seconds of the ask that proposed the point (0 for the shared initial points); `told_at` (n,) is Unix time.
    """

    problem: str
    strategy: str
    seed: int
    objective: Floats
    constraints: Floats
    feasible: Bools
    violation: Floats
    seconds: Floats
    told_at: Floats
    params: tuple[Mapping[str, Any], ...]
    numbers: tuple[int, ...] = ()
    status: tuple[str, ...] = ()
    error: str = ""
    exhausted: bool = False

    @property
    def n(self) -> int:
        """How many evaluations the run has."""
        return len(self.objective)

    def first(self, n: int) -> Run:
        """The run as it stood after n evaluations."""
        parts = (
            "objective",
            "constraints",
            "feasible",
            "violation",
            "seconds",
            "told_at",
            "params",
            "numbers",
            "status",
        )
        return replace(self, **{name: getattr(self, name)[:n] for name in parts})


@dataclass(frozen=True)
class Bench:
    """All there is to report: the definition of the benchmark, the facts of its problems and the runs so far."""

    title: str
    strategies: tuple[str, ...]
    problems: tuple[ProblemFacts, ...]
    seeds: tuple[int, ...]
    budget: int
    initial: int
    runs: tuple[Run, ...]
    protocol: tuple[tuple[str, str], ...] = ()
    strategy_fields: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def of(self, problem: str, strategy: str) -> list[Run]:
        """The runs of one strategy on one problem that have at least one evaluation, by seed."""
        chosen = [run for run in self.runs if run.problem == problem and run.strategy == strategy and run.n]
        return sorted(chosen, key=lambda run: run.seed)

    def first(self, n: int) -> Bench:
        """The benchmark as it stood after n evaluations of every run; itself where its budget is no larger."""
        if n >= self.budget:
            return self
        title = f"{self.title}, first {n} evaluations"
        return replace(
            self, title=title, budget=n, initial=min(self.initial, n), runs=tuple(r.first(n) for r in self.runs)
        )

    def complete(self, run: Run) -> bool:
        """Whether the run has used its budget, or the whole of a finite space."""
        return run.n >= self.budget or run.exhausted
