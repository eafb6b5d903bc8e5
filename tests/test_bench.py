"""The benchmark runner: from a real pool of processes to the report, and through kill -9 to the same trials."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import problems
from bbopt.bench import BenchDiffers, Progress, run_bench
from bbopt.bench import job as bench_job
from bbopt.bench.job import initial_design, run_job
from bbopt.bench.plan import Job, Plan, as_seeds, join, read_json, write_json
from bbopt.bench.pool import folder_lock
from bbopt.bench.progress import _lines, duration, line
from bbopt.bench.run import _Session
from bbopt.errors import UsageError
from bbopt.optimizer import Optimizer
from bbopt.report.load import load
from bbopt.report.write import write_report
from bbopt.space import Float, Int, Space
from bbopt.strategies.random_search import RandomSearch
from bbopt.strategies.sobol import Sobol
from bbopt.task import Constraint, Objective, Task

CHEAP = ["jlh1", "welded_beam", "branin"]
ROOT = Path(__file__).parent.parent
OWN = """
    import os
    from dataclasses import dataclass
    from pathlib import Path
    from typing import ClassVar
    from bbopt.query import Query

    @dataclass(frozen=True)
    class Fragile:
        '''Uniform points; does what the file `mood` says, on seed 1 only, at trial 8.'''

        mood: str
        handles: ClassVar = frozenset({"constraints"})
        learns: ClassVar = "rows"
        instant: ClassVar = True

        def init(self, task, key):
            return 0

        def ask(self, task, state, request, key):
            assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"] == "1"
            mood = Path(self.mood).read_text()
            if key.seed == 1 and request.number >= 8:
                if mood == "raise":
                    raise RuntimeError("the model did not fit")
                if mood == "die":
                    os.kill(os.getpid(), 9)
            return Query(task.space.from_uniform(key.rng("points").random((request.n, task.space.dimension))))

        def tell(self, task, state, query, answer):
            return state + 1
