"""The network as a subject of training: it learns, its batches and steps follow from seeds, wrong values are refused."""

from __future__ import annotations

import doctest
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from bbopt.errors import UsageError
from surrogates.pfn import lessons, subject
from surrogates.pfn.lessons import Sizes, draw_batch, score
from surrogates.pfn.network import Network
from surrogates.pfn.subject import PFNSubject, blur
from surrogates.pfn.weights import load_weights
from surrogates.prior import Prior
from surrogates.training.checkpoint import CHECKPOINT
from surrogates.training.loop import LOG, WEIGHTS, Record, train
from surrogates.training.recipe import Training, configs_of, configuration, configurations
from surrogates.training.weights import load_tensors

CONFIGS = configs_of(PFNSubject)
TINY = Training.from_json({
    "seed": 5, "steps": 6, "rate": 2e-3, "warmup": 3, "workers": 0, "every": 2,
    "shape": {"width": 16, "layers": 1, "heads": 2, "inner": 16, "columns": 2, "anchors": 4},
    "sizes": {"columns": [1, 2], "rows": [3, 9], "points": 4, "tokens": 70, "tasks": [3, 8]},
}, PFNSubject)  # fmt: skip


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


def held_out(kind: PFNSubject, network: Network, count: int) -> tuple[float, float]:
    """Mean gaps (told values, noise-free values) on batches that no training with a seed below 900 sees."""
    gaps = []
    with torch.no_grad():
        for index in range(count):
            batch = draw_batch(kind.prior, kind.sizes, kind.shape.anchors, (900, index))
            gaps.append(score(network, batch, torch.zeros_like(batch.oracle))[1].nanmean((0, 1)))
    told_latent = torch.stack(gaps).mean(0)
    return float(told_latent[1]), float(told_latent[0])


def test_a_smoke_training_narrows_the_gap_to_the_exact_process(tmp_path: Path) -> None:
    """Facts, section F, item 10, whose numbers (from above 1.0 to below 0.8) are of a plain transformer and its prior.

    This network starts at the anchors' average. Measured with its prior on 25 held-out batches, told values (noise-free
    ones): 1.45 (1.59) nats above the oracle untrained, 1.15 (1.25) after 120 steps of `smoke`, 9 CPU-s.
    """
    smoke = Training.from_json({**configuration("smoke", CONFIGS), "steps": 120}, PFNSubject)
    kind = smoke.subject
    assert isinstance(kind, PFNSubject)
    before = held_out(kind, kind.network(), 25)
    after = held_out(kind, load_weights(train(smoke, tmp_path))[0], 25)
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


def test_values_are_asked_for_ever_more_exactly() -> None:
    assert blur(0.0) == blur(0.2) == pytest.approx(5e-4)
    assert blur(0.4) == pytest.approx((5e-4 * 2e-6) ** 0.5)
    assert blur(0.6) == pytest.approx(2e-6) and blur(1.0) == pytest.approx(2e-6)


def test_the_blur_of_a_step_follows_the_progress_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, kind = [], PFNSubject(sizes=Sizes((1, 2), (3, 9), 4, 70, (3, 8)))
    batch, network = kind.draw((5, 0), "cpu"), kind.network()

    def noted(network: Network, tasks: Any, jitter: Tensor, width: float) -> tuple[Tensor, Tensor]:
        asked.append((width, jitter))
        return score(network, tasks, jitter, width)

    monkeypatch.setattr(subject, "score", noted)
    for progress in (0.1, 0.4):
        kind.learn(network, batch, torch.Generator().manual_seed(7), progress)
    assert [width for width, _ in asked] == [blur(0.1), blur(0.4)] and asked[0][1].equal(asked[1][1])


def test_the_log_has_the_gaps(tmp_path: Path) -> None:
    train(replace(TINY, steps=2), tmp_path)
    assert list(log(tmp_path)[0]) == [
        *("step", "seconds", "share", "loss", "gap", "gap_latent", "gap_quiet", "gradient", "rate")
    ]


@pytest.mark.parametrize("name", configurations(CONFIGS))
def test_named_configurations_are_complete(name: str) -> None:
    made = Training.from_json(configuration(name, CONFIGS), PFNSubject)
    assert Training.from_json(made.to_json(), PFNSubject) == made
    assert isinstance(made.subject, PFNSubject)
    assert made.subject.shape.columns <= 20 and (made.device == "cuda") == (name == "gpu")


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
    ({"steps": 1, "sizes": {"rows": [5]}}, "sizes.rows: expected a list of 2 values"),
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
        Training.from_json(data, PFNSubject)


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
        gaps = score(TINY.subject.network(), batch, torch.zeros_like(batch.oracle))[1][..., i].numpy()
        assert nodes.shape[-1] == 8 and np.isfinite(gaps).all()
        assert abs(float(np.median(gaps))) < 0.05


def test_labels_are_scored_by_the_probability_of_their_side(monkeypatch: pytest.MonkeyPatch) -> None:
    from surrogates.pfn.mixture import Mixture

    batch = draw_batch(replace(Prior.plain(), labels=1.0), Sizes((1, 1), (8, 12), 4, 60), 4, (1, 3))
    noise = torch.zeros(*batch.latent.shape[:2], 1, dtype=torch.float64)
    for sd in (0.1, 3.0):
        mixture = Mixture(noise, noise + batch.middle[..., None], noise + sd)
        monkeypatch.setattr(lessons, "predict", lambda *inputs, made=(mixture, noise): made)
        losses = score(TINY.subject.network(), batch, torch.zeros_like(batch.oracle))[0]
        torch.testing.assert_close(losses, torch.full_like(losses, 0.6931471805599453))


@pytest.mark.parametrize("module", [subject, lessons])
def test_examples_in_the_docstrings_run(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.failed == 0 and result.attempted > 0
