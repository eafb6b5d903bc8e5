"""The training loop against loops written out by hand: the same steps, the same bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bbopt.train_network import data_of, network_of, train_network
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.gradient import assign, network_gradient
from bbopt.zeroth_order.network.objective import CrossEntropy, NetworkLoss
from bbopt.zeroth_order.training.examples import NOISE, batch, seed_of
from bbopt.zeroth_order.training.loop import Diverged, train
from bbopt.zeroth_order.training.recipe import Estimate, Recipe, Schedule, Sparsity
from bbopt.zeroth_order.training.record import Record
from bbopt.zeroth_order.training.replica import TrainingReplica
from bbopt.zeroth_order.training.update import Update
from problems.networks import ImageSet

SGD = Update(rate=0.2, momentum=0.9, decay=1e-3)
SMALL = Recipe(network="mlp-64-4-10", epochs=2, batch=480, seed=3, update=SGD)
"""3 steps an epoch, 310 parameters."""
CNN = Recipe(network="cnn-2-3", epochs=2, batch=480, seed=3, update=SGD, estimate=Estimate(radius=1e-3))


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: part.clone() for name, part in module.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(part.equal(b[name]) for name, part in a.items())


def by_hand(recipe: Recipe, follow: Callable[[nn.Module, Tensor, Tensor, int, float], None]) -> dict[str, Tensor]:
    """The whole training with torch's SGD and cosine; `follow` sets the gradients of a step."""
    images = data_of(recipe)
    module = network_of(recipe).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.2, momentum=0.9, weight_decay=1e-3)
    steps = recipe.steps(len(images.train_targets))
    for step in range(steps):
        inputs, targets = batch(recipe, images, None, step)
        optimizer.param_groups[0]["lr"] = 0.2 * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        follow(module, inputs, targets, step, recipe.radius(step, steps))
        optimizer.step()
    return weights(module)


@pytest.mark.parametrize("recipe", [SMALL, CNN], ids=["perceptron", "batch norm"])
def test_backpropagation_is_plain_torch_to_the_bit(recipe: Recipe) -> None:
    def follow(module: nn.Module, inputs: Tensor, targets: Tensor, step: int, radius: float) -> None:
        nn.functional.cross_entropy(module(inputs), targets).backward()

    recipe = replace(recipe, estimate=Estimate("first-order"))
    trained = train_network(recipe)
    assert same(weights(trained.module), by_hand(recipe, follow))
    assert (trained.steps, trained.queries) == (6, 6)


@pytest.mark.parametrize("scheme", ["forward", "central"])
@pytest.mark.parametrize("recipe", [SMALL, CNN], ids=["perceptron", "batch norm"])
def test_coordinate_wise_training_is_network_gradient_and_sgd_step_by_step(recipe: Recipe, scheme: Any) -> None:
    """Buffers too: they move as one forward pass of the step's batch at its weights moves them."""
    recipe = replace(recipe, estimate=replace(recipe.estimate, scheme=scheme, shrink=0.5))
    count = 0

    def follow(module: nn.Module, inputs: Tensor, targets: Tensor, step: int, radius: float) -> None:
        nonlocal count
        problem = NetworkLoss(module, inputs, CrossEntropy(targets), seed_of(3, step, NOISE))
        found = network_gradient(problem, scheme=scheme, radius=radius)
        count += found.queries
        assign(found.gradient, module)
        with torch.no_grad():
            module(inputs)

    trained, expected = train_network(recipe), by_hand(recipe, follow)
    for name, part in weights(trained.module).items():  # parts of a gradient round apart from the whole of it
        torch.testing.assert_close(part, expected[name], rtol=1e-4, atol=1e-5, msg=name)
    assert trained.queries == count


def test_statistics_of_batch_norm_move_once_a_step() -> None:
    one = replace(CNN, epochs=1, batch=1437)
    trained = train_network(one)
    inputs = batch(one, data_of(one), None, 0)[0]
    first = network_of(one)[0](inputs)
    norm: Any = trained.module.get_submodule("norm1")
    assert int(norm.num_batches_tracked) == 1
    torch.testing.assert_close(norm.running_mean, 0.1 * first.mean((0, 2, 3)))
    assert int(train_network(CNN).module.get_submodule("norm2").num_batches_tracked) == 6