"""


def trials_of(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every trial of every study: number, status, params, values."""
    found = {}
    with closing(sqlite3.connect(folder / "runs.db")) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM study")]
    for name in names:
        with Optimizer.open(folder / "runs.db", name) as opt:
            found[name] = [(t.number, t.status, t.params, t.values) for t in opt.trials()]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete small benchmark."""
    out = tmp_path_factory.mktemp("bench") / "results"
    before = dict(os.environ)
    outcome = run_bench(CHEAP, ["random", "sobol"], budget=12, seeds=2, out=out, initial=5, workers=2, progress=False)
    assert outcome.ok
    assert (outcome.complete, outcome.planned, outcome.folder) == (12, 12, out)
    assert dict(os.environ) == before
    return out


def test_every_evaluation_is_a_told_trial_of_its_study(folder: Path) -> None:
    found = trials_of(folder)
    assert set(found) == {f"{p}/{s}/{seed}" for p in CHEAP for s in ("random", "sobol") for seed in (0, 1)}
    for name, trials in found.items():
        problem = problems.get(name.split("/")[0])
        assert [trial[:2] for trial in trials] == [(number, "ok") for number in range(12)]
        assert all(dict(values) == problem(params) for _, _, params, values in trials)


def test_strategies_share_the_initial_points_and_nothing_else(folder: Path) -> None:
    found = trials_of(folder)
    for problem in CHEAP:
        for seed in (0, 1):
            one, other = ([t[2] for t in found[f"{problem}/{s}/{seed}"]] for s in ("random", "sobol"))
            assert one[:5] == other[:5] == initial_design(problem, problems.get(problem).task, seed, 5)
            assert all(a != b for a, b in zip(one[5:], other[5:], strict=True))
        assert found[f"{problem}/random/0"][0] != found[f"{problem}/random/1"][0]


def test_definition_says_what_was_run(folder: Path) -> None:
    definition = read_json(folder / "bench.json")
    assert definition["suite"] == "selection"
    assert definition["problems"] == CHEAP
    assert definition["strategies"]["sobol"]["name"] == "sobol"
    assert (definition["seeds"], definition["budget"], definition["initial"]) == ([0, 1], 12, 5)
    session = definition["sessions"][0]
    assert session["versions"]["numpy"] == np.__version__
    assert session["ended"] is not None
    assert session["machine"]["cores"] >= 1


def test_report_of_the_folder(folder: Path) -> None:
    page = write_report(folder)
    assert page == folder / "report" / "index.html"
    text = page.read_text("utf-8")
    for words in ("Welded beam", "Branin", "JLH1", "sobol", "12 evaluations each", "12 of 12"):
        assert words in text
    bench = load(folder)
    assert all(bench.complete(run) for run in bench.runs)
    trials = trials_of(folder)
    for run in bench.runs:
        assert list(run.params) == [params for _, _, params, _ in trials[f"{run.problem}/{run.strategy}/{run.seed}"]]
        assert np.isfinite(run.told_at).all()
        assert (np.diff(run.told_at) >= 0).all()
        assert (run.seconds >= 0).all()
    beam = next(run for run in bench.runs if run.problem == "welded_beam")
    task = problems.get("welded_beam").task
    for values, feasible in zip([t[3] for t in trials["welded_beam/random/0"]], beam.feasible, strict=True):
        assert bool((task.to_inside(values)[1] <= 0).all()) == feasible


def test_the_same_call_again_does_nothing_and_more_is_added(folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    before = trials_of(copy)
    assert run_bench(CHEAP, ["random", "sobol"], 12, 2, copy, initial=5, progress=False).ok
    assert trials_of(copy) == before
    seen: list[Progress] = []
    outcome = run_bench(["jlh1"], {"halton": Sobol()}, 14, [5], copy, initial=5, workers=1, progress=seen.append)
    assert (outcome.complete, outcome.planned) == (1, 1)
    assert seen[-1].runs == seen[-1].runs_total == 1
    assert run_bench(CHEAP, ["random"], 14, 2, copy, initial=5, workers=2, progress=False).ok
    after = trials_of(copy)
    assert len(after) == 13
    assert all(after[name][:12] == trials for name, trials in before.items())
    assert len(after["branin/random/1"]) == 14
    definition = read_json(copy / "bench.json")
    assert (definition["budget"], definition["seeds"], list(definition["strategies"])) == (
        14, [0, 1, 5], ["random", "sobol", "halton"],
    )  # fmt: skip
    assert len(definition["sessions"]) == 4
    assert "This benchmark is not complete" in write_report(copy).read_text("utf-8")


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"budget": 11}, "budget: 12 there, 11 here"),
        ({"initial": 6}, "initial: 5 there, 6 here"),
        ({"strategies": {"random": Sobol()}}, "name 'random' there, 'sobol' here"),
    ],
    ids=["budget", "initial", "strategy"],
)
def test_another_benchmark_in_the_folder_is_refused_with_the_difference(
    change: dict[str, Any], shown: str, folder: Path
) -> None:
    arguments: dict[str, Any] = {"suite": CHEAP, "strategies": ["random"], "budget": 12, "seeds": 2, "initial": 5}
    before = (folder / "bench.json").read_bytes()
    with pytest.raises(BenchDiffers, match=shown):
        run_bench(**(arguments | change), out=folder, progress=False)
    assert (folder / "bench.json").read_bytes() == before


def test_a_selection_can_grow_into_its_suite_and_two_suites_do_not_mix(tmp_path: Path) -> None:
    def plan(suite: str, names: tuple[str, ...]) -> Plan:
        return Plan(suite, names, {"random": RandomSearch()}, (0,), 5, 2)

    mixed = problems.names("engineering-mixed")
    some = plan("selection", mixed[2:4]).to_json()
    whole = join(some, plan("engineering-mixed", mixed), tmp_path)
    assert (whole["suite"], whole["problems"]) == ("engineering-mixed", list(mixed))
    assert join(whole, plan("selection", mixed[:1]), tmp_path)["suite"] == "engineering-mixed"
    assert join(whole, plan("selection", ("branin",)), tmp_path)["suite"] == "selection"
    with pytest.raises(BenchDiffers, match="suite: 'engineering-mixed' there, 'engineering' here"):
        join(whole, plan("engineering", problems.names("engineering")), tmp_path)


def bench_process(out: Path, budget: int) -> subprocess.Popen[bytes]:
    code = f"""
        from bbopt.bench import run_bench
        run_bench({CHEAP!r}, ["random", "sobol"], {budget}, 1, {str(out)!r}, initial=5, workers=2, progress=False)
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, stderr=subprocess.PIPE)


