"""Evaluations on Ray: the same values as here, a worker that is killed, what travels, clusters, bad input; see also the contract."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ray = pytest.importorskip("ray", reason="evaluations on Ray need the package ray")

import ray_subject as subject  # noqa: E402

from bbopt.bench import run_bench  # noqa: E402
from bbopt.errors import EvaluatorError, MissingPackage, UsageError  # noqa: E402
from bbopt.evaluate_ray import RayEvaluator  # noqa: E402
from bbopt.optimizer import Optimizer  # noqa: E402
from bbopt.ray_cluster import Cluster, RayWorker, _how, open_cluster  # noqa: E402
from bbopt.run import minimize  # noqa: E402
from bbopt.space import Float, Space  # noqa: E402
from bbopt.task import Constraint, Objective, Task  # noqa: E402

ROOT = Path(__file__).parent.parent
LINE = Task(Space(x=Float(-1, 1), y=Float(-1, 1)))


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch, subject.cluster(patch) as opened:
        yield opened


def told(opt: Optimizer) -> list[tuple[Any, ...]]:
    return [(t.number, t.status, t.params, t.values) for t in opt.trials()]


# -- the same values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["sobol", "cmaes"])
def test_one_and_two_workers_tell_what_this_process_tells(strategy: str, ray_cluster: Cluster) -> None:
    """Rows that do not depend on the order in which answers come: those of a sequence, and populations as a whole."""
    space = Space(x=Float(-1, 1), y=Float(0.1, 10, log=True))
    task = Task(space, [Objective("f", maximize=True)], [Constraint("g", upper=0.5)])
    runs = [
        told(minimize(subject.wave, task, 30, strategy, evaluator, seed=3, progress=False).optimizer)
        for evaluator in (None, RayEvaluator(workers=1, batch=4), RayEvaluator(workers=2))
    ]
    assert runs[0] == runs[1] == runs[2]
    assert ray.is_initialized()  # the connection was here before


def test_lazy_rows_travel_once_and_weights_never_with_a_task(
    ray_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coordinate-wise gradient over 40,000 columns: 321 kB of weights, stored once per query."""
    task = Task(Space(w=Float(scale=1.0, shape=(40_000,))))
    sent: list[int] = []
    stream, put = RayWorker.stream, Cluster.put

    def recorded(self: RayWorker, method: str, *arguments: Any) -> Any:
        sent.append(len(ray.cloudpickle.dumps([each for each in arguments if not isinstance(each, ray.ObjectRef)])))
        return stream(self, method, *arguments)

    stored: list[Any] = []
    monkeypatch.setattr(RayWorker, "stream", recorded)
    monkeypatch.setattr(Cluster, "put", lambda self, value: stored.append(value) or put(self, value))
    evaluator = RayEvaluator(workers=2, batch=20)
    run = minimize(subject.first_columns, task, 200, "cge", evaluator, progress=False)
    rows = run.optimizer.statuses()
    assert rows["ok"] == 200
    assert len(sent) in (10, 11)  # two workers that become free at once share the last twenty rows
    assert max(sent) < 2_000  # row numbers
    assert sum(not callable(each) for each in stored) == 1  # the query; the other one is the function
    here = minimize(subject.first_columns, task, 200, "cge", progress=False).optimizer
    record, there = (opt._book.records[0].metrics[:200] for opt in (here, run.optimizer))
    assert np.array_equal(record, there)


