"""Worker processes: what they find when they start, what they take with them when they end, and messages for all that can
go wrong on the way to them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract import evaluated
from contract.evaluated import LINE, Strange

import bbopt
from bbopt.evaluate_processes import Processes
from bbopt.outcome import Batch, Failure, portable
from bbopt.query import CoordinateRows, Query
from bbopt.worker_process import THREADS, one_thread_each

ROOT = Path(bbopt.__file__).parent.parent


def run_script(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(textwrap.dedent(text))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *(arguments or ["script.py"])]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_functions_of_a_script_are_found(tmp_path: Path) -> None:
    """Under the usual guard; also a partial of one. And workers have one thread each, whatever the script has."""
    result = run_script(
        tmp_path,
        """
        import functools, os
        import bbopt

        def f(shift, params):
            assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"] == "1"
            print("worker", os.getpid())
            return params["x"] + shift

        if __name__ == "__main__":
            os.environ["OMP_NUM_THREADS"] = "7"
            task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1)))
            result = bbopt.minimize(functools.partial(f, 1.0), task, 4, "random", bbopt.Processes(1))
            assert os.environ["OMP_NUM_THREADS"] == "7"
            print(result.evaluations, result.stopped, result.best.values["objective"] >= 1.0, "driver", os.getpid())
        """,
    )
    assert result.returncode == 0, result.stderr
    words = result.stdout.split()
    assert " ".join(words[-5:-1]) == "4 budget True driver"
    assert words[-1] not in words[:-1] and words.count("worker") == 4


def test_a_script_without_the_guard_gets_a_clear_error(tmp_path: Path) -> None:
    result = run_script(
        tmp_path,
        """
        import bbopt

        def f(params):
            return params["x"]

        task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1)))
        bbopt.minimize(f, task, 4, "random", bbopt.Processes(1))
        """,
    )
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert "EvaluatorError" in last and 'if __name__ == "__main__":' in last


def test_a_function_that_workers_cannot_find_gets_a_clear_error(tmp_path: Path) -> None:
    """One typed at the prompt, here by -c: there is no file that a worker could load."""
    code = (
        "import bbopt\n"
        "def f(params): return params['x']\n"
        "bbopt.minimize(f, bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1))), 4, 'random', bbopt.Processes(1))"
    )
    result = run_script(tmp_path, "", "-c", code)
    assert result.returncode == 1
    assert (
        "EvaluatorError: a worker process cannot load the function: it must be defined at the top level"
        in result.stderr
    )
    assert "AttributeError" in result.stderr


def test_what_a_function_started_ends_with_its_worker(tmp_path: Path) -> None:
    """A solver in a process of its own does not outlive the time limit, nor the run."""
    result = bbopt.minimize(
        partial(evaluated.starts_a_solver, tmp_path), LINE, 3, "random", Processes(1, seconds=2.0), progress=False
    )
    assert result.optimizer.statuses() == {"ok": 3}
    solvers = [int(path.name.split()[1]) for path in tmp_path.glob("solver *")]
    assert len(solvers) == 4
    evaluated.wait_for(lambda: not any(evaluated.alive(pid) for pid in solvers))


def test_a_function_may_have_workers_of_its_own() -> None:
    result = bbopt.minimize(evaluated.uses_a_pool, LINE, 2, "random", Processes(1), progress=False)
    assert all((trial.values or {})["objective"] == 6.0 for trial in result.optimizer.trials())


def test_a_lazy_query_travels_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from bbopt import evaluate_processes

    sent: list[int] = []

    class Connection:
        def send(self, message: Any) -> None:
            sent.append(len(ForkingPickler.dumps(message)))

    monkeypatch.setattr(evaluate_processes, "start_worker", lambda *given: (None, Connection()))
    member = evaluate_processes._Member(b"")
    columns = np.arange(10_000)
    for index in (0, 1):
        query = Query(CoordinateRows(np.zeros(10_000), columns, np.ones(10_000)), id=index)
        for start in (0, 100, 200):
            member.give(Batch(query, np.arange(start, start + 100)))
    assert [size > 200_000 for size in sent] == [True, False, False] * 2 and max(sent[1:3]) < 2000


# -- exceptions on the way -----------------------------------------------------------------------------------------------


def over(error: BaseException) -> BaseException | None:
    """What arrives of an exception."""
    loads = ForkingPickler.loads
    failure: Failure = loads(ForkingPickler.dumps(portable(Failure(error, "why"), ForkingPickler.dumps, loads)))
    assert failure.reason == "why" and not failure.lost
    return failure.error


def test_exceptions_survive_the_journey() -> None:
    for error in (
        ValueError("text", 3),
        OSError(2, "no such file", "mesh.msh"),
        bbopt.Impossible("too thin"),
        KeyError("a"),
    ):
        back = over(error)
        assert type(back) is type(error) and back.args == error.args and str(back) == str(error)
    back = over(OSError(2, "no such file", "mesh.msh"))
    assert isinstance(back, FileNotFoundError) and back.filename == "mesh.msh"


def test_exceptions_that_cannot_be_copied_keep_their_class_and_text() -> None:
    back = over(Strange("the beam", 3.0))
    assert type(back) is Strange and str(back) == "the beam broke at 3.0"

    class Local(Exception):
        pass

    back = over(Local("only here"))
    assert type(back) is RuntimeError and str(back) == "Local: only here"
    holding = ValueError("with a lock")
    holding.lock = open(os.devnull)  # type: ignore[attr-defined]  # noqa: SIM115
    back = over(holding)
    holding.lock.close()  # type: ignore[attr-defined]
    assert type(back) is ValueError and str(back) == "with a lock"


def test_the_environment_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(THREADS[0], "5")
    monkeypatch.delenv(THREADS[1], raising=False)
    with one_thread_each():
        assert {os.environ[name] for name in THREADS} == {"1"}
    assert os.environ[THREADS[0]] == "5" and THREADS[1] not in os.environ