def told(out: Path) -> int:
    """Answers in the store so far."""
    try:
        with closing(sqlite3.connect(out / "runs.db", timeout=10)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM log WHERE kind = 'tell'").fetchone()
            return int(count)
    except sqlite3.Error:
        return 0


def wait_for(what: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    try:
        return "\nState:\tZ" in status.read_text()
    except OSError:
        return True


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_killed_and_interrupted_it_continues_to_the_same_trials(tmp_path: Path) -> None:
    budget, cut, whole = 40, tmp_path / "cut", tmp_path / "whole"
    for place, number in enumerate((signal.SIGKILL, signal.SIGINT), start=1):
        process = bench_process(cut, budget)
        wait_for(lambda: told(cut) >= place * 70 or process.poll() is not None)  # noqa: B023
        assert process.poll() is None, process.communicate()[1].decode()
        workers = children(process.pid)
        assert len(workers) >= 2
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
        assert process.returncode != 0
        if number == signal.SIGINT:
            assert b"KeyboardInterrupt" in errors
        wait_for(lambda: all(gone(pid) for pid in workers))  # noqa: B023  they end with their parent
    assert told(cut) < 6 * budget
    assert run_bench(CHEAP, ["random", "sobol"], budget, 1, cut, initial=5, workers=2, progress=False).ok
    assert run_bench(CHEAP, ["random", "sobol"], budget, 1, whole, initial=5, workers=1, progress=False).ok
    interrupted, smooth = trials_of(cut), trials_of(whole)
    assert interrupted == smooth
    assert all([trial[:2] for trial in trials] == [(n, "ok") for n in range(budget)] for trials in interrupted.values())
    with closing(sqlite3.connect(cut / "runs.db")) as connection:
        kinds = dict(connection.execute("SELECT kind, count(*) FROM log GROUP BY kind"))
    assert kinds == {"enqueue": 6 * 5, "ask": 6 * budget, "tell": 6 * budget}  # nothing twice, nothing superseded


@pytest.fixture
def fragile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Path]]:
    """A strategy of the user's own in a module of the user's own, and the file that tells it how to behave."""
    (tmp_path / "fragile_strategy.py").write_text(textwrap.dedent(OWN))
    monkeypatch.syspath_prepend(tmp_path)
    import fragile_strategy

    yield fragile_strategy.Fragile, tmp_path / "mood"
    sys.modules.pop("fragile_strategy")


