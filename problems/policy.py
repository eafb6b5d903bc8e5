"""Policy search without a simulator of others: an arm of two links learns to reach, by 18 weights.

The arm lies in a plane without gravity: two uniform rods of length l = 0.5 and mass 1, q = (q_1, q_2) the angles of the
shoulder and of the elbow against the upper arm, both 0 at the start, so that the hand is at (1, 0). With the torques u,
|u_i| <= 1, and the damping b = 0.5 of both joints (Spong, Hutchinson, Vidyasagar, Robot Modeling and Control, 2006, 7.3),

    M(q) q'' + h sin q_2 (-(2 q_1' + q_2') q_2', q_1'^2) + b q' = u,    h = l^2 / 2,
    M_11 = l^2 (5/3 + cos q_2),  M_12 = M_21 = l^2 (1/3 + cos(q_2) / 2),  M_22 = l^2 / 3.

Time goes in two steps of 0.05 per decision, each by Euler's method with the damping implicit: (M + 0.05 b) dq' = 0.05 (u - b q' -
...), then q with the new q'. The policy is linear in what the arm feels, squashed: u = tanh(W o), W of shape (2, 9),

    o = (goal - hand along and across the upper arm, along and across the forearm, q_1', q_2', cos q_2, sin q_2, 1).

An episode has 50 decisions; its return is minus the sum of the distances between hand and goal after each. A rollout is the
mean over four goals, uniform in the disc of radius 0.7 about the shoulder: -53 for W = 0, which stays where it is.

Tang, Rybin, Chang (ICLR 2024), rank policies of MuJoCo's Reacher, Swimmer and HalfCheetah; this stands in for the first.
"""

from __future__ import annotations

import numpy as np

from bbopt.space import Float, Space
from bbopt.task import Objective, Task

from .problem import Array, Columns, Optimum, Problem

__all__ = ["WEIGHTS", "goals", "hands", "reacher", "returns"]

WEIGHTS = 18
DECISIONS = 50
GOALS = 32  # of the problem; its own, fixed
TOGETHER = 2048  # rollouts simulated at a time
_LENGTH, _DAMPING, _RADIUS = 0.5, 0.5, 0.7
_STEP, _STEPS = 0.05, 2  # seconds, and how many of them per decision
_BEST = (28.301, 8.297, -26.445, 3.937, -4.064, -1.98, 0.792, 1.196, 1.414,
         14.794, -8.627, 3.107, 1.206, -0.386, -0.776, 0.166, 0.266, 0.31)  # fmt: skip


def goals(seed: int, n: int = 4) -> Array:
    """n places to reach, (n, 2): uniform in the disc, a function of the seed.

    >>> goals(0).shape, goals(0)[0].tolist() == goals(0, 9)[0].tolist()
    ((4, 2), True)
    """
    radius, turn = np.random.default_rng([seed, 2]).random((n, 2)).T
    result: Array = (
        _RADIUS * np.sqrt(radius)[:, None] * np.stack([np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)], 1)
    )
    return result


def returns(weights: Array, seed: int, n: int = 4) -> Array:
    """Returns (k,) of policies (k, 18), larger is better: the mean over `goals(seed, n)`, which all of them share.

    Sharing them (common random numbers) is worth much where policies are compared: give one seed to all rows of a slate.

    >>> returns(np.zeros((2, 18)), seed=1).round(1).tolist()
    [-48.9, -48.9]
    """
    return _score(weights, goals(seed, n))


def _score(weights: Array, places: Array) -> Array:
    """Returns (k,) at goals (n, 2); some policies at a time, whose arrays fit a cache."""
    W = np.asarray(weights, dtype=float).reshape(-1, WEIGHTS)
    result = np.empty(len(W))
    size = max(1, TOGETHER // len(places))
    for start in range(0, len(W), size):
        part = slice(start, start + size)
        distance = np.linalg.norm(hands(W[part], places)[:, :, 1:] - places[:, None], axis=-1)
        result[part] = -distance.sum(axis=2).mean(axis=1)
    return result


def hands(weights: Array, places: Array) -> Array:
    """Where the hand is, (k, n, 51, 2): k policies (k, 18), n goals (n, 2), at the start and after each decision."""
    W = np.asarray(weights, dtype=float).reshape(-1, 2, WEIGHTS // 2)
    shape = (len(W), len(places))
    q, speed = np.zeros((2, *shape)), np.zeros((2, *shape))
    path = np.empty((*shape, DECISIONS + 1, 2))
    path[:, :, 0] = _hand(q)
    for decision in range(DECISIONS):
        away = np.moveaxis(places - path[:, :, decision], -1, 0)
        felt = [*_turned(away, q[0]), *_turned(away, q[0] + q[1]), *speed, np.cos(q[1]), np.sin(q[1]), np.ones(shape)]
        torque = np.tanh(np.einsum("kio,okn->ikn", W, np.stack(felt)))
        for _ in range(_STEPS):
            q, speed = _move(q, speed, torque)
        path[:, :, decision + 1] = _hand(q)
    return path


def _hand(q: Array) -> Array:
    """(..., 2) from angles (2, ...)."""
    both = q[0] + q[1]
    return _LENGTH * np.stack([np.cos(q[0]) + np.cos(both), np.sin(q[0]) + np.sin(both)], axis=-1)


def _turned(away: Array, angle: Array) -> Array:
    """A vector (2, ...) as seen from a link at an angle: along it and across it."""
    along, across = np.cos(angle), np.sin(angle)
    return np.stack([along * away[0] + across * away[1], along * away[1] - across * away[0]])


def _move(q: Array, speed: Array, torque: Array) -> tuple[Array, Array]:
    """One step of time."""
    square, c, s = _LENGTH**2, np.cos(q[1]), np.sin(q[1])
    m11 = square * (5 / 3 + c) + _STEP * _DAMPING
    m12 = square * (1 / 3 + c / 2)
    m22 = square / 3 + _STEP * _DAMPING
    h = square / 2
    push1 = torque[0] - _DAMPING * speed[0] + h * s * (2 * speed[0] + speed[1]) * speed[1]
    push2 = torque[1] - _DAMPING * speed[1] - h * s * speed[0] ** 2
    change = np.stack([m22 * push1 - m12 * push2, m11 * push2 - m12 * push1]) / (m11 * m22 - m12**2)
    speed = speed + _STEP * change
    return q + _STEP * speed, speed


def _formula(columns: Columns) -> dict[str, Array]:
    return {"return": _score(columns["w"], goals(0, GOALS))}


def reacher() -> Problem:
    """The return of a policy over 32 goals of its own, as a problem: parameter "w", `start` at the zero policy.

    >>> problem = reacher()
    >>> round(problem(problem.start)["return"], 1)
    -53.9
    """
    return Problem(
        "reacher",
        Task(Space(w=Float(scale=1.0, shape=(WEIGHTS,))), (Objective("return", maximize=True),)),
        _formula,
        Optimum(
            -11.958772711562855,
            {"w": list(_BEST)},
            "the best known: 30,000 evaluations of CMA-ES (pycma 4, population 20, seed 1), to three digits; returns are below 0",
            1.0,
        ),
        "made for bbopt in the place of MuJoCo's Reacher, on which Tang, Rybin, Chang (ICLR 2024) rank policies",
        "The weights of a linear policy with which an arm of two links reaches for goals.",
        start={"w": [0.0] * WEIGHTS},
    )
