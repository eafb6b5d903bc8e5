"""The arm that learns to reach: its mechanics against textbook equations, and what rankings teach it."""

from __future__ import annotations

import numpy as np
import pytest

import bbopt
import problems
from bbopt.zeroth_order.rank_sgd import RankSGD
from problems.people import Person
from problems.policy import WEIGHTS, goals, hands, returns


def test_doing_nothing_is_worth_what_was_measured() -> None:
    """The hand stays at (1, 0), so the return is -50 E|(1, 0) - goal|; 1 + r^2 / 8 + ... for r = 0.7 gives -53.1."""
    assert returns(np.zeros((1, WEIGHTS)), seed=3, n=4000)[0] == pytest.approx(-53.1, abs=0.4)
    problem = problems.get("reacher")
    assert problem(problem.start)["return"] == pytest.approx(-53, abs=2)  # type: ignore[arg-type]
    assert (hands(np.zeros((1, WEIGHTS)), goals(0)) == [1.0, 0.0]).all()


def _textbook(W: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """One rollout as in Spong, Hutchinson, Vidyasagar, 7.3, for general lengths, masses and inertias, by a linear solve."""
    l1 = l2 = 0.5
    m1 = m2 = 1.0
    c1 = c2 = 0.25  # centres of mass
    i1 = i2 = m1 * l1**2 / 12  # about them
    q, v, path = np.zeros(2), np.zeros(2), []

    def rotated(angle: float) -> np.ndarray:
        return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])

    def hand() -> np.ndarray:
        return rotated(q[0]).T @ [l1, 0] + rotated(q[0] + q[1]).T @ [l2, 0]

    for _ in range(50):
        away = goal - hand()
        felt = [*(rotated(q[0]) @ away), *(rotated(q[0] + q[1]) @ away), *v, np.cos(q[1]), np.sin(q[1]), 1.0]
        torque = np.tanh(W.reshape(2, 9) @ felt)
        for _ in range(2):
            d12 = m2 * (c2**2 + l1 * c2 * np.cos(q[1])) + i2
            d22 = m2 * c2**2 + i2
            d11 = m1 * c1**2 + m2 * (l1**2 + c2**2 + 2 * l1 * c2 * np.cos(q[1])) + i1 + i2
            h = -m2 * l1 * c2 * np.sin(q[1])
            coriolis = np.array([[h * v[1], h * (v[0] + v[1])], [-h * v[0], 0.0]])
            mass = np.array([[d11, d12], [d12, d22]]) + 0.05 * 0.5 * np.eye(2)
            v = v + 0.05 * np.linalg.solve(mass, torque - 0.5 * v - coriolis @ v)
            q = q + 0.05 * v
        path.append(hand())
    return np.array(path)


def test_the_arm_moves_as_the_textbook_says() -> None:
    W = np.random.default_rng(0).standard_normal((3, WEIGHTS))
    places = goals(5, 2)
    path = hands(W, places)
    assert path.shape == (3, 2, 51, 2)
    for i, j in ((0, 0), (1, 1), (2, 0)):
        assert path[i, j, 1:] == pytest.approx(_textbook(W[i], places[j]), abs=1e-9)


def test_policies_of_a_slate_share_their_goals() -> None:
    W = np.random.default_rng(1).standard_normal((3, WEIGHTS))
    together = returns(W, seed=8)
    assert together == pytest.approx([returns(row[None], seed=8)[0] for row in W], rel=1e-12)
    assert abs(together - returns(W, seed=9)).min() > 1e-3
    assert np.linalg.norm(goals(1, 5000), axis=1).max() <= 0.7
    assert np.mean(np.linalg.norm(goals(1, 5000), axis=1) ** 2) == pytest.approx(0.245, rel=0.03), "uniform in the disc"


def test_the_best_known_policy_is_as_good_as_it_says() -> None:
    problem = problems.get("reacher")
    assert problem(problem.optimum.params)["return"] == pytest.approx(problem.optimum.value, abs=1e-6)  # type: ignore[arg-type]
    fresh = returns(np.array(problem.optimum.params["w"])[None], seed=77, n=200)[0]  # type: ignore[index]
    assert fresh > -13, "it reaches for goals that it was not made for"


def learn(seed: int, iterations: int, shared: bool = True, level: float = 0.0) -> float:
    """Return over 200 fresh goals after so many gradient slates of five, with the line searches between them."""
    task = problems.get("reacher").ranked().task
    opt = bbopt.Optimizer(task, RankSGD(slate=5), seed=seed)
    person, rng, done = Person(float, level=level), np.random.default_rng(seed), 0
    while done < iterations:
        query = opt.ask_query()
        W = task.space.values(query.X)["w"]
        at = 10_000 * (seed + 1) + 10 * query.id
        seen = returns(W, at) if shared else np.array([returns(w[None], at + i)[0] for i, w in enumerate(W)])
        person.answer(opt, query, rng, utilities=seen)
        done += query.memo["phase"] == "gradient"
    best = opt.recommend()
    assert best is not None
    return float(returns(np.array(best.params["w"])[None], seed=10**6, n=200)[0])


def test_sixty_rankings_of_five_teach_most_of_it() -> None:
    assert learn(0, 30, level=0.25) > -27


@pytest.mark.slow
def test_three_hundred_rankings_of_five_and_what_common_goals_are_worth() -> None:
    """Acceptance: -20 or better with common random numbers (measured -15.2, -14.2, -15.4); with goals of its own for every row -24.7, -27.2, -27.1."""
    common = [learn(seed, 300) for seed in range(3)]
    own = [learn(seed, 300, shared=False) for seed in range(3)]
    print(common, own)
    assert min(common) >= -20
    assert np.median(own) < np.median(common)
