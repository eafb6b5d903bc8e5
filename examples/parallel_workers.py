"""Several processes work on one study. They share nothing but the file; one of them dies, and its trial is not lost.

A lease says for how long a trial belongs to the one who asked for it: whoever asks after that gets it again.

Run it: python examples/parallel_workers.py [PATH OF A STORE THAT STAYS]
"""

import os
import sys
import tempfile
import time
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

import bbopt

BUDGET = int(os.environ.get("BBOPT_EXAMPLE_BUDGET", "24"))
WORKERS = 3
LEASE = 1.0  # seconds; longer than any evaluation takes
PROBLEM = "hartmann3"


def work(store: Path, worker: int) -> None:
    problem = bbopt.problems.get(PROBLEM)
    with bbopt.Optimizer.open(store, "shared", owner=f"worker {worker}", lease=LEASE) as opt:
        while sum(trial.status == "ok" for trial in opt.trials()) < BUDGET:
            trial = opt.ask()
            if worker == 0:
                os._exit(1)  # dies with an open trial
            time.sleep(0.1)  # as if it were a simulation
            opt.tell(trial, problem(trial.params))


def main(store: Path) -> None:
    task = bbopt.problems.get(PROBLEM).task
    bbopt.Optimizer(task, "random", seed=2, store=store, name="shared").close()
    context = get_context("spawn")
    workers = [context.Process(target=work, args=(store, i)) for i in range(WORKERS)]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
    with bbopt.Optimizer.open(store, "shared") as opt:
        trials, best = opt.trials(), opt.best()
    assert best is not None
    shares = Counter(trial.owner for trial in trials if trial.status == "ok")
    print(", ".join(f"{owner} answered {count}" for owner, count in sorted(shares.items())))
    for trial in trials:
        if trial.attempt > 1:
            print(f"trial {trial.number} was lost with its worker and given out again to {trial.owner}: {trial.status}")
    print(f"best of {len(trials)}: {best.values} at {best.params}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder) / "runs.db")
