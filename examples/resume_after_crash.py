"""A run that is killed in the middle, with SIGKILL, and goes on as if nothing had happened.

With `store=`, every question and every answer is on the disk before the call returns. The same call, made again, goes on
where the first one stopped, with the very points that it would have asked without the crash.

Run it: python examples/resume_after_crash.py [PATH OF A STORE THAT STAYS]
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import bbopt

BUDGET = int(os.environ.get("BBOPT_EXAMPLE_BUDGET", "24"))
TASK = bbopt.Task(bbopt.Space(x=bbopt.Float(-5, 5), y=bbopt.Float(-5, 5)))


def slow_bowl(params: dict[str, Any]) -> float:
    time.sleep(0.05)  # as if it were a simulation
    return float((params["x"] - 1) ** 2 + (params["y"] + 2) ** 2)


def run(store: Path | None) -> bbopt.Result:
    return bbopt.minimize(slow_bowl, TASK, budget=BUDGET, strategy="sobol", seed=7, store=store, name="bowl")


def told(store: Path) -> int:
    try:
        with bbopt.Optimizer.open(store, "bowl") as opt:
            return sum(trial.status == "ok" for trial in opt.trials())
    except bbopt.StoreError:  # the child has not made the study yet
        return 0


def main(store: Path) -> None:
    child = subprocess.Popen([sys.executable, __file__, str(store), "as child"])
    while told(store) < BUDGET // 2 and child.poll() is None:
        time.sleep(0.05)
    child.kill()  # SIGKILL: no chance to tidy up
    child.wait()
    print(f"killed; {told(store)} of {BUDGET} results are in {store.name}")
    points = [trial.params for trial in run(store).optimizer.trials()]
    print(f"went on; {told(store)} of {BUDGET} results are in {store.name}")
    undisturbed = [trial.params for trial in run(None).optimizer.trials()]
    print(f"the same points as without the crash: {points == undisturbed}")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        run(Path(sys.argv[1]))  # the child, which will be killed
    elif len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder) / "runs.db")
