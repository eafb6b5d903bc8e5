"""One contract for all evaluators: every row has one outcome, whatever the function does, and nothing that came is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from wide_toy import ForwardDifferences

import bbopt
from bbopt.evaluate import Evaluator
from bbopt.outcome import Batch, Outcome
from bbopt.query import Answer, Key, Query, Request
from bbopt.ray_cluster import open_cluster
from bbopt.strategies.cmaes import CMAES
from contract import evaluated
from contract.evaluated import LINE, TASK, Strange, bowl, fails_above, fails_once, line, the_first_waits, two_pairs
from contract.evaluators import EVALUATORS, Subject
from contract.hand import content
from contract.toys import Population

every = pytest.mark.parametrize("subject", EVALUATORS.values(), ids=EVALUATORS.keys())
apart = pytest.mark.parametrize(
    "subject",
    [subject for subject in EVALUATORS.values() if subject.apart],
    ids=[name for name, subject in EVALUATORS.items() if subject.apart],
)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """One cluster for all tests on Ray: starting one takes seconds. Other processes find it by RAY_ADDRESS."""
    pytest.importorskip("ray", reason="evaluations on Ray need the package ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
        with open_cluster("local", cpus=2) as cluster:
            patch.setenv("RAY_ADDRESS", cluster.address)
            yield


@pytest.fixture(autouse=True)
def _on_ray(request: pytest.FixtureRequest) -> None:
    if "RayEvaluator" in request.node.name:
        request.getfixturevalue("ray_cluster")


def some(here: tuple[str, ...], apart: tuple[str, ...]) -> list[Any]:
    """Every evaluator with these cases; results are read where the study is, so that fewer will do for workers apart."""
    return [pytest.param(subject, case, id=f"{name}-{case}")
            for name, subject in EVALUATORS.items() for case in (apart if subject.apart else here)]  # fmt: skip


def run(
    function: Any, evaluator: Evaluator, budget: int = 10, strategy: Any = "random", **options: Any
) -> bbopt.Result:
    return bbopt.minimize(function, options.pop("task", LINE), budget, strategy, evaluator, progress=False, **options)


def outcomes_of(evaluator: Evaluator, function: Any, task: bbopt.Task, query: Query, most: int) -> list[Outcome]:
    """Every outcome for the rows of one query, supplied at most `most` at a time."""
    left = [Batch(query, np.arange(query.size))]

    def supply(rows: int, fresh: int) -> list[Batch]:
        if not left or not len(left[0]):
            return []
        batch, left[0] = left[0].take(slice(0, min(rows, most))), left[0].take(slice(min(rows, most), None))
        return [batch]

    return list(evaluator.run(function, task, supply))


# -- what comes back -----------------------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize(("batch", "most"), [(None, 9), (4, 9)])
def test_every_row_has_one_outcome(subject: Subject, batch: int | None, most: int) -> None:
    """Exactly the values that the function has, in whatever order they come."""
    query = Query(TASK.space.from_uniform(np.random.default_rng(0).random((23, TASK.space.dimension))), first=100, id=0)
    found: dict[int, Any] = {}
    for outcome in outcomes_of(subject.make(workers=2, batch=batch), bowl, TASK, query, most):
        assert not outcome.failures and len(outcome.results) == len(outcome.batch)
        for number, result in zip(outcome.batch.numbers.tolist(), outcome.results, strict=True):
            assert number not in found
            found[number] = result
    assert found == {100 + row: bowl(TASK.space.decode(np.asarray(query.X)[row])) for row in range(23)}


@every
def test_a_population_takes_the_same_path_everywhere(subject: Subject) -> None:
    """Told values are the function's to the bit, and the path of a lockstep strategy does not depend on who evaluates."""
    result = run(bowl, subject.make(workers=2), 18, Population(size=6), task=_continuous())
    here = run(bowl, bbopt.InProcess(), 18, Population(size=6), task=_continuous())
    trials = result.optimizer.trials()
    assert [(t.params, t.values, t.status, t.attempt) for t in trials] == [
        (t.params, t.values, t.status, t.attempt) for t in here.optimizer.trials()
    ]
    assert all(trial.values == bowl(trial.params) for trial in trials)
    assert (result.evaluations, result.stopped) == (18, "budget")


def _continuous() -> bbopt.Task:
    space = bbopt.Space(x=bbopt.Float(0, 1), n=bbopt.Int(1, 5), kind=bbopt.Fixed("b"))
    return bbopt.Task(space, objectives=TASK.objectives, constraints=TASK.constraints)