@pytest.mark.parametrize("kind", ["cge", "rge"])
def test_an_epoch_lowers_the_loss(kind: str) -> None:
    lines: list[Record] = []
    recipe = replace(
        SMALL, epochs=3, batch=144, estimate=Estimate(kind, directions=100), check=20 if kind == "cge" else 0
    )
    trained = train_network(recipe, report=lines.append)
    assert [line.step for line in lines] == [10, 20, 30]
    assert lines[0].loss > 1.05 * lines[1].loss > 1.05**2 * lines[2].loss
    assert lines[2].test_loss == trained.score.loss and lines[2].accuracy == trained.score.accuracy > 0.4
    assert trained.queries == 30 * (311 if kind == "cge" else 101) == lines[2].queries
    assert lines[2].active == 310
    if kind == "cge":
        assert lines[2].cosine > 0.99 and 0.0 < lines[2].error < 0.1
    else:
        assert math.isnan(lines[2].cosine) and lines[2].to_json()["error"] is None


def test_the_caller_s_network_and_torch_s_generator_stay_as_they_are() -> None:
    module, images = network_of(CNN), data_of(CNN)
    before, state, threads = weights(module), torch.random.get_rng_state(), torch.get_num_threads()
    train(replace(CNN, epochs=1), module, images)
    assert same(before, weights(module)) and state.equal(torch.random.get_rng_state())
    assert threads == torch.get_num_threads() and module.training


def test_dropout_draws_the_same_in_all_passes_of_a_step_and_differently_in_the_next() -> None:
    """A mask of its own in every pass would make differences of noise; the cosine to backpropagation would be near 0."""
    module = nn.Sequential(nn.Linear(64, 6), nn.Dropout(0.5), nn.Tanh(), nn.Linear(6, 10))
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0.0, 0.3, generator=torch.Generator().manual_seed(1))
    images = data_of(SMALL)
    one = replace(SMALL, epochs=1, batch=1437, update=Update(rate=1.0))
    start = nn.utils.parameters_to_vector(module.parameters())
    cge, backwards = (
        nn.utils.parameters_to_vector(train(recipe, module, images).module.parameters()) - start
        for recipe in (one, replace(one, estimate=Estimate("first-order")))
    )
    assert torch.cosine_similarity(cge, backwards, dim=0) > 0.999
    replica = TrainingReplica(SMALL, module, images)
    assert replica.problem(0).seed != replica.problem(1).seed


