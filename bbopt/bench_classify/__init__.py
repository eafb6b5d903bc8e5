"""Compare classifiers on the classification data sets, F1 against the number of training rows, into one folder.

    outcome = run_classify(out="results", models=["pfn", "random_forest"], seeds=3)
    page = write_report("results")

The folder holds `classify.json`, the definition; `results.jsonl`, one line per trained model, durable as soon as it is
scored; and `report/`. The same call again, after Ctrl-C or a kill, goes on where it stopped, and gives the same scores as
a call that was not interrupted. Data: `problems.classification`; protocol: that of Picard, Ahmed (2024), arXiv 2401.06948
(nested training sets of one draw, one test set, F1), with scores of the probabilities beside it.
"""

from __future__ import annotations

from bbopt.bench_classify.plan import SIZES, Plan
from bbopt.bench_classify.run import Outcome, run_classify
from bbopt.bench_classify.write import write_report

__all__ = ["SIZES", "Outcome", "Plan", "run_classify", "write_report"]
