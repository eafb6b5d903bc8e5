"""Laws that a strategy obeys inside a study (DESIGN.md, laws 3, 4, 5, 6, 9 and 10), for any strategy that handles the case.

Each takes a strategy and a case, and a path where a file is needed, and raises AssertionError where a law is broken.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bbopt.errors import BboptError, Exhausted, Waiting
from bbopt.optimizer import Optimizer
from bbopt.strategy import Strategy
from contract.hand import content, surroundings
from contract.study import Loop, ask_some, drive, facts, points, reopen, study, tell
from contract.tasks import Case


def resumes_exactly(strategy: Strategy, case: Case, folder: Path, asks: int) -> None:
    """`asks` asks equal half of them, close, reopen, the other half: every trial, to the bit."""
    loop = Loop(case)
    whole = study(strategy, case, folder / "whole.db", seed=3)
    loop.run(whole, asks)
    first = study(strategy, case, folder / "halves.db", seed=3)
    loop.run(first, asks // 2)
    second = reopen(first, folder / "halves.db", strategy)
    loop.run(second, asks - asks // 2)
    assert facts(second) == facts(whole)
    memory = study(strategy, case, None, seed=3)
    loop.run(memory, asks)
    assert facts(memory) == facts(whole), "a study in memory takes another path than one on disk"
    whole.close()
    second.close()


def state_is_the_fold(strategy: Strategy, case: Case, folder: Path, rows: int) -> None:
    """The state rebuilt from the file is the live state, to the bit."""
    opt = study(strategy, case, folder / "fold.db")
    drive(opt, case, rows, sizes=(1, 3, 2), hold=3)
    live = content(opt._state())
    opt.close()
    again = Optimizer.open(folder / "fold.db", strategy=strategy)
    assert content(again._state()) == live
    again.close()


def seeds_differ(strategy: Strategy, case: Case) -> None:
    """Another seed gives other points, the same seed the same ones."""
    runs = []
    for seed in (0, 0, 1):
        opt = study(strategy, case, seed=seed)
        runs.append(points(drive(opt, case, 6, hold=5)))
    assert runs[0] == runs[1] != runs[2]


def odd_sizes_lose_nothing(strategy: Strategy, case: Case, rows: int) -> None:
    """Ask sizes that divide nothing: no livelock, no lost row, numbers without gaps, every answer learnt."""
    opt = study(strategy, case)
    asked = drive(opt, case, rows, sizes=(3, 1, 7, 2), hold=4)
    assert len(asked) == rows, f"asked for {rows}, got {len(asked)}"
    assert sorted(trial.number for trial in asked) == list(range(rows))
    trials = opt.trials()
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert {trial.status for trial in trials[:rows]} == {"ok"}
    assert {trial.status for trial in trials[rows:]} <= {"queued"}
    learnt = [trial for trial in trials if trial.status == "ok"]
    assert len(learnt) == rows
    rest = ask_some(opt, case, len(trials) - rows) if len(trials) > rows else []
    assert [trial.number for trial in rest] == list(range(rows, len(trials))), "rows of an open query are lost"


def rows_are_honest(strategy: Strategy, case: Case, rows: int) -> None:
    """Every trial is inside the space, satisfies `where`, survives encoding, and is new; the process is left alone."""
    opt = study(strategy, case)
    before = surroundings()
    drive(opt, case, rows, sizes=(2, 1), hold=2)
    after = surroundings()
    assert {name for name in before if after.get(name) != before[name]} == set(), "the study changed the process"
    space = case.task.space
    encoded = []
    for trial in opt.trials():
        x = space.encode({**trial.params, **trial.context})
        assert np.isfinite(x).all() and case.task.known(x[None])[0], f"{trial} violates `where`"
        assert all(type(v) in (int, float, str, bool, type(None), list, dict) or isinstance(v, np.ndarray)
                   for v in trial.params.values())  # fmt: skip
        encoded.append(x.tobytes())
    assert len(set(encoded)) == len(encoded), "a point was asked twice, and no noise is declared"


def survives_failures(strategy: Strategy, case: Case, rows: int, impossible: bool, share: float) -> None:
    """A share of the trials fails; lost ones come again, impossible points do not; asking goes on."""
    opt = study(strategy, case, retries=1)
    rng = np.random.default_rng(5)
    tries: dict[int, int] = {}
    forbidden: set[tuple[Any, ...]] = set()
    for _ in range(rows):
        trials = ask_some(opt, case, 1)
        if not trials:
            trials = [trial for trial in opt.trials() if trial.status == "open"]
        for trial in trials:
            tries[trial.number] = tries.get(trial.number, 0) + 1
            assert trial.attempt == tries[trial.number] <= 2
            assert points([trial])[0] not in forbidden, "an impossible point was asked again"
            if rng.random() < share:
                opt.fail(trial, "broken", impossible=impossible)
                if impossible:
                    forbidden.add(points([trial])[0])
            else:
                tell(opt, case, trial)
    ended = {trial.status for trial in opt.trials()}
    assert ended <= {"ok", "queued", "open", "impossible" if impossible else "lost"}, ended


def survives_levels(strategy: Strategy, case: Case, rows: int, levels: tuple[float, ...]) -> None:
    """Constant or absurd values of every metric."""
    opt = study(strategy, case)
    for step in range(rows):
        for trial in ask_some(opt, case, 1) or [t for t in opt.trials() if t.status == "open"]:
            opt.tell(trial, dict.fromkeys(case.task.metrics, levels[step % len(levels)]))
    best = opt.best() if case.task.m == 1 else None
    assert best is None or math.isfinite(next(iter((best.values or {}).values())))


def one_point_is_enough(strategy: Strategy, case: Case) -> None:
    """A space with one point: asked once, then Exhausted, and nothing else."""
    opt = study(strategy, case)
    trial = opt.ask()
    with pytest.raises((Exhausted, Waiting)):
        opt.ask()
    tell(opt, case, trial)
    with pytest.raises(Exhausted):
        opt.ask()
    assert [t.status for t in opt.trials()] == ["ok"]


def finite_space_is_used_up(strategy: Strategy, case: Case, size: int) -> None:
    """Every point once, then Exhausted, however often asked; the study is still usable."""
    opt = study(strategy, case)
    asked = []
    for _ in range(10 * size):
        try:
            trials = ask_some(opt, case, 2)
        except Exhausted:
            try:
                trials = opt.ask(2, fewer=True)
            except Exhausted:
                break
        asked += trials
        for trial in trials or [t for t in opt.trials() if t.status == "open"]:
            tell(opt, case, trial)
    assert len(points(asked)) == len(set(points(asked))) == size
    for _ in range(3):
        with pytest.raises(Exhausted):
            opt.ask()
    assert len(opt.trials()) == size and {t.status for t in opt.trials()} == {"ok"}
    assert opt.best() is not None


def corrections_refold(strategy: Strategy, case: Case, folder: Path, rows: int) -> None:
    """After amend and retract the live study goes on exactly like one that reads the log afresh; answers count once."""
    path = folder / "corrected.db"
    opt = study(strategy, case, path)
    drive(opt, case, rows, hold=0)
    told = [trial for trial in opt.trials() if trial.status == "ok"]
    changed = {name: value + 0.25 for name, value in (told[1].values or {}).items()}
    opt.amend(told[1], changed)
    opt.amend(told[1], changed)  # the same correction twice is a no-op
    opt.retract(told[-1])
    assert opt.trial(told[1].number).values == changed
    assert opt.trial(told[-1].number).status == "open" and opt.trial(told[-1].number).values is None
    live = content(opt._state())
    other = Optimizer.open(path, strategy=strategy)
    assert content(other._state()) == live, "the corrected state differs from the fold of the corrected log"
    other.close()
    tell(opt, case, opt.trial(told[-1].number))
    drive(opt, case, 3)
    best = opt.best() if case.task.m == 1 else None
    if best is not None and not case.task.constraints and not case.task.environment:
        values = [next(iter((t.values or {}).values())) for t in opt.trials() if t.status == "ok"]
        sign = -1.0 if case.task.objectives[0].maximize else 1.0
        assert next(iter((best.values or {}).values())) == sign * min(sign * value for value in values)
    again = reopen(opt, path, strategy)
    assert content(again._state()) == content(opt._state())
    again.close()


def leases_run_out(strategy: Strategy, case: Case) -> None:
    """A lease that ran out gives the trial out again as attempt + 1; the first answer counts, a later one is no error."""
    opt = study(strategy, case, lease=60.0)
    now = [1000.0]
    opt._clock = lambda: now[0]
    first = opt.ask(context=case.context)
    now[0] += 59.0
    other = ask_some(opt, case, 1)
    assert all(trial.number != first.number for trial in other)
    now[0] += 2.0
    again = opt.ask(context=case.context)
    assert (again.number, again.attempt, points([again])) == (first.number, 2, points([first]))
    values = dict.fromkeys(case.task.metrics, 1.0)
    later = dict.fromkeys(case.task.metrics, 2.0)
    opt.tell(first, values)
    opt.tell(again, later)
    opt.tell(again, later)
    opt.fail(again, "too late")
    assert opt.trial(first.number).values == values
    assert opt.trial(first.number).status == "ok"
    assert any("superseded" in event.kind for event in opt.history(first.number)), "a late answer must stay in the log"
    drive(opt, case, 4)


def user_points_are_welcome(strategy: Strategy, case: Case, seeds: int = 3) -> None:
    """Enqueued points go out first, added ones are learnt, both as trials with numbers of their own."""
    rng = np.random.default_rng(11)
    rows = case.task.feasible.sample(2 + seeds, rng)
    opt = study(strategy, case)
    queued = opt.enqueue(case.task.space.decode(rows[0]))
    assert queued.status == "queued"
    added = [opt.add(case.task.space.decode(row), case.function(case.task.space.decode(row))) for row in rows[2:]]
    assert all(trial.status == "ok" for trial in added)
    trial = opt.ask(context=case.context)
    assert trial.number == queued.number and points([trial]) == points([queued])
    tell(opt, case, trial)
    drive(opt, case, 7, sizes=(3,), hold=1)
    late = opt.enqueue(case.task.space.decode(rows[1]))
    asked = ask_some(opt, case, 1)
    assert asked and asked[0].number == late.number
    opt.cancel(late)
    assert opt.trial(late.number).status == "cancelled"
    drive(opt, case, 6)


def cancelled_rows_do_not_block(strategy: Strategy, case: Case) -> None:
    """Open trials can be cancelled, all of them too, and asking goes on."""
    opt = study(strategy, case)
    for _ in range(4):
        trials = ask_some(opt, case, 3)
        for trial in trials:
            opt.cancel(trial)
    drive(opt, case, 8, sizes=(3,))
    for trial in opt.trials():
        assert trial.status in ("ok", "cancelled", "queued")


def fixed_is_kept(strategy: Strategy, case: Case, name: str, value: Any) -> None:
    """`ask(fixed=)` holds where it is claimed, and is refused by name where it is not."""
    opt = study(strategy, case)
    if "fixed" not in strategy.handles:
        with pytest.raises(BboptError, match=r"fixed|keep"):
            opt.ask(fixed={name: value})
        assert opt.trials() == []
        return
    for step in range(8):
        trials = opt.ask(2, fixed={name: value}) if step % 2 else opt.ask(2)
        for trial in trials:
            if step % 2:
                assert trial.params[name] == value, trial.params
                assert case.task.known(case.task.space.encode(trial.params)[None])[0]
            tell(opt, case, trial)


def two_askers(strategy: Strategy, case: Case, path: str | os.PathLike[str]) -> None:
    """Two objects on one file, taking turns: different trials, each sees what the other did, one sequence of numbers."""
    one = study(strategy, case, path)
    two = Optimizer.open(path, strategy=strategy)
    seen: list[int] = []
    for step in range(10):
        mine, other = (one, two) if step % 2 else (two, one)
        trials = ask_some(mine, case, 1 + step % 3)
        seen += [trial.number for trial in trials]
        for trial in trials or [t for t in mine.trials() if t.status == "open"]:
            tell(other if step % 3 else mine, case, trial)
    assert len(seen) == len(set(seen))
    assert facts(one) == facts(two)
    assert content(one._state()) == content(two._state())
    one.close()
    two.close()
