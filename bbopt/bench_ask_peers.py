"""How long `gp` takes to ask beside a plain BoTorch loop, Ax and Optuna's GP sampler, in one run on one thread.

    python -m bbopt.bench_ask_peers            # --few: fewer rows, to see that it works

CPU seconds of an ask, each after a tell, as in a running study: every toolkit has the same 100 rows of Hartmann-6 (half
Sobol points, half around the best of them: `bbopt.bench_ask`), and is then asked and told eleven times, in turns; the
first ask, which imports and starts things, is not counted. The settings are those of `bbopt compare` (`bbopt.compare`), with the plain BoTorch loop, which infers noise as SingleTaskGP
does by itself, beside the one there, which is told that there is none: its fit is several times quicker. The plain one is judged.
Then `gp` alone with 1,000 rows in 20 dimensions, asked and told thirty times more. The last line is the verdict, and the
exit status is 1 if a limit is missed: `gp` at least five times faster than BoTorch and than Ax, not slower than Optuna's GP
sampler (medians); and the 95th percentile of the asks after 1,000 rows below 1.5 s.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from bbopt.bench_ask import Case, data
from bbopt.compare.peers import find
from bbopt.compare.view import View
from bbopt.space import Float, Space
from bbopt.task import Objective, Task

__all__ = ["main", "seconds_of_asks"]

PLAIN = "bbopt.compare.peer_botorch:BotorchInferred"
TIMES = {PLAIN: 5.0, "botorch": 0.0, "ax": 5.0, "optuna-gp": 1.0}
WORDS = {PLAIN: "botorch", "botorch": "botorch, told of no noise"}
LIMIT = 1.5


def seconds_of_asks(peers: Sequence[str], case: Case, asks: int) -> dict[str, list[float]]:
    """CPU seconds of `asks` asks of each peer after `case.n` rows, all peers in turns. Raises ImportError for one that is
    not installed."""
    made = data(case)
    task = Task(Space({f"x{i}": Float(0.0, 1.0) for i in range(case.d)}), (Objective("y"),))
    view = View(task)
    searches: dict[str, Any] = {}
    for name in peers:
        find(name).version()
        searches[name] = find(name).start(view, 0, case.n + asks)
        for x, y in zip(made.X, made.objective(made.X).tolist(), strict=True):
            params = task.space.decode(task.space.canonical(x[None])[0])
            searches[name].add(params, view.result(params, {"y": y}))
    found: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(asks):
        for name, search in searches.items():
            start = time.process_time()
            params = search.ask()
            found[name].append(time.process_time() - start)
            y = float(made.objective(task.space.encode(params)[None])[0])
            search.tell(params, view.result(params, {"y": y}))
    return found


def main(words: list[str]) -> int:
    """Print the two tables and the verdict."""
    parser = argparse.ArgumentParser(prog="python -m bbopt.bench_ask_peers")
    parser.add_argument(
        "--few", action="store_true", help="fewer rows and asks: shows that it works, judges nothing real"
    )
    few = parser.parse_args(words).few
    small, many = (Case(12, 6, 0, 0.0), Case(30, 20, 0, 0.0)) if few else (Case(100, 6, 0, 0.0), Case(1000, 20, 0, 0.0))
    there, missed = ["bbopt:gp"], []
    for name in TIMES:
        try:
            find(name).version()
            there.append(name)
        except ImportError as error:
            _say(f"{name} is left out: {error}")
    asks = seconds_of_asks(there, small, 3 if few else 11)
    median = {name: float(np.median(seconds[1:])) for name, seconds in asks.items()}
    _say(f"{small.n} rows, {small.d} dimensions: CPU seconds of an ask, median and largest")
    for name in there:
        ratio = median[name] / median["bbopt:gp"]
        _say(f"  {WORDS.get(name, name):25}  {median[name]:.3f}  {max(asks[name][1:]):.3f}  {ratio:.1f} times gp's")
        if name in TIMES and ratio < TIMES[name]:
            missed.append(
                f"{WORDS.get(name, name)}: expected at least {TIMES[name]:g} times gp's seconds, got {ratio:.1f}"
            )
    long = seconds_of_asks(["bbopt:gp"], many, 3 if few else 31)["bbopt:gp"][1:]
    high = float(np.quantile(long, 0.95))
    _say(f"{many.n} rows, {many.d} dimensions, gp: median {np.median(long):.3f}, 95th percentile {high:.3f}")
    if high >= LIMIT:
        missed.append(f"gp after {many.n} rows: expected a 95th percentile below {LIMIT} s, got {high:.2f}")
    _say("missed: " + "; ".join(missed) if missed else "all limits met")
    return int(bool(missed))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
