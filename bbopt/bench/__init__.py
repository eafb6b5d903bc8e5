"""Run strategies on problems, over the cores of this machine, into one folder that can be continued.

    outcome = run_bench("engineering", {"gp": GP(), "random": Random()}, budget=100, seeds=10, out="results")

The folder holds `runs.db`, a store with one study per run, named problem/strategy/seed, in which every evaluation is
durable as soon as it is told; `bench.json`, the definition (`bbopt.bench.plan`); `runs.json`, how each run ended; and
`workers.log`, what workers printed. The same call again, after Ctrl-C, a kill or a crash, goes on where it stopped, and
gives the same trials as a call that was not interrupted. `bbopt.report.write_report` makes the report of the folder.
"""

from __future__ import annotations

from bbopt.bench.plan import BenchDiffers
from bbopt.bench.run import Outcome, Progress, run_bench

__all__ = ["BenchDiffers", "Outcome", "Progress", "run_bench"]