@pytest.mark.parametrize(("mood", "error"), [("raise", "RuntimeError: the model did not fit"), ("die", "signal 9")])
def test_a_run_that_fails_is_recorded_and_the_rest_goes_on(
    mood: str, error: str, fragile: tuple[Any, Path], tmp_path: Path
) -> None:
    kind, says = fragile
    says.write_text(mood)
    out = tmp_path / "out"
    strategies = {"mine": kind(str(says)), "random": RandomSearch()}
    outcome = run_bench(["jlh1"], strategies, 10, 3, out, initial=4, workers=2, progress=False)
    assert not outcome.ok
    assert (outcome.complete, outcome.planned) == (5, 6)
    assert list(outcome.failed) == ["jlh1/mine/1"]
    assert error in outcome.failed["jlh1/mine/1"]
    end = read_json(out / "runs.json")["jlh1/mine/1"]
    assert end["state"] == "failed"
    assert error in end["traceback"]
    page = write_report(out).read_text("utf-8")
    assert "jlh1/mine/1" in page
    assert error in page
    says.write_text("calm")
    again = run_bench(["jlh1"], strategies, 10, 3, out, initial=4, workers=2, progress=False)
    assert again.ok
    assert read_json(out / "runs.json")["jlh1/mine/1"]["state"] == "complete"
    runs = load(out).runs
    assert [run.n for run in runs] == [10] * 6
    assert [run.error for run in runs] == [""] * 6


def test_one_benchmark_at_a_time_in_a_folder(tmp_path: Path) -> None:
    code = f"from pathlib import Path\nfrom bbopt.bench.pool import folder_lock\nwith folder_lock(Path({str(tmp_path)!r})):\n    print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UsageError, match="another `bbopt bench` is at work"):
            run_bench(["jlh1"], ["random"], 3, 1, tmp_path, initial=1, progress=False)
        other.communicate(b"\n")
    with folder_lock(tmp_path):
        pass


def test_names_and_numbers_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for arguments, words in (
        ((["jlh1"], ["randon"], 5, 1), "did you mean 'random'"),
        ((["jlh_1"], ["random"], 5, 1), "did you mean jlh1"),
        ((["jlh1"], [], 5, 1), "at least one strategy"),
        ((["jlh1"], ["random"], 5, 0), "at least one seed"),
        ((["jlh1"], ["random"], 0, 1), "budget >= 1"),
        ((["jlh1", "jlh1"], ["random"], 5, 1), "'jlh1' twice"),
        ((["jlh1"], {"a/b": RandomSearch()}, 5, 1), "without a slash"),
    ):
        with pytest.raises(UsageError, match=words):
            run_bench(*arguments, out=out, progress=False)  # type: ignore[arg-type]
    assert not (out / "bench.json").exists()
    with pytest.raises(UsageError, match="run the benchmark first"):
        write_report(out)


# -- one run, in this process ------------------------------------------------------------------------------------------


class Grid:
    """A problem with nine points, in place of one by name."""

    task = Task(
        Space(i=Int(0, 2), j=Int(0, 2)),
        [Objective("f", maximize=True)],
        [Constraint("g", upper=2.0)],
        where=["i + j <= 3"],
    )
    broken = -1

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, params: dict[str, Any]) -> dict[str, float]:
        self.calls += 1
        if self.calls == self.broken:
            raise OSError("the simulator is gone")
        return {"f": params["i"] * 3.0 + params["j"], "g": float(params["i"])}


def test_a_small_space_is_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid()
    monkeypatch.setattr(bench_job.problems, "get", lambda name: grid)
    job = Job("grid", "random", 0)
    finished = run_job(job, RandomSearch(), 20, 3, tmp_path / "runs.db")
    assert (finished.evaluations, finished.new, finished.exhausted) == (
        8,
        8,
        True,
    )  # nine points, one beyond i + j <= 3
    again = run_job(job, RandomSearch(), 20, 3, tmp_path / "runs.db")
    assert (again.evaluations, again.new, again.exhausted) == (8, 0, True)
    assert grid.calls == 8


