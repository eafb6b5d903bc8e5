"""Simulated people: their noise has the distribution it is named after, and what they say of a slate is what they saw."""

from __future__ import annotations

import itertools
import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import problems
from bbopt import Optimizer
from bbopt.errors import UsageError
from bbopt.query import Ranking
from problems.people import FORMS, Person

RNG = np.random.default_rng


def careful(**options: Any) -> Person:
    return Person(float, **{"noise": "none", **options})


def sizes(answer: Ranking) -> list[int]:
    return [len(group) for group in answer.groups]


# --- noise -----------------------------------------------------------------------------------------------------------


def test_plackett_luce_rankings_have_their_closed_form_probabilities() -> None:
    """Chi-square over all 24 orders of four items; the 0.9999 quantile with 23 degrees of freedom is 57.1."""
    u, level, n = np.array([1.0, -0.4, 0.3, 2.0]), 0.7, 8_000
    strength = np.exp(u / (u.std() * level))
    person, rng = Person(float, level=level), RNG(5)
    counts = dict.fromkeys(itertools.permutations(range(4)), 0)
    for _ in range(n):
        counts[tuple(row for (row,) in person.order(u, rng).groups)] += 1
    total = 0.0
    for order, count in counts.items():
        chance = math.prod(strength[row] / strength[list(order[place:])].sum() for place, row in enumerate(order))
        total += (count - n * chance) ** 2 / (n * chance)
    assert total < 57.1


def test_thurstone_pairs_have_their_closed_form_probability() -> None:
    """P(i before j) = Phi((u_i - u_j) / (sqrt 2 s level)), in a slate of three; within four standard errors."""
    u, level, n = np.array([0.0, 0.5, 1.5]), 0.8, 5_000
    person, rng = Person(float, noise="thurstone", level=level), RNG(6)
    wins = np.zeros((3, 3))
    for _ in range(n):
        order = [row for (row,) in person.order(u, rng).groups]
        for better, worse in itertools.combinations(order, 2):
            wins[better, worse] += 1
    for i, j in ((1, 0), (2, 0), (2, 1)):
        chance = 0.5 * (1 + math.erf((u[i] - u[j]) / (2 * u.std() * level)))
        assert abs(wins[i, j] / n - chance) < 4 * math.sqrt(chance * (1 - chance) / n)


@pytest.mark.parametrize("noise", ["plackett-luce", "thurstone", "none"])
def test_answers_are_a_function_of_the_generator_and_noise_scales_with_the_slate(noise: Any) -> None:
    u = RNG(0).standard_normal(7)
    person = Person(float, noise=noise, level=1.0)
    answers = [person.order(u, RNG(seed)) for seed in range(20)]
    assert answers == [person.order(u, RNG(seed)) for seed in range(20)]
    assert answers == [person.order(1e6 * u + 3.0, RNG(seed)) for seed in range(20)]
    assert (len(set(answers)) == 1) == (noise == "none")


def test_the_first_place_on_the_page_has_an_advantage() -> None:
    """Slate sd 0.5: a bias of 2.5 gives the first of two 0.625 and takes as much from the second."""
    assert careful(bias=2.5).order([0.0, 1.0], RNG(0)).groups == ((0,), (1,))
    assert careful(bias=1.5).order([0.0, 1.0], RNG(0)).groups == ((1,), (0,))


# --- what is told ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "m", "expected"),
    [
        ("full", 5, [1, 1, 1, 1, 1]),
        ("top 1", 4, [1, 3]),
        ("top 3", 8, [1, 1, 1, 5]),
        ("top 5", 4, [1, 1, 1, 1]),
        ("best and worst", 8, [1, 6, 1]),
        ("best and worst", 2, [1, 1]),
        ("worst", 4, [3, 1]),
        ("bins 2-4-2", 8, [2, 4, 2]),
        ("bins 2-4-2", 4, [1, 2, 1]),
        ("bins 3-9-3", 15, [3, 9, 3]),
        ("bins 4-4", 8, [4, 4]),
    ],
)
def test_forms_of_answers(form: str, m: int, expected: list[int]) -> None:
    u = RNG(m).permutation(np.arange(float(m)))
    answer = careful(form=form).order(u, RNG(0))
    assert sizes(answer) == expected
    flat = [row for group in answer.groups for row in sorted(group, key=lambda row: -u[row])]
    assert flat == np.argsort(-u).tolist(), "better groups hold better items"