@apart
def test_no_worker_waits_for_another(subject: Subject, tmp_path: Path) -> None:
    """The first evaluation lasts until all others are told: with a barrier anywhere, this would never end."""
    numbers: list[int] = []

    def told(opt: bbopt.Optimizer, trial: bbopt.Trial) -> None:
        numbers.append(trial.number)
        if len(numbers) == 11:
            (tmp_path / "go").touch()

    result = run(partial(the_first_waits, tmp_path), subject.make(workers=2), 12, callback=told)
    assert (result.evaluations, result.stopped) == (12, "budget")
    assert sorted(numbers) == list(range(12)) and numbers[-1] in (0, 1)


# -- functions that take many rows ---------------------------------------------------------------------------------------


@every
def test_a_population_in_batches(subject: Subject) -> None:
    from contract.evaluated_rows import sphere

    task = bbopt.Task(bbopt.Space(w=bbopt.Float(scale=1.0, shape=(4,))))
    result = run(sphere, subject.make(workers=1), 60, CMAES(population=12), task=task, seed=1)
    trials = result.optimizer.trials()
    assert result.evaluations == 60 and result.best is not None
    for trial in trials[:60]:
        value = (trial.values or {})["objective"]
        assert value == pytest.approx(float(np.sum((trial.params["w"] - 0.3) ** 2)), rel=1e-12)
    kinds = [event.kind for event in result.optimizer.history()]
    assert kinds == ["ask", "tell_query"] * 5, "a population goes out and comes back in one piece"


@every
def test_a_wide_query_in_batches(subject: Subject) -> None:
    """Steps over 3,000 coordinates, rows built on the worker, in the pieces that the bytes of the mark allow."""
    from contract.evaluated_rows import sphere

    width = 3000
    task = bbopt.Task(bbopt.Space(w=bbopt.Float(scale=1.0, shape=(width,))))
    result = run(sphere, subject.make(workers=1), 2 * (width + 1), ForwardDifferences(), task=task)
    told = [event.body for event in result.optimizer.history() if event.kind == "tell_query"]
    rows = 2**22 // (8 * width)
    assert {len(body["metrics"]) for body in told[:-2]} <= {rows, (width + 1) % rows}
    state = result.optimizer._state().x
    x = np.zeros(width)
    for _ in range(2):  # the closed form of this descent on this sphere: a gradient of 2 (x - 0.3) + step
        x = x - 0.25 * (2 * (x - 0.3) + 2.0**-10)
    np.testing.assert_allclose(state, x, atol=1e-7)


@pytest.mark.parametrize(("subject", "name"), some(("too_short", "not_a_number"), ("not_a_number",)))
def test_wrong_tensors_are_refused(subject: Subject, name: str) -> None:
    from contract import evaluated_rows

    with pytest.raises(bbopt.ValueRefused, match=r"shape|finite"):
        run(getattr(evaluated_rows, name), subject.make(workers=1, batch=3))


# -- functions that misbehave --------------------------------------------------------------------------------------------


MESSAGES = {"nan": "finite", "none": "None", "long": "expected 1 numbers", "unknown": "colour", "generator": "iterator"}


@pytest.mark.parametrize(("subject", "kind"), some(tuple(MESSAGES), ("nan", "unknown", "generator")))
def test_results_that_are_none_are_refused(subject: Subject, kind: str) -> None:
    """By the point that they belong to; other trials are told, and this one stays open."""
    with pytest.raises(bbopt.ValueRefused, match=rf"trial \d+ at x = .*{MESSAGES[kind]}"):
        run(partial(fails_above, 0.5, kind), subject.make(workers=1), 30)


@every
def test_unexpected_exceptions_are_recorded_and_raised(subject: Subject, tmp_path: Path) -> None:
    """Of a class that cannot be copied, too; with the traceback of where it happened."""
    with pytest.raises(Strange, match=r"the beam broke at 3\.0") as caught:
        run(partial(fails_above, 0.5, "strange"), subject.make(workers=1), 30, store=tmp_path / "runs.db")
    seen = "".join(getattr(caught.value, "__notes__", [])) + str(caught.traceback[-1].path)
    assert "evaluated.py" in seen
    opt = bbopt.Optimizer.open(tmp_path / "runs.db")
    trials = opt.trials()
    assert trials[-1].status == "lost" and "Strange: the beam broke" in trials[-1].reason
    assert "in fails_above" in trials[-1].reason
    assert {trial.status for trial in trials[:-1]} <= {"ok"}
    assert opt.ask().attempt == 2
    opt.close()


