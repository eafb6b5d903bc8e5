"""The one table from names of strategies to their classes, for `auto`, the command line, the server and the store.

A strategy is stored as its name (or, for a class of the user's own, as "module:Class") and its fields.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any

from bbopt.errors import NotHandled, UsageError
from bbopt.strategy import ABILITIES, Strategy
from bbopt.task import Task

STRATEGIES: dict[str, str] = {
    "random": "bbopt.strategies.random_search:RandomSearch",
    "sobol": "bbopt.strategies.sobol:Sobol",
    "cmaes": "bbopt.strategies.cmaes:CMAES",
    "gp": "bbopt.strategies.gp:GP",
    "turbo": "bbopt.strategies.turbo:Turbo",
    "pfn": "bbopt.strategies.pfn:PFN",
    "amortised-gp": "bbopt.strategies.amortised:Amortised",
    "environment-gp": "bbopt.strategies.environment_gp:EnvironmentGP",
    "preference-gp": "bbopt.strategies.preference_gp:PreferenceGP",
    "cge": "bbopt.zeroth_order.cge:CGE",
    "rge": "bbopt.zeroth_order.rge:RGE",
    "spsa": "bbopt.zeroth_order.spsa:SPSA",
    "openes": "bbopt.zeroth_order.openes:OpenES",
    "rank-sgd": "bbopt.zeroth_order.rank_sgd:RankSGD",
    "deepzero": "bbopt.zeroth_order.deepzero:DeepZero",
}
AUTO = "bbopt.strategies.auto:choose"


@cache
def load(name: str) -> Any:
    """The class behind a name. Raises UsageError, with what is near, for an unknown one."""
    target = STRATEGIES.get(name)
    if target is None:
        near = difflib.get_close_matches(str(name), STRATEGIES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"expected a strategy of {', '.join(['auto', *STRATEGIES])}; got {name!r}{hint}")
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def make(strategy: str | Strategy, task: Task, budget: int | None) -> tuple[Strategy, str]:
    """The strategy for a study, and why this one: an instance as it is, a name with default options, `auto`'s choice.

    >>> from bbopt.space import Float, Space
    >>> make("random", Task(Space(x=Float(0, 1))), None)
    (RandomSearch(), 'chosen by name')
    """
    if strategy == "auto":
        module, _, attribute = AUTO.partition(":")
        chosen: tuple[Strategy, str] = getattr(importlib.import_module(module), attribute)(task, budget)
        return chosen
    if isinstance(strategy, str):
        return load(strategy)(), "chosen by name"
    if isinstance(strategy, type) or not isinstance(strategy, Strategy) or not dataclasses.is_dataclass(strategy):
        raise UsageError(
            f"expected a strategy's name or an instance (a frozen dataclass with init, ask, tell, handles, learns, instant); got {strategy!r}"
        )
    return strategy, "given"


def configured(name: str, options: Mapping[str, Any]) -> Strategy:
    """A strategy by name with options. Raises UsageError for an option that it does not have."""
    kind = load(name)
    known = {item.name for item in dataclasses.fields(kind) if item.init}
    for option in options:
        if option not in known:
            raise UsageError(f"strategy {name}: no option {option!r}; it has {', '.join(sorted(known)) or 'none'}")
    made: Strategy = kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in options.items()})
    return made


def to_json(strategy: Strategy) -> dict[str, Any]:
    """What the store keeps of a strategy."""
    options = {item.name: getattr(strategy, item.name) for item in dataclasses.fields(strategy) if item.init}  # type: ignore[arg-type]
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}
    path = f"{type(strategy).__module__}:{type(strategy).__qualname__}"
    name = next((name for name, target in STRATEGIES.items() if target == path), None)
    return {"name": name, "options": plain} if name else {"class": path, "options": plain}


def from_json(document: Mapping[str, Any]) -> Strategy:
    """The strategy that `to_json` described. Raises UsageError for a class of the user's own: code is not in the store."""
    if "name" in document:
        return configured(document["name"], document["options"])
    raise UsageError(
        f"the study uses a strategy of your own, {document['class']}, which the store cannot make; "
        f"give it again: Optimizer.open(..., strategy={document['class'].rpartition(':')[2]}(...))"
    )


def having(*abilities: str) -> list[str]:
    """Names of the strategies that claim all of these abilities."""
    return [name for name in STRATEGIES if set(abilities) <= load(name).handles]


def check(strategy: Strategy, task: Task) -> None:
    """Raise NotHandled if the task needs an ability that the strategy does not claim."""
    missing = sorted(task.needs() - strategy.handles)
    if missing:
        what = ", ".join(ABILITIES[name] for name in missing)
        others = having(*task.needs())
        hint = (
            f"strategies that handle this task: {', '.join(others)}"
            if others
            else "no built-in strategy handles all of it"
        )
        raise NotHandled(f"{type(strategy).__name__} does not handle {what} ({', '.join(missing)}); {hint}")
