"""A process that minimizes on a store, to be killed and interrupted by tests.

python -m contract.driver FOLDER EVALUATOR WORKERS BUDGET        (with PYTHONPATH at tests/ and above it)
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import bbopt
from contract.evaluated import LINE, noted
from contract.evaluators import EVALUATORS


def main(folder: Path, evaluator: str, workers: int, budget: int) -> None:
    subject = EVALUATORS[evaluator].make(workers=workers)
    bbopt.minimize(partial(noted, folder), LINE, budget, "random", subject, store=folder / "runs.db", progress=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