def test_what_looks_alike_is_tied_and_no_form_separates_it() -> None:
    u = [5.0, 4.8, 4.6, 1.0, 0.9]
    assert careful(jnd=0.5).order(u, RNG(0)).groups == ((0, 1, 2), (3, 4))
    assert careful(jnd=0.3).order(u, RNG(0)).groups == ((0, 1), (2,), (3, 4)), "ties are with the best of a group"
    assert careful(jnd=0.5, form="worst").order(u, RNG(0)).groups == ((0, 1, 2), (3, 4))
    assert careful(jnd=0.5, form="top 1").order([4.8, 1.0, 5.0, 2.0], RNG(0)).groups == ((0, 2), (1, 3))
    assert careful(jnd=0.5, form="worst").order([4.0, 0.8, 1.0, 2.0], RNG(0)).groups == ((0, 3), (1, 2))
    assert careful().order([1.0, 2.0, 1.0], RNG(0)).groups == ((1,), (0, 2)), "equal is tied, without a threshold too"


def test_verdicts() -> None:
    assert careful(jnd=1.0).order([1.0, 1.5, 0.7], RNG(0)) == Ranking(verdict="cannot tell")
    assert careful(all_bad_below=2.0).order([1.0, 1.5, 0.7], RNG(0)) == Ranking(verdict="all bad")
    assert careful(all_bad_below=1.2).order([1.0, 1.5, 0.7], RNG(0)).groups == ((1,), (0,), (2,))
    assert careful(jnd=1.0).order([3.0], RNG(0)).groups == ((0,),), "one item is in its place"


@settings(max_examples=150)
@given(
    u=st.lists(st.integers(-4, 4), min_size=1, max_size=9),
    form=st.sampled_from(["full", "top 2", "best and worst", "worst", "bins 2-4-2", "bins 1-0-3"]),
    attention=st.none() | st.integers(1, 10),
    jnd=st.sampled_from([0.0, 1.0]),
    noise=st.sampled_from(["none", "plackett-luce", "thurstone"]),
    below=st.none() | st.just(0.0),
    seed=st.integers(0, 2**32),
)
def test_every_item_is_ranked_or_unseen_and_unseen_is_what_was_not_looked_at(
    u: list[int], form: str, attention: int | None, jnd: float, noise: Any, below: float | None, seed: int
) -> None:
    person = Person(float, noise=noise, form=form, attention=attention, jnd=jnd, all_bad_below=below)
    answer = person.order(u, RNG(seed))
    if answer.verdict is not None:
        assert answer.groups == answer.unseen == ()
        return
    assert all(answer.groups)
    assert sorted([row for group in answer.groups for row in group] + list(answer.unseen)) == list(range(len(u)))
    looked = len(u) if attention is None else min(attention, len(u))
    assert len(answer.unseen) == len(u) - looked
    if noise == "none":
        for better, worse in itertools.pairwise(answer.groups):
            assert min(u[row] for row in better) > max(u[row] for row in worse)


def test_a_lazy_person_looks_everywhere_in_the_long_run() -> None:
    person, rng = careful(attention=2), RNG(1)
    unseen = np.bincount([row for _ in range(600) for row in person.order([3, 2, 1, 0], rng).unseen], minlength=4)
    assert (abs(unseen - 300) < 60).all(), "five standard errors"


# --- intransitivity --------------------------------------------------------------------------------------------------

CYCLE = np.array([[0.0, 1.0, 2.0], [1.0, 2.0, 0.0], [2.0, 0.0, 1.0]])


def test_differences_that_outweigh_others_go_round_in_a_circle() -> None:
    """0 - 1 = (-1, -1, 2): twice -1 and once 4 when squared, so 0 wins; likewise 1 over 2 and 2 over 0. Sums are equal."""
    for first, second in ((0, 1), (1, 2), (2, 0)):
        slate = CYCLE[[first, second]]
        assert careful(twist=1.0).order(slate, RNG(0)).groups == ((0,), (1,))
        assert careful().order(slate, RNG(0)).verdict == "cannot tell"


def _circles(twist: float, parts: np.ndarray) -> int:
    person = careful(twist=twist)
    count = 0
    for a, b, c in parts:
        wins = [person.order(np.stack(pair), RNG(0)).groups[0] == (0,) for pair in ((a, b), (b, c), (c, a))]
        count += sum(wins) in (0, 3)
    return count