def moved(recipe: Recipe, update: Update, steps: int) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Weights before and after so many steps, and where the mask of the first is, all flat."""
    recipe = replace(recipe, update=update, schedule=Schedule("constant"), epochs=1, batch=math.ceil(1437 / steps))
    replica = TrainingReplica(recipe, network_of(recipe), data_of(recipe))
    before = {name: part.detach().clone().flatten() for name, part in replica.module.named_parameters()}
    kept = replica.step(0).coordinates.indices
    trained = train_network(recipe)
    after = {name: part.detach().flatten() for name, part in trained.module.named_parameters()}
    inside = {name: torch.zeros(len(part), dtype=torch.bool) for name, part in before.items()}
    for name, index in kept.items():
        inside[name][index] = True
    return before, after, inside


SPARSE = replace(SMALL, sparsity=Sparsity(keep=0.2, ratios="uniform", interval=1))


def test_weights_outside_the_mask_feel_decay_and_nothing_else() -> None:
    before, after, inside = moved(SPARSE, Update(rate=0.2, decay=0.1), steps=1)
    assert sum(int(part.sum()) for part in inside.values()) == 14 + round(0.2 * 296)
    for name, part in before.items():
        out = ~inside[name]
        torch.testing.assert_close(after[name][out], part[out] * (1 - 0.2 * 0.1))
        assert not torch.isclose(after[name][~out], part[~out] * (1 - 0.2 * 0.1), rtol=1e-6).all()
    assert inside["linear1.bias"].all() and inside["linear2.bias"].all()


def masks(recipe: Recipe, epochs: int) -> list[dict[str, list[int]]]:
    """The coordinates of each epoch, from a replica that takes no steps."""
    recipe = replace(recipe, epochs=epochs, batch=1437)
    replica = TrainingReplica(recipe, network_of(recipe), data_of(recipe))
    return [
        {name: index.tolist() for name, index in replica.step(epoch).coordinates.indices.items()}
        for epoch in range(epochs)
    ]


def test_masks_are_drawn_anew_at_every_interval_and_at_the_same_shares() -> None:
    found = masks(replace(SPARSE, sparsity=replace(SPARSE.sparsity, interval=2)), 6)
    assert found[0] == found[1] != found[2] == found[3] != found[4] == found[5]
    assert [{name: len(index) for name, index in mask.items()} for mask in found[::2]] == [
        {"linear1.weight": 51, "linear1.bias": 4, "linear2.weight": 8, "linear2.bias": 10}
    ] * 3
    frozen = masks(replace(SPARSE, sparsity=replace(SPARSE.sparsity, frozen=True)), 4)
    assert frozen == frozen[:1] * 4
    other = masks(replace(SPARSE, seed=4), 1)
    assert other[0] != masks(SPARSE, 1)[0]


@pytest.mark.parametrize(
    ("ratios", "queries"),
    [("uniform", 0), ("released", 0), ("magnitude", 0), ("grasp", 2 * 311), ("grasp-rge", 2 * 21)],
)
def test_scores_cost_two_gradients_at_the_start_or_nothing(ratios: str, queries: int) -> None:
    sparsity = Sparsity(keep=0.2, ratios=ratios, interval=1, directions=20, samples=5)
    recipe = replace(SMALL, epochs=2, batch=1437, sparsity=sparsity)
    trained = train_network(recipe)
    assert trained.queries == queries + 2 * (14 + round(0.2 * 296) + 1)


def test_shares_of_scores_that_see_the_network_are_uneven() -> None:
    counts = {}
    for ratios in ("uniform", "magnitude", "released", "grasp"):
        mask = masks(replace(SMALL, sparsity=Sparsity(keep=0.2, ratios=ratios)), 1)[0]
        counts[ratios] = len(mask["linear2.weight"]) / 40
        assert len(mask["linear1.weight"]) + len(mask["linear2.weight"]) == 59
    assert counts["uniform"] == 0.2 and counts["magnitude"] > 0.3 and counts["released"] > 0.5


def test_a_network_pruned_once_keeps_its_zeros() -> None:
    recipe = replace(SMALL, sparsity=Sparsity(keep=0.2, ratios="magnitude", variant="m2"))
    trained = train_network(recipe)
    first = network_of(recipe)
    for name in ("linear1.weight", "linear2.weight"):
        zero = trained.module.get_parameter(name) == 0.0
        largest = first.get_parameter(name).abs().flatten().sort(descending=True).indices
        kept = int((~zero).sum())
        assert set(largest[:kept].tolist()) == set(torch.nonzero(~zero.flatten()).flatten().tolist())
    assert sum(int((part != 0).sum()) for name, part in trained.module.named_parameters() if "weight" in name) == 59


def test_a_network_pruned_in_turns_loses_weights_by_a_geometric_rule() -> None:
    """keep 0.16 in two rounds: 0.4, then 0.16 of 296 weights, the second among the first."""
    recipe = replace(SMALL, sparsity=Sparsity(keep=0.16, ratios="magnitude", variant="m1", interval=1))
    replica = TrainingReplica(recipe, network_of(recipe), data_of(recipe))
    kept = [replica.step(step).coordinates.indices for step in (0, 3)]
    names = ("linear1.weight", "linear2.weight")
    assert [sum(len(each[name]) for name in names) for each in kept] == [round(0.4 * 296), round(0.16 * 296)]
    assert all(set(kept[1][name].tolist()) <= set(kept[0][name].tolist()) for name in names)
    trained = train_network(recipe)
    assert sum(int((trained.module.get_parameter(name) != 0).sum()) for name in names) == round(0.16 * 296)


def test_a_replica_moves_in_step_with_the_training(tmp_path: Any) -> None:
    """What a worker does: step, apply, from a saved state, with a mask that changes and weights that are pruned."""
    recipe = replace(SMALL, sparsity=Sparsity(keep=0.3, ratios="magnitude", variant="m1", interval=1))
    one, two = (TrainingReplica(recipe, network_of(recipe), data_of(recipe)) for _ in range(2))
    for step in range(2):
        one.apply(step, network_gradient(one.step(step).problem, coordinates=one.step(step).coordinates).gradient)
    two.load(one.save())
    for step in range(2, 6):
        found = network_gradient(one.step(step).problem, coordinates=one.step(step).coordinates).gradient
        again = network_gradient(two.step(step).problem, coordinates=two.step(step).coordinates).gradient
        assert same(found, again)
        one.apply(step, found)
        two.apply(step, again)
    assert same(weights(one.module), weights(two.module)) and one.queries == two.queries == 0


def test_a_loss_without_bounds_ends_the_training_with_a_word_on_what_to_do() -> None:
    with pytest.raises(Diverged, match=r"finite loss at step [1-6].*lower update.rate \(it is 1e\+30\)"):
        train_network(replace(SMALL, update=Update(rate=1e30)))


def test_data_may_be_the_caller_s_own() -> None:
    """Two clouds of points, one layer: all right after a few steps."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(200) % 2
    inputs = torch.randn(200, 2, generator=generator) + 4.0 * targets[:, None]
    own = ImageSet(inputs[:160], targets[:160], inputs[160:], targets[160:], classes=2)
    start = nn.Linear(2, 2)
    nn.init.zeros_(start.weight)
    nn.init.zeros_(start.bias)
    trained = train(replace(SMALL, epochs=10, batch=40), start, own)
    assert trained.score.accuracy >= 0.95
    assert trained.queries == 40 * (Coordinates.all(nn.Linear(2, 2)).count + 1)
