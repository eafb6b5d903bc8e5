"""The strategy rank-sgd through ask and rank: its phases, what people may answer, and what is taken back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from contract.hand import content
from hypothesis import given, settings
from hypothesis import strategies as st

import bbopt
from bbopt.errors import NotHandled, UsageError, Waiting
from bbopt.query import DirectionRows, Query
from bbopt.zeroth_order.rank_sgd import RankSGD
from bbopt.zeroth_order.rank_state import RankState

Array = np.ndarray[Any, np.dtype[Any]]
TARGET = np.array([0.7, 0.2, 0.55])


def box(d: int = 3, feedback: str = "ranking", **options: Any) -> bbopt.Task:
    return bbopt.Task(bbopt.Space(x=bbopt.Float(0.0, 1.0, shape=(d,))), feedback=feedback, **options)


def study(strategy: RankSGD | None = None, task: bbopt.Task | None = None, **options: Any) -> bbopt.Optimizer:
    return bbopt.Optimizer(task or box(), strategy or RankSGD(), **options)


def state_of(opt: bbopt.Optimizer) -> RankState:
    found: RankState = opt._state()
    return found


def value(X: Array) -> Array:
    return np.asarray(((X[:, : len(TARGET)] - TARGET) ** 2).sum(axis=1))


def rank(opt: bbopt.Optimizer, query: Query, values: Array | None = None, **options: Any) -> None:
    """By these values, or by the distance to TARGET, ties in groups."""
    f = value(query.X[np.arange(query.size)]) if values is None else np.asarray(values, float)
    groups = [[int(query.first + row) for row in np.flatnonzero(f == level)] for level in np.unique(f)]
    opt.rank(groups, **options)


def phase(query: Query) -> tuple[str, int]:
    return str(query.memo["phase"]), int(query.memo["step"])


def line_search(opt: bbopt.Optimizer) -> Query:
    """Rank gradient slates until a line search comes."""
    for _ in range(20):
        query = opt.ask_query()
        if query.memo["phase"] == "line search":
            return query
        rank(opt, query)
    raise AssertionError("no line search in 20 slates")


def settle(opt: bbopt.Optimizer, query: Query, best: str) -> None:
    """Answer a line search: "x" wins, or something else does, or they are tied."""
    f = np.arange(1.0, query.size + 1.0)
    f[int(query.memo["incumbent"])] = {"x": 0.0, "other": 99.0, "tied": 1.0}[best]
    rank(opt, query, np.ones(query.size) if best == "tied" else f)


# -- phases ----------------------------------------------------------------------------------------------------------------


def test_gradient_slates_then_a_line_search_with_x_at_a_hidden_place() -> None:
    opt = study(RankSGD(slates=2))
    first, second = opt.ask_query(), opt.ask_query()
    assert phase(first) == phase(second) == ("gradient", 0)
    assert first.memo["quorum"] == second.memo["quorum"] == 1
    x = state_of(opt).x
    assert not (np.asarray(first.X) == x).all(axis=1).any()
    rank(opt, second)
    rank(opt, first)
    search = opt.ask_query()
    assert phase(search) == ("line search", 1) and "quorum" not in search.memo
    same = (np.asarray(search.X) == x).all(axis=1)
    assert np.flatnonzero(same).tolist() == [search.memo["incumbent"]]
    assert search.size == 6 and (np.asarray(search.memo["sizes"])[same] == 0).all()
    best = (
        np.asarray(second.X)[np.argmin(value(np.asarray(second.X)))],
        np.asarray(first.X)[np.argmin(value(np.asarray(first.X)))],
    )
    assert any((np.asarray(search.X) == row).all(axis=1).any() for row in best), "the best of the last slate takes part"
    assert phase(opt.ask_query()) == ("gradient", 0), "nobody waits for the line search"


def test_the_incumbent_stands_anywhere_in_the_slate() -> None:
    """Each of 6 places, some 60 of 360 times: chi square with 5 degrees of freedom below its 99.9 % point, 20.5."""
    strategy, task = RankSGD(), box()
    places = np.zeros(6)
    for seed in range(360):
        opt = bbopt.Optimizer(task, strategy, seed=seed)
        places[line_search(opt).memo["incumbent"]] += 1
    assert ((places - 60.0) ** 2 / 60.0).sum() < 20.5


def test_x_moves_only_to_a_row_that_is_strictly_above_it() -> None:
    for best in ("x", "tied", "other"):
        opt = study()
        search = line_search(opt)
        before = state_of(opt)
        settle(opt, search, best)
        after = state_of(opt)
        assert after.phase == "gradient" and after.step == 2
        if best == "other":
            assert after.moves == 1 and not np.array_equal(after.x, before.x)
            assert after.weight == 0.0 and after.since == 2
            assert opt.best() is not None and opt.best().number == search.first + (search.memo["incumbent"] == 0)  # type: ignore[union-attr]
        else:
            assert after.moves == 0 and np.array_equal(after.x, before.x)
            np.testing.assert_array_equal(after.total, before.total)
            assert after.size == pytest.approx(before.size * (0.6 if best == "x" else 1.5))


def test_directions_are_averaged_by_efficiency_while_x_stays() -> None:
    opt = study()
    settle(opt, line_search(opt), "x")
    one = state_of(opt)
    query = opt.ask_query()
    steps = (np.asarray(query.X) - one.x) / query.memo["radius"]
    opt.rank([query.first])  # one best, five worse: weights 5, -1, ..., -1 of 5 edges
    two = state_of(opt)
    weights = np.array([5.0, -1.0, -1.0, -1.0, -1.0, -1.0])
    c, efficiency = 1.5206, 1.9268  # of (6, 1), as calculated by another implementation
    np.testing.assert_allclose(two.total, one.total + efficiency * -(weights @ steps) / 5.0 / c, rtol=2e-4)
    assert two.weight == pytest.approx(one.weight + efficiency, rel=1e-3)


def test_spare_slates_improve_the_direction_if_x_stays_and_are_late_if_it_moves() -> None:
    for best in ("x", "other"):
        opt = study()
        search = line_search(opt)
        spares = [opt.ask_query(owner=f"rater:{i}") for i in range(3)]
        assert {phase(query) for query in spares} == {("gradient", 0)}
        rank(opt, spares[0])
        weight = state_of(opt).weight
        settle(opt, search, best)
        before = state_of(opt)
        rank(opt, spares[1])
        after = state_of(opt)
        if best == "x":
            assert before.weight == weight and phase(opt.ask_query()) == ("line search", 3), "one spare was enough"
            assert after.weight > before.weight
        else:
            assert content(after) == content(before), "late: recorded, and not applied"
        assert not opt.rankings()[-1].ranking.unseen and opt.rankings()[-1].query == spares[1].id


def test_each_of_several_raters_gets_slates_without_waiting() -> None:
    """Three people: gradient slates of their own, one line search to all of them, decided by what they say together."""
    opt = study(RankSGD(slates=3), quorum=3)
    people = ("ann", "bob", "eve")
    for name in people:
        rank(opt, opt.ask_query(owner=name), rater=name)
    search = opt.ask_query()
    assert phase(search)[0] == "line search"
    other = (search.memo["incumbent"] + 1) % 6
    for name in people[:2]:
        rank(opt, search, np.where(np.arange(6) == other, 0.0, 1.0), rater=name)
        assert state_of(opt).moves == 0 and phase(opt.ask_query(owner=name))[0] == "gradient"
    rank(opt, search, np.where(np.arange(6) == search.memo["incumbent"], 0.0, 1.0), rater="eve")
    assert state_of(opt).moves == 1, "two of three"
    np.testing.assert_array_equal(state_of(opt).x, np.asarray(search.X)[other])


# -- answers without an order ----------------------------------------------------------------------------------------------


def test_skipped_slates_change_nothing_and_come_anew() -> None:
    opt = study()
    for wanted in ("gradient", "line search"):
        seen = set()
        for _ in range(5):
            query = opt.ask_query()
            assert query.memo["phase"] == wanted
            before = content(state_of(opt))
            opt.rank([], unseen=list(query.numbers))
            assert content(state_of(opt)) == before
            seen.add(np.asarray(query.X).tobytes())
        assert len(seen) == 5, "another slate, or the same rows in another order"
        rank(opt, opt.ask_query())


def test_a_line_search_in_which_x_was_not_seen_decides_nothing() -> None:
    opt = study()
    query = line_search(opt)
    before = content(state_of(opt))
    x = query.first + int(query.memo["incumbent"])
    opt.rank([number for number in query.numbers if number != x], unseen=[x])
    assert content(state_of(opt)) == before


def test_unseen_rows_teach_nothing_and_the_rest_does() -> None:
    opt = study()
    query = opt.ask_query()
    first = query.first
    opt.rank([first + 2, first], unseen=[first + 1, first + 3, first + 4, first + 5])
    steps = (np.asarray(query.X) - state_of(opt).x) / query.memo["radius"]
    np.testing.assert_allclose(state_of(opt).direction, (steps[0] - steps[2]) / (2 / np.sqrt(np.pi)), rtol=1e-9)


def test_two_slates_without_a_difference_make_the_radius_grow() -> None:
    opt = study()
    radii = []
    for answer in ("tied", "cannot tell", "tied", "ranked", "tied", "tied"):
        query = opt.ask_query()
        while query.memo["phase"] != "gradient":
            query = opt.ask_query()
        radii.append(query.memo["radius"])
        if answer == "tied":
            opt.rank([list(query.numbers)])
        elif answer == "cannot tell":
            opt.rank([query.first], verdict="cannot tell")
        else:
            rank(opt, query)
    last = opt.ask_query().memo
    first = radii[0]
    assert radii == pytest.approx([first, first, 1.5 * first, 1.5 * first, 1.5 * first, 1.5 * first])
    assert last["phase"] == "line search" or last["radius"] == pytest.approx(2.25 * first)
    while last["phase"] == "line search":
        last = opt.ask_query().memo
    assert last["radius"] == pytest.approx(2.25 * first)
    for _ in range(20):
        query = (opt.open_queries() or [opt.ask_query()])[0]
        opt.rank([list(query.numbers)])
    assert state_of(opt).floor <= 1.5 * 0.25


def test_all_bad_makes_radius_and_steps_shrink() -> None:
    """Once x has won a line search it is better than what is all bad; at the start nobody has said that it is any good."""
    opt = study()
    first = opt.ask_query()
    opt.rank([first.first], verdict="all bad")
    second = opt.ask_query()
    assert phase(second) == ("gradient", 0) and second.memo["radius"] == pytest.approx(1.5 * first.memo["radius"])
    rank(opt, second)
    settle(opt, opt.ask_query(), "other")
    third, before = opt.ask_query(), state_of(opt)
    opt.rank([third.first], verdict="all bad")
    fourth, after = opt.ask_query(), state_of(opt)
    assert phase(fourth) == phase(third) and after.moves == 1 and after.weight == 0.0
    assert fourth.memo["radius"] == pytest.approx(third.memo["radius"] / 1.5)
    assert after.size == pytest.approx(before.size / 1.5)
    for _ in range(30):
        opt.rank([opt.ask_query().first], verdict="all bad")
    assert state_of(opt).size == 0.01, "never below what can be seen"


def test_a_tie_with_the_best_is_asked_once_more() -> None:
    """Somebody who only names the worst: each slate of a line search is smaller by one, until x is worst, or best."""
    for last in ("x", "other"):
        opt = study()
        search = line_search(opt)
        x, size, asked = state_of(opt).x, state_of(opt).size, []
        for _ in range(5):
            asked.append(search.size)
            place = int(search.memo["incumbent"])
            rest = [number for number in search.numbers if number != search.first + place]
            if search.size == 2 and last == "x":
                opt.rank([search.first + place])
            elif search.size == 2:
                opt.rank(rest)
            else:
                opt.rank([[search.first + place, *rest[1:]]])
                search = opt.ask_query()
        assert asked == [6, 5, 4, 3, 2]
        assert state_of(opt).moves == (last == "other") and state_of(opt).phase == "gradient"
        assert np.array_equal(state_of(opt).x, x) == (last == "x")
        assert last == "other" or state_of(opt).size in (size, pytest.approx(0.6 * size))


def test_verdicts_on_a_line_search_leave_x_where_it_is() -> None:
    for verdict, times in (("all bad", 1.0), ("cannot tell", 1.5)):
        opt = study()
        query = line_search(opt)
        before = state_of(opt)
        opt.rank([query.first], verdict=verdict)  # type: ignore[arg-type]
        assert state_of(opt).moves == 0 and state_of(opt).phase == "gradient"
        assert state_of(opt).size == pytest.approx(times * before.size)


def test_a_win_may_have_to_be_confirmed() -> None:
    for again in ("other", "x"):
        opt = study(RankSGD(confirm=2))
        search = line_search(opt)
        f = np.where(np.arange(6) < 3, np.arange(6.0), 4.0)
        f[int(search.memo["incumbent"])] = 3.5
        rank(opt, search, f)
        assert state_of(opt).moves == 0 and state_of(opt).wins == 1
        second = opt.ask_query()
        assert phase(second) == ("line search", 2)
        above = [i for i in range(3) if i != search.memo["incumbent"]]
        rows = {row.tobytes() for row in np.asarray(search.X)[above]} | {state_of(opt).x.tobytes()}
        assert {row.tobytes() for row in np.asarray(second.X)} == rows, "those that beat x, and x"
        assert phase(opt.ask_query()) == ("gradient", 0)
        settle(opt, second, again)
        assert state_of(opt).moves == (again == "other") and state_of(opt).wins == 0
        assert state_of(opt).phase == "gradient" and state_of(opt).step == 3


# -- taking back -----------------------------------------------------------------------------------------------------------


def test_undo_restores_incumbent_step_radius_and_direction_exactly() -> None:
    """After each of 24 answers of all kinds: the state before it is the state after it was taken back, to the bit."""
    opt, rng = study(RankSGD(slates=2)), np.random.default_rng(0)
    for turn in range(24):
        query = opt.ask_query()
        before = content(state_of(opt))
        answer = rng.integers(5)
        if answer == 0:
            opt.rank([], unseen=list(query.numbers))
        elif answer == 1:
            opt.rank([query.first], verdict="all bad" if turn % 2 else "cannot tell")
        else:
            rank(opt, query)
        after = content(state_of(opt))
        opt.retract(query.first)
        assert content(state_of(opt)) == before
        assert opt.ask_query().memo["phase"] == "gradient" or state_of(opt).phase == "line search"
        for spare in opt.open_queries():
            if spare.id != query.id:
                for number in spare.numbers:
                    opt.cancel(number)
        if answer == 0:
            opt.rank([], unseen=list(query.numbers))
        elif answer == 1:
            opt.rank([query.first], verdict="all bad" if turn % 2 else "cannot tell")
        else:
            rank(opt, query)
        assert content(state_of(opt)) == after


def test_undo_cancels_what_depends_on_the_answer_and_no_more() -> None:
    opt = study()
    first = opt.ask_query()
    rank(opt, first)
    search, spare = opt.ask_query(), opt.ask_query()
    opt.retract(first.first)
    assert {query.id for query in opt.open_queries()} == {first.id, spare.id}
    assert state_of(opt).phase == "gradient"
    rank(opt, spare)
    again = opt.ask_query()
    assert phase(again) == phase(search) == ("line search", 1)
    settle(opt, again, "other")
    with pytest.raises(UsageError, match="retract"):
        opt.retract(spare.first)


# -- values ----------------------------------------------------------------------------------------------------------------


def test_values_are_asked_once_and_waited_for() -> None:
    opt = study(task=box(feedback="values"))
    trials = opt.ask(6)
    with pytest.raises(Waiting):
        opt.ask()
    opt.tell_many([(trial, float(value(trial.params["x"][None])[0])) for trial in trials])
    search = opt.ask_query()
    assert search.memo["incumbent"] >= 0, "the value of the start is unknown"
    opt.tell_query(search, value(np.asarray(search.X)))
    x = state_of(opt).x
    assert len(state_of(opt).known) == 1
    for _ in range(10):
        query = opt.ask_query()
        assert query.memo.get("incumbent", -1) == -1 and not (np.asarray(query.X) == x).all(axis=1).any()
        opt.tell_query(query, value(np.asarray(query.X)))
    assert state_of(opt).known[0] == min(trial.values["objective"] for trial in opt.trials() if trial.query % 2)  # type: ignore[index]


@pytest.mark.parametrize("task", [box(4, "values"), box(4), bbopt.Task(bbopt.Space(x=bbopt.Float(scale=1.0, shape=(4,))))],
                         ids=["values in a box", "rankings in a box", "unbounded values"])  # fmt: skip
@pytest.mark.parametrize("change", [lambda f: 3.0 * f + 1.0, lambda f: f**3, lambda f: np.unique(f, return_inverse=True)[1]],
                         ids=["3 f + 1", "f cubed", "ranks"])  # fmt: skip
def test_only_the_order_counts(task: bbopt.Task, change: Any) -> None:
    """Every row of 40 slates is bit-identical under increasing maps of f. (Ranks are those of one slate: they are told as
    rankings, since values of different slates are compared, too.)"""
    asked: list[list[Array]] = []
    for seen in (lambda f: f, change):
        opt, rows = bbopt.Optimizer(task, RankSGD(), seed=1), []
        by_order = task.feedback == "ranking"
        if not by_order and change(np.array([3.0, 3.0]))[0] == 0:
            return
        for _ in range(40):
            query = opt.ask_query()
            rows.append(np.asarray(query.X))
            f = np.asarray(seen(value(rows[-1])), float)
            if by_order:
                rank(opt, query, f)
            else:
                opt.tell_query(query, f)
        asked.append(rows)
    for one, two in zip(*asked, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_value_task_may_be_ranked() -> None:
    """No point may be asked twice there: x is shown from a millionth of the range away."""
    opt = study(task=box(feedback="values"))
    for _ in range(24):
        query = opt.ask_query()
        if query.memo["phase"] == "line search":
            assert np.abs(np.asarray(query.X)[query.memo["incumbent"]] - state_of(opt).x).max() <= 1e-6
        rank(opt, query)
    assert state_of(opt).moves > 5 and value(state_of(opt).x[None])[0] < 1e-3
    rows = [trial.params["x"].tobytes() for trial in opt.trials()]
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("impossible", [False, True], ids=["lost", "impossible"])
@pytest.mark.parametrize("feedback", ["values", "noise"])
def test_failed_rows_hold_nothing_up(impossible: bool, feedback: str) -> None:
    """A third of all rows fails, and where x < 0.25: the best point of the rest is found."""
    objective = bbopt.Objective("objective", noise="unknown" if feedback == "noise" else None)
    task, rng = box(feedback="values", objectives=[objective]), np.random.default_rng(4)
    opt = bbopt.Optimizer(task, RankSGD(), retries=0)
    for _ in range(30):
        query = opt.ask_query()
        X = np.asarray(query.X)
        for number, row, f in zip(query.numbers, X, value(X), strict=True):
            if row[0] < 0.25 or rng.random() < 0.3:
                opt.fail(number, impossible=impossible)
            else:
                opt.tell(number, float(f))
    best = opt.recommend()
    assert best is not None and value(best.params["x"][None])[0] < 0.02


def test_a_start_without_a_value_is_left_for_one_that_has_any() -> None:
    opt = bbopt.Optimizer(box(feedback="values"), RankSGD(), retries=0)
    for _ in range(12):
        query = opt.ask_query()
        X = np.asarray(query.X)
        for i, (number, f) in enumerate(zip(query.numbers, value(X), strict=True)):
            if i == query.memo.get("incumbent", -1) and state_of(opt).moves == 0:
                opt.fail(number)
            else:
                opt.tell(number, float(f))
    assert state_of(opt).moves > 0 and len(state_of(opt).known)


# -- spaces and tasks ------------------------------------------------------------------------------------------------------


def search_by_ranks(opt: bbopt.Optimizer, function: Any, slates: int) -> bbopt.Trial:
    for _ in range(slates):
        query = opt.ask_query()
        rank(opt, query, np.array([function(opt.trial(number).params) for number in query.numbers]))
    best = opt.best()
    assert best is not None
    return best


def test_a_corner_is_found_and_held() -> None:
    weights = np.array([1.0, -2.0, 0.5, 3.0])
    opt = study(task=box(4))
    best = search_by_ranks(opt, lambda p: float(p["x"] @ weights), 40)
    assert np.abs(best.params["x"] - [0.0, 1.0, 0.0, 0.0]).max() < 0.02
    for trial in opt.trials():
        assert trial.params["x"].min() >= 0.0 and trial.params["x"].max() <= 1.0


def test_far_away_without_bounds() -> None:
    """300 scales away, the start expects 1: steps grow."""
    task = bbopt.Task(bbopt.Space(x=bbopt.Float(scale=1.0, shape=(5,))), feedback="ranking")
    best = search_by_ranks(study(task=task), lambda p: float(((p["x"] - 300.0) ** 2).sum()), 60)
    assert np.abs(best.params["x"] - 300.0).max() < 3.0


def test_conditions_are_followed_along_their_border() -> None:
    """min (x - 1)^2 + (y - 1)^2 with x + y <= 1: 0.5 at (0.5, 0.5)."""
    task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1), y=bbopt.Float(0, 1)), feedback="ranking", where=["x + y <= 1"])
    best = search_by_ranks(study(task=task), lambda p: (p["x"] - 1.0) ** 2 + (p["y"] - 1.0) ** 2, 40)
    assert (best.params["x"] - 1.0) ** 2 + (best.params["y"] - 1.0) ** 2 < 0.515


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_constraints_of_any_unit_are_met(unit: float) -> None:
    """min x + y with x y >= 1/4 in the box [0, 1]^2: 1 at (0.5, 0.5)."""
    task = box(2, "values", constraints=[bbopt.Constraint("area", lower=0.25 * unit)])
    result = bbopt.minimize(
        lambda p: {"objective": float(p["x"].sum()), "area": unit * float(p["x"].prod())},
        task, budget=300, strategy="rank-sgd", progress=False,
    )  # fmt: skip
    assert result.best is not None and result.best.values is not None and result.best.values["objective"] < 1.05


def test_other_columns_stay_where_the_start_has_them() -> None:
    space = bbopt.Space(x=bbopt.Float(0, 1), n=bbopt.Int(0, 9), g=bbopt.Categorical(("a", "b", "c"), ordered=True))
    opt = study(task=bbopt.Task(space, feedback="ranking"))
    queued = opt.enqueue({"x": 0.2, "n": 7, "g": "c"})
    assert opt.ask_query().numbers == range(queued.number, queued.number + 1)
    opt.rank([queued])
    best = search_by_ranks(opt, lambda p: (p["x"] - 0.6) ** 2, 20)
    assert {(trial.params["n"], trial.params["g"]) for trial in opt.trials()} == {(7, "c")}
    assert best.params["x"] == pytest.approx(0.6, abs=0.02)


def test_without_a_continuous_column_random_rows_are_compared() -> None:
    task = bbopt.Task(bbopt.Space(n=bbopt.Int(0, 30), m=bbopt.Int(0, 20)), feedback="ranking")
    opt = study(task=task)
    first = opt.ask_query()
    assert phase(first)[0] == "line search" and first.size == 6
    with pytest.raises(Waiting):
        opt.ask_query()
    rank(opt, first, np.array([opt.trial(i).params["n"] for i in first.numbers]))
    best = search_by_ranks(opt, lambda p: abs(p["n"] - 15) + abs(p["m"] - 10), 30)
    assert abs(best.params["n"] - 15) + abs(best.params["m"] - 10) <= 4


@pytest.mark.parametrize("ability", ["categorical", "conditional", "objectives", "context"])
def test_what_has_no_gradient_is_refused_by_name(ability: str) -> None:
    x = bbopt.Float(0, 1)
    task = {
        "categorical": bbopt.Task(bbopt.Space(x=x, c=bbopt.Categorical(("a", "b")))),
        "conditional": bbopt.Task(bbopt.Space(x=x, y=bbopt.Float(0, 1, when="x >= 0.5"))),
        "objectives": bbopt.Task(bbopt.Space(x=x), objectives=[bbopt.Objective("a"), bbopt.Objective("b")]),
        "context": bbopt.Task(bbopt.Space(x=x, c=bbopt.Float(0, 1, role="context"))),
    }[ability]
    with pytest.raises(NotHandled, match=ability):
        bbopt.Optimizer(task, "rank-sgd")


def test_points_of_the_users_own_are_the_start_and_then_challengers() -> None:
    for feedback in ("ranking", "values"):
        opt = study(task=box(feedback=feedback))
        for x in ([0.1, 0.1, 0.1], [0.6, 0.3, 0.5], [0.9, 0.9, 0.9]):
            opt.add({"x": x}, float(value(np.array([x]))[0]))
        assert state_of(opt).x.tolist() == [0.6, 0.3, 0.5], "the best of them"
        query = opt.ask_query()
        opt.add({"x": TARGET}, 0.0)  # while a slate is out
        for _ in range(2):
            if feedback == "ranking":
                rank(opt, query)
            else:
                opt.tell_query(query, value(np.asarray(query.X)))
            query = opt.ask_query()
        np.testing.assert_array_equal(state_of(opt).x, TARGET)


def test_a_queued_point_of_a_ranking_study_takes_part_in_the_next_line_search() -> None:
    opt = study()
    rank(opt, opt.ask_query())
    mine = opt.enqueue({"x": TARGET})
    assert opt.ask_query().numbers == range(mine.number, mine.number + 1)
    opt.rank([mine])
    search = opt.ask_query()
    assert search.size == 6 and (np.asarray(search.X) == TARGET).all(axis=1).sum() == 1
    rank(opt, search)
    np.testing.assert_array_equal(state_of(opt).x, TARGET)
    assert not len(state_of(opt).own)


def test_wide_slates_are_kept_as_recipes() -> None:
    """A latent image: 4 x 64 x 64 numbers. The gradient slate is its base and a seed; no memo has an entry per number."""
    d = 16_384
    opt = study(task=bbopt.Task(bbopt.Space(x=bbopt.Float(scale=1.0, shape=(4, 64, 64))), feedback="ranking"))
    weights = np.random.default_rng(0).standard_normal(d)
    start = float(state_of(opt).x @ weights)
    for _ in range(6):
        query = opt.ask_query()
        if query.memo["phase"] == "gradient":
            assert isinstance(query.X, DirectionRows) and query.X.shape == (6, d)
        assert sum(np.size(item) for item in query.memo.values()) < 20
        rank(opt, query, query.X[np.arange(query.size)] @ weights)
    assert state_of(opt).moves == 3
    best = opt.best()
    assert best is not None and float(best.params["x"].ravel() @ weights) < start - 3.0


def test_steps_of_one_over_root_t_without_a_line_search() -> None:
    opt = study(RankSGD(line_search=False, slate=8), task=box())
    for _ in range(60):
        query = opt.ask_query()
        assert query.memo["phase"] == "gradient"
        rank(opt, query)
    assert state_of(opt).moves == 60 and value(state_of(opt).x[None])[0] < 0.01


@pytest.mark.parametrize(
    "options",
    [{"slate": 1}, {"slate": 2.0}, {"slates": 0}, {"confirm": 0}, {"candidates": 0}, {"size": 0.0}, {"radius": -1.0}, {"least": 0.0},
     {"factor": 1.0}, {"factor": 0.0}, {"line_search": 1}, {"orthogonal": "yes"}],
    ids=str,
)  # fmt: skip
def test_options_out_of_range_are_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"RankSGD: expected {next(iter(options))}"):
        RankSGD(**options)


# -- anything goes ---------------------------------------------------------------------------------------------------------

ANSWERS = st.lists(
    st.tuples(
        st.sampled_from(["full", "coarse", "some", "skip", "all bad", "cannot tell", "undo", "spare"]),
        st.integers(0, 2**16),
    ),
    max_size=25,
)


@given(ANSWERS, st.sampled_from([RankSGD(), RankSGD(slate=3, slates=2, confirm=2), RankSGD(slate=2)]))
@settings(max_examples=100)
def test_any_answers_in_any_order(answers: list[tuple[str, int]], strategy: RankSGD) -> None:
    """Whatever people do: asking works, x is a row that was ranked strictly above the x before, rows are within bounds, the
    steps of what is asked never fall behind those of what was decided, and the fold of the log is the live state."""
    opt = bbopt.Optimizer(box(), strategy, seed=3)
    for kind, number in answers:
        rng = np.random.default_rng(number)
        open_queries = opt.open_queries()
        if kind == "spare" or not open_queries:
            opt.ask_query()
            open_queries = opt.open_queries()
        query = open_queries[number % len(open_queries)]
        rows = rng.permutation(query.size).tolist()
        before = state_of(opt)
        match kind:
            case "full":
                opt.rank([query.first + row for row in rows])
            case "coarse":
                cut = 1 + number % query.size
                opt.rank([[query.first + row for row in rows[:cut]], [query.first + row for row in rows[cut:]]])
            case "some":
                cut = number % query.size
                opt.rank([query.first + row for row in rows[cut:]], unseen=[query.first + row for row in rows[:cut]])
            case "skip":
                opt.rank([], unseen=list(query.numbers))
            case "all bad" | "cannot tell":
                opt.rank([query.first], verdict=kind)
            case "undo" if opt.rankings():
                try:
                    opt.retract(opt.rankings()[-1].first)
                except UsageError:
                    continue
                continue
            case _:
                continue
        after = state_of(opt)
        if not np.array_equal(before.x, after.x):
            assert query.memo["phase"] == "line search" and query.memo["step"] == before.step
            ranking = opt.rankings()[-1].ranking
            place = {row: i for i, group in enumerate(ranking.groups) for row in group}
            won = int(np.flatnonzero((np.asarray(query.X) == after.x).all(axis=1))[0])
            assert place[won] < place[int(query.memo["incumbent"])]
            assert after.step == before.step + 1 == after.since
        assert np.isfinite(after.total).all() and after.size > 0.0 and after.since <= after.gradient_step <= after.step
    live = content(state_of(opt))
    opt._forget()
    opt.statuses()  # reads the log anew
    assert content(state_of(opt)) == live
    X = np.concatenate([np.asarray(query.X) for query in opt.open_queries()] or [np.zeros((0, 3))])
    assert ((X >= 0.0) & (X <= 1.0)).all()
    opt.ask_query()