@every
def test_named_exceptions_are_lost_evaluations(subject: Subject, tmp_path: Path) -> None:
    result = run(partial(fails_once, tmp_path, "strange"), subject.make(workers=1), 6, catch=(Strange,))
    assert (result.evaluations, result.stopped) == (6, "budget")
    assert sorted(trial.attempt for trial in result.optimizer.trials()) == [1, 1, 1, 1, 1, 2]
    assert {trial.status for trial in result.optimizer.trials()} == {"ok"}


@every
def test_impossible_points_count_and_teach(subject: Subject) -> None:
    result = run(partial(fails_above, 0.5, "impossible"), subject.make(workers=1, batch=2), 8)
    trials = result.optimizer.trials()
    assert result.evaluations == 8 and {trial.status for trial in trials} == {"ok", "impossible"}
    assert all((trial.params["x"] > 0.5) == (trial.status == "impossible") for trial in trials)
    assert {trial.reason for trial in trials} == {"", "the beam does not fit"}


@apart
@pytest.mark.parametrize(
    ("kind", "how"), [("exit", "exit status 3"), ("killed", "SIGKILL"), ("hang", "no answer within 1 s")]
)
def test_a_worker_that_dies_once_costs_an_attempt(subject: Subject, kind: str, how: str, tmp_path: Path) -> None:
    result = run(partial(fails_once, tmp_path, kind), subject.make(workers=2, seconds=1.0), 8)
    trials = result.optimizer.trials()
    assert (result.evaluations, result.stopped) == (8, "budget")
    assert {trial.status for trial in trials} == {"ok"}
    assert sorted(trial.attempt for trial in trials) == [1] * 7 + [2]
    (failed,) = [event for event in result.optimizer.history() if event.kind == "fail"]
    assert how in failed.body["reason"] or not subject.says_how, failed.body["reason"]


@apart
def test_a_point_that_always_ends_its_worker_is_given_up(subject: Subject) -> None:
    """After the retries; its neighbours in a task of several rows are not, and the run goes on."""
    result = run(partial(fails_above, 0.25, "exit"), subject.make(workers=1, batch=4), 4, Four())
    trials = result.optimizer.trials()
    assert [trial.status for trial in trials] == ["ok", "ok", "lost", "lost"]
    assert [trial.attempt for trial in trials] == [1, 1, 3, 3], "neighbours may be evaluated again, but were never lost"
    assert (result.evaluations, result.stopped) == (4, "budget")


# -- the end -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Four:
    """The points of `two_pairs`, in one query."""

    handles: ClassVar[frozenset[str]] = frozenset()
    learns: ClassVar[Literal["rows", "queries"]] = "queries"
    instant: ClassVar[bool] = True

    def init(self, task: bbopt.Task, key: Key) -> None:
        return None

    def ask(self, task: bbopt.Task, state: None, request: Request, key: Key) -> Query:
        if request.open:
            raise bbopt.Waiting
        return Query(np.array([[0.1], [0.2], [0.3], [0.4]]))

    def tell(self, task: bbopt.Task, state: None, query: Query, answer: Answer) -> None:
        return None


@pytest.fixture
def pairs(tmp_path: Path) -> Iterator[Path]:
    """A folder for `two_pairs`; afterwards no worker may be left."""
    yield tmp_path
    pids = [int(path.name.split()[1]) for path in tmp_path.glob("pid *")]
    assert len(pids) == 2 and os.getpid() not in pids
    evaluated.wait_for(lambda: not any(evaluated.alive(pid) for pid in pids))


def run_pairs(subject: Subject, folder: Path, what: str, **options: Any) -> bbopt.Result:
    evaluator = subject.make(workers=2, batch=2)
    return run(partial(two_pairs, folder, what), evaluator, 4, Four(), store=folder / "runs.db", **options)


def statuses(folder: Path) -> list[str]:
    with bbopt.Optimizer.open(folder / "runs.db", strategy=Four()) as opt:
        return [trial.status for trial in opt.trials()]


@apart
def test_ctrl_c_loses_nothing(subject: Subject, pairs: Path) -> None:
    """Pressed while one answer was told and another has arrived: both are in the store, and the rest is open."""

    def told(opt: bbopt.Optimizer, trial: bbopt.Trial) -> None:
        if not (pairs / "pressed").exists():
            (pairs / "pressed").touch()
            evaluated.wait_for(lambda: (pairs / "at 0.2").exists() and (pairs / "at 0.4").exists())
            time.sleep(0.5)  # the worker has answered; now the answer is on its way
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_pairs(subject, pairs, "answer", callback=told)
    assert statuses(pairs) == ["ok", "open", "ok", "open"]
    result = run(line, bbopt.InProcess(), 4, Four(), store=pairs / "runs.db")
    assert [trial.attempt for trial in result.optimizer.trials()] == [1, 1, 1, 1], "open ones are evaluated first"
    result.optimizer.close()


