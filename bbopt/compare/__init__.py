"""bbopt beside other toolkits, on any problems with a known optimum, in one folder that can be continued.

    compared = run_compare("core", ["bbopt", "optuna-gp", "cobyla"], budget=60, seeds=10, out="comparison")

The folder holds one file per run (`bbopt.compare.cell`) with every point, its metrics and the CPU seconds of each call;
`compare.json`, what was asked for, with versions and machines; and `peers.log` and `scratch`, what the
peers printed and wrote. A toolkit is a
small class (`bbopt.compare.peer`); what it is told of a task is a `bbopt.compare.view`.
"""

from __future__ import annotations

from bbopt.compare.run import CORE, Compared, run_compare
from bbopt.compare.summary import Summary, summarize

__all__ = ["CORE", "Compared", "Summary", "run_compare", "summarize"]
