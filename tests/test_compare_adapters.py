"""Every adapter on small tasks of all kinds: it asks points of the space, hears what came of them, and repeats itself."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import problems
from bbopt import bench_ask_peers
from bbopt.bench_ask import Case
from bbopt.compare.called import Called
from bbopt.compare.cell import run_cell
from bbopt.compare.peer import Peer
from bbopt.compare.peers import PEERS, find
from bbopt.compare.view import View
from bbopt.errors import Exhausted
from bbopt.space import Categorical, Float, Int, Space
from bbopt.task import Constraint, Objective, Task

QUICK = ("bbopt", "bbopt:sobol", "random", "optuna-tpe", "cma", "cobyla", "nevergrad", "pymoo")
SLOW = ("optuna-gp", "botorch", "ax", "smac", "hebo")
MIXED = Task(
    Space(x=Float(0.1, 10.0, log=True), at=Float(-1.0, 1.0, shape=(2,)), grid=Float(0.0, 1.0, step=0.25), n=Int(1, 9, step=2),
          grade=Categorical([0.5, 2.0, 7.0], ordered=True), kind=Categorical(["a", "b", "c"]),
          depth=Float(0.0, 1.0, when="kind == 'b'")),
    (Objective("good", maximize=True),),
    (Constraint("g", upper=12.0),),
    where=["at[0] + at[1] <= 1.5"],
)  # fmt: skip
SMALL = Task(
    Space(x=Float(0.1, 10.0, log=True), n=Int(1, 5, step=2), kind=Categorical(["a", "b"])),
    (Objective("good", maximize=True),),
    (Constraint("g", upper=4.0),),
)
SMOOTH = Task(Space(x=Float(0.0, 1.0), y=Float(0.0, 1.0)), (Objective("f"),))


def installed(name: str) -> Peer:
    peer = find(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            peer.version()
        except ImportError as error:
            pytest.skip(f"{name}: {error}")
    return peer


def metrics_of(task: Task, params: dict[str, Any]) -> dict[str, float]:
    if task is SMALL:
        return {"good": np.log(params["x"]) ** 2 - params["n"], "g": params["n"] + (params["kind"] == "b")}
    if task is SMOOTH:
        return {"f": (params["x"] - 0.3) ** 2 + (params["y"] - 0.7) ** 2}
    good = np.log(params["x"]) - float(np.sum(np.square(params["at"]))) + params["grid"] + params.get("depth", 0.2)
    return {"good": good, "g": params["n"] + params["grade"] + {"a": 0.0, "b": 1.0, "c": 2.0}[params["kind"]]}


def asked(peer: Peer, task: Task, seed: int, budget: int, broken: int = -1) -> list[list[float]]:
    """The encoded points of a run; the one at `broken` is told without numbers."""
    view = View(task)
    search = peer.start(view, seed, budget)
    rows = []
    for n in range(budget):
        try:
            params = search.ask()
        except Exhausted:
            break
        rows.append(task.space.encode(params).tolist())  # raises for what is no point of the space
        search.tell(params, None if n == broken else view.result(params, metrics_of(task, params)))
    return rows


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some toolkits write into the working folder."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", QUICK)
def test_points_of_any_space_and_the_same_for_a_seed(name: str) -> None:
    peer = installed(name)
    task = MIXED if peer.refuses(View(MIXED)) is None else SMOOTH
    assert (task is SMOOTH) == (name == "cobyla")
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    budget = 10 if name == "bbopt" else 16
    rows = asked(peer, task, 3, budget, broken=4)
    assert len(rows) == budget and len({tuple(row) for row in rows}) > 8
    assert name in ("cma", "nevergrad") or (np.random.get_state()[1] == state).all()  # noqa: NPY002
    if name != "bbopt":
        assert asked(peer, task, 3, 16, broken=4) == rows
        assert name == "cobyla" or asked(peer, task, 4, 16, broken=4) != rows


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SLOW)
def test_slow_peers_beyond_their_initial_points(name: str) -> None:
    """Two points beyond each one's initial design."""
    peer = installed(name)
    task = SMALL if peer.refuses(View(SMALL)) is None else SMOOTH
    budget = {"botorch": 10, "ax": 8, "optuna-gp": 12, "smac": 18, "hebo": 6}[name]
    assert len(asked(peer, task, 3, budget, broken=2)) == budget


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "far"), [("cobyla", 1e-6), ("cma", 0.03), ("optuna-tpe", 0.03), ("bbopt", 1e-4)])
def test_peers_learn_what_they_are_told(name: str, far: float) -> None:
    peer = installed(name)
    rows = asked(peer, SMOOTH, 0, 16 if name == "bbopt" else 60)
    assert min(metrics_of(SMOOTH, SMOOTH.space.decode(np.array(row)))["f"] for row in rows) < far


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["cma", "cobyla", "optuna-tpe", "pymoo"])
def test_constraints_are_told_with_the_right_sign(name: str) -> None:
    """The feasible corner is far from the centre and small: those who are told the wrong sign stay away."""
    task = Task(
        Space(x=Float(0.0, 1.0), y=Float(0.0, 1.0)), (Objective("f"),), (Constraint("g", lower=1.4),)
    )  # fmt: skip
    view, peer = View(task), installed(name)
    search = peer.start(view, 0, 120)
    found = []
    for _ in range(120):
        params = search.ask()
        result = view.result(params, {"f": params["x"] ** 2, "g": params["x"] + params["y"]})
        found.append(result.feasible)
        search.tell(params, result)
    assert sum(found[60:]) >= 12, sum(found[60:])  # uniform points: 11 of 60 by expectation, 0.18 of the square