@apart
def test_an_exception_does_not_lose_what_has_arrived(subject: Subject, pairs: Path) -> None:
    with pytest.raises(ValueError, match="in the user's code"):
        run_pairs(subject, pairs, "raise")
    assert statuses(pairs)[0] == "lost" and statuses(pairs)[2:] == ["ok", "open"]


@apart
def test_a_stop_does_not_wait_for_what_is_at_work(subject: Subject, pairs: Path) -> None:
    """Neither the target nor a callback; what arrived is told."""
    started = time.monotonic()
    result = run_pairs(subject, pairs, "answer", target=0.1)
    assert result.stopped == "target" and time.monotonic() - started < evaluated.SECONDS
    result.optimizer.close()
    assert statuses(pairs) == ["ok", "open", "ok", "open"]


@contextmanager
def driver(folder: Path, name: str, budget: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that minimizes with two workers, as soon as six evaluations were made."""
    root = Path(bbopt.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "tests"), str(root)])}
    command = [sys.executable, "-m", "contract.driver", str(folder), name, "2", str(budget)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    try:
        evaluated.wait_for(lambda: process.poll() is not None or len(calls(folder)) >= 6)
        yield process
    finally:
        process.kill()
        process.communicate()


def calls(folder: Path) -> list[tuple[int, float]]:
    """(process, x) of every evaluation that was made."""
    path = folder / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(line.split()[0]), float(line.split()[1])) for line in lines]


def told(folder: Path) -> dict[int, tuple[float, float]]:
    """(x, value) of every trial that was told."""
    with bbopt.Optimizer.open(folder / "runs.db") as opt:
        return {trial.number: (trial.params["x"], (trial.values or {})["objective"])
                for trial in opt.trials() if trial.status == "ok"}  # fmt: skip


@apart
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_a_run_that_is_ended_goes_on(subject: Subject, how: signal.Signals, tmp_path: Path) -> None:
    """Killed or interrupted in the middle: no worker is left, no told trial is evaluated again, none is told twice."""
    name = next(name for name, item in EVALUATORS.items() if item is subject)
    with driver(tmp_path, name, 1000) as process:
        assert process.poll() is None, process.communicate()[1]
        process.send_signal(how)
        process.wait(evaluated.SECONDS)
        if how == signal.SIGINT:
            assert process.stderr is not None and b"KeyboardInterrupt" in process.stderr.read()
    evaluated.wait_for(lambda: not any(evaluated.alive(pid) for pid, _ in calls(tmp_path)))
    before, made = told(tmp_path), calls(tmp_path)
    assert 4 <= len(before) <= len(made) <= len(before) + 2, "more was lost than what was at work"
    result = run(partial(evaluated.noted, tmp_path), bbopt.InProcess(), len(before) + 5, store=tmp_path / "runs.db")
    after = told(tmp_path)
    assert len(after) == result.evaluations == len(before) + 5 and {n: after[n] for n in before} == before
    again = [x for _, x in calls(tmp_path)[len(made) :]]
    assert len(again) == 5 and not set(again) & {x for x, _ in before.values()}
    numbers = [event.body["number"] for event in result.optimizer.history() if event.kind == "tell"]
    assert sorted(numbers) == sorted(set(numbers)) == sorted(after)
    assert {trial.attempt for trial in result.optimizer.trials()} == {1}
    result.optimizer.close()


def _no_such_thing() -> Callable[[Any], float]:
    return lambda params: params["x"]


def test_functions_that_cannot_travel() -> None:
    for function in (lambda params: params["x"], _no_such_thing()):
        with pytest.raises(bbopt.UsageError, match=r"cannot be sent.*top level"):
            run(function, bbopt.Processes(1))
    with pytest.raises(bbopt.UsageError, match="workers"):
        bbopt.Processes(0)
    with pytest.raises(bbopt.UsageError, match="seconds"):
        bbopt.Processes(seconds=0.0)
    with pytest.raises(bbopt.UsageError, match="evaluator"):
        run(line, bbopt.Processes)  # type: ignore[arg-type]


@every
def test_nothing_of_this_process_is_changed(subject: Subject) -> None:
    from contract.hand import surroundings

    before, handler = surroundings(), signal.getsignal(signal.SIGINT)
    run(line, subject.make(workers=2), 4)
    assert surroundings() == before and signal.getsignal(signal.SIGINT) is handler
    assert content(LINE) == content(evaluated.LINE)
