"""What is to be solved: a space, objectives, outcome constraints, and conditions known in advance.

This is the one place where the user's numbers become the numbers that methods see: inside, every objective is
minimised and every constraint column is feasible at or below 0 (its limit and tolerance already taken off).
"""

from __future__ import annotations

import contextlib
import json
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bbopt.environment import checked_level, checked_objectives
from bbopt.errors import TaskError, ValueRefused
from bbopt.expression import Expression
from bbopt.risk import risk_text
from bbopt.space import Space

if TYPE_CHECKING:
    from bbopt.feasible import FeasibleSet

Array = np.ndarray[Any, np.dtype[Any]]
Noise = str | float | None
REAL = numbers.Real | np.integer | np.floating  # NumPy's complex numbers are np.number too


def _check_noise(noise: Noise, name: str) -> None:
    if noise is None or noise == "unknown":
        return
    if isinstance(noise, bool) or not isinstance(noise, int | float) or not (math.isfinite(noise) and noise > 0):
        raise TaskError(
            f"{name}: noise is None (repeats give the same value), 'unknown' or a standard deviation; got {noise!r}"
        )


@dataclass(frozen=True)
class Objective:
    """A metric to be minimised, or maximised.

    `noise`: None says that a repeated evaluation gives the same value; "unknown", or a standard deviation. `over`: in a space
    with environment parameters, which functional of their distribution counts: "mean" (the default there), "worst", "var"
    (value at risk) or "cvar" (mean of the worst share), at `level` (0.9 unless said), see `bbopt.risk`.

    >>> Objective("strength", maximize=True).name
    'strength'
    >>> Objective("sag", over="cvar", level=0.95).risk_text
    'mean of the worst 5 %'
    """

    name: str
    maximize: bool = False
    noise: Noise = None
    over: str | None = None
    level: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TaskError(f"Objective: expected a name, got {self.name!r}")
        _check_noise(self.noise, self.name)
        object.__setattr__(self, "level", checked_level(self.name, self.over, self.level))

    @property
    def risk_text(self) -> str:
        """The functional over environments in words; empty where there is none."""
        return risk_text(self.over, self.level)


@dataclass(frozen=True)
class Constraint:
    """A metric that must stay within limits, given in its own unit: `lower`, `upper` or both.

    `tolerance` is how far outside still counts as feasible, in the same unit.

    >>> Constraint("stress", upper=250.0).limits
    ((1.0, 250.0),)
    """

    name: str
    lower: float | None = None
    upper: float | None = None
    tolerance: float = 0.0
    noise: Noise = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TaskError(f"Constraint: expected a name, got {self.name!r}")
        _check_noise(self.noise, self.name)
        for key in ("lower", "upper", "tolerance"):
            value = getattr(self, key)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
            ):
                raise TaskError(f"{self.name}: expected a finite number for {key}, got {value!r}")
        if self.lower is None and self.upper is None:
            raise TaskError(f"{self.name}: expected a limit, Constraint({self.name!r}, upper=...) or lower=...")
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise TaskError(f"{self.name}: expected lower <= upper, got {self.lower} and {self.upper}")
        if self.tolerance < 0:
            raise TaskError(f"{self.name}: expected tolerance >= 0, got {self.tolerance}")

    @property
    def limits(self) -> tuple[tuple[float, float], ...]:
        """(sign, limit) per column: the column is sign * (value - limit), feasible at or below 0."""
        columns = []
        if self.upper is not None:
            columns.append((1.0, self.upper + self.tolerance))
        if self.lower is not None:
            columns.append((-1.0, self.lower - self.tolerance))
        return tuple(columns)


