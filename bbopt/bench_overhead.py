"""What the bookkeeping costs: microseconds per ask and tell without a model, and commits on disk.

    python -m bbopt.bench_overhead

Strategy `random`, six parameters, one constraint, 1,000 trials in memory and 300 in an SQLite file with full sync.
CPU seconds of this thread; the best of five batches in memory, since other work on the machine only ever adds. Then a study
of 2,000 slates of six that people ranked, strategy `rank-sgd`, on disk: what a server looks at with every request.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bbopt.optimizer import Optimizer
from bbopt.slates import RankRequest
from bbopt.space import Float, Space
from bbopt.store import SQLiteStore
from bbopt.task import Constraint, Objective, Task

LIMIT = 200.0  # microseconds each, in memory, at 1,000 trials
LOOK_LIMIT = 2.0  # milliseconds, slates() and rankings() at 2,000 slates
SLATES, GROUP = 2000, 50


def _task() -> Task:
    space = Space({f"x{i}": Float(0.0, 1.0) for i in range(6)})
    return Task(space, objectives=(Objective("cost"),), constraints=(Constraint("stress", upper=1.0),))


def _loop(opt: Optimizer, n: int) -> tuple[float, float]:
    """CPU microseconds per ask and per tell over n trials."""
    asking = telling = 0.0
    for i in range(n):
        start = time.thread_time()
        trial = opt.ask()
        middle = time.thread_time()
        opt.tell(trial, {"cost": float(i), "stress": 0.5})
        asking += middle - start
        telling += time.thread_time() - middle
    return asking / n * 1e6, telling / n * 1e6


def in_memory(batches: int = 5, size: int = 200) -> tuple[float, float]:
    """CPU microseconds per ask and tell while a study in memory grows to `batches * size` trials, its best batch."""
    opt = Optimizer(_task(), "random", seed=1)
    results = [_loop(opt, size) for _ in range(batches)]
    return min(ask for ask, _ in results), min(tell for _, tell in results)


def on_disk(folder: Path, n: int = 300) -> dict[str, float]:
    """Wall milliseconds and commits per ask and per tell on an SQLite file, and the bare commit of the same disk."""
    store = SQLiteStore(folder / "runs.db")
    opt = Optimizer(_task(), "random", seed=1, store=store)
    commits: list[str] = []
    store.trace(lambda statement: commits.append(statement) if statement == "COMMIT" else None)
    asking = telling = 0.0
    for i in range(n):
        start = time.perf_counter()
        trial = opt.ask()
        middle = time.perf_counter()
        opt.tell(trial, {"cost": float(i), "stress": 0.5})
        asking, telling = asking + middle - start, telling + time.perf_counter() - middle
    store.trace(None)
    return {
        "ask_ms": asking / n * 1e3,
        "tell_ms": telling / n * 1e3,
        "commits_per_ask_and_tell": len(commits) / n,
        "bare_commit_ms": _bare_commit(folder / "bare.db", n),
    }


def _bare_commit(path: Path, n: int) -> float:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE t (x TEXT)")
    start = time.perf_counter()
    for i in range(n):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t VALUES (?)", (f"{i:0500d}",))
        connection.execute("COMMIT")
    seconds = time.perf_counter() - start
    connection.close()
    return seconds / n * 1e3


def ranked(path: Path, slates: int = SLATES) -> dict[str, float]:
    """CPU milliseconds of calls on a study that people ranked, in groups of 50 answers a commit, the least of five."""
    task = Task(Space(x=Float(0.0, 1.0, shape=(12,))), feedback="ranking")
    opt = Optimizer(task, "rank-sgd", seed=1, store=path)
    rng = np.random.default_rng(0)
    ask, rank = [], []
    while len(opt.slates()) < slates:
        queries = []
        for _ in range(GROUP):
            query, seconds = _cpu(lambda: opt.ask_query(6))
            queries.append(query)
            ask.append(seconds)
        answers = [
            RankRequest([query.first + int(row) for row in rng.permutation(query.size)], rater="ann")
            for query in queries
        ]
        rank.append(_cpu(lambda answers=answers: opt.rank_many(answers))[1])  # type: ignore[misc]
    last = opt.ask_query(6)
    opt.rank(last.numbers, rater="bob")
    opt._state()
    found = {"ask_of_the_last_100": float(np.mean(ask[-100:])), "rank_many_of_50": min(rank)}
    for name in ("slates", "rankings", "best", "agreement"):
        found[name] = min(_cpu(getattr(opt, name))[1] for _ in range(5))
    opt.retract(last.first)
    found["state_after_undo"] = _cpu(opt._state)[1]
    opt.close()
    found["reopen_and_fold"] = _cpu(lambda: Optimizer.open(path)._state())[1]
    return {name: seconds * 1e3 for name, seconds in found.items()}


def _cpu(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.thread_time()
    result = call()
    return result, time.thread_time() - start


def main() -> int:
    """Print the table; 1 if asking or telling in memory, or a look at what was ranked, takes longer than the limits."""
    ask, tell = in_memory()
    with tempfile.TemporaryDirectory() as folder:
        disk: dict[str, Any] = on_disk(Path(folder))
        people = ranked(Path(folder) / "people.db")
    print(json.dumps({"memory": {"ask_us": round(ask, 1), "tell_us": round(tell, 1), "limit_us": LIMIT},
                      "disk": {key: round(value, 3) for key, value in disk.items()},
                      "ranked_ms": {key: round(value, 3) for key, value in people.items()}}, indent=2))  # fmt: skip
    return int(max(ask, tell) > LIMIT or max(people["slates"], people["rankings"]) > LOOK_LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
