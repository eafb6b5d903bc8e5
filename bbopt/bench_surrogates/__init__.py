"""How good the surrogates that come with trained weights are, beside fitted processes, the Bayes floor and no model.

    results = run_surrogates("surrogates")        # or: bbopt bench-surrogates --out surrogates

One part per cell and contestant is written to the folder as soon as it is there: a run that was interrupted goes on, and
other weights in the same folder cost only their own parts. The numbers are those of `surrogates.evaluation`; this package
decides who is compared where, keeps the parts, joins them in `results.json`, and says which checks are met.
"""

from __future__ import annotations

from bbopt.bench_surrogates.parts import CELLS, FUNCTIONS
from bbopt.bench_surrogates.run import run_surrogates

__all__ = ["CELLS", "FUNCTIONS", "run_surrogates"]
