"""Two applications trained by queries, beside first order: tables, checks, and the verdict in the last line.

    python -m bbopt.bench_applications          # the budgets that the checks are about; about a minute
    python -m bbopt.bench_applications --all    # also a longer training of the corrector and a denoiser of 737 weights; minutes

One seed each: differences of a point, or of one percent, are noise. The exit status is 1 where a check is missed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS

import sys
from collections.abc import Iterator

from bbopt.bench_applications.defence import defence
from bbopt.bench_applications.outcome import Check, Comparison, verdict
from bbopt.bench_applications.pde import pde
from bbopt.errors import UsageError
from surrogates.training.threads import limited_threads


def comparisons(everything: bool) -> Iterator[Comparison]:
    """What there is to compare, one after another; only the first of each application has checks."""
    yield pde()
    yield defence()
    if everything:
        longer = pde(300, 8, 6)
        yield Comparison(longer.title, longer.headings, longer.rows, ())
        yield defence((8, 8), 300, 3e-3)


def main(words: list[str]) -> int:
    """Print everything; 1 where a check is missed."""
    if set(words) - {"--all"}:
        raise UsageError(f"bench_applications: expected --all or nothing, got {' '.join(words)}")
    checks: list[Check] = []
    with limited_threads(1):
        for comparison in comparisons("--all" in words):
            print("\n".join(comparison.lines()), end="\n\n", flush=True)
            checks += comparison.checks
    text, status = verdict(checks)
    print(text)
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
