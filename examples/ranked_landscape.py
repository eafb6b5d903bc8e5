"""Somebody ranks landscapes, eight at a time into best, fine and worst, and the pictures come nearer to what they have in mind.

The person is simulated: a hidden picture, and noise in every look at a slate. The twelve parameters of the picture are moved by
`rank-sgd`. To rank with your own eyes: bbopt serve --demo

Run it: python examples/ranked_landscape.py [picture.png]
"""

import os
import sys
from pathlib import Path

import numpy as np

import bbopt
from bbopt.zeroth_order.rank_sgd import RankSGD
from problems.pictures import png
from problems.pictures_landscape import paint

SLATES = int(os.environ.get("BBOPT_EXAMPLE_BUDGET", "40"))
problem = bbopt.problems.get("landscape@taste9")
person = bbopt.problems.Person.of(problem, noise="plackett-luce", level=0.5, form="bins 2-4-2")
rng = np.random.default_rng(0)

opt = bbopt.Optimizer(problem.task, RankSGD(slate=8), seed=0)
shown = []
for slate in range(1, SLATES + 1):
    query = opt.ask_query()
    person.answer(opt, query, rng, rater="ann")
    found = opt.recommend()
    if found is not None and slate in (1, SLATES // 8, SLATES // 4, SLATES // 2, SLATES):
        distance = np.sqrt(-problem(found.params)["liking"])
        print(f"after {slate:2} rankings: {distance:.2f} from the picture in mind")
        shown.append(paint(found.params))

if len(sys.argv) > 1:
    assert problem.optimum.params is not None
    halves = [
        picture.reshape(120, 2, 180, 2, 3).mean(axis=(1, 3)) for picture in (*shown, paint(problem.optimum.params))
    ]
    gap = np.ones((120, 6, 3))
    strip = [part for picture in halves for part in (picture, gap)][:-1]
    Path(sys.argv[1]).write_bytes(png(np.concatenate(strip, axis=1)))
    print(f"picture: {sys.argv[1]}, the last one is what was in mind")
