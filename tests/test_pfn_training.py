"""The training loop: it learns, it goes on where it stopped to the bit, and it ends cleanly alone and in company."""

from __future__ import annotations

import doctest
import itertools
import json
import os
import signal
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from bbopt.errors import BboptError, UsageError, ValueRefused
from surrogates.pfn import batches, checkpoint, group, lessons, recipe, training
from surrogates.pfn.batches import batches as batches_of
from surrogates.pfn.checkpoint import CHECKPOINT
from surrogates.pfn.group import stopping
from surrogates.pfn.lessons import Sizes, draw_batch, score
from surrogates.pfn.network import Network
from surrogates.pfn.recipe import Training, configuration, configurations
from surrogates.pfn.training import LOG, WEIGHTS, Record, train
from surrogates.pfn.weights import load_tensors, load_weights
from surrogates.prior import Prior

TINY = Training.from_json({
    "seed": 5, "steps": 6, "rate": 2e-3, "warmup": 3, "workers": 0, "every": 2,
    "shape": {"width": 16, "layers": 1, "heads": 2, "inner": 16, "columns": 2, "anchors": 4},
    "sizes": {"columns": [1, 2], "rows": [3, 9], "points": 4, "tokens": 70, "tasks": [3, 8]},
})  # fmt: skip


def weights(folder: Path) -> dict[str, Tensor]:
    return {name: part for name, part in load_tensors(folder / CHECKPOINT)[0].items() if name.startswith("weights.")}


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def lines_without_time(folder: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name != "seconds"} for line in log(folder)]


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(part.equal(b[name]) for name, part in a.items())


class Enough(Exception):
    """Ends a run from its report."""


def stop_at(step: int) -> Any:
    def report(record: Record) -> None:
        if record.step >= step:
            raise Enough

    return report


def held_out(network: Network, count: int) -> tuple[float, float]:
    """Mean gaps (told values, noise-free values) on batches that no training with a seed below 900 sees."""
    smoke = Training.from_json(configuration("smoke"))
    gaps = []
    with torch.no_grad():
        for index in range(count):
            batch = draw_batch(smoke.prior, smoke.sizes, smoke.shape.anchors, (900, index))
            gaps.append(score(network, batch, torch.zeros_like(batch.oracle))[1].nanmean((0, 1)))
    told_latent = torch.stack(gaps).mean(0)
    return float(told_latent[1]), float(told_latent[0])


def test_a_smoke_training_narrows_the_gap_to_the_exact_process(tmp_path: Path) -> None:
    """Facts, section F, item 10, whose numbers (from above 1.0 to below 0.8) are of a plain transformer and its prior.

    This network starts at the anchors' average. Measured with its prior on 25 held-out batches, told values (noise-free
    ones): 1.45 (1.59) nats above the oracle untrained, 1.15 (1.25) after 120 steps of `smoke`, 9 CPU-s.
    """
    smoke = Training.from_json({**configuration("smoke"), "steps": 120})
    before = held_out(Network(smoke.shape), 25)
    after = held_out(load_weights(train(smoke, tmp_path))[0], 25)
    assert 1.2 < before[0] < 1.7
    assert after[0] < 0.85 * before[0] and after[1] < 0.85 * before[1]