def test_the_rate_of_circles_is_that_of_the_additive_difference_model() -> None:
    """Against the model's rule written out, sum of sign(z) |z|^(1 + twist) over the parts; none where it is linear."""
    parts = RNG(3).standard_normal((200, 3, 4))

    def wins(x: np.ndarray, y: np.ndarray, power: float) -> np.ndarray:
        return np.sum(np.sign(x - y) * np.abs(x - y) ** power, axis=1) > 0

    a, b, c = parts[:, 0], parts[:, 1], parts[:, 2]
    assert _circles(0.0, parts) == 0
    found = []
    for twist in (1.0, 3.0):
        total = sum(wins(x, y, 1 + twist).astype(int) for x, y in ((a, b), (b, c), (c, a)))
        found.append(_circles(twist, parts))
        assert found[-1] == np.isin(total, (0, 3)).sum()
    assert 0 < found[0] < found[1]


def test_parts_of_a_taste_are_what_a_twisted_person_weighs() -> None:
    problem = problems.get("landscape")
    X = problem.task.space.from_uniform(RNG(2).random((6, 12)))
    slate = [problem.task.space.decode(row) for row in X]
    plain, twisted = (Person.of(problem, noise="none", twist=twist).rank(slate, RNG(0)) for twist in (0.0, 4.0))
    order = np.argsort(-problem.evaluate(X)["liking"])
    assert [row for (row,) in plain.groups] == order.tolist()
    assert plain != twisted
    with pytest.raises(UsageError, match="parts"):
        Person.of(problems.get("branin"), twist=1.0).rank([{"x1": 0.0, "x2": 1.0}] * 2, RNG(0))


# --- in a study ------------------------------------------------------------------------------------------------------


def test_a_person_answers_a_study() -> None:
    problem = problems.get("sunset")
    opt = Optimizer(problem.task, "cmaes", seed=1)
    person = Person.of(problem, noise="none", form="top 2", attention=6)
    said = person.answer(opt, opt.ask_query(), RNG(0), rater="ann")
    assert opt.rankings()[-1].ranking == said
    assert opt.rankings()[-1].rater == "ann"
    assert len(said.unseen) == 3
    trials = opt.ask(9)
    said = Person.of(problem, noise="none").answer(opt, trials, RNG(0))
    liking = [problem(trial.params)["liking"] for trial in trials]
    assert [row for (row,) in said.groups] == np.argsort(-np.array(liking)).tolist()
    bad = Person.of(problem, all_bad_below=1.0).answer(opt, opt.ask_query(), RNG(0))
    assert opt.rankings()[-1].ranking == bad == Ranking(verdict="all bad")
    query = opt.ask_query()
    known = np.arange(query.size, dtype=float)
    assert Person(float, noise="none").answer(opt, query, RNG(0), utilities=known).groups[0] == (query.size - 1,)


def test_rankings_of_a_person_lead_to_what_it_likes() -> None:
    """Eight pictures at a time in three bins, Plackett-Luce noise of 0.5: 30 slates bring the mean of a population near."""
    problem = problems.get("landscape")
    opt = Optimizer(problem.task, "cmaes", seed=3)
    person, rng = Person.of(problem, form="bins 2-4-2"), RNG(3)
    means = []
    for _ in range(30):
        query = opt.ask_query()
        means.append(problem.evaluate(query.X)["liking"].mean())
        person.answer(opt, query, rng)
    assert means[-1] > 0.4 * means[0], means


@pytest.mark.parametrize(
    "options",
    [
        {"noise": "gauss"},
        {"level": -1.0},
        {"level": math.inf},
        {"jnd": math.nan},
        {"twist": -0.1},
        {"bias": math.inf},
        {"attention": 0},
        {"form": "top 0"},
        {"form": "bins 0-0"},
        {"form": "bins 3"},
        {"form": "some"},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="Person: expected"):
        Person(float, **options)


def test_slates_that_are_none_are_refused() -> None:
    for u in ([], [math.nan, 1.0], np.zeros((2, 2, 2))):
        with pytest.raises(UsageError, match="finite utilities"):
            careful().order(u, RNG(0))
    with pytest.raises(UsageError, match="with parts"):
        careful(twist=1.0).order([1.0, 2.0], RNG(0))
    assert FORMS.fullmatch("full")
