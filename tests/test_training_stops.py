"""Trainings that are stopped, killed, broken off or out of time, with a small subject: nothing is lost and nothing left behind."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from line_subject import LineSubject
from torch import Tensor

from bbopt.errors import BboptError, UsageError, ValueRefused
from surrogates.training.batches import AHEAD, batches
from surrogates.training.checkpoint import CHECKPOINT
from surrogates.training.group import stopping
from surrogates.training.loop import LOG, WEIGHTS, train
from surrogates.training.recipe import Training
from surrogates.training.weights import load_tensors

TINY = Training(LineSubject(), seed=5, steps=6, rate=2e-3, warmup=3, workers=0, every=2)


class Broken(LineSubject):
    """The same with losses that are no numbers."""

    def learn(
        self, network: torch.nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        losses, numbers = super().learn(network, batch, generator, progress)
        return losses * torch.nan, numbers


class Enough(Exception):
    """Ends a run in the middle of a step."""


class Ending(LineSubject):
    """The same, until half of the run is done."""

    def learn(
        self, network: torch.nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        if progress >= 0.5:
            raise Enough
        return super().learn(network, batch, generator, progress)


def weights(folder: Path) -> dict[str, Tensor]:
    return {name: part for name, part in load_tensors(folder / CHECKPOINT)[0].items() if name.startswith("weights.")}


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(part.equal(b[name]) for name, part in a.items())


def test_a_run_goes_on_where_it_stopped_in_the_middle_of_a_line(tmp_path: Path) -> None:
    train(TINY, tmp_path / "whole")
    with pytest.raises(Enough):
        train(replace(TINY, subject=Ending()), tmp_path / "parts")
    assert load_tensors(tmp_path / "parts" / CHECKPOINT)[1]["step"] == 3
    train(TINY, tmp_path / "parts")
    whole, parts = ([{**line, "seconds": 0.0} for line in log(tmp_path / name)] for name in ("whole", "parts"))
    assert whole == parts


def test_a_killed_run_takes_steps_again_and_logs_them_once(tmp_path: Path) -> None:
    train(TINY, tmp_path / "whole")
    train(replace(TINY, steps=2, every=1), tmp_path / "killed")
    early = (tmp_path / "killed" / CHECKPOINT).read_bytes()
    train(replace(TINY, steps=4, every=1), tmp_path / "killed")
    (tmp_path / "killed" / CHECKPOINT).write_bytes(early)  # as if killed before the next one was written
    with (tmp_path / "killed" / LOG).open("a") as file:
        file.write('{"step": 5, "lo')
    train(replace(TINY, every=1), tmp_path / "killed")
    assert [line["step"] for line in log(tmp_path / "killed")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("signals", [1, 3])
def test_ctrl_c_in_the_middle_of_an_update_leaves_a_consistent_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: int
) -> None:
    """One waits for the step to end; a third breaks it off, and the checkpoint before it stays."""
    train(TINY, tmp_path / "whole")
    update, calls = torch.optim.AdamW.step, 0

    def interrupted(self: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            update(self, *args)
            for _ in range(signals):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)
            return None
        return update(self, *args)

    handler = signal.getsignal(signal.SIGINT)
    folder = tmp_path / "interrupted"
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(replace(TINY, save_seconds=0.0), folder)
    assert signal.getsignal(signal.SIGINT) is handler
    assert load_tensors(folder / CHECKPOINT)[1]["step"] == (3 if signals == 1 else 2)
    assert not (folder / WEIGHTS).exists() and not list(folder.glob("*.part"))
    train(TINY, folder)
    assert same(weights(tmp_path / "whole"), weights(folder))


def test_signals_to_stop_are_counted_and_handlers_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stopping() as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        assert interruption.asked
    assert signal.getsignal(signal.SIGTERM) is before


def test_it_runs_in_a_thread_and_leaves_no_trace(tmp_path: Path) -> None:
    before = torch.random.get_rng_state(), torch.get_num_threads(), dict(os.environ)
    thread = threading.Thread(target=train, args=(replace(TINY, steps=1), tmp_path))
    thread.start()
    thread.join()
    assert (tmp_path / WEIGHTS).exists()
    assert before[0].equal(torch.random.get_rng_state()) and before[1:] == (torch.get_num_threads(), dict(os.environ))


def test_a_batch_worker_that_dies_gives_a_clear_error() -> None:
    from multiprocessing import active_children

    with batches(replace(TINY, workers=1), 0, 1, "cpu") as drawn:
        next(drawn)
        for child in active_children():
            child.kill()
        with pytest.raises(BboptError, match=r"draws batches has died.*goes on from the checkpoint") as caught:
            list(itertools.islice(drawn, AHEAD + 2))
        assert isinstance(caught.value.__cause__, BrokenProcessPool)


def test_an_update_that_is_not_finite_is_left_out(tmp_path: Path) -> None:
    train(replace(TINY, subject=Broken(), steps=2), tmp_path)
    tensors, header = load_tensors(tmp_path / CHECKPOINT)
    assert header["step"] == 2 and header["updates"] == 0
    with torch.random.fork_rng():
        torch.manual_seed(TINY.seed)
        fresh = LineSubject().network().state_dict()
    assert all(tensors["weights." + name].equal(part) for name, part in fresh.items())
    assert log(tmp_path)[0]["loss"] is None
    train(TINY, tmp_path)
    assert load_tensors(tmp_path / CHECKPOINT)[1]["updates"] == 4


def test_other_configurations_and_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    train(replace(TINY, steps=1), tmp_path)
    with pytest.raises(UsageError, match=r"holds a training with another seed, rate; give the same configuration"):
        train(replace(TINY, seed=6, rate=0.1), tmp_path)
    (tmp_path / CHECKPOINT).write_bytes((tmp_path / CHECKPOINT).read_bytes()[:-9])
    with pytest.raises(ValueRefused, match="cannot be read"):
        train(TINY, tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a GPU .* found 0; train with --device cpu"):
        train(replace(TINY, device="cuda"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_time_ends_a_run_too(tmp_path: Path) -> None:
    train(replace(TINY, steps=None, minutes=0.01), tmp_path)
    assert load_tensors(tmp_path / CHECKPOINT)[1]["seconds"] >= 0.6


def test_progress_and_learning_rate() -> None:
    run = Training(LineSubject(), steps=1000, minutes=10.0, rate=1.0, warmup=100)
    assert run.progress(250, 0.0) == 0.25 and run.progress(250, 300.0) == 0.5 and run.progress(0, 1e9) == 1.0
    assert run.learning_rate(0, 0.0) == pytest.approx(0.01)
    assert run.learning_rate(500, 0.0) == pytest.approx(0.51) and run.learning_rate(1000, 0.0) == pytest.approx(0.02)
