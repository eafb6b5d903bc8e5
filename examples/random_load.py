"""A cantilever whose loads nature draws: three designs for three attitudes to risk.

The simulator is run for one design under one load at a time; which of both comes next, bbopt chooses. After the loads of
Y.-T. Wu and others, AIAA 2001-1522. A design pays for its section, and for stress beyond what the steel bears.

Run it: python examples/random_load.py
"""

import os
from typing import Any

import bbopt

BUDGET = int(os.environ.get("BBOPT_EXAMPLE_BUDGET", "40"))
ALLOWED = 40_000.0  # psi


def cantilever(params: dict[str, Any]) -> float:
    """Cost of one beam under one pair of loads. Yours might call a finite element code here."""
    breadth, height = params["breadth"], params["height"]  # inches
    stress = 600 * params["down"] / (breadth * height**2) + 600 * params["across"] / (breadth**2 * height)
    return float(breadth * height + 25.0 * max(stress / ALLOWED - 1.0, 0.0))


space = bbopt.Space(
    breadth=bbopt.Float(1, 4),
    height=bbopt.Float(1, 4),
    # What nature draws: normal loads in pounds, cut off at the bounds. Without `normal=` they would be uniform.
    down=bbopt.Float(500, 1500, role="environment", normal=(1000, 100)),
    across=bbopt.Float(0, 1000, role="environment", normal=(500, 100)),
)
attitudes = {
    "on average": bbopt.Objective("cost", over="mean"),
    "in the worst tenth": bbopt.Objective("cost", over="cvar", level=0.9),
    "at worst": bbopt.Objective("cost", over="worst"),
}
for words, objective in attitudes.items():
    task = bbopt.Task(space, objectives=[objective])
    best = bbopt.minimize(cantilever, task, budget=BUDGET, seed=1, progress=False).best
    if best is not None and best.values is not None:  # the design alone, and what the model believes of its risk
        size = " x ".join(f"{best.params[name]:.2f}" for name in ("breadth", "height"))
        print(f"{words:>18}: {size} inches cost {best.values['cost']:.2f} +- {best.std['cost']:.2f}")
