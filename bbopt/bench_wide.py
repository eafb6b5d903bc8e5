"""What a step over many coordinates costs: asking, learning and telling one query of `cge`, `rge`, `spsa` and `openes`, and memory.

    python -m bbopt.bench_wide [--columns 270000]

CPU milliseconds of this thread, the best of the steps after the first (which also makes the state and imports the rest),
in memory and in an SQLite file. "learn" is what the strategy makes of the last answer; it is due at the next ask at the
latest. The last line is the verdict; a missed bound gives a non-zero exit.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np

from bbopt.optimizer import Optimizer
from bbopt.query import CoordinateRows, Query
from bbopt.space import Float, Space
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]
STRATEGIES = ("cge", "rge", "spsa", "openes")
ASK_LIMIT, MEMORY_LIMIT = 50.0, 1500.0  # milliseconds, megabytes: of cge over 270,000 coordinates
STEPS = 4


def squares(query: Query) -> Array:
    """(k,) the sum of squares of every row; a row with one changed column costs one number."""
    X = query.X
    if not isinstance(X, CoordinateRows):
        return np.array([float(X[i] @ X[i]) for i in range(query.size)])
    before = np.where(X.columns < 0, 0.0, X.base[X.columns])
    return np.asarray(X.base @ X.base + np.where(X.columns < 0, 0.0, X.values**2 - before**2))


def measure(name: str, columns: int, bounded: bool, path: Path | None) -> dict[str, float]:
    """Milliseconds per ask, learning and telling."""
    parameter = Float(-1.0, 1.0, shape=(columns,)) if bounded else Float(scale=1.0, shape=(columns,))
    opt = Optimizer(Task(Space(w=parameter)), name, store=path)
    times = []
    for _ in range(STEPS):
        start = time.thread_time()
        query = opt.ask_query()
        asked = time.thread_time()
        values = squares(query)
        ready = time.thread_time()
        opt.tell_query(query, values)
        told = time.thread_time()
        opt._state()
        times.append((asked - start, time.thread_time() - told, told - ready))
    opt.close()
    return {
        key: 1e3 * min(column)
        for key, column in zip(("ask", "learn", "tell"), zip(*times[1:], strict=True), strict=True)
    }


def peak(name: str, columns: int) -> float:
    """Megabytes that Python and NumPy hold at most during two steps, their queries and answers included."""
    tracemalloc.start()
    opt = Optimizer(Task(Space(w=Float(scale=1.0, shape=(columns,)))), name)
    for _ in range(2):
        query = opt.ask_query()
        opt.tell_query(query, squares(query))
    opt._state()
    most = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return most


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 if asking `cge` or the memory of its step is beyond its bound."""
    parser = argparse.ArgumentParser(description="what a step over many coordinates costs")
    parser.add_argument("--columns", type=int, default=270_000)
    columns = parser.parse_args(arguments).columns
    print(f"{columns:,} coordinates, CPU milliseconds of one query")
    print(f"{'strategy':10}{'columns':12}{'store':8}{'ask':>8}{'learn':>8}{'tell':>8}")
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for name in STRATEGIES:
            for bounded in (False, True):
                for path in (None, Path(folder) / f"{name}-{bounded}.db"):
                    found = measure(name, columns, bounded, path)
                    worst = max(worst, found["ask"]) if name == "cge" else worst
                    print(f"{name:10}{'bounded' if bounded else 'unbounded':12}{'file' if path else 'memory':8}"
                          + "".join(f"{found[key]:8.1f}" for key in ("ask", "learn", "tell")))  # fmt: skip
    megabytes = {name: peak(name, columns) for name in STRATEGIES}
    print("peak of two steps: " + ", ".join(f"{name} {value:.0f} MB" for name, value in megabytes.items()))
    good = worst <= ASK_LIMIT and megabytes["cge"] <= MEMORY_LIMIT
    print(f"cge: ask {worst:.1f} ms (bound {ASK_LIMIT:.0f}), peak {megabytes['cge']:.0f} MB (bound {MEMORY_LIMIT:.0f}): "
          + ("met" if good else "MISSED"))  # fmt: skip
    return int(not good)


if __name__ == "__main__":
    raise SystemExit(main())
