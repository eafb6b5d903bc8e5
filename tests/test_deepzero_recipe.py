"""Recipes of zeroth-order trainings: what is refused and how, what survives JSON, schedules and update rules against torch's."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bbopt.errors import UsageError
from bbopt.train_network import data_of, network_of, train_network
from bbopt.zeroth_order.training.recipe import CONFIGS, Estimate, Machine, Recipe, Schedule, Sparsity, named
from bbopt.zeroth_order.training.update import Update, load_state, state

SHIPPED = ("cifar10-resnet20", "digits-cnn", "digits-mlp", "digits-resnet20", "smoke")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"epoch": 3}, "expected names of activation, .*; got epoch"),
        ({"epochs": 0}, "epochs of at least 1, got 0"),
        ({"epochs": "3"}, "epochs: expected a whole number, got '3'"),
        ({"batch": 1}, "a batch of at least 2 examples, got 1"),
        ({"estimate": {"kind": "spsa"}}, r"estimate.kind as one of cge, rge, first-order, got 'spsa'"),
        ({"estimate": {"radius": 0.0}}, r"estimate.radius above 0, got 0.0"),
        ({"estimate": {"radius": float("nan")}}, "estimate.radius: expected a number, got nan"),
        ({"estimate": {"shrink": 1.5}}, "estimate.shrink above 0, at most 1, got 1.5"),
        ({"estimate": {"level": "hybrid"}}, "estimate.level as one of auto, oracle"),
        ({"estimate": {"distribution": "cauchy"}}, "estimate.distribution as one of gaussian"),
        ({"estimate": 3}, "estimate: expected an object of names and values, got 3"),
        ({"sparsity": {"keep": 0.0}}, "sparsity.keep above 0, at most 1, got 0.0"),
        ({"sparsity": {"ratios": "snip"}}, "sparsity.ratios as one of grasp, grasp-rge, released, magnitude, uniform"),
        ({"sparsity": {"rule": "both"}}, "sparsity.rule as one of absolute, signed"),
        ({"sparsity": {"variant": "m1"}}, "sparsity.keep below 1 where a variant prunes, got 1.0"),
        ({"sparsity": {"variant": "m2", "keep": 0.1, "ratios": "uniform"}}, "of scores of this network where a variant prunes"),
        ({"check": 5, "estimate": {"kind": "rge"}}, "no check of a gradient that is not estimated by coordinates, got 5"),
        ({"machine": {"device": "tpu"}}, "machine.device as one of cpu, cuda"),
        ({"machine": {"workers": 2}, "estimate": {"kind": "first-order"}}, "no machine.workers but for differences"),
        ({"schedule": {"kind": "linear"}}, "schedule.kind as one of cosine, steps, constant"),
        ({"schedule": {"warmup": 30.0}}, "schedule.warmup from 0 to epochs, got 30.0"),
        ({"update": {"name": "Adamm"}}, r"update.name: expected an optimizer of torch.optim .*Adam.*got 'Adamm'"),
        ({"update": {"name": "LBFGS"}}, "needs a gradient alone .*got 'LBFGS'"),
        ({"update": {"name": "Adam", "momentum": 0.9}}, "arguments of torch.optim.Adam, got momentum"),
        ({"update": {"options": {"dampning": 0.1}}}, "update.options: expected names of dampening, .*; got dampning"),
        ({"update": {"nesterov": True}}, "torch.optim.SGD refuses its arguments"),
        ({"update": {"rate": 0}}, "a rate above 0, got 0"),
        ({"update": {"name": "AdamW", "options": {"betas": 3}}}, "torch.optim.AdamW refuses its arguments"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_what_was_expected(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe.from_json(data)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"network": "vgg"}, "expected mlp-INPUTS-.*got 'vgg'"),
        ({"network": "mlp-64"}, "expected mlp-INPUTS-"),
        ({"network": "cnn-8-x"}, "expected mlp-INPUTS-.*got 'cnn-8-x'"),
        ({"network": "mlp-63-10"}, "expected 64 inputs for digits, got 'mlp-63-10'"),
        ({"data": "mnist"}, "data: expected one of digits, cifar10, got 'mnist'"),
        ({"data": "cifar10"}, "expected the folder that holds it; give it with --data"),
        ({"augment": True}, "a network that takes images, got a perceptron"),
    ],
)
def test_networks_and_data_that_do_not_exist_are_refused_before_anything_is_made(
    fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        train_network(Recipe(**fields), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_gpu_that_is_not_there_is_named(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UsageError, match="expected a GPU that torch can use, found none"):
        train_network(Recipe(machine=Machine(device="cuda")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


recipes = st.builds(
    Recipe,
    network=st.sampled_from(["mlp-64-32-10", "cnn-8-16", "resnet20"]),
    epochs=st.integers(10, 99),
    batch=st.integers(2, 999),
    seed=st.integers(0, 2**40),
    update=st.builds(
        Update,
        name=st.sampled_from(["SGD", "rmsprop"]),
        rate=st.floats(1e-6, 10.0),
        momentum=st.floats(0.0, 0.99),
        options=st.sampled_from([{}, {"maximize": False}]),
    ),
    schedule=st.builds(Schedule, kind=st.sampled_from(["cosine", "steps", "constant"]), warmup=st.floats(0.0, 10.0)),
    estimate=st.builds(Estimate, scheme=st.sampled_from(["forward", "central"]), radius=st.floats(1e-6, 1.0)),
    sparsity=st.builds(Sparsity, keep=st.floats(0.01, 0.9), variant=st.sampled_from(["deepzero", "m1", "m2"])),
    machine=st.builds(Machine, workers=st.integers(0, 4)),
    every=st.integers(1, 100),
)


@given(recipes)
def test_recipes_survive_json(recipe: Recipe) -> None:
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_shipped_configurations_are_what_the_documentation_names() -> None:
    assert tuple(sorted(path.stem for path in CONFIGS.glob("*.json"))) == SHIPPED
    for name in SHIPPED:
        recipe = Recipe.from_json(named(name))
        if recipe.data == "digits":
            channels = data_of(recipe).train_inputs.shape[1]
            network_of(recipe, channels)(data_of(recipe).train_inputs[:2])


def test_the_paper_s_configuration_has_its_numbers() -> None:
    """facts: 50 epochs of batches of 256, SGD 0.1 with momentum 0.9 and decay 5e-4, 3 epochs of warm-up, radius 5e-3, masks every 5."""
    recipe = Recipe.from_json(named("cifar10-resnet20"))
    assert recipe.steps(50_000) == 50 * 196
    assert (recipe.update.rate, recipe.update.momentum, recipe.update.decay) == (0.1, 0.9, 5e-4)
    assert (recipe.schedule.warmup, recipe.estimate.radius, recipe.sparsity.interval) == (3, 5e-3, 5)
    assert (recipe.sparsity.keep, recipe.sparsity.directions, recipe.sparsity.rule) == (0.1, 192, "absolute")


def test_rates_are_those_of_torch_s_schedulers() -> None:
    steps, recipe = 40, Recipe(epochs=10, update=Update(rate=0.3))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        assert recipe.rate(step, steps) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        cosine.step()
    stairs = dataclasses.replace(recipe, schedule=Schedule("steps"))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    multi = torch.optim.lr_scheduler.MultiStepLR(optimizer, [20, 30], 0.1)
    for step in range(steps):
        assert stairs.rate(step, steps) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        multi.step()


def test_warm_up_rises_to_the_highest_rate_where_the_cosine_begins() -> None:
    recipe = Recipe(epochs=10, update=Update(rate=1.0), schedule=Schedule("cosine", warmup=2.5))
    rates = [recipe.rate(step, 40) for step in range(40)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1.0 and rates[25] == pytest.approx(0.5) and 0.0 < rates[39] < 0.01
    assert math.isclose(Recipe(epochs=2, schedule=Schedule("constant", 2.0)).rate(3, 4), 0.1)


@pytest.mark.parametrize(
    "name", ["SGD", "adam", "AdamW", "nadam", "RMSprop", "Adagrad", "rprop", "ASGD", "Adamax", "radam"]
)
def test_the_state_of_an_optimizer_survives_saving(name: str) -> None:
    """Four steps, or two, saved, loaded into a fresh optimizer, and two more: the same bits."""
    update = Update(name, rate=0.01, momentum=0.9 if name in ("SGD", "RMSprop") else 0.0)
    gradients = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))

    def walk(parameter: nn.Parameter, optimizer: torch.optim.Optimizer, some: torch.Tensor) -> None:
        for gradient in some:
            parameter.grad = gradient.clone()
            optimizer.step()

    whole, parts = (nn.Parameter(torch.ones(3)) for _ in range(2))
    walk(whole, update.optimizer([whole]), gradients)
    first = update.optimizer([parts])
    walk(parts, first, gradients[:2])
    tensors, rest = state(first)
    second = update.optimizer([parts])
    load_state(second, tensors, json.loads(json.dumps(rest)))
    walk(parts, second, gradients[2:])
    assert torch.equal(whole, parts)