@dataclass(frozen=True)
class Task:
    """A space, what is measured at its points, and what is known before measuring.

    space: a `Space` (a mapping of parameters will do); objectives: one or more, default one to minimise, "objective";
    constraints: on outcomes; where: conditions on parameters, as text, that every asked point satisfies;
    feedback: "values", or "ranking" where people or comparisons order the points of a query.

    >>> from bbopt.space import Float
    >>> task = Task(Space(x=Float(0, 1), y=Float(0, 1)), where=["x + y <= 1"])
    >>> task.known(task.space.encode({"x": 0.7, "y": 0.7})[None])
    array([False])
    """

    space: Space
    objectives: Sequence[Objective] = (Objective("objective"),)
    constraints: Sequence[Constraint] = ()
    where: Sequence[str] = ()
    feedback: str = "values"
    _rules: tuple[Expression, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        def many(value: Any, kind: type, what: str) -> tuple[Any, ...]:
            if isinstance(value, kind):
                value = (value,)
            if not isinstance(value, list | tuple) or not all(isinstance(item, kind) for item in value):
                raise TaskError(f"Task: expected {what} as a list of {kind.__name__}, got {value!r}")
            return tuple(value)

        if isinstance(self.space, Mapping):
            object.__setattr__(self, "space", Space(self.space))
        if not isinstance(self.space, Space):
            raise TaskError(f"Task: expected a Space, got {self.space!r}")
        object.__setattr__(self, "objectives", many(self.objectives, Objective, "objectives"))
        object.__setattr__(self, "constraints", many(self.constraints, Constraint, "constraints"))
        object.__setattr__(self, "where", many(self.where, str, "where"))
        if not self.objectives:
            raise TaskError("Task: expected at least one objective, got none")
        if self.feedback not in ("values", "ranking"):
            raise TaskError(f"Task: feedback is 'values' or 'ranking', got {self.feedback!r}")
        names = self.metrics
        for name in names:
            if names.count(name) > 1:
                raise TaskError(f"Task: expected different names for metrics, got {name!r} twice")
        object.__setattr__(self, "_rules", tuple(Expression.parse(text, self.space.parameters) for text in self.where))
        for rule in self._rules:
            rule.check(self.space.values(self.space.neutral[None]))
        checked = checked_objectives(self.space, self.objectives, self.constraints, self._rules, self.feedback)
        object.__setattr__(self, "objectives", checked)

    # -- sizes and names -----------------------------------------------------------------------------------------------

    @property
    def m(self) -> int:
        """Number of objectives."""
        return len(self.objectives)

    @cached_property
    def c(self) -> int:
        """Number of constraint columns; a constraint with two limits has two."""
        return sum(len(item.limits) for item in self.constraints)

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Names that a result must have: objectives, then constraints."""
        return tuple([item.name for item in self.objectives] + [item.name for item in self.constraints])

    @cached_property
    def environment(self) -> tuple[str, ...]:
        """Names of the parameters that nature draws, over which the objective is averaged (or see `Objective.over`)."""
        return self.space.roles("environment")

    @cached_property
    def noises(self) -> tuple[Noise, ...]:
        """Declared noise per inside column (m objectives, then c constraint columns)."""
        columns: list[Noise] = [item.noise for item in self.objectives]
        for item in self.constraints:
            columns += [item.noise] * len(item.limits)
        return tuple(columns)

    @property
    def noisy(self) -> bool:
        """Whether any noise was declared: only then may a point be asked twice."""
        return any(noise is not None for noise in self.noises) or self.feedback == "ranking"

    def needs(self) -> frozenset[str]:
        """The abilities that a strategy must have for this task (see `Strategy.handles`)."""
        found = {role for role in ("fidelity", "source", "context", "environment") if self.space.roles(role)}
        columns = self.space.columns
        if self.c:
            found.add("constraints")
        if self.m > 1:
            found.add("objectives")
        if any(noise is not None for noise in self.noises):
            found.add("noise")
        if self.feedback == "ranking":
            found.add("rankings")
        if "category" in columns.kind:
            found.add("categorical")
        if not all(columns.bounded):
            found.add("unbounded")
        if self.space.conditional:
            found.add("conditional")
        return frozenset(found)

    # -- known conditions ----------------------------------------------------------------------------------------------

    def known(self, X: Array) -> Array:
        """(n,) bool: rows that satisfy every condition of `where`. One that names an inactive parameter does not apply."""
        failed = self._each_rule(X, lambda rule, values, n: ~rule.holds(values, n))
        return np.asarray(failed.sum(axis=0) == 0)

    def violation(self, X: Array) -> Array:
        """(n,) float: how far rows are from satisfying `where`; 0 where they do."""
        amounts = self._each_rule(X, lambda rule, values, n: rule.violation(values, n))
        total: Array = amounts.sum(axis=0)
        return np.where(self.known(X), 0.0, np.maximum(total, 1e-12))

    def _each_rule(self, X: Array, measure: Any) -> Array:
        rows = np.asarray(X, float)
        if not self._rules:
            return np.zeros((1, len(rows)))
        values = self.space.values(rows)
        inactive = self.space.inactive_names(rows)
        result = []
        for rule in self._rules:
            amount = np.asarray(measure(rule, values, len(rows)), float)
            for name in rule.names & inactive.keys():
                amount = np.where(inactive[name], 0.0, amount)
            result.append(amount)
        return np.array(result)

    @cached_property
    def feasible(self) -> FeasibleSet:
        """The set of points that satisfy `where`: `contains`, `sample`, `repair`."""
        from bbopt.feasible import FeasibleSet  # it needs this module

        return FeasibleSet(self)

    # -- values at the boundary ----------------------------------------------------------------------------------------

    def read_metrics(self, told: Any, what: str = "the result") -> dict[str, float]:
        """The user's result as a dict from every metric to a finite float. Raises ValueRefused, naming what is wrong.

        A bare number will do for one objective without constraints; a sequence goes in the order of `metrics`.
        """
        wanted = ", ".join(self.metrics)
        if isinstance(told, Mapping):
            given: dict[str, Any] = dict(told)
        elif getattr(told, "ndim", None) == 0 or (isinstance(told, numbers.Real) and not isinstance(told, bool)):
            if len(self.metrics) > 1:
                raise ValueRefused(f"{what}: expected a mapping with {wanted}; got the single number {told!r}")
            given = {self.metrics[0]: told}
        elif isinstance(told, Sequence | np.ndarray) and not isinstance(told, str | bytes):
            if len(told) != len(self.metrics):
                raise ValueRefused(
                    f"{what}: expected {len(self.metrics)} numbers ({wanted}), got {len(told)}: {told!r}"
                )
            given = dict(zip(self.metrics, told, strict=True))
        else:
            raise ValueRefused(f"{what}: expected a number or a mapping with {wanted}; got {told!r}")
        for name in given:
            if name not in self.metrics:
                raise ValueRefused(f"{what}: unknown metric {name!r}; the task has {wanted}")
        missing = [name for name in self.metrics if name not in given]
        if missing:
            raise ValueRefused(f"{what}: {missing[0]!r} is missing; expected {wanted}")
        return {name: read_number(given[name], f"{what}: {name}") for name in self.metrics}

    def read_deviations(self, std: Any, what: str = "std") -> dict[str, float]:
        """Standard errors as given with a result: one number for a single metric, or a mapping for some of them."""
        if std is None:
            return {}
        given = dict(std) if isinstance(std, Mapping) else {self.metrics[0]: std} if len(self.metrics) == 1 else None
        if given is None:
            raise ValueRefused(f"{what}: expected a mapping from metric to standard error, got {std!r}")
        for name in given:
            if name not in self.metrics:
                raise ValueRefused(f"{what}: unknown metric {name!r}; the task has {', '.join(self.metrics)}")
        deviations = {name: read_number(value, f"{what}: {name}") for name, value in given.items()}
        for name, value in deviations.items():
            if value < 0:
                raise ValueRefused(f"{what}: {name}: expected a standard error >= 0, got {value}")
        return deviations

    def to_inside(self, metrics: Mapping[str, Any]) -> tuple[Array, Array]:
        """Y (m,) to be minimised and G (c,) feasible at or below 0, from a complete dict of metrics: numbers, or arrays (n,),
        which give (m, n) and (c, n)."""
        y = [-metrics[item.name] if item.maximize else metrics[item.name] for item in self.objectives]
        g = [sign * (metrics[item.name] - limit) for item in self.constraints for sign, limit in item.limits]
        return np.array(y, float), np.array(g, float)

    def std_inside(self, deviations: Mapping[str, float]) -> Array:
        """(m + c,) standard errors per inside column, NaN where unknown."""
        row = [deviations.get(item.name, math.nan) for item in self.objectives]
        for item in self.constraints:
            row += [deviations.get(item.name, math.nan)] * len(item.limits)
        return np.array(row, float)

    def metrics_of(self, y: Array, g: Array) -> dict[str, float]:
        """The user's metrics from inside values: the inverse of `to_inside` (a two-sided constraint by its first column)."""
        metrics = {
            item.name: float(-value if item.maximize else value) for item, value in zip(self.objectives, y, strict=True)
        }
        column = 0
        for constraint in self.constraints:
            sign, limit = constraint.limits[0]
            metrics[constraint.name] = float(sign * g[column] + limit)
            column += len(constraint.limits)
        return metrics

    # -- JSON ----------------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """The task as JSON values; `from_json` reads it back."""
        return {
            "space": self.space.to_json(),
            "objectives": [
                {k: v for k, v in vars(item).items() if v is not None or k == "noise"} for item in self.objectives
            ],
            "constraints": [dict(vars(item)) for item in self.constraints],
            "where": list(self.where),
            "feedback": self.feedback,
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Task:
        """The task that `to_json` described; everything but "space" may be left out. Raises TaskError or SpaceError."""
        known = ("space", "objectives", "constraints", "where", "feedback", "format")
        if not isinstance(document, Mapping) or not isinstance(document.get("space"), Mapping):
            raise TaskError(f"expected a task as a mapping with {', '.join(known)}; got {document!r}")
        unknown = [key for key in document if key not in known]
        if unknown:
            raise TaskError(f"expected only {', '.join(known)} in a task; got {unknown[0]!r}")
        try:
            return Task(
                Space.from_json(document["space"]),
                objectives=[Objective(**item) for item in document.get("objectives", ({"name": "objective"},))],
                constraints=[Constraint(**item) for item in document.get("constraints", ())],
                where=document.get("where", ()),
                feedback=document.get("feedback", "values"),
            )
        except (TypeError, AttributeError) as error:  # a wrong key, or no mapping where one belongs
            raise TaskError(f"expected a task as `Task.to_json` gives it; got one that does not fit: {error}") from None

    def difference(self, other: Task) -> list[str]:
        """Lines that say what differs, empty for equal tasks."""
        mine, theirs = _flat(self.to_json()), _flat(other.to_json())
        lines = []
        for key in sorted({*mine, *theirs}):
            if mine.get(key) != theirs.get(key):
                lines.append(f"{key}: {mine.get(key, 'absent')} here, {theirs.get(key, 'absent')} there")
        return lines


def read_number(value: Any, what: str) -> float:
    """A finite float from a user's number. Raises ValueRefused otherwise; bool, text and None are no numbers."""
    given = value
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(()).item()
    if isinstance(value, bool | np.bool_) or not isinstance(value, REAL):
        item = getattr(value, "item", None)  # a torch scalar, for one
        if callable(item) and not isinstance(value, bool | np.bool_ | str):
            with contextlib.suppress(ValueError, TypeError, RuntimeError):  # more than one entry
                value = item()
        if isinstance(value, bool | np.bool_) or not isinstance(value, REAL):
            raise ValueRefused(f"{what}: expected a number, got {given!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueRefused(f"{what}: expected a finite number, got {number!r}; report a failed evaluation with fail()")
    return number


def _flat(document: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(document, Mapping) and document:
        return {k: v for key, value in document.items() for k, v in _flat(value, f"{prefix}.{key}".strip(".")).items()}
    if isinstance(document, list) and document and isinstance(document[0], Mapping):
        return {k: v for item in document for k, v in _flat(item, f"{prefix}.{item.get('name', '')}").items()}
    return {prefix: json.dumps(document, sort_keys=True)}
