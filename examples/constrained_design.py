"""The cheapest pressure vessel that holds: discrete plates, a choice of steel, limits on stresses.

A vessel (a cylinder with two hemispherical heads) must hold 750 cubic feet at 338 psi. Plates come in sixteenths of an
inch. After E. Sandgren, J. Mech. Design 112 (1990), with a second steel to choose from.

Run it: python examples/constrained_design.py
"""

import os
from math import pi
from typing import Any

import bbopt

BUDGET = int(os.environ.get("BBOPT_EXAMPLE_BUDGET", "60"))
PRESSURE = 338.0  # psi
STEELS = {"plain": (17_500.0, 1.0), "strong": (20_000.0, 1.1)}  # allowed stress in psi, price relative to plain


def vessel(params: dict[str, Any]) -> dict[str, float]:
    """Cost in dollars and stresses, as share of what the steel allows. Yours might call a simulation here."""
    shell, head, radius, length = params["shell"], params["head"], params["radius"], params["length"]
    allowed, price = STEELS[params["steel"]]
    material = 0.6224 * shell * radius * length + 1.7781 * head * radius**2
    welding = 3.1661 * shell**2 * length + 19.84 * shell**2 * radius
    return {
        "cost": price * material + welding,
        "shell_stress": PRESSURE * radius / shell / allowed,
        "head_stress": PRESSURE * radius / (2 * head) / allowed,
    }


task = bbopt.Task(
    bbopt.Space(  # lengths in inches
        shell=bbopt.Float(0.5, 2.0, step=0.0625),
        head=bbopt.Float(0.25, 2.0, step=0.0625),
        radius=bbopt.Float(20, 80),
        length=bbopt.Float(10, 240),
        steel=bbopt.Categorical(list(STEELS)),
    ),
    objectives=[bbopt.Objective("cost")],
    # Limits on what is measured: unknown before an evaluation, so they are learnt.
    constraints=[bbopt.Constraint("shell_stress", upper=1.0), bbopt.Constraint("head_stress", upper=1.0)],
    # Conditions that are known before: no point that breaks them is ever asked.
    where=[f"{pi} * radius**2 * length + {4 / 3 * pi} * radius**3 >= 1296000", "head <= shell"],
)

result = bbopt.minimize(vessel, task, budget=BUDGET, seed=1)
told = result.optimizer.trials()
print(f"{sum(trial.feasible or False for trial in told)} of {len(told)} designs keep all limits")
if result.best is None or result.best.values is None:
    print("no design keeps all limits yet: give it more evaluations")
else:
    for name, value in {**result.best.params, **result.best.values}.items():
        print(f"{name:>12}: {value if isinstance(value, str) else format(value, '.4f')}")
