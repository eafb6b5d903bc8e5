"""Driving a strategy by hand, without the optimizer, and looking at what it did to its arguments and to the process."""

from __future__ import annotations

import dataclasses
import os
import random
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bbopt.query import Answer, CoordinateRows, Key, Query, Request, Values
from bbopt.strategy import Strategy
from bbopt.task import Task
from contract.tasks import Case


@dataclass
class Hand:
    """The least that can run a strategy: numbers queries, keeps the open ones, tells in any order."""

    strategy: Strategy
    case: Case
    seed: int = 0
    asked: int = 0
    rows: int = 0
    open: list[Query] = field(default_factory=list)
    log: list[tuple[Query, Answer]] = field(default_factory=list)
    state: Any = None

    def __post_init__(self) -> None:
        self.state = self.strategy.init(self.task, Key(self.seed, -1))

    @property
    def task(self) -> Task:
        return self.case.task

    def request(self, n: int) -> Request:
        pending = [np.asarray(query.X[np.arange(query.size)]) for query in self.open]
        D = self.task.space.dimension
        context = self.task.space.encode_some(self.case.context) if self.case.context else {}
        return Request(
            n, self.rows, np.concatenate(pending) if pending else np.zeros((0, D)), tuple(self.open), context=context
        )

    def propose(self, n: int = 1) -> Query:
        """What the strategy would ask now; nothing is kept."""
        return self.strategy.ask(self.task, self.state, self.request(n), Key(self.seed, self.asked))

    def ask(self, n: int = 1) -> Query:
        query = replace(self.propose(n), id=self.asked, first=self.rows)
        if not query.lazy:
            rng = np.random.default_rng([self.seed, self.asked])
            query = replace(query, X=self.task.feasible.repair(self.task.space.canonical(np.asarray(query.X)), rng))
        self.asked += 1
        self.rows += query.size
        self.open.append(query)
        return query

    def values(self, query: Query, status: Mapping[int, str] | None = None) -> Values:
        """The case's values of all rows; `status` says which of them failed."""
        Y, G = [], []
        for row in range(query.size):
            y, g = self.task.to_inside(self.case.function(self.task.space.decode(query.X[row])))
            failed = (status or {}).get(row, "ok") != "ok"
            Y.append(np.full_like(y, np.nan) if failed else y)
            G.append(np.full_like(g, np.nan) if failed else g)
        states = tuple((status or {}).get(row, "ok") for row in range(query.size))
        return Values.of(np.array(Y), np.array(G), status=states)

    def tell(self, query: Query, values: Values) -> None:
        """Row by row, last row first, or at once: as the strategy declares."""
        if self.strategy.learns == "rows":
            for row in reversed(range(query.size)):
                self._tell(query, one_row(values, row))
        else:
            self._tell(query, values)
        self.open.remove(query)

    def _tell(self, query: Query, answer: Answer) -> None:
        self.log.append((query, answer))
        self.state = self.strategy.tell(self.task, self.state, query, answer)

    def step(self, n: int = 1) -> None:
        query = self.ask(n)
        self.tell(query, self.values(query))


def one_row(values: Values, row: int) -> Values:
    part = slice(row, row + 1)
    return Values(
        values.Y[part], values.G[part], values.std[part], values.cost[part], values.status[part], values.rows[part]
    )


def plain(value: Any, where: str = "state") -> Any:
    """Nested tuples of a value's exact content, arrays by dtype, shape and bytes. Refuses what is not plain frozen data."""
    if value is None or isinstance(value, bool | int | float | str):
        return (type(value).__name__, repr(value))
    if isinstance(value, np.generic):
        return (value.dtype.str, value.tobytes())
    if isinstance(value, np.ndarray):
        assert value.dtype.kind in "biuf", f"{where}: an array of {value.dtype} is not plain data"
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, tuple):
        return tuple(plain(item, f"{where}[{i}]") for i, item in enumerate(value))
    if isinstance(value, Mapping):  # a query's memo, kept as it came
        assert all(isinstance(key, str) for key in value), f"{where}: expected text as keys"
        return content(value)
    if isinstance(value, CoordinateRows):
        return tuple(plain(item) for item in (value.base, value.columns, value.values))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        assert value.__dataclass_params__.frozen, f"{where}: {type(value).__name__} is a dataclass but not frozen"  # type: ignore[attr-defined]
        fields = [
            (item.name, plain(getattr(value, item.name), f"{where}.{item.name}")) for item in dataclasses.fields(value)
        ]
        return (type(value).__name__, tuple(fields))
    raise AssertionError(f"{where}: {type(value).__name__} is not plain frozen data: {value!r}")


def content(value: Any) -> Any:
    """Like `plain`, for queries, answers, requests and tasks, which may hold mappings and lists."""
    if isinstance(value, Mapping):
        return tuple((str(key), content(item)) for key, item in value.items())
    if isinstance(value, bytes):
        return value
    if isinstance(value, list):
        return ("list", tuple(content(item) for item in value))
    if isinstance(value, tuple):
        return tuple(content(item) for item in value)
    if isinstance(value, Query):
        return tuple(content(item) for item in (value.X, value.memo, value.origin, value.id, value.first))
    if isinstance(value, Request):
        return tuple(content(getattr(value, item.name)) for item in dataclasses.fields(value))
    if isinstance(value, Task):
        return repr(value.to_json())
    return plain(value)


def surroundings() -> dict[str, Any]:
    """What a strategy must leave alone in the process."""
    found: dict[str, Any] = {
        "random": random.getstate(),
        "numpy random": content(tuple(np.random.get_state())[1:]),  # noqa: NPY002  # that is the point
        "numpy errors": np.geterr(),
        "numpy printing": repr(np.get_printoptions()),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
    }
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        found["torch random"] = torch.random.get_rng_state().numpy().tobytes()
        found["torch threads"] = (torch.get_num_threads(), torch.get_num_interop_threads())
        found["torch dtype"] = str(torch.get_default_dtype())
        found["torch gradients"] = torch.is_grad_enabled()
        found["torch deterministic"] = torch.are_deterministic_algorithms_enabled()
    return found
