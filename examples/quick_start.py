"""bbopt in five lines, and the same in one call.

Run it: python examples/quick_start.py
"""

import os

import bbopt

BUDGET = int(os.environ.get("BBOPT_EXAMPLE_BUDGET", "30"))  # how many evaluations we can afford


def cost(width: float, bolts: int, steel: str) -> float:
    """What a joint costs: this stands for your simulation or experiment. bbopt never looks inside."""
    price = {"S235": 1.0, "S355": 1.2}[steel]
    strength = {"S235": 235, "S355": 355}[steel] * width * bolts / 300
    return price * (2 * width + 0.1 * bolts) + (strength - 3.0) ** 2


# What may be chosen, and what is wanted.
space = bbopt.Space(
    width=bbopt.Float(0.1, 2.0),
    bolts=bbopt.Int(2, 12),
    steel=bbopt.Categorical(["S235", "S355"]),
)
task = bbopt.Task(space, objectives=[bbopt.Objective("cost")])  # minimized, unless maximize=True

# The five lines: ask for a point, evaluate it wherever you like, tell what came out.
opt = bbopt.Optimizer(task, seed=1)
for _ in range(BUDGET):
    trial = opt.ask()
    opt.tell(trial, cost(**trial.params))
best = opt.best()

assert best is not None and best.values is not None
print(f"the strategy: {opt.reason}")
print(f"ask and tell: cost {best.values['cost']:.4f} at {best.params} (trial {best.number} of {BUDGET})")

# The same in one call, where Python can call the function itself.
result = bbopt.minimize(lambda params: cost(**params), task, budget=BUDGET, seed=1)
assert result.best is not None and result.best.values is not None
print(f"minimize:     cost {result.best.values['cost']:.4f} at {result.best.params}")
