"""Trainings whose passes are shared out over workers on Ray: the same bits as in one process. Slow: Ray takes seconds to start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bbopt.errors import UsageError
from bbopt.train_network import data_of, network_of, train_network
from bbopt.zeroth_order.training.checkpoint import CHECKPOINT
from bbopt.zeroth_order.training.loop import train
from bbopt.zeroth_order.training.recipe import Machine, Recipe, Sparsity
from bbopt.zeroth_order.training.record import Record
from bbopt.zeroth_order.training.update import Update
from surrogates.training.weights import load_tensors

RECIPE = Recipe(
    network="cnn-4-6", epochs=3, batch=480, seed=3, update=Update(rate=0.2, momentum=0.9, decay=1e-3), every=1,
    sparsity=Sparsity(keep=0.5, ratios="magnitude", variant="m1", interval=1),
)  # fmt: skip
"""9 steps, three masks, batch norm, weights that are pruned on the way: all that replicas have to agree on."""


class Enough(Exception):
    """Ends a training in the middle."""


def test_workers_need_a_way_to_make_replicas() -> None:
    recipe = replace(RECIPE, machine=Machine(workers=2))
    with pytest.raises(UsageError, match="expected a factory of replicas beside workers, got none"):
        train(recipe, network_of(recipe), data_of(recipe))


@pytest.mark.slow
def test_workers_give_the_bits_of_one_process_also_after_an_interruption(tmp_path: Path) -> None:
    def report(record: Record) -> None:
        if record.step == 4:
            raise Enough

    alone = train_network(RECIPE, tmp_path / "alone")
    shared = replace(RECIPE, machine=Machine(workers=2))
    with pytest.raises(Enough):
        train_network(shared, tmp_path / "shared", report=report)
    together = train_network(shared, tmp_path / "shared")
    (a, _), (b, _) = (load_tensors(tmp_path / name / CHECKPOINT) for name in ("alone", "shared"))
    assert a.keys() == b.keys() and all(part.equal(b[name]) for name, part in a.items())
    assert (alone.score, alone.queries) == (together.score, together.queries)
