"""The lightest truss of ten bars: twelve limits at once, learnt by a network that was trained beforehand.

A cantilever of ten aluminium bars carries two loads of 100 kips; no bar may be stressed beyond 25 ksi, neither end may
sink by more than 2 inches. After V. B. Venkayya, Computers & Structures 1 (1971); the best design known weighs 5061 lb.

Run it: python examples/many_constraints.py [picture.png]
"""

import os
import sys
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import bbopt

BUDGET = int(os.environ.get("BBOPT_EXAMPLE_BUDGET", "80"))
NODES = 360.0 * np.array([[2, 1], [2, 0], [1, 1], [1, 0], [0, 1], [0, 0]])  # inches; the last two are in the wall
BARS = np.array([[4, 2], [2, 0], [5, 3], [3, 1], [2, 3], [0, 1], [4, 3], [5, 2], [2, 1], [3, 0]])
LOADS = np.array([0, 0, 0, -100, 0, 0, 0, -100.0])  # kips: x and y of the four free nodes
AREAS = [f"bar{i}" for i in range(1, 11)]
STIFFNESS, DENSITY = 1e4, 0.1  # ksi, lb per cubic inch
LIMITS = {f"stress{i}": 25.0 for i in range(1, 11)} | {"sag_top": 2.0, "sag_bottom": 2.0}  # ksi, inches


def truss(params: dict[str, Any]) -> dict[str, float]:
    """Weight, stresses and sags by finite elements. Yours might call a program that takes an hour here."""
    area = np.array([params[name] for name in AREAS])  # square inches
    along = NODES[BARS[:, 1]] - NODES[BARS[:, 0]]
    length = np.linalg.norm(along, axis=1)
    stretch = np.zeros((10, 6, 2))  # of every bar, per movement of every node
    stretch[range(10), BARS[:, 1]] = along / length[:, None]
    stretch[range(10), BARS[:, 0]] = -along / length[:, None]
    free = stretch.reshape(10, 12)[:, :8]
    moved = np.linalg.solve(free.T @ (free * (STIFFNESS * area / length)[:, None]), LOADS)
    stress = STIFFNESS * abs(free @ moved) / length
    weight_and_sags = {"weight": DENSITY * (area @ length), "sag_top": -moved[1], "sag_bottom": -moved[3]}
    return weight_and_sags | {f"stress{i + 1}": value for i, value in enumerate(stress)}


task = bbopt.Task(
    bbopt.Space({name: bbopt.Float(0.1, 35.0) for name in AREAS}),
    objectives=[bbopt.Objective("weight")],
    constraints=[bbopt.Constraint(name, upper=limit) for name, limit in LIMITS.items()],
)
result = bbopt.minimize(truss, task, budget=BUDGET, strategy="pfn", seed=1)
told, best = result.optimizer.trials(), result.best
weights = [trial.values["weight"] if trial.feasible and trial.values else np.inf for trial in told]
print(f"{np.isfinite(weights).sum()} of {len(told)} designs keep all {len(LIMITS)} limits")
if best is None or best.values is None:
    print("no design keeps all limits yet: give it more evaluations")
else:
    print(f"best: {best.values['weight']:.0f} lb; bars of {', '.join(f'{best.params[name]:.1f}' for name in AREAS)}")
    active = [name for name, limit in LIMITS.items() if best.values[name] > 0.99 * limit]
    print(f"limits that hold it back: {', '.join(active) or 'none within 1 %'}")
if len(sys.argv) > 1:
    figure = Figure()
    figure.subplots().plot(range(1, len(told) + 1), np.minimum.accumulate(weights), drawstyle="steps-post")
    figure.savefig(sys.argv[1])
