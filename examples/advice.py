"""When to stop, how good the model is, which parameters matter: advice on a study.

Run it: python examples/advice.py [advice]        (a folder for the page with pictures; without one, nothing is kept)
"""

import os
import sys

import bbopt

BUDGET = int(os.environ.get("BBOPT_EXAMPLE_BUDGET", "40"))


def crack_load(preheat: float, speed: float, gas: str) -> float:
    """The load that a welded sample bears, in kN: this stands for an experiment."""
    best_speed = {"argon": 5.0, "helium": 7.0}[gas]
    return 80 - 0.002 * (preheat - 180) ** 2 - 2.5 * (speed - best_speed) ** 2


space = bbopt.Space(
    preheat=bbopt.Float(20, 300),  # degrees Celsius
    speed=bbopt.Float(2, 12),  # millimetres per second
    gas=bbopt.Categorical(["argon", "helium"]),
)
task = bbopt.Task(space, [bbopt.Objective("load", maximize=True)])
opt = bbopt.Optimizer(task, seed=1, budget=BUDGET)
for _ in range(BUDGET):
    trial = opt.ask()
    opt.tell(trial, crack_load(**trial.params))

known = bbopt.advice.studied(opt)  # the model, fitted once for all that follows

stop = bbopt.advice.stopping(known)
print(f"after {stop.n} welds: {stop.verdict}")
print(stop.recommendation)

for metric in bbopt.advice.quality(known).metrics:
    print(f"{metric.metric}: {metric.verdict} (Q2 {metric.q2:.2f})")

weights = bbopt.advice.importance(known)
for name, total in zip(weights.parameters, weights.total[0], strict=True):
    print(f"{name} is behind {100 * total:.0f} % of the variation")

for line in bbopt.advice.slices(known):
    print(line.summary())

if len(sys.argv) > 1:
    print(bbopt.advice.write_advice(known, sys.argv[1]))
