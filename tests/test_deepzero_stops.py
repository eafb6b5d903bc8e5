"""Zeroth-order trainings that are stopped, broken off or killed: the run that goes on is the run that was not stopped, bit by bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bbopt.errors import UsageError, ValueRefused
from bbopt.train_network import load_network, train_network
from bbopt.zeroth_order.training.checkpoint import CHECKPOINT
from bbopt.zeroth_order.training.loop import WEIGHTS, Diverged
from bbopt.zeroth_order.training.recipe import Estimate, Recipe, Sparsity
from bbopt.zeroth_order.training.record import LOG, Record, read
from bbopt.zeroth_order.training.replica import TrainingReplica
from bbopt.zeroth_order.training.update import Update
from surrogates.training.weights import load_tensors

SPARSE = Recipe(
    network="mlp-64-4-10", epochs=3, batch=480, seed=3, update=Update(rate=0.2, momentum=0.9, decay=1e-3), every=2,
    sparsity=Sparsity(keep=0.3, ratios="grasp", interval=1, samples=5),
)  # fmt: skip
"""9 steps; log lines after 2, 3, 4, 6, 8 and 9."""
RECIPES = {
    "sparse": SPARSE,
    "norm": replace(SPARSE, network="cnn-2-2", sparsity=Sparsity(keep=0.5, ratios="uniform", interval=2)),
    "varied": replace(SPARSE, network="cnn-2-2", augment=True, sparsity=Sparsity(keep=0.3, ratios="released")),
    "directions": replace(SPARSE, estimate=Estimate("rge", directions=20), sparsity=Sparsity()),
    "pruned": replace(SPARSE, sparsity=Sparsity(keep=0.3, ratios="magnitude", variant="m1", interval=1)),
    "adam": replace(SPARSE, update=Update("NAdam", rate=0.01)),
}


class Enough(Exception):
    """Ends a training in the middle."""


def stopped(recipe: Recipe, folder: Path, after: int) -> None:
    """Train until the line of the log after so many steps, and no further."""

    def report(record: Record) -> None:
        if record.step >= after:
            raise Enough

    with pytest.raises(Enough):
        train_network(recipe, folder, report=report)


def log(folder: Path) -> list[dict[str, Any]]:
    return [{**line, "seconds": 0.0} for line in read(folder)]


def same(one: Path, two: Path) -> bool:
    """Whether two folders hold the same weights, optimizer, mask and log, up to seconds."""
    (a, facts), (b, others) = (load_tensors(folder / CHECKPOINT) for folder in (one, two))
    equal = a.keys() == b.keys() and all(part.equal(b[name]) for name, part in a.items())
    facts, others = ({**each, "seconds": 0.0} for each in (facts, others))
    return equal and facts == others and log(one) == log(two)


@pytest.mark.parametrize("name", RECIPES)
def test_a_training_goes_on_as_if_it_had_not_stopped(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    whole = train_network(recipe, tmp_path / "whole")
    stopped(recipe, tmp_path / "parts", 2)
    stopped(recipe, tmp_path / "parts", 6)
    parts = train_network(replace(recipe, save_seconds=1.0), tmp_path / "parts")
    assert same(tmp_path / "whole", replace_recipe(tmp_path / "parts", recipe))
    assert (whole.queries, whole.score) == (parts.queries, parts.score)
    assert [line["step"] for line in read(tmp_path / "parts")] == [2, 3, 4, 6, 8, 9]


def replace_recipe(folder: Path, recipe: Recipe) -> Path:
    """The folder, after its finished training was opened with the recipe of the other, which differs in what may change."""
    train_network(recipe, folder)
    return folder


def test_a_killed_training_takes_steps_again_and_logs_them_once(tmp_path: Path) -> None:
    train_network(SPARSE, tmp_path / "whole")
    stopped(SPARSE, tmp_path / "killed", 2)
    early = (tmp_path / "killed" / CHECKPOINT).read_bytes()
    stopped(SPARSE, tmp_path / "killed", 6)
    (tmp_path / "killed" / CHECKPOINT).write_bytes(early)  # as if killed before the next one was written
    with (tmp_path / "killed" / LOG).open("a") as file:
        file.write('{"step": 7, "lo')
    train_network(SPARSE, tmp_path / "killed")
    assert same(tmp_path / "whole", tmp_path / "killed")


CHILD = """
import sys, time
from pathlib import Path
from bbopt.train_network import train_network
from bbopt.zeroth_order.training.recipe import Recipe
from bbopt.zeroth_order.training import replica
import json

