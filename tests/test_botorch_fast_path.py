"""Every call of BoTorch's optimizer takes its batched way: a peer is not slowed down by how it is called, nor is an ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bbopt import Constraint, Float, Objective, Optimizer, Space, Task, bench_ask, bench_preference
from bbopt.compare.peers import find
from bbopt.compare.view import View
from bbopt.strategies.gp import GP

SQUARE = Space(x=Float(0.0, 1.0), y=Float(0.0, 1.0))


def one_shot() -> None:
    opt = Optimizer(Task(SQUARE), GP(initial=4, acquisition="one-shot-kg"), seed=0)
    for _ in range(5):
        trial = opt.ask()
        opt.tell(trial, trial.params["x"] ** 2 + trial.params["y"])


def peer(*constraints: Constraint) -> None:
    view = View(Task(SQUARE, (Objective("f"),), constraints))
    search = find("botorch").start(view, 0, 12)
    for _ in range(8):
        params = search.ask()
        metrics = {"f": params["x"] ** 2 + params["y"], **{c.name: 0.5 - params["x"] for c in constraints}}
        search.tell(params, view.result(params, metrics))


CALLS: dict[str, Callable[[], Any]] = {
    "one-shot knowledge gradient": one_shot,
    "the loop of bbopt compare": peer,
    "the same with a constraint": lambda: peer(Constraint("g", upper=0.0)),
    "the loop of bench-ask": lambda: bench_ask.botorch(bench_ask.Case(12, 2, 1, 1.0)),
    "the loop of bench-preference": lambda: bench_preference.botorch(2),
}


@pytest.mark.parametrize("name", CALLS)
def test_nothing_speaks_against_the_fast_path(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gen = pytest.importorskip("botorch.generation.gen")
    asked, found = gen.get_reasons_against_fast_path, []

    def reasons(*args: Any, **options: Any) -> list[str]:
        found.append(asked(*args, **options))
        return found[-1]  # type: ignore[no-any-return]

    monkeypatch.setattr(gen, "get_reasons_against_fast_path", reasons)
    CALLS[name]()
    assert found and not any(found), found


def test_a_deadline_or_an_unusual_option_would() -> None:
    gen = pytest.importorskip("botorch.generation.gen")
    assert gen.get_reasons_against_fast_path("L-BFGS-B", True, {"maxiter": 9}, None) == []
    assert gen.get_reasons_against_fast_path("L-BFGS-B", True, {}, 1.0)
    assert gen.get_reasons_against_fast_path("L-BFGS-B", True, {"gtol": 1.0}, None)