def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(tmp_path: Path) -> None:
    """To the bit: weights, their average, moments, log; with other ends and numbers of workers on the way."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(TINY, whole)
    with pytest.raises(Enough):
        train(replace(TINY, every=1), parts, stop_at(3))
    assert load_tensors(parts / CHECKPOINT)[1]["step"] == 3
    (parts / LOG).unlink()
    train(TINY, parts)
    a, b = (load_tensors(folder / CHECKPOINT)[0] for folder in (whole, parts))
    assert same(a, b)
    assert same(load_tensors(whole / WEIGHTS)[0], load_tensors(parts / WEIGHTS)[0])
    assert lines_without_time(whole)[-1] == lines_without_time(parts)[-1]


def test_workers_draw_the_same_batches(tmp_path: Path) -> None:
    train(replace(TINY, steps=3), tmp_path / "none")
    train(replace(TINY, steps=3, workers=1), tmp_path / "one")
    assert same(weights(tmp_path / "none"), weights(tmp_path / "one"))


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

    with batches_of(replace(TINY, workers=1), 0, 1, "cpu") as drawn:
        next(drawn)
        for child in active_children():
            child.kill()
        with pytest.raises(BboptError, match=r"draws batches has died.*goes on from the checkpoint") as caught:
            list(itertools.islice(drawn, batches.AHEAD + 2))
        assert isinstance(caught.value.__cause__, BrokenProcessPool)


def test_an_update_that_is_not_finite_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = training.score

    def broken(network: Network, batch: Any, jitter: Tensor, blur: float) -> tuple[Tensor, Tensor]:
        losses, gaps = real(network, batch, jitter, blur)
        return losses * torch.nan, gaps

    with monkeypatch.context() as patch:
        patch.setattr(training, "score", broken)
        train(replace(TINY, steps=2), tmp_path)
    tensors, header = load_tensors(tmp_path / CHECKPOINT)
    assert header["step"] == 2 and header["updates"] == 0
    with torch.random.fork_rng():
        torch.manual_seed(TINY.seed)
        fresh = Network(TINY.shape).state_dict()
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
    run = Training(steps=1000, minutes=10.0, rate=1.0, warmup=100)
    assert run.progress(250, 0.0) == 0.25 and run.progress(250, 300.0) == 0.5 and run.progress(0, 1e9) == 1.0
    assert run.learning_rate(0, 0.0) == pytest.approx(0.01)
    assert run.learning_rate(500, 0.0) == pytest.approx(0.51) and run.learning_rate(1000, 0.0) == pytest.approx(0.02)


def test_values_are_asked_for_ever_more_exactly() -> None:
    run = Training(steps=1000)
    assert run.blur(0, 0.0) == run.blur(200, 0.0) == pytest.approx(5e-4)
    assert run.blur(400, 0.0) == pytest.approx((5e-4 * 2e-6) ** 0.5)
    assert run.blur(600, 0.0) == pytest.approx(2e-6) and run.blur(1000, 0.0) == pytest.approx(2e-6)


@pytest.mark.parametrize("name", configurations())
def test_named_configurations_are_complete(name: str) -> None:
    made = Training.from_json(configuration(name))
    assert Training.from_json(made.to_json()) == made
    assert made.shape.columns <= 20 and (made.device == "cuda") == (name == "gpu")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "steps or minutes"),
    ({"steps": 1, "stepz": 2}, "expected names of .*decay.*; got stepz"),
    ({"steps": 1, "shape": {"depth": 2}}, "shape: expected names of anchors.*; got depth"),
    ({"steps": 1, "shape": 3}, "shape: expected an object"),
    ({"steps": "many"}, "steps: expected a whole number, got 'many'"),
    ({"steps": True}, "whole number"),
    ({"minutes": float("nan")}, "minutes: expected a number"),
    ({"minutes": -1}, "minutes above 0, got -1"),
    ({"steps": 0}, "steps of at least 1"),
    ({"steps": 1, "device": "tpu"}, "device as one of cpu, cuda, got 'tpu'"),
    ({"steps": 1, "seed": -1}, "seed of at least 0"),
    ({"steps": 1, "sizes": {"rows": [5, 2]}}, r"sizes.rows as a range from at least 1, got \(5, 2\)"),
    ({"steps": 1, "sizes": {"rows": [5]}}, "sizes.rows: expected a list of 2 numbers"),
    ({"steps": 1, "shape": {"width": 30, "heads": 4}}, "shape.width as a multiple of shape.heads"),
    ({"steps": 1, "shape": {"heads": 0}}, "shape.heads of at least 1"),
    ({"steps": 1, "shape": {"anchors": 11}}, "shape.anchors of at most 10"),
    ({"steps": 1, "prior": {"labels": 0.6, "plateau": 0.6}}, "add up to at most 1"),
    ({"steps": 1, "prior": {"trend": 1.5}}, "prior.trend between 0 and 1"),
    ({"steps": 1, "prior": {"kernels": [1, 1, 0, 0]}}, "add up to 1"),
    ({"steps": 1, "prior": {"noisy": [0.0, 1.0]}}, "prior.noisy as a range above 0"),
]


@pytest.mark.parametrize(("data", "message"), WRONG)
def test_wrong_configurations_are_refused_before_anything_starts(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Training.from_json(data)


def test_the_score_of_the_oracle_itself_has_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches standardise rows, nodes and densities alike: predicting the oracle's normal distribution leaves nothing."""
    import numpy as np

    from surrogates.pfn.mixture import Mixture

    prior = replace(Prior.plain(), noisy=(0.1, 0.3))
    batch = draw_batch(prior, Sizes((2, 3), (6, 12), 8, 100), 4, (1, 2))
    parts = []
    for nodes in (batch.latent, batch.told):
        u = torch.special.ndtri((torch.arange(8, dtype=torch.float64) + 0.5) / 8.0)  # strata, roughly: a first guess
        sd = (nodes * u).mean(-1) / u.square().mean()
        parts.append((nodes.mean(-1), sd))
    for i, (nodes, (mean, sd)) in enumerate(zip((batch.latent, batch.told), parts, strict=True)):
        noise = torch.zeros(*mean.shape, 1, dtype=torch.float64)
        mixture = Mixture(noise, mean[..., None], sd[..., None])
        monkeypatch.setattr(lessons, "predict", lambda *inputs, made=(mixture, noise): made)
        gaps = score(Network(TINY.shape), batch, torch.zeros_like(batch.oracle))[1][..., i].numpy()
        assert nodes.shape[-1] == 8 and np.isfinite(gaps).all()
        assert abs(float(np.median(gaps))) < 0.05


def test_labels_are_scored_by_the_probability_of_their_side(monkeypatch: pytest.MonkeyPatch) -> None:
    from surrogates.pfn.mixture import Mixture

    batch = draw_batch(replace(Prior.plain(), labels=1.0), Sizes((1, 1), (8, 12), 4, 60), 4, (1, 3))
    noise = torch.zeros(*batch.latent.shape[:2], 1, dtype=torch.float64)
    for sd in (0.1, 3.0):
        mixture = Mixture(noise, noise + batch.middle[..., None], noise + sd)
        monkeypatch.setattr(lessons, "predict", lambda *inputs, made=(mixture, noise): made)
        losses = score(Network(TINY.shape), batch, torch.zeros_like(batch.oracle))[0]
        torch.testing.assert_close(losses, torch.full_like(losses, 0.6931471805599453))


@pytest.mark.parametrize("module", [training, recipe, batches, group, checkpoint, lessons])
def test_examples_in_the_docstrings_run(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert (result.failed == 0 and result.attempted > 0) or module is checkpoint