def test_a_peer_from_the_centre_begins_there() -> None:
    for name in ("cobyla", "cma"):
        cell = run_cell("branin", installed(name), 0, 1)
        assert name == "cma" or cell.points[0][0] == {"x1": 2.5, "x2": 7.5}
        assert len(cell.points) == 1 and cell.error is None


def test_cobyla_starts_again_when_it_has_converged() -> None:
    task = Task(Space(x=Float(0.0, 1.0)), (Objective("f"),))
    view = View(task)
    search = find("cobyla").start(view, 0, 400)
    xs = []
    for _ in range(200):
        params = search.ask()
        xs.append(params["x"])
        search.tell(params, view.result(params, {"f": abs(params["x"] - 0.25)}))
    steps = np.abs(np.diff(xs))
    assert steps[60:].max() > 0.01 and steps.min() < 1e-6


def test_a_function_that_wants_to_call_is_asked_and_told() -> None:
    def run(function: Any) -> None:
        if function(1) + function(2) > 2:
            raise ArithmeticError("enough")

    called = Called(run)
    assert called.ask() == 1
    called.tell(1.0)
    assert called.ask() == 2
    called.tell(1.0)
    with pytest.raises(StopIteration):
        called.ask()
    called = Called(run)
    for _ in range(2):
        called.ask()
        called.tell(2.0)
    with pytest.raises(ArithmeticError, match="enough"):
        called.ask()


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_says_what_it_is(name: str) -> None:
    peer = find(name)
    assert peer.name == name and len(peer.settings) > 20
    assert isinstance(peer.slow(View(problems.get("spring").task)), bool)


# -- seconds of asks beside peers --------------------------------------------------------------------------------------


def test_seconds_of_asks_are_of_asks_after_the_same_rows() -> None:
    found = bench_ask_peers.seconds_of_asks(["bbopt:gp", "bbopt:random"], Case(8, 6, 0, 0.0), 3)
    assert set(found) == {"bbopt:gp", "bbopt:random"} and all(len(seconds) == 3 for seconds in found.values())
    assert min(found["bbopt:gp"]) > max(found["bbopt:random"])


@pytest.mark.parametrize(
    ("botorch", "optuna", "late", "code", "words"),
    [
        (0.6, 0.2, 1.0, 0, "all limits met"),
        (0.4, 0.2, 1.0, 1, "botorch: expected at least 5 times gp's seconds, got 4.0"),
        (0.6, 0.05, 1.0, 1, "optuna-gp: expected at least 1 times gp's seconds, got 0.5"),
        (0.6, 0.2, 1.6, 1, "gp after 1000 rows: expected a 95th percentile below 1.5 s, got 1.60"),
    ],
)
def test_the_verdict_on_seconds(
    botorch: float, optuna: float, late: float, code: int, words: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    class Quick:
        def version(self) -> str:
            return "1"

    def seconds(peers: list[str], case: Case, asks: int) -> dict[str, list[float]]:
        table = {
            "bbopt:gp": 0.1 if case.n == 100 else late,
            bench_ask_peers.PLAIN: botorch,
            "botorch": 0.2,
            "ax": 1.0,
            "optuna-gp": optuna,
        }
        return {name: [9.0] + [table[name]] * (asks - 1) for name in peers}

    monkeypatch.setattr(bench_ask_peers, "seconds_of_asks", seconds)
    monkeypatch.setattr(bench_ask_peers, "find", lambda name: Quick())
    assert bench_ask_peers.main([]) == code
    assert words in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_few_rows_beside_the_real_peers(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("botorch", "ax", "optuna-gp"):
        installed(name)
    bench_ask_peers.main(["--few"])
    assert "botorch" in capsys.readouterr().out