apply = replica.TrainingReplica.apply

def slowly(self, number, gradient):
    apply(self, number, gradient)
    print(number, flush=True)
    time.sleep(0.05)

replica.TrainingReplica.apply = slowly
train_network(Recipe.from_json(json.loads(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_kill_9_at_a_random_step_loses_nothing_that_was_saved(tmp_path: Path) -> None:
    recipe = replace(SPARSE, save_seconds=0.0)
    train_network(recipe, tmp_path / "whole")
    generator = random.Random(int(os.environ.get("BBOPT_SEED", "5")))
    for _ in range(2):
        steps = generator.randrange(1, 5)
        process = subprocess.Popen([sys.executable, "-c", CHILD, json.dumps(recipe.to_json()), str(tmp_path / "killed")],
                                   stdout=subprocess.PIPE, text=True)  # fmt: skip
        assert process.stdout is not None
        for _ in range(steps):
            assert process.stdout.readline()
        time.sleep(generator.uniform(0.0, 0.1))
        process.kill()
        process.wait()
        process.stdout.close()
    assert 0 < load_tensors(tmp_path / "killed" / CHECKPOINT)[1]["step"] < 9
    train_network(recipe, tmp_path / "killed")
    assert same(tmp_path / "whole", tmp_path / "killed")
    assert not list((tmp_path / "killed").glob("*.part"))


@pytest.mark.parametrize("signals", [1, 3])
def test_ctrl_c_waits_for_the_step_and_the_third_breaks_it_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: int
) -> None:
    """One: the step is finished and saved. Three: in the middle of an update nothing is saved, and the checkpoint before stays."""
    train_network(SPARSE, tmp_path / "whole")
    apply = TrainingReplica.apply

    def interrupted(self: TrainingReplica, number: int, gradient: Any) -> None:
        apply(self, number, gradient)
        if number == 4:
            for _ in range(signals):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)

    handler = signal.getsignal(signal.SIGINT)
    folder = tmp_path / "interrupted"
    with monkeypatch.context() as patch:
        patch.setattr(TrainingReplica, "apply", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_network(replace(SPARSE, save_seconds=0.0), folder)
    assert signal.getsignal(signal.SIGINT) is handler
    assert load_tensors(folder / CHECKPOINT)[1]["step"] == (5 if signals == 1 else 4)
    assert not (folder / WEIGHTS).exists()
    train_network(SPARSE, folder)
    assert same(tmp_path / "whole", folder)


def test_a_finished_training_is_opened_without_a_step(tmp_path: Path) -> None:
    first = train_network(SPARSE, tmp_path)
    before = (tmp_path / LOG).read_bytes()
    again = train_network(SPARSE, tmp_path)
    assert (first.score, first.queries, first.steps) == (again.score, again.queries, again.steps)
    assert (tmp_path / LOG).read_bytes() == before


def test_another_recipe_is_not_mixed_in(tmp_path: Path) -> None:
    stopped(SPARSE, tmp_path, 2)
    before = (tmp_path / CHECKPOINT).read_bytes()
    other = replace(SPARSE, seed=4, estimate=Estimate(radius=1e-3))
    with pytest.raises(UsageError, match="a training with another seed, estimate; give the same configuration, or another folder"):  # fmt: skip
        train_network(other, tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == before and len(read(tmp_path)) == 1


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    stopped(SPARSE, tmp_path, 2)
    whole = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueRefused, match="cannot be read"):
        train_network(SPARSE, tmp_path)


def test_a_training_that_diverges_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    recipe = replace(SPARSE, update=Update(rate=1e30), save_seconds=0.0)
    for _ in range(2):
        with pytest.raises(Diverged):
            train_network(recipe, tmp_path)
        tensors, header = load_tensors(tmp_path / CHECKPOINT)
        assert header["step"] >= 1 and tensors["module.linear1.weight"].shape == (4, 64)
    assert not (tmp_path / WEIGHTS).exists()


def test_weights_come_back_as_the_network_that_was_trained(tmp_path: Path) -> None:
    trained = train_network(RECIPES["norm"], tmp_path)
    network, header = load_network(tmp_path / WEIGHTS)
    assert not network.training and header["accuracy"] == trained.score.accuracy
    assert (header["queries"], header["steps"]) == (trained.queries, 9)
    inputs = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(inputs), trained.module.eval()(inputs))
    with pytest.raises(ValueRefused, match="expected weights of `bbopt train network`"):
        load_network(tmp_path / CHECKPOINT)
