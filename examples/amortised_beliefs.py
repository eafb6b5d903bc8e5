"""What a fitted Gaussian process, the amortised one and exact Bayes believe after eight rows, in numbers and in a picture.

Run it: python examples/amortised_beliefs.py [picture.png]
"""

import os
import sys
from pathlib import Path

from bbopt.report_answers import answer, draw_answers

BUDGET = int(os.environ.get("BBOPT_EXAMPLE_BUDGET", "300"))  # particles of the exact answer

# A fitted process takes the most probable lengthscale and noise as if they were known. With eight rows they are not: Bayes
# averages over all that the rows allow. The amortised process weighs some dozens of them, proposed by a small network.
particles = max(BUDGET, 32)
found = draw_answers(Path(sys.argv[1]), particles=particles) if len(sys.argv) > 1 else answer(particles=particles)

print(f"{len(found.y)} rows; distance of predictions to the exact answer, in nats per point:")
for name, nats in found.nats.items():
    print(f"  {name:10s} {nats:.3f}")
if len(sys.argv) > 1:
    print(f"picture: {sys.argv[1]}")
