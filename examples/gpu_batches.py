"""An objective that takes many points at once: the same script on a CPU and on a GPU.

Where an antenna array steers its beam follows from the phases of its elements. A population of CMA-ES is evaluated in one
call: `bbopt.batched` hands it over as one tensor, on the GPU where there is one. A last argument of `ray` has the same
function evaluated by workers on Ray, each with its share of the GPUs.

Run it: python examples/gpu_batches.py [ray]
"""

import math
import os
import sys
import time

import torch

import bbopt
from bbopt.strategies.cmaes import CMAES

BUDGET = int(os.environ.get("BBOPT_EXAMPLE_BUDGET", "4000"))
ELEMENTS = 24
POSITIONS = torch.linspace(0, 11.5, ELEMENTS)  # in wavelengths, half of one apart
ANGLES = torch.deg2rad(torch.linspace(-90, 90, 721))
BEAM = (ANGLES - math.radians(20)).abs() < math.radians(6)


@bbopt.batched(dtype="float32")
def side_lobes(phases: torch.Tensor) -> torch.Tensor:
    """(n,) the strongest signal beside the beam over that in it, in decibels, for n settings of the phases (n, 24)."""
    positions, angles = POSITIONS.to(phases), ANGLES.to(phases)  # where the phases are
    wave = 2 * math.pi * positions[:, None] * torch.sin(angles) + phases[:, :, None]  # (n, elements, angles)
    power = torch.cos(wave).sum(1) ** 2 + torch.sin(wave).sum(1) ** 2
    return 10 * torch.log10(power[:, ~BEAM].amax(1) / power[:, BEAM].amax(1))


def main() -> None:
    task = bbopt.Task(bbopt.Space(phase=bbopt.Float(-math.pi, math.pi, shape=(ELEMENTS,))), [bbopt.Objective("lobes")])
    gpu = torch.cuda.is_available()
    evaluator = bbopt.RayEvaluator(workers=1, gpus=float(gpu)) if "ray" in sys.argv else bbopt.InProcess()
    start = time.perf_counter()
    result = bbopt.minimize(side_lobes, task, BUDGET, CMAES(population=64), evaluator, progress=False)
    seconds = time.perf_counter() - start
    assert result.best is not None and result.best.values is not None
    print(f"{result.evaluations} settings in {seconds:.1f} s on the {'GPU' if gpu else 'CPU'}, in calls of up to 64")
    print(f"side lobes {result.best.values['lobes']:.1f} dB from the beam")


if __name__ == "__main__":
    main()
