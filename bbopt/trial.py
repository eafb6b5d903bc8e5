"""A trial as people see it: a row of a query in Python values and in their own signs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["queued", "open", "ok", "lost", "impossible", "cancelled", "ranked", "believed"]


@dataclass(frozen=True)
class Trial:
    """One point of a study, and what is known of it now. It does not change; ask the study for it again.

    number: never changes, never repeats; params: values by parameter name (context excluded); context: values that the
    caller of ask gave; attempt: 1, or more if it was given out again; status: queued (enqueued, not asked yet), open,
    ok (told), lost, impossible, cancelled, or ranked (or believed: a design that `best` gives, see `bbopt.design_trial`); values: told metrics in the user's sign, None before; std: standard
    errors told with them; cost; gradient: told derivatives, by metric and parameter; feasible: whether all limits hold (None before it is told); owner: who asked; reason: why
    it failed; seconds: CPU seconds of the ask that made it; note: what the strategy had to say about that ask.
    """

    number: int
    params: dict[str, Any]
    attempt: int = 1
    status: Status = "open"
    context: dict[str, Any] = field(default_factory=dict)
    values: Mapping[str, float] | None = None
    std: Mapping[str, float] = field(default_factory=dict)
    cost: float | None = None
    feasible: bool | None = None
    owner: str = ""
    reason: str = ""
    seconds: float | None = None
    note: str = ""
    query: int = 0
    gradient: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        document = {name: getattr(self, name) for name in self.__dataclass_fields__}
        document["params"] = {name: jsonable(value) for name, value in self.params.items()}
        document["context"] = {name: jsonable(value) for name, value in self.context.items()}
        document["values"] = None if self.values is None else dict(self.values)
        document["std"] = dict(self.std)
        document["gradient"] = {metric: dict(part) for metric, part in self.gradient.items()}
        return document


def jsonable(value: Any) -> Any:
    """A parameter's value as JSON: arrays as lists."""
    return value.tolist() if hasattr(value, "tolist") else value
