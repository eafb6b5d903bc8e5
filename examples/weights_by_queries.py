"""Train the 1,210 weights of a small network by values of its loss alone: along all of them in each step, or a tenth.

Run it: python examples/weights_by_queries.py

`cge` differences along every weight: 1,211 evaluations a step, which are one query. `deepzero` takes a tenth of them, drawn
anew every five steps. How many weights each layer gives is scored by two wide queries first (grasp), or the same
everywhere (uniform), which saves these. All get the same number of evaluations; the rates are the best of a few tried.
"""

from __future__ import annotations

import os

import bbopt
from bbopt.zeroth_order.cge import CGE
from bbopt.zeroth_order.deepzero import DeepZero

STEPS = int(os.environ.get("BBOPT_EXAMPLE_BUDGET", 12))  # of cge

problem = bbopt.problems.get("network_mlp_64_16_10")  # 256 handwritten digits
dimension = problem.task.space.dimension
assert problem.start is not None  # the initial weights
start, first = problem.start, problem(problem.start)


def train(strategy: CGE | DeepZero) -> tuple[int, int, float]:
    """Steps, evaluations and the loss that they lead to."""
    opt = bbopt.Optimizer(problem.task, strategy, seed=0)
    opt.add(start, first)
    steps = evaluations = 0
    while evaluations < STEPS * (dimension + 1):
        query = opt.ask_query()
        opt.tell_query(query, problem.evaluate(query.X)["loss"])
        steps, evaluations = steps + 1, evaluations + query.size
    best = opt.best()
    assert best is not None and best.values is not None
    return steps, evaluations, best.values["loss"]


print(f"{dimension} weights, loss {first['loss']:.3f} at the start")
print(f"{'':20}{'steps':>8}{'evaluations':>14}{'loss':>8}")
strategies: dict[str, CGE | DeepZero] = {
    "cge": CGE(rate=0.01),
    "deepzero, grasp": DeepZero(keep=0.1, interval=5, rate=0.03),
    "deepzero, uniform": DeepZero(keep=0.1, interval=5, rate=0.03, scores="uniform"),
}
for words, strategy in strategies.items():
    steps, evaluations, loss = train(strategy)
    print(f"{words:20}{steps:8}{evaluations:14,}{loss:8.3f}")
