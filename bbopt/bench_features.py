"""Which features of functions the amortised process should learn to model: `python -m bbopt.bench_features [FEATURE ...]`.

Prints, per feature and size of the data, how far the amortised process is above the exact answer on functions that have the
feature, and how far it would be if it were told the true one (`surrogates.evaluation.features`): warps of the inputs, a
trend, a second scale; "none" for comparison. Some minutes on one core.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS

import sys
from collections.abc import Iterator

import numpy as np

from bbopt.errors import UsageError
from surrogates.evaluation.features import FEATURES, gain
from surrogates.evaluation.gaps import Summary
from surrogates.training.threads import limited_threads

__all__ = ["lines", "main"]

SIZES = ((2, 15), (2, 50), (6, 30), (6, 80))
TASKS = 24


def lines(features: list[str], sizes: tuple[tuple[int, int], ...] = SIZES, tasks: int = TASKS) -> Iterator[str]:
    """One line of text per feature and size (d, n)."""
    for feature in features:
        for d, n in sizes:
            with limited_threads(1):
                found = gain(feature, d, n, tasks)
            without = Summary.of(found.without)
            line = f"{feature:10s} d={d} n={n:3d}  as it is {without.mean:.3f} ± {without.error:.3f} [{without.median:.3f}]"
            if found.given:
                given = Summary.of(found.given)
                less = Summary.of(tuple(np.subtract(found.without, found.given).tolist()))
                line += (
                    f"  told the feature {given.mean:.3f} [{given.median:.3f}]"
                    f"  gains {less.mean:.3f} ± {less.error:.3f} [{less.median:.3f}]"
                )
            yield line


def main(names: list[str]) -> None:
    """The features of these names, or all."""
    if unknown := [name for name in names if name not in FEATURES]:
        raise UsageError(f"expected features among {', '.join(FEATURES)}; got {', '.join(unknown)}")
    for line in lines(names or list(FEATURES)):
        print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
