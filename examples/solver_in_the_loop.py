"""A network of 115 weights corrects a coarse PDE solver, trained through the solver by asking it for values alone.

The coarse solver of Burgers' equation (16 x 16 cells) smears what moves; a network after each of its steps is to undo that, and the
fine solver (64 x 64) shows what is right. Whoever can differentiate the solver trains by backpropagation. Here it is a black box:
115 weights moved one by one make 116 rollouts, which are one call of the solver, since each has its own slice of the batch.

Run it: python examples/solver_in_the_loop.py [picture.png]
"""

import os
import sys
import time
from pathlib import Path

import torch

from bbopt.report_applications import draw_rollouts
from bbopt.zeroth_order.coordinates import Array, coordinate_gradient
from problems.solver_in_the_loop import Losses, errors, first_order, loop_data, rollout, train_corrector

STEPS = int(os.environ.get("BBOPT_EXAMPLE_BUDGET", "120"))  # of Adam
torch.set_num_threads(1)  # products as small as these lose more to waking threads than they gain


def by_values(losses: Losses, weights: torch.Tensor) -> torch.Tensor:
    """The gradient of a rollout's loss by forward differences: 116 rollouts, none of them differentiated."""

    def values(rows: Array) -> Array:
        with torch.no_grad():
            return losses(torch.from_numpy(rows).float()).numpy()

    return torch.from_numpy(coordinate_gradient(values, weights.numpy().astype(float), 1e-3)).float()


data = loop_data()
trained: dict[str, torch.Tensor | None] = {"coarse solver alone": None}
seconds = {"coarse solver alone": 0.0}
for name, gradient, unroll, batch in (
    ("pairs of one step, backpropagation", first_order, 1, 24),  # never sees what its own output leads to
    ("rollouts, backpropagation", first_order, 6, 4),
    ("rollouts, values alone", by_values, 6, 4),
):
    start = time.process_time()
    trained[name] = train_corrector(gradient, data, steps=STEPS, unroll=unroll, batch=batch)
    seconds[name] = time.process_time() - start

found = {name: errors(weights, data.test).numpy() for name, weights in trained.items()}
print(f"mean absolute error over {len(data.test) - 1} steps of {data.test.shape[1]} solutions that no training saw:")
for name, error in found.items():
    print(f"  {name:36s} {error.mean():.4f}  {seconds[name]:5.1f} s")
if len(sys.argv) > 1:
    step = 10
    fields = {"fine solver": data.test[step, 0].numpy()}
    for name in ("coarse solver alone", "rollouts, values alone"):
        weights = trained[name]
        fields[name] = rollout(None if weights is None else weights[None], data.test[0, :1], step)[-1, 0, 0].numpy()
    draw_rollouts(Path(sys.argv[1]), fields, found, step)
    print(f"picture: {sys.argv[1]}")
