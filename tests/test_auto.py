"""The table of strategies, and the choice that `auto` makes."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest

from bbopt import table
from bbopt.errors import NotHandled, UsageError
from bbopt.parameters import Categorical, Float, Int, Parameter
from bbopt.query import Answer, Key, Query, Request
from bbopt.space import Space
from bbopt.strategies.auto import choose
from bbopt.strategies.cmaes import CMAES
from bbopt.strategies.random_search import RandomSearch
from bbopt.strategies.sobol import Sobol
from bbopt.strategy import Strategy
from bbopt.task import Constraint, Objective, Task

X: dict[str, Parameter] = {"x": Float(0, 1), "y": Float(0, 1)}


@dataclass(frozen=True)
class Own:
    """A strategy that is in no table."""

    width: float = 0.5
    bounds: tuple[float, ...] = (1.0, 2.0)

    handles: ClassVar[frozenset[str]] = frozenset()
    learns: ClassVar[Literal["rows", "queries"]] = "rows"
    instant: ClassVar[bool] = True

    def init(self, task: Task, key: Key) -> None:
        return None

    def ask(self, task: Task, state: None, request: Request, key: Key) -> Query:
        return Query(task.feasible.sample(request.n, key.rng("rows")))

    def tell(self, task: Task, state: None, query: Query, answer: Answer) -> None:
        return None


@pytest.mark.parametrize(
    ("task", "budget", "name", "words"),
    [
        (Task(Space(X)), 60, "gp", "few evaluations"),
        (Task(Space(X)), None, "gp", "budget not given"),
        (Task(Space(X, ), constraints=(Constraint("g", upper=0.0),)), 100, "gp", "Gaussian process"),
        (Task(Space(**X, k=Categorical(["a", "b"]))), 100, "gp", "Gaussian process"),
        (Task(Space(X), constraints=tuple(Constraint(f"g{i}", upper=0.0) for i in range(15))), 30, "gp", "Gaussian process"),
        (Task(Space(X)), 20_000, "cmaes", "20000 evaluations"),
        (Task(Space(x=Float(0, 1, shape=(200,)))), 1000, "gp", "200 columns and 1000 evaluations"),
        (Task(Space(x=Float(0, 1, shape=(201,)))), 1000, "cmaes", "201 columns"),
        (Task(Space(x=Float(0, 1, shape=(300,)))), 100, "cmaes", "300 columns"),
        (Task(Space(**X, free=Float(scale=1.0))), 100, "cmaes", "no bounds"),
        (Task(Space(X), feedback="ranking"), 100, "preference-gp", "few rankings .2 columns, 100 rows to be shown"),
        (Task(Space(X), feedback="ranking"), None, "preference-gp", "budget not given"),
        (Task(Space(x=Float(0, 1, shape=(6,))), feedback="ranking"), 1200, "preference-gp", "1200 rows"),
        (Task(Space(x=Float(0, 1, shape=(7,))), feedback="ranking"), 120, "rank-sgd", "7 columns"),
        (Task(Space(x=Float(0, 1, shape=(6,))), feedback="ranking"), 1201, "rank-sgd", "6 columns"),
        (Task(Space(x=Float(0, 1, shape=(12,))), feedback="ranking"), 120, "rank-sgd", "descent by rankings, of 12 columns"),
        (Task(Space(x=Float(0, 1, shape=(12,)), k=Int(0, 3)), feedback="ranking"), 120, "preference-gp", "moves no choices, steps"),
        (Task(Space(**X, k=Categorical(["a", "b"])), feedback="ranking"), None, "preference-gp", "moves no choices"),
        (Task(Space(**X, heat=Float(0, 1, role="context")), feedback="ranking"), None, "preference-gp", "or contexts"),
        (Task(Space(**X, free=Float(scale=1.0)), feedback="ranking"), 100, "rank-sgd", "3 columns"),
        (Task(Space(x=Float(0, 1, shape=(30,)), k=Int(0, 3)), feedback="ranking"), 120, "cmaes", "order of rows alone"),
        (Task(Space(X), feedback="ranking"), 50_000, "cmaes", "order of rows alone"),
        (Task(Space(x=Float(0, 1, shape=(200,))), feedback="ranking"), 50_000, "rank-sgd", "50000 rows to be shown"),
        (Task(Space(X), feedback="ranking", objectives=(Objective("a"), Objective("b"))), 100, "sobol", "objectives"),
        (Task(Space(X), objectives=(Objective("a"), Objective("b"))), 100, "sobol", r"several objectives \(objectives\)"),
        (Task(Space(**X, mesh=Float(0, 1, role="fidelity"))), 100, "sobol", r"fidelity parameters \(fidelity\)"),
        (Task(Space(x=Float(0, 1, shape=(5000,)))), 100, "sobol", "5000 columns are too many"),
        (Task(Space(x=Float(0, 1, shape=(30_000,)))), 100, "random", "30000 columns are too many"),
    ],
)  # fmt: skip
def test_choice_is_able_and_says_why(task: Task, budget: int | None, name: str, words: str) -> None:
    strategy, reason = choose(task, budget)
    table.check(strategy, task)
    assert table.to_json(strategy)["name"] == name
    assert reason.startswith(f"{name}: ")
    assert re.search(words, reason), reason


def test_auto_through_the_table_and_the_budget_reaches_the_model() -> None:
    strategy, reason = table.make("auto", Task(Space(X)), 77)
    assert table.to_json(strategy)["options"]["budget"] == 77 and "77 evaluations" in reason
    strategy, reason = table.make("auto", Task(Space(X), feedback="ranking"), 77)
    assert table.to_json(strategy)["options"]["budget"] == 77 and "77 rows" in reason


def test_the_choice_for_rankings_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "from bbopt import Float, Optimizer, Space, Task\n"
        "opt = Optimizer(Task(Space(x=Float(0, 1)), feedback='ranking'))\n"
        "for _ in range(3):\n    trials = opt.ask(4)\n    opt.rank(sorted(trials, key=lambda trial: trial.params['x']))\n"
        "print(type(opt.strategy).__name__, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["PreferenceGP", "False"]


@pytest.mark.parametrize("name", table.STRATEGIES)
def test_every_name_makes_a_strategy_that_is_stored_and_read_back(name: str) -> None:
    strategy, reason = table.make(name, Task(Space(X)), None)
    assert isinstance(strategy, Strategy) and reason == "chosen by name"
    assert table.to_json(strategy)["name"] == name
    assert table.from_json(table.to_json(strategy)) == strategy


def test_options_survive() -> None:
    document = table.to_json(CMAES(population=9, active=False))
    assert document == {"name": "cmaes", "options": {"population": 9, "step_size": 0.3, "active": False}}
    assert table.from_json(document) == CMAES(population=9, active=False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("cmeas", r"expected a strategy of auto, .*; got 'cmeas'; did you mean 'cmaes'\?"),
        ("nothing like it", "expected a strategy of auto, random"),
        (CMAES, "an instance"),
        (3, "an instance"),
    ],
)
def test_what_is_no_strategy(given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        table.make(given, Task(Space(X)), None)


def test_unknown_option_is_named() -> None:
    with pytest.raises(UsageError, match=r"no option 'popsize'; it has active, population, step_size"):
        table.configured("cmaes", {"popsize": 3})


def test_a_class_of_the_users_own_must_be_given_again() -> None:
    document = table.to_json(Own(width=0.25))
    assert document == {"class": f"{Own.__module__}:Own", "options": {"width": 0.25, "bounds": [1.0, 2.0]}}
    with pytest.raises(UsageError, match=r"give it again: .*strategy=Own\(\.\.\.\)"):
        table.from_json(document)


def test_a_missing_ability_is_refused_with_those_that_have_it() -> None:
    task = Task(Space(X), feedback="ranking")
    with pytest.raises(
        NotHandled, match=r"Own does not handle answers that are rankings \(rankings\); .*: random, sobol, cmaes"
    ):
        table.check(Own(), task)
    for strategy in (RandomSearch(), Sobol(), CMAES()):
        table.check(strategy, task)
