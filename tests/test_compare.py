"""The comparison's runner: what is kept, what is done again, and what is left out with a note."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import problems
from bbopt.compare.cell import path_of, read_cell
from bbopt.compare.run import compare_lock, run_compare, suite_of
from bbopt.compare.write import load_cells
from bbopt.errors import UsageError

HERE = Path(__file__).parent
WALK, RAISES, DIES = "compare_peers:Walk", "compare_peers:Raises", "compare_peers:Dies"


def run(folder: Path, peers: list[str], names: str | list[str] = "branin", **options: Any) -> Any:
    return run_compare(names, peers, out=folder, **{"budget": 6, "seeds": 2, "progress": False, **options})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small comparison with everything that can happen to a peer."""
    out = tmp_path_factory.mktemp("compare")
    done = run(out, ["random", RAISES, DIES, "compare_peers:Absent", "compare_peers:Free", WALK], ["branin", "spring"])
    assert (done.complete, done.planned, len(done.failed)) == (10, 18, 8)
    return out


def test_every_evaluation_is_kept_as_the_problem_answered(folder: Path) -> None:
    cell = read_cell(path_of(folder, "spring", WALK, 1))
    assert cell is not None and cell.error is None
    assert (cell.problem, cell.peer, cell.seed, cell.budget, cell.version) == ("spring", WALK, 1, 6, "walk 1")
    assert len(cell.points) == len(cell.ask) == len(cell.tell) == 6
    assert all(metrics == problems.get("spring")(params) for params, metrics in cell.points)
    space = problems.get("spring").task.space
    rng = np.random.default_rng(1)
    assert cell.points[0][0] == space.decode(space.canonical(rng.random((1, 3)))[0])


def test_a_peer_that_fails_keeps_what_it_had_and_the_rest_goes_on(folder: Path) -> None:
    cell = read_cell(path_of(folder, "branin", RAISES, 0))
    assert cell is not None and cell.error == "RuntimeError: the model did not fit" and len(cell.points) == 3
    assert "in at" in str(cell.traceback)
    dead = read_cell(path_of(folder, "branin", DIES, 1))
    assert dead is not None and "ended by signal 9 (SIGKILL)" in str(dead.error)
    assert read_cell(path_of(folder, "branin", WALK, 1)) is not None


def test_who_is_left_out_and_why(folder: Path) -> None:
    done = run(folder, ["compare_peers:Absent", "compare_peers:Free", "random"], ["branin", "spring"])
    assert done.left_out == {"compare_peers:Absent": "ModuleNotFoundError: No module named 'absent'"}
    assert done.refused == {("spring", "compare_peers:Free"): "no constraints here"}
    assert (done.complete, done.planned, done.failed) == (6, 6, {})
    with pytest.raises(UsageError, match="none of these peers is installed"):
        run(folder, ["compare_peers:Absent"])


def test_failed_runs_are_made_again_when_asked_for(folder: Path) -> None:
    before = path_of(folder, "branin", WALK, 0).stat().st_mtime_ns
    same = run(folder, [RAISES, WALK])
    assert set(same.failed) == {f"branin/{RAISES}/{seed}" for seed in (0, 1)}
    (folder / "mended").touch()
    assert run(folder, [RAISES, WALK], again=["failed"]).failed == {}
    assert path_of(folder, "branin", WALK, 0).stat().st_mtime_ns == before
    run(folder, [RAISES, WALK], again=[WALK])
    assert path_of(folder, "branin", WALK, 0).stat().st_mtime_ns > before


def test_seeds_come_first_and_slow_peers_get_fewer(tmp_path: Path) -> None:
    order: list[str] = []
    done = run_compare(
        ["branin", "jlh1"], [WALK, "compare_peers:Sleeps"], budget=2, seeds=[4, 7], slow_seeds=1, out=tmp_path,
        progress=lambda progress: order.extend(progress.running),
    )  # fmt: skip
    sleeps = "compare_peers:Sleeps"
    wanted = [f"branin/{WALK}/4", f"branin/{sleeps}/4", f"jlh1/{WALK}/4", f"jlh1/{sleeps}/4",
              f"branin/{WALK}/7", f"branin/{sleeps}/7", f"jlh1/{WALK}/7"]  # fmt: skip
    assert list(dict.fromkeys(order)) == wanted
    assert done.planned == done.complete == 7
    assert [(c.problem, c.peer, c.seed) for c in load_cells(tmp_path, peers=[sleeps])] == [
        ("branin", sleeps, 4), ("branin", sleeps, 7), ("jlh1", sleeps, 4)
    ]  # fmt: skip


def test_killed_at_any_time_it_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", f"""if __name__ == "__main__":
    from bbopt.compare import run_compare
    run_compare("branin", ["compare_peers:Sleeps"], budget=12, seeds=6, out={str(tmp_path)!r}, progress=False)
"""]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}"}
    process = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("cells/*/*/*.json"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.read_bytes() for path in tmp_path.glob("cells/*/*/*.json")}
    assert 2 <= len(kept) < 6
    done = run(tmp_path, ["compare_peers:Sleeps"], budget=12, seeds=6)
    assert done.complete == 6
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert {path.suffix for path in tmp_path.glob("cells/*/*/*")} <= {".json"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"peers": ["optuna-gpp"]}, "did you mean 'optuna-gp'"),
        ({"peers": ["compare_peers:Nobody"]}, "expected a class that makes a peer"),
        ({"peers": ["bbopt:gpp"]}, "did you mean 'gp'"),
        ({"names": "brannin"}, "no problem 'brannin'"),
        ({"names": "branin@ranked"}, "values as answers \\(branin@ranked\\)"),
        ({"names": "jlh1@ranked"}, "values as answers"),
        ({"names": []}, "a suite or a problem"),
        ({"budget": 0}, "budget >= 1"),
        ({"seeds": []}, "at least one"),
        ({"seeds": [1, 1]}, "different seeds"),
        ({"slow_seeds": -1}, "slow_seeds >= 0"),
        ({"again": ["nobody"]}, "expected a peer of"),
    ],
)
def test_wrong_input_is_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    peers = options.pop("peers", [WALK])
    names = options.pop("names", "branin")
    with pytest.raises(UsageError, match=words):
        run(tmp_path, peers, names, **options)
    assert not list(tmp_path.glob("cells/*/*/*"))


def test_a_folder_is_of_one_budget_and_of_one_process(folder: Path) -> None:
    with pytest.raises(UsageError, match="holds runs of 6 evaluations"):
        run(folder, [WALK], budget=7)
    assert json.loads((folder / "compare.json").read_text())["budget"] == 6
    child = "import sys, time\nfrom pathlib import Path\nfrom bbopt.compare.run import compare_lock\n"
    child += f"with compare_lock(Path({str(folder)!r})):\n    print('held', flush=True)\n    time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, text=True, cwd=HERE.parent) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="another `bbopt compare` is at work"), compare_lock(folder):
            pass
        process.kill()


def test_suites() -> None:
    assert suite_of(["core"]) == suite_of(["core", "branin"])
    assert suite_of(["engineering-mixed", "branin"])[-1] == "branin"
    assert all(problems.get(name).optimum.value is not None for name in suite_of(["core"]))