def test_many_rows_as_a_tensor(ray_cluster: Cluster) -> None:
    pytest.importorskip("torch", reason="batched objectives work on torch tensors")
    runs = [
        told(minimize(subject.batched_bowl, LINE, 24, "cmaes", evaluator, progress=False).optimizer)
        for evaluator in (None, RayEvaluator(workers=1))
    ]
    assert runs[0] == runs[1]
    with pytest.raises(EvaluatorError, match=r"expected a GPU.*RayEvaluator\(gpus=1\)"):
        minimize(subject.batched_on_gpu, LINE, 3, "random", RayEvaluator(workers=1), progress=False)


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_a_worker_killed_in_the_middle_of_200_evaluations(ray_cluster: Cluster, tmp_path: Path) -> None:
    function = partial(subject.killed_once, str(tmp_path / "pid"), 40)
    store = tmp_path / "runs.db"
    run = minimize(function, LINE, 200, "random", RayEvaluator(workers=2), store=store, progress=False)
    assert os.getpid() != int((tmp_path / "pid").read_text())
    trials = run.optimizer.trials()
    assert [trial.number for trial in trials] == list(range(200))
    assert {trial.status for trial in trials} == {"ok"}
    assert Counter(trial.attempt for trial in trials) == {1: 199, 2: 1}
    events = list(run.optimizer._store.read("study", 0))
    assert Counter(event.kind for event in events if event.kind != "ask") == {"tell": 200, "fail": 1}
    assert {event.body["number"] for event in events if event.kind == "tell"} == set(range(200))
    assert run.evaluations == 200


def test_an_interrupt_in_a_worker_is_a_loss(ray_cluster: Cluster) -> None:
    """Ray would take it for a task that was cancelled."""
    opt = minimize(subject.interrupts, LINE, 1, "random", RayEvaluator(workers=1), progress=False).optimizer
    (trial,) = opt.trials()
    assert (trial.status, trial.attempt) == ("lost", 3)
    assert "ended: Worker" in trial.reason


def test_functions_that_cannot_travel(ray_cluster: Cluster) -> None:
    with pytest.raises(UsageError, match="that pickle can send"):
        minimize(partial(subject.returns, threading.Lock()), LINE, 3, "random", RayEvaluator(workers=1), progress=False)
    with pytest.raises(EvaluatorError, match=r"(?s)workers on Ray can load.*no such thing here"):
        minimize(subject.Unloadable(), LINE, 3, "random", RayEvaluator(workers=1), progress=False)


# -- clusters ----------------------------------------------------------------------------------------------------------


