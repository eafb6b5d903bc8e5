"""What users rely on in a study: trials, corrections, failures, rankings by several people, contexts, tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from contract.study import measure, points
from contract.tasks import small_finite
from contract.toys import Population

from bbopt.errors import AlreadyTold, UsageError, Waiting
from bbopt.optimizer import Optimizer
from bbopt.parameters import Categorical, Fixed, Float, Int
from bbopt.query import Values
from bbopt.space import Space
from bbopt.task import Constraint, Objective, Task

SINGLE = Task(Space(x=Float(0.0, 1.0)), objectives=(Objective("cost"),))


# -- the loop ------------------------------------------------------------------------------------------------------------


def test_a_trial_is_what_it_says() -> None:
    opt = Optimizer(SINGLE, "random", seed=5, name="first", owner="ann")
    trial = opt.ask()
    assert (trial.number, trial.status, trial.attempt, trial.values, trial.cost) == (0, "open", 1, None, None)
    assert trial.owner == "ann" and 0.0 <= trial.params["x"] <= 1.0 and type(trial.params["x"]) is float
    opt.tell(trial, 2.0, std=0.5, cost=3.0)
    told = opt.trial(0)
    assert (told.status, dict(told.values or {}), dict(told.std), told.cost) == (
        "ok",
        {"cost": 2.0},
        {"cost": 0.5},
        3.0,
    )
    assert told.feasible is True and told.params == trial.params
    assert trial.status == "open", "a trial in hand does not change"
    assert opt.ask(1)[0].number == 1 and isinstance(opt.ask(), type(trial))
    assert opt.ask(owner="bob").owner == "bob"


def test_values_keep_the_users_sign() -> None:
    """Maximised objectives and lower limits are turned inside, nowhere that users look."""
    task = Task(
        Space(x=Float(0.0, 1.0)),
        objectives=(Objective("gain", maximize=True),),
        constraints=(Constraint("load", lower=-1.0, upper=2.0, tolerance=0.5),),
    )
    opt = Optimizer(task, "random")
    for gain, load in ((1.0, 0.0), (9.0, 3.0), (5.0, 2.5), (7.0, -1.6), (4.0, -1.5)):
        opt.tell(opt.ask(), {"gain": gain, "load": load})
    assert [trial.feasible for trial in opt.trials()] == [True, False, True, False, True]
    best = opt.best()
    assert best is not None and best.values == {"gain": 5.0, "load": 2.5}
    assert [trial.number for trial in opt.front()] == [2]


def test_several_objectives_have_a_front() -> None:
    task = Task(Space(x=Float(0.0, 1.0)), objectives=(Objective("cost"), Objective("gain", maximize=True)))
    opt = Optimizer(task, "random")
    for cost, gain in ((1.0, 1.0), (2.0, 3.0), (2.0, 2.0), (0.5, 0.0), (3.0, 3.0), (1.0, 1.0)):
        opt.tell(opt.ask(), {"cost": cost, "gain": gain})
    assert [trial.number for trial in opt.front()] == [0, 1, 3, 5]
    with pytest.raises(UsageError, match="front"):
        opt.best()


def test_nothing_told_has_no_best() -> None:
    opt = Optimizer(SINGLE, "random")
    assert opt.best() is None and opt.recommend() is None and opt.front() == [] and opt.trials() == []
    opt.ask()
    assert opt.best() is None
    opt.fail(0, impossible=True)
    assert opt.best() is None


def test_types_come_back_as_they_were_given() -> None:
    """Whole numbers as int, truth values as bool, choices as the same values; fixed parameters in every point."""
    space = Space(
        i=Int(1, 5), f=Float(0.0, 1.0, step=0.25), c=Categorical((True, 1.5, "1", None, (1, 2))), v=Float(0.0, 1.0, shape=(3,)),
        k=Fixed("steel"),
    )  # fmt: skip
    opt = Optimizer(Task(space), "random")
    for trial in opt.ask(30):
        assert type(trial.params["i"]) is int and type(trial.params["f"]) is float
        assert type(trial.params["c"]) in (bool, float, str, type(None), list, tuple)
        assert trial.params["v"].shape == (3,) and trial.params["k"] == "steel"
        opt.tell(trial, 1.0)


# -- failures ------------------------------------------------------------------------------------------------------------


def test_lost_trials_come_again_before_new_ones() -> None:
    opt = Optimizer(SINGLE, "random", retries=2)
    first, second = opt.ask(2)
    opt.fail(first, "node down")
    assert opt.trial(0).status == "lost" and opt.trial(0).reason == "node down"
    again = opt.ask(2)
    assert [(t.number, t.attempt) for t in again] == [(0, 2), (2, 1)] and again[0].params == first.params
    opt.fail(again[0])
    assert opt.ask().attempt == 3
    opt.fail(0)
    assert opt.trial(0).status == "lost"
    assert opt.ask().number == 3, "the retries are used up"
    opt.tell(0, 1.0)
    assert opt.trial(0).status == "ok", "a late result is still welcome"
    assert second.number == 1


def test_impossible_points_are_never_asked_again() -> None:
    """In a finite space everything else comes, even with noise, where repeats are allowed."""
    case = small_finite(noise=True)
    opt = Optimizer(case.task, "random", seed=1)
    bad = set()
    for trial in opt.ask(9):
        opt.fail(trial, "cannot be built", impossible=True)
        bad.add(points([trial])[0])
    later = opt.ask(200)
    assert not bad & set(points(later))
    assert len(set(points(later))) == 27 - len(bad)


def test_noise_allows_repeats_and_only_noise() -> None:
    case = small_finite(noise=True)
    opt = Optimizer(case.task, "random")
    assert len(opt.ask(100)) == 100


def test_recommend_under_noise_is_a_told_trial() -> None:
    case = small_finite(noise=True)
    opt = Optimizer(case.task, "random")
    rng = np.random.default_rng(0)
    for trial in opt.ask(40):
        opt.tell(trial, measure(case, trial)["objective"] + rng.normal())
    chosen = opt.recommend()
    assert chosen is not None and opt.trial(chosen.number).status == "ok"


# -- points of the user's own --------------------------------------------------------------------------------------------


def test_queued_points_go_first_in_their_order() -> None:
    """Several queued points that one ask hands out are all open; regression: only the first one was."""
    opt = Optimizer(SINGLE, "random")
    for x in (0.25, 0.5, 0.75):
        opt.enqueue({"x": x})
    assert [trial.status for trial in opt.trials()] == ["queued"] * 3
    trials = opt.ask(5)
    assert [trial.params["x"] for trial in trials[:3]] == [0.25, 0.5, 0.75]
    assert [trial.number for trial in trials] == [0, 1, 2, 3, 4]
    assert [trial.status for trial in opt.trials()] == ["open"] * 5
    assert opt.ask().number == 5


def test_told_points_are_not_proposed_again() -> None:
    case = small_finite()
    opt = Optimizer(case.task, "random")
    rows = case.task.feasible.enumerate(100)
    assert rows is not None and len(rows) == 27
    for row in rows[:20]:
        opt.add(case.task.space.decode(row), 1.0)
    assert len(set(points(opt.ask(7))) & set(points(opt.trials()[:20]))) == 0


def test_an_amended_trial_does_not_go_out_again() -> None:
    """Regression: a lost trial that was corrected by amend stayed in line for another attempt."""
    opt = Optimizer(SINGLE, "random", retries=2)
    opt.ask()
    opt.fail(0)
    opt.amend(0, 3.0)
    assert opt.ask().number == 1 and opt.trial(0).status == "ok"


def test_amending_a_cancelled_row_does_not_complete_its_population() -> None:
    """Regression: the row was counted twice, and the population was learnt with a row still open."""
    opt = Optimizer(SINGLE, Population())
    opt.ask(5)
    opt.cancel(0)
    opt.amend(0, 1.0)
    for number in range(1, 4):
        opt.tell(number, 1.0)
    with pytest.raises(Waiting):
        opt.ask()
    opt.tell(4, 1.0)
    assert opt.ask().number == 5


# -- array level ---------------------------------------------------------------------------------------------------------


def test_queries_at_array_level() -> None:
    """Inside units: minimised, feasible at or below zero; the same study can be looked at as trials."""
    task = Task(
        Space(x=Float(0.0, 1.0), y=Float(1.0, 10.0, log=True)),
        objectives=(Objective("gain", maximize=True),),
        constraints=(Constraint("load", lower=1.0, upper=2.0),),
    )
    opt = Optimizer(task, "random")
    query = opt.ask_query(4)
    assert (query.size, query.id, list(query.numbers)) == (4, 0, [0, 1, 2, 3])
    assert np.array_equal(task.space.canonical(np.asarray(query.X)), np.asarray(query.X))
    assert [trial.params for trial in opt.trials()] == [task.space.decode(row) for row in np.asarray(query.X)]
    G = np.array([[-0.5, -0.5], [1.0, -2.0], [-1.0, 0.0], [0.0, -1.0]])
    opt.tell_query(query, Values.of([-1.0, -9.0, -3.0, -2.0], G, cost=np.arange(4.0)))
    assert [(t.values or {})["gain"] for t in opt.trials()] == [1.0, 9.0, 3.0, 2.0]
    assert [(t.values or {})["load"] for t in opt.trials()] == [1.5, 3.0, 1.0, 2.0]
    assert [t.feasible for t in opt.trials()] == [True, False, True, True]
    assert [t.cost for t in opt.trials()] == [0.0, 1.0, 2.0, 3.0]
    best = opt.best()
    assert best is not None and best.number == 2


def test_array_level_and_trials_may_be_mixed() -> None:
    opt = Optimizer(SINGLE, Population())
    query = opt.ask_query()
    assert query.size == 5
    with pytest.raises(Waiting):
        opt.ask_query()
    for number in query.numbers:
        opt.tell(number, float(number))
    second = opt.ask_query()
    opt.tell(second.first, 1.0)
    with pytest.raises(AlreadyTold):
        opt.tell_query(second, np.zeros(5))


def test_a_query_is_the_askers_own(tmp_path: Path) -> None:
    """Regression: with two askers on a file, ask_query returned the other one's query."""
    one = Optimizer(SINGLE, "random", store=tmp_path / "study.db")
    two = Optimizer.open(tmp_path / "study.db")
    theirs = two.ask_query(2)
    mine = one.ask_query(3)
    assert (theirs.id, list(theirs.numbers)) == (0, [0, 1])
    assert (mine.id, list(mine.numbers)) == (1, [2, 3, 4])
    two.enqueue({"x": 0.5})
    assert list(one.ask_query(2).numbers) == [5], "a queued point is a query, and comes first"
    assert list(two.ask_query(2).numbers) == [6, 7]
    one.close()
    two.close()
