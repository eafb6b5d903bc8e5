"""Law 7: what a strategy claims to handle, it does better than random search, on a small task that needs it.

Medians over 9 seeds when this was written, random search / cmaes / the toys: constraints 0.48 / 0.058 / 0.07; noise 0.067 /
0.031; rankings 0.107 / 0.0006 / 0.002; categorical 0.33 / 0.17 / 0.17; conditional 0.0100 / 0.0006 / 0.0004; fixed 0.019 /
0.002 / 0.008; unbounded 9.6 / 0.16 / 0.07; context 0.21 and objectives 0.62 for random search alone. With 30 rows and 5 seeds,
random search / gp: constraints 0.49 / 0.000; noise 0.034 / 0.016; categorical 0.50 / 0.00; conditional 0.015 / 0.000.
Each bound is a share of random search's median on the same seeds and rows (`abilities.CONTESTS`).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from bbopt import table
from bbopt.strategy import ABILITIES
from contract.abilities import CONTESTS
from contract.hand import Hand, plain
from contract.subjects import SUBJECTS, Subject
from contract.tasks import plain as plain_case

SEEDS = 9
DEAR = {
    "pfn": {"constraints"},
    "amortised-gp": {"constraints"},
}  # whose asks take longest: the rest in the slow test only
MODEL_ROWS = 30  # for strategies that fit models: one seed in the default suite, all of them in the slow test


def learns_something(subject: Subject) -> bool:
    """Designs and random search, whose state no answer changes, may claim every ability without doing better."""
    hand = Hand(subject.make(), plain_case())
    before = plain(hand.state)
    for _ in range(2):
        hand.step(3)
    return bool(plain(hand.state) != before)


@cache
def random_search(ability: str, rows: int, seeds: int) -> float:
    contest = CONTESTS[ability]
    return float(np.median([contest.score(table.load("random")(), rows, seed) for seed in range(seeds)]))


def beats_random_search(subject: Subject, ability: str, most: int, seeds: int) -> None:
    strategy = subject.make()
    if ability not in strategy.handles or not learns_something(subject):
        return
    assert ability in CONTESTS, f"{subject} claims {ability!r}: write a contest for it in contract/abilities.py"
    contest = CONTESTS[ability]
    rows = min(contest.rows, most)
    scores = [contest.score(strategy, rows, seed) for seed in range(seeds)]
    bound = contest.factor * random_search(ability, rows, seeds)
    assert np.median(scores) <= bound, f"seeds 0 to {seeds - 1} scored {scores}; the median must be below {bound:.4g}"


QUICK = [
    pytest.param(subject, ability, id=f"{subject}-{ability}")
    for subject in SUBJECTS
    for ability in sorted(ABILITIES)
    if str(subject) not in DEAR or ability in DEAR[str(subject)]
]


@pytest.mark.parametrize(("subject", "ability"), QUICK)
def test_law_7_abilities_are_real(subject: Subject, ability: str) -> None:
    if subject.rows(1, 0):
        beats_random_search(subject, ability, 1000, SEEDS)
    else:
        beats_random_search(subject, ability, MODEL_ROWS, 1)


@pytest.mark.slow
@pytest.mark.parametrize("ability", sorted(ABILITIES))
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_law_7_abilities_of_models_are_real(subject: Subject, ability: str) -> None:
    if not subject.rows(1, 0):
        beats_random_search(subject, ability, MODEL_ROWS, SEEDS)


def test_designs_are_told_apart_by_what_they_learn() -> None:
    assert learns_something(SUBJECTS[0]) and not learns_something(Subject("random", table.load("random")))
