"""A search under noise, as a whole: the recommended point against the luckiest, and what the deviations promise."""

from __future__ import annotations

import numpy as np
import pytest

import problems
from bbopt import Objective, Optimizer, Task
from bbopt.strategies.gp import GP

SIGMA, EVALUATIONS = 0.1, 100
NORMAL_95 = 1.6449


@pytest.mark.slow
def test_the_recommended_point_is_better_than_the_luckiest_and_intervals_hold() -> None:
    """Hartmann-6 with sigma 0.1, 100 evaluations, 20 seeds; prints what came out.

    Measured: true regrets 0.132 recommended and 0.161 of the best observed value (medians); 90 % intervals held the truth at
    96.9 % of random points and 82.0 % of the asked ones. At the recommended point itself they held it in 13 of 20 runs: it
    was picked because it looks good."""
    problem = problems.get("hartmann6")
    assert problem.optimum.value is not None
    task = Task(problem.task.space, [Objective("f", noise="unknown")])
    regrets, held = [], []
    for seed in range(20):
        rng = np.random.default_rng(1000 + seed)
        opt = Optimizer(task, GP(budget=EVALUATIONS), seed=seed)
        for _ in range(EVALUATIONS):
            trial = opt.ask()
            opt.tell(trial, problem(trial.params)["f"] + SIGMA * rng.standard_normal())
        best, recommended = opt.best(), opt.recommend()
        assert best is not None and recommended is not None
        regrets.append([problem(point.params)["f"] - problem.optimum.value for point in (recommended, best)])
        random = [task.space.decode(x) for x in task.space.from_uniform(rng.random((200, 6)))]
        shares = []
        for points in (random, [trial.params for trial in opt.trials()[30:]], [recommended.params]):
            beliefs = opt.predict(points)
            assert isinstance(beliefs, list)
            off = [
                abs(problem(at)["f"] - it.mean["f"]) <= NORMAL_95 * it.sd["f"]
                for at, it in zip(points, beliefs, strict=True)
            ]
            shares.append(np.mean(off))
        held.append(shares)
    recommended_regret, lucky_regret = np.median(regrets, axis=0)
    better = int(np.sum(np.diff(regrets, axis=1) >= 0.0))
    print(f"recommended {recommended_regret:.3f}, luckiest {lucky_regret:.3f}, no worse in {better} of 20")
    print("held at random, asked, recommended points:", np.mean(held, axis=0).round(3))
    assert recommended_regret < lucky_regret and better >= 14
    assert 0.80 <= np.mean(held, axis=0)[0] <= 0.98 and 0.75 <= np.mean(held, axis=0)[1] <= 0.97
