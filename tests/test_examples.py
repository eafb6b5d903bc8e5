"""Every script in examples/ runs, as a newcomer would run it, and says what it promises; at a tiny budget."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SAYS = {  # what the output shows, as regular expressions
    "quick_start": r"ask and tell: cost [\d.]+ at \{'width'.*\nminimize: +cost ([\d.]+) at",
    "constrained_design": r"of \d+ designs keep all limits\n.*(shell: [\d.]+\n.*steel: \w+\n.*cost: |more evaluations)",
    "resume_after_crash": r"killed; (\d+) of 8 results.*\nwent on; 8 of 8 results.*\n.*without the crash: True\n",
    "parallel_workers": r"worker [12] answered \d.*\nbest of \d+: \{'f",
    "told_from_csv": r"2 results of last year\n10 experiments; best yield [\d.]+ % with",
    "many_constraints": r"\d+ of \d+ designs keep all 12 limits\n(best: \d+ lb; .*\nlimits that hold|no design keeps)",
    "gpu_batches": r"\d+ settings in [\d.]+ s on the [CG]PU.*\nside lobes -?[\d.]+ dB",
    "own_strategy": r"best \{",
    "certified_defence": r"no denoiser( +[\d.]+){5}\n +denoiser, by pixels( +[\d.]+){5}\n +denoiser, by weights( +[\d.]+){5}\n$",
    "solver_in_the_loop": r"16 solutions .*\n +coarse solver alone +0\.0\d+ .*\n.*\n.*\n +rollouts, values alone +0\.\d+ .*s\n$",
    "random_load": r"on average: [\d.]+ x [\d.]+ inches cost -?[\d.]+ .*\n *in the worst tenth: .*\n +at worst: .*\n$",
    "rank_pictures": r"distance from the tree in mind: 0\.[2-9]\d at first, 0\.[0-3]\d at last\nits picture is [\d,]+ characters of SVG\n",
    "worker_over_http": r"best of \d+: Trial\(number=\d+, params=\{'tuning'.*status='ok'.*\n$",
    "ranked_landscape": r"^(after +\d+ rankings: \d\.\d\d from the picture in mind\n){4}$",
    "ranked_policy": r"does nothing: -53\.\d\n(after +\d+ rankings of five: -\d\d\.\d\n){2,3}$",
    "advice": r"after \d+ welds: (go on|stop|little left|unclear)\n.*\nload: predictions .*\n(\w+ is behind \d+ % of the variation\n){3}(load along .*\n){3}$",
    "weights_by_queries": r"1210 weights, loss 2\.334 at the start\n.*\ncge( +[\d,.]+){3}\ndeepzero, grasp( +[\d,.]+){3}\n.*\n$",
}
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


def run(name: str, folder: Path, *words: str) -> str:
    environment = {**os.environ, "BBOPT_EXAMPLE_BUDGET": "8", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *words]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def test_the_examples_are_those_of_the_plan() -> None:
    assert set(SAYS) <= {*NAMES, "own_strategy"}


@pytest.mark.parametrize("name", NAMES)
def test_example_runs_and_leaves_nothing_behind(name: str, tmp_path: Path) -> None:
    output = run(name, tmp_path)
    assert re.search(SAYS.get(name, r"\S"), output, re.DOTALL), output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_example_is_short_and_says_how_to_run_it(name: str) -> None:
    text = (EXAMPLES / f"{name}.py").read_text()
    assert text.startswith('"""')
    assert len(text.splitlines()) <= (80 if name == "own_strategy" else 60)


def test_what_a_given_path_keeps(tmp_path: Path) -> None:
    run("many_constraints", tmp_path, "progress.png")
    assert (tmp_path / "progress.png").read_bytes().startswith(b"\x89PNG")
    for name in ("ranked_policy", "ranked_landscape"):
        run(name, tmp_path, f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    run("told_from_csv", tmp_path, "lab")
    assert sorted(path.name for path in (tmp_path / "lab").glob("*.csv")) == ["experiments.csv", "last_year.csv"]
