"""The `preference-gp` strategy: slates, verdicts, several raters, and how well it finds optima."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bbopt import Categorical, Float, Int, Optimizer, Space, Task, table
from bbopt.errors import NotHandled, UsageError
from bbopt.query import Key, Query, Ranking, Request, Values
from bbopt.strategies.preference_gp import PreferenceGP
from bbopt.strategies.preference_gp_state import PreferenceState

Array = np.ndarray[Any, np.dtype[Any]]
CENTRE = np.array([0.3, 0.6, 0.8, 0.45])


def ranked(d: int = 2, **more: Any) -> Task:
    return Task(Space({f"x{i}": Float(0.0, 1.0) for i in range(d)}), feedback="ranking", **more)


def worth(X: Array) -> Array:
    """(k,) lower is better; the optimum is at CENTRE."""
    return np.asarray(((np.asarray(X)[:, : len(CENTRE)] - CENTRE[: X.shape[1]]) ** 2).sum(axis=1))


def answer(opt: Optimizer, query: Query, values: Array | None = None, **more: Any) -> None:
    order = np.argsort(worth(np.asarray(query.X)) if values is None else values, kind="stable")
    opt.rank([query.first + int(row) for row in order], **more)


def run(opt: Optimizer, slates: int, n: int = 5) -> Optimizer:
    for _ in range(slates):
        answer(opt, opt.ask_query(n))
    return opt


# -- slates ---------------------------------------------------------------------------------------------------------------


def test_one_row_of_each_slate_was_shown_before_at_places_that_change() -> None:
    """The incumbent, which is among the best of those told."""
    opt = Optimizer(ranked(), "preference-gp", seed=0)
    places, known = [], np.zeros((0, 2))
    for step in range(8):
        query = opt.ask_query(5)
        X = np.asarray(query.X)
        assert len(np.unique(X, axis=0)) == 5
        if step:
            (place,) = np.flatnonzero((X[:, None] == known[None]).all(axis=2).any(axis=1))
            assert (worth(known) < worth(X[place : place + 1])).mean() < 0.2
            places.append(int(place))
        answer(opt, query)
        known = np.concatenate([known, X])
    assert len(set(places)) >= 3, places


@pytest.mark.parametrize("acquisition", ["eubo", "thompson"])
def test_several_open_slates_differ(acquisition: str) -> None:
    """Three people at once: nobody gets a row that another one is looking at, but for the incumbent."""
    opt = run(Optimizer(ranked(3), PreferenceGP(acquisition=acquisition), seed=1), 4)  # type: ignore[arg-type]
    slates = [np.asarray(opt.ask_query(5, owner=f"rater:{name}").X) for name in ("ann", "bob", "cy")]
    rows = np.unique(np.concatenate(slates), axis=0)
    assert len(rows) == 3 * 4 + 1
    apart = np.abs(rows[:, None] - rows[None]).max(axis=2) + np.eye(len(rows))
    assert apart.min() > 1e-3


def test_slate_has_its_own_size_where_none_is_named() -> None:
    opt = Optimizer(ranked(), PreferenceGP(slate=4))
    assert opt.ask_query().size == 4
    assert opt.ask_query(7).size == 7
    assert len({trial.query for trial in Optimizer(ranked(), PreferenceGP(slate=4)).ask(4)}) == 1


@pytest.mark.parametrize("how", ["skip", "tie", "cannot tell", "all bad"])
def test_answers_that_say_nothing_never_stop_a_study_nor_show_the_same_slate(how: str) -> None:
    opt = run(Optimizer(ranked(), "preference-gp", seed=0), 3)
    before, shown = None, []
    for _ in range(6):
        query = opt.ask_query(5)
        rows = [query.first + i for i in range(5)]
        fresh = {row.tobytes() for row in np.asarray(query.X)}
        shown.append(fresh)
        if how == "skip":
            opt.rank([], unseen=rows)
        elif how == "tie":
            opt.rank([rows])
        else:
            opt.rank(rows, verdict=how)  # type: ignore[arg-type]
        best = opt.recommend()
        assert best is not None
        assert before in (None, best.number), "an answer without information moved the best"
        before = best.number
    for one, other in pairwise(shown):
        assert len(one & other) <= 1, "only the incumbent comes again"
    run(opt, 4)
    assert opt.recommend() is not None


def test_people_who_only_ever_skip_get_new_slates() -> None:
    opt = Optimizer(ranked(), "preference-gp", seed=0)
    seen = set()
    for _ in range(5):
        query = opt.ask_query(4)
        seen |= {row.tobytes() for row in np.asarray(query.X)}
        opt.rank([query.first], verdict="cannot tell")
    assert len(seen) == 20
    assert opt.recommend() is None


def test_a_study_goes_on_from_its_file_to_the_bit(tmp_path: Path) -> None:
    """With rankings, a retracted answer and open slates: what a fresh process asks is what this one would have asked."""
    straight = Optimizer(ranked(3), "preference-gp", seed=3, store=tmp_path / "a.db")
    halves = Optimizer(ranked(3), "preference-gp", seed=3, store=tmp_path / "b.db")
    for opt in (straight, halves):
        run(opt, 4)
        opt.retract(12)
        opt.ask_query(3)
        opt.rank([12, 10], unseen=[11, 13, 14])
    halves.close()
    halves = Optimizer.open(tmp_path / "b.db")
    for _ in range(3):
        one, other = straight.ask_query(5), halves.ask_query(5)
        np.testing.assert_array_equal(one.X, other.X)
        for opt, query in ((straight, one), (halves, other)):
            answer(opt, query)
    straight.close()
    halves.close()


def test_hyperparameters_of_other_answers_are_not_used() -> None:
    task, strategy = ranked(), PreferenceGP()
    opt = run(Optimizer(task, strategy, seed=0), 4)
    state = opt._state()
    assert state.warm(())["hash"] == state.memo["hash"]
    X, none = state.X, np.zeros((0, 2))
    request, key = Request(5, 100, none), Key(0, 50)
    fresh = PreferenceState(
        X, state.pairs[:, ::-1], state.weight, state.leader, state.places, state.values, state.failed,
        state.outcomes, state.passed,
    )  # fmt: skip
    stale = PreferenceState(**{**vars(fresh), "memo": state.memo})
    assert stale.warm(()) == {}
    np.testing.assert_array_equal(strategy.ask(task, stale, request, key).X, strategy.ask(task, fresh, request, key).X)


def test_any_increasing_transformation_of_numbers_gives_the_same_points() -> None:
    def points(transform: Callable[[float], float]) -> list[Any]:
        opt = Optimizer(Task(Space(a=Float(0, 1), b=Float(0, 1))), "preference-gp", seed=2)
        for _ in range(14):
            trial = opt.ask()
            opt.tell(trial, transform(worth(np.array([[trial.params["a"], trial.params["b"]]]))[0]))
        return [trial.params for trial in opt.trials()]

    plain = points(float)
    assert points(lambda y: 3.0 * y + 1.0) == plain == points(lambda y: 1e300 * np.arctan(y))


def test_every_kind_of_parameter_and_conditions_in_slates() -> None:
    space = Space(
        x=Float(0, 1), k=Int(0, 20), c=Categorical(["r", "g", "b"]), deep=Float(0, 1, when="k >= 10"),
        heat=Float(0, 1, role="context"),
    )  # fmt: skip
    opt = Optimizer(Task(space, where=["x + k / 20 <= 1.2"], feedback="ranking"), "preference-gp", seed=0)
    cost = {"r": 0.5, "g": 0.0, "b": 0.3}
    for _ in range(9):
        trials = opt.ask(5, context={"heat": 0.5}, fixed={"k": 12} if len(opt.trials()) % 10 else None)
        for trial in trials:
            assert trial.params["x"] + trial.params["k"] / 20 <= 1.2 + 1e-9
        opt.rank(sorted(trials, key=lambda t: (t.params["x"] - 0.4) ** 2 + cost[t.params["c"]] + ((t.params["k"] - 12) / 20) ** 2))  # fmt: skip
    best = opt.recommend()
    assert best is not None and best.params["c"] == "g" and abs(best.params["x"] - 0.4) < 0.2


@pytest.mark.parametrize("acquisition", ["eubo", "thompson"])
def test_small_finite_spaces_are_ranked_to_the_end(acquisition: str) -> None:
    """Fewer points than a slate has rows; then slates of points that were seen before, without repeats in a slate."""
    space = Space(k=Int(0, 2), c=Categorical(["r", "g"]))
    strategy = PreferenceGP(acquisition=acquisition)  # type: ignore[arg-type]
    opt = Optimizer(Task(space, feedback="ranking"), strategy, seed=0)
    for _ in range(6):
        query = opt.ask_query(4)
        X = np.asarray(query.X)
        assert len(np.unique(X, axis=0)) == len(X)
        answer(opt, query, X[:, 0] + (X[:, 1] == 0))
    best = opt.recommend()
    assert best is not None and best.params == {"k": 0, "c": "g"}
    single = Optimizer(Task(Space(k=Int(1, 1)), feedback="ranking"), "preference-gp")
    for _ in range(3):
        query = single.ask_query(4)
        single.rank([query.first], verdict="cannot tell")


def test_rows_that_cannot_work_are_kept_away_from() -> None:
    opt = run(Optimizer(ranked(), "preference-gp", seed=0), 2)
    failed = []
    for _ in range(3):
        query = opt.ask_query(4)
        for number in query.numbers:
            failed.append(np.asarray(query.X)[number - query.first])
            opt.fail(number, "no picture", impossible=True)
    query = opt.ask_query(4)
    for row in failed:
        assert not (np.asarray(query.X) == row).all(axis=1).any()


def test_more_rows_than_pivots_and_many_answers_at_once() -> None:
    """60 slates of 6 told before the first model is made: rows are projected on pivots, and the optimum is near."""
    rng = np.random.default_rng(0)
    task, strategy = ranked(3), PreferenceGP()
    state = strategy.init(task, Key(0, -1))
    for _ in range(60):
        X = np.clip(CENTRE[:3] + rng.choice([0.05, 0.2, 0.5]) * rng.standard_normal((6, 3)), 0.0, 1.0)
        order = np.argsort(worth(X))
        state = strategy.tell(task, state, Query(X), Ranking(tuple((int(i),) for i in order)))
    query = strategy.ask(task, state, Request(6, 360, np.zeros((0, 3))), Key(0, 60))
    assert len(query.X) == 6 and np.sort(worth(np.asarray(query.X)))[1] < 0.01
    best = strategy.recommend(task, state)
    assert best is not None and worth(best[None])[0] < 0.005


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"slate": 1}, "slate as a whole number of at least 2"),
        ({"initial": 0}, "initial as a whole number of at least 1, or None"),
        ({"budget": 2.5}, "budget as a whole number"),
        ({"acquisition": "ei"}, "acquisition 'eubo' or 'thompson'"),
        ({"kernel": "linear"}, "kernel 'rbf' or 'matern52'"),
        ({"caution": 1.5}, "caution as a number from 0 to 1"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        table.configured("preference-gp", options)


def test_what_it_does_not_handle_is_refused_by_name() -> None:
    with pytest.raises(NotHandled, match="unbounded"):
        Optimizer(Task(Space(x=Float(scale=1.0)), feedback="ranking"), "preference-gp")


def test_numbers_of_a_noisy_task_and_rankings_go_together() -> None:
    opt = run(Optimizer(ranked(2), "preference-gp", seed=0), 2)
    query = opt.ask_query(3)
    for row, number in enumerate(query.numbers):
        opt.tell(number, float(worth(np.asarray(query.X)[row : row + 1])[0]))
    run(opt, 3)
    best = opt.recommend()
    assert best is not None and worth(opt.task.space.encode(best.params)[None])[0] < 0.05


def test_a_failing_model_gives_points_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    opt = run(Optimizer(ranked(), "preference-gp", seed=0), 2)

    def broken(*_: Any, **__: Any) -> None:
        raise FloatingPointError("singular")

    monkeypatch.setattr("bbopt.strategies.preference_gp.build", broken)
    trial = opt.ask(4)[0]
    assert "the model failed (singular)" in trial.note


# -- how well -------------------------------------------------------------------------------------------------------------


def regrets(name: str, d: int, slates: int, seeds: int, beta: float) -> list[float]:
    """Worth of the recommended row after slates of 6, ranked by a person with Plackett-Luce noise of beta slate deviations."""
    found = []
    for seed in range(seeds):
        opt, rng = Optimizer(ranked(d), name, seed=seed), np.random.default_rng(seed)
        rows = 0
        while rows < 6 * slates:
            query = opt.ask_query(6)
            rows += query.size
            values = worth(np.asarray(query.X))
            answer(opt, query, values - beta * values.std() * rng.gumbel(size=len(values)))
        best = opt.recommend()
        assert best is not None
        found.append(float(worth(opt.task.space.encode(best.params)[None])[0]))
    return found


def test_six_slates_bring_two_parameters_near_the_optimum() -> None:
    assert np.median(regrets("preference-gp", 2, 6, 3, 0.0)) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_fewer_answers_than_random_search_and_evolution(beta: float) -> None:
    """12 slates of four parameters: a tenth of random search's regret, and below that of CMA-ES (medians of 8)."""
    mine = np.median(regrets("preference-gp", 4, 12, 8, beta))
    assert mine < 0.1 * np.median(regrets("random", 4, 12, 8, beta))
    assert mine < np.median(regrets("cmaes", 4, 12, 8, beta))


def test_values_answers_of_rows_are_learnt_one_by_one() -> None:
    task, strategy = Task(Space(a=Float(0, 1))), PreferenceGP()
    state = strategy.init(task, Key(0, -1))
    query = Query(np.array([[0.1], [0.9]]))
    state = strategy.tell(task, state, query, Values.of([[2.0]], rows=[1]))
    state = strategy.tell(task, state, query, Values.of([[1.0]], rows=[0]))
    assert state.X.ravel().tolist() == [0.9, 0.1]
    assert state.comparisons(exact=True).better.tolist() == [1]
    best = strategy.recommend(task, state)
    assert best is not None and best.tolist() == [0.1]