def test_an_open_trial_is_answered_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    for name, broken in (("cut", 4), ("whole", -1)):
        grid = Grid()
        grid.broken = broken
        monkeypatch.setattr(bench_job.problems, "get", lambda _, grid=grid: grid)
        job = Job("grid", "random", 1)
        if broken > 0:
            with pytest.raises(OSError, match="simulator"):
                run_job(job, RandomSearch(), 6, 3, tmp_path / f"{name}.db")
            with Optimizer.open(tmp_path / f"{name}.db", job.study) as opt:
                assert [t.status for t in opt.trials()] == ["ok"] * 3 + ["open"]
        finished = run_job(job, RandomSearch(), 6, 3, tmp_path / f"{name}.db", heard.append)
        assert finished.evaluations == 6
    assert heard == [4, 5, 6, 1, 2, 3, 4, 5, 6]
    opened = [Optimizer.open(tmp_path / f"{name}.db", "grid/random/1") for name in ("cut", "whole")]
    cut, whole = ([(t.number, t.params, t.values) for t in opt.trials()] for opt in opened)
    assert cut == whole


def test_initial_points_are_uniform_and_satisfy_known_conditions() -> None:
    task = Task(Space(x=Float(1, 100, log=True), y=Float(0, 1)))
    points = initial_design("some_problem", task, 7, 400)
    assert points == initial_design("some_problem", task, 7, 400)
    assert points[:10] == initial_design("some_problem", task, 7, 10)
    assert points[0] != initial_design("another", task, 7, 1)[0]
    below = np.mean([point["x"] < 10 for point in points])  # the middle of the log axis
    assert 0.42 < below < 0.58
    known = initial_design("grid", Grid.task, 0, 50)
    assert len(known) <= 8  # repeats left out
    assert all(point["i"] + point["j"] <= 3 for point in known)


# -- order of work and progress ----------------------------------------------------------------------------------------


def session(tmp_path: Path, plan: Plan) -> _Session:
    sizes = {name: (problems.get(name).task.space.dimension, problems.get(name).task.c) for name in plan.problems}
    return _Session(tmp_path, plan, sizes, 2)


def test_longest_expected_work_first_and_time_left(tmp_path: Path) -> None:
    plan = Plan("selection", ("jlh1", "car_side_impact"), {"auto": "auto", "random": RandomSearch()}, (0,), 100, 20)
    now = session(tmp_path, plan)
    order = sorted(plan.jobs(), key=now.units, reverse=True)
    assert [job.study for job in order[:2]] == ["car_side_impact/auto/0", "jlh1/auto/0"]
    assert now.progress([]).seconds_left is None
    assert (now.progress([]).runs_total, now.progress([]).evaluations_total) == (4, 400)
    now._spent["random"], now._units["random"] = 2.0, 1.0
    assert now.progress([]).seconds_left == pytest.approx(2 * now.units(order[0]))  # the longest run bounds it


def test_progress_in_words() -> None:
    at = Progress(3, 12, 400, 1200, 1, 130.0, ("jlh1/gp/0",))
    assert line(at) == "3 of 12 runs, 400 of 1200 evaluations, 1 failed, about 2 min left"
    assert duration(90 * 60) == "1 h 30 min"
    written: list[str] = []
    show = _lines(written.append)
    show(at)
    assert written == []  # not more than twice a minute
    for _ in range(2):
        show(Progress(12, 12, 1200, 1200, 0, 0.0))
    assert written == ["12 of 12 runs, 1200 of 1200 evaluations"]


def test_bar_writes_to_standard_error_only(capfd: pytest.CaptureFixture[str]) -> None:
    from bbopt.bench.progress import bar

    with bar("engineering") as show:
        show(Progress(12, 12, 1200, 1200, 0, 0.0))
    out, errors = capfd.readouterr()
    assert out == ""
    assert "12 of 12 runs" in errors


def test_files_are_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert read_json(path) == {}
    write_json(path, {"text": "µ"})
    assert read_json(path) == {"text": "µ"}
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]
    path.write_text("{half")
    with pytest.raises(UsageError, match="expected JSON"):
        read_json(path)
    path.write_text(json.dumps([1]))
    with pytest.raises(UsageError, match="object"):
        read_json(path)


def test_seeds() -> None:
    assert as_seeds(2) == (0, 1)
    assert as_seeds(np.arange(3, 5).tolist()) == (3, 4)