def test_a_cluster_of_its_own_leaves_nothing_behind(tmp_path: Path) -> None:
    """Not on the terminal either: a worker dies on the way, of which Ray would tell on standard output."""
    code = f"""
        import os, signal, sys, threading
        import bbopt, ray_subject
        from functools import partial
        before = dict(os.environ), signal.getsignal(signal.SIGTERM), threading.active_count()
        task = bbopt.Task(bbopt.Space(x=bbopt.Float(-1, 1), y=bbopt.Float(-1, 1)))
        function = partial(ray_subject.killed_once, {str(tmp_path / "pid")!r}, 5)
        result = bbopt.minimize(function, task, 12, "random", bbopt.RayEvaluator(workers=1), progress=False)
        assert result.evaluations == 12
        import ray
        assert not ray.is_initialized()
        assert (dict(os.environ), signal.getsignal(signal.SIGTERM), threading.active_count()) == before
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"PYTHONPATH": f"{Path(__file__).parent}:{ROOT}"}
    done = subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(code)], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["pid"]


def test_clusters_that_have_no_room(ray_cluster: Cluster) -> None:
    started = time.monotonic()
    for evaluator, words in (
        (RayEvaluator(gpus=1), r"1 CPUs and 1 GPUs for a worker, the cluster has 2 CPUs and 0 GPUs; leave gpus= at 0"),
        (RayEvaluator(cpus=64), "64 CPUs and 0 GPUs for a worker, the cluster has 2 CPUs and 0 GPUs; ask for less"),
        (RayEvaluator(workers=3), "at most 2 workers of 1 CPUs and 0 GPUs on this cluster, got workers=3"),
        (RayEvaluator(address="127.0.0.1:1"), "connected to .* already"),
    ):
        with pytest.raises(UsageError, match=words):
            minimize(subject.wave, LINE, 3, "random", evaluator, progress=False)
    assert time.monotonic() - started < 30
    assert ray_cluster.room(0.5, 0.0) == 4


def test_a_busy_cluster_is_waited_for_but_not_for_ever(ray_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bbopt.evaluate_ray.PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr("bbopt.evaluate_ray.LOOK_SECONDS", 0.1)
    made = ray_cluster.put(dict)
    others = [ray_cluster.start(made, 1.0, 0.0) for _ in range(2)]
    for other in others:
        ray_cluster.take(other.prepared)
    try:
        with pytest.raises(
            EvaluatorError,
            match=r"1 CPUs and 0 GPUs of the Ray cluster for a worker within .*0 CPUs and 0 GPUs are free",
        ):
            minimize(subject.wave, LINE, 3, "random", RayEvaluator(workers=1), progress=False)
    finally:
        for other in others:
            other.kill()


def test_a_cluster_that_is_gone(ray_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ray says of the nodes after its processes were killed: all are there, and none is alive."""
    nodes = [{**node, "Alive": False} for node in ray.nodes()]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    with pytest.raises(EvaluatorError, match="the Ray cluster is gone"):
        ray_cluster.start(ray_cluster.put(dict), 1.0, 0.0)


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("The actor died.\nThe actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit "
         "detail: Worker exits unexpectedly. Worker exits with an exit code 3.", "Worker exits unexpectedly. Worker exits with an exit code 3."),
        ("The actor died.\nWorker exit detail: End of file. Some common causes include: (1) the OOM killer", "End of file."),
        ("The actor died.\nThe actor is dead because it was killed by `ray.kill`.", "The actor is dead because it was killed by `ray.kill`."),
    ],
)  # fmt: skip
def test_how_a_worker_ended(text: str, how: str) -> None:
    assert _how(text) == f"ended: {how}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": 0}, "workers: .*got 0"),
        ({"batch": True}, "batch: .*got True"),
        ({"cpus": -1}, "cpus: .*at least 0, got -1"),
        ({"gpus": 1.5}, "gpus: .*whole number above 1"),
        ({"cpus": 0}, "workers= where a worker takes no share"),
        ({"seconds": 0}, "seconds: .*got 0"),
    ],
)
def test_options_that_are_none(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=f"RayEvaluator: .*{words}"):
        RayEvaluator(**options)


def test_addresses_where_nothing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would try them for minutes, and then end the process."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    for address, words in (
        ("127.0.0.1:1", "nothing answers there"),
        ("ray://127.0.0.1:1", "run the study on a machine of the cluster"),
        ("somewhere", "'host:port', 'auto' or 'local', got 'somewhere'"),
    ):
        with pytest.raises(UsageError, match=words), open_cluster(address):
            pass


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackage, match=r"pip install 'bbopt\[ray\]'"):
        minimize(subject.wave, LINE, 3, "random", RayEvaluator(workers=1), progress=False)


# -- benchmarks --------------------------------------------------------------------------------------------------------


def test_a_benchmark_on_ray_has_the_trials_of_one_without(ray_cluster: Cluster, tmp_path: Path) -> None:
    found = {}
    for name, on_ray in (("here", False), ("ray", True)):
        out = tmp_path / name
        assert run_bench(
            ["branin"], ["random", "sobol"], 8, 1, out, initial=4, workers=1, progress=False, ray=on_ray
        ).ok
        with closing(sqlite3.connect(out / "runs.db")) as connection:
            studies = [study for (study,) in connection.execute("SELECT name FROM study")]
        for study in studies:
            with Optimizer.open(out / "runs.db", study) as opt:
                found[name, study] = told(opt)
        assert json.loads((out / "bench.json").read_text())["sessions"][0]["ray"] is on_ray
    for study in ("branin/random/0", "branin/sobol/0"):
        assert len(found["here", study]) == 8
        assert found["here", study] == found["ray", study]
    with pytest.raises(UsageError, match="bench: expected at most 2 workers"):
        run_bench(["branin"], ["random"], 8, 1, tmp_path / "here", initial=4, workers=3, progress=False, ray=True)
