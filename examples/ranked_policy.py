"""A policy learns from rankings alone: an arm of two links tries five ways to reach for goals, somebody says which looked best.

Nobody writes a reward. A simulated person watches five rollouts at a time, all with the same goals (common random numbers), and
puts them in order, with noise; `rank-sgd` moves the 18 weights of the policy along what the orders have in common. The return
is used to check what was learnt, never to learn.

Run it: python examples/ranked_policy.py [picture.png]
"""

import os
import sys
from pathlib import Path

import numpy as np

import bbopt
from bbopt.zeroth_order.rank_sgd import RankSGD
from problems.policy import goals, hands, returns

SLATES = int(os.environ.get("BBOPT_EXAMPLE_BUDGET", "300"))
problem = bbopt.problems.get("reacher")
person = bbopt.problems.Person.of(problem, noise="plackett-luce", level=0.25)
rng = np.random.default_rng(0)


def score(weights: np.ndarray) -> float:
    """The return over 200 goals that nobody has seen."""
    return float(returns(weights[None], seed=10**6, n=200)[0])


opt = bbopt.Optimizer(problem.ranked().task, RankSGD(slate=5), seed=0)
learnt = {0: np.zeros(18)}
print(f"policy that does nothing: {score(learnt[0]):.1f}")
for slate in range(1, SLATES + 1):
    query = opt.ask_query()
    weights = problem.task.space.values(np.asarray(query.X))["w"]
    person.answer(opt, query, rng, utilities=returns(weights, seed=query.id))
    best = opt.recommend()
    if best is not None and slate in (SLATES // 15, SLATES // 3, SLATES):
        learnt[slate] = np.array(best.params["w"])
        print(f"after {slate:3} rankings of five: {score(learnt[slate]):.1f}")

if len(sys.argv) > 1:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * len(learnt), 2.8), layout="constrained")
    shown = goals(11, 6)
    for panel, (slate, chosen) in zip(figure.subplots(1, len(learnt), squeeze=False)[0], learnt.items(), strict=True):
        for path, goal in zip(hands(chosen[None], shown)[0], shown, strict=True):
            (line,) = panel.plot(*path.T, linewidth=1.2)
            panel.plot(*goal, "o", color=line.get_color(), markersize=6)
        panel.set(title=f"{slate} rankings: {score(chosen):.1f}", xlim=(-0.8, 1.1), ylim=(-0.8, 0.8), aspect="equal")
        panel.set(xticks=[], yticks=[])
    figure.savefig(Path(sys.argv[1]), dpi=110)
    print(f"picture: {sys.argv[1]}")
