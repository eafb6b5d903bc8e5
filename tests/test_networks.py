"""The networks, their images, and a network's loss as a problem."""

from __future__ import annotations

import doctest
import importlib
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import bbopt
import problems
from bbopt.errors import SpaceError, UsageError
from bbopt.query import CoordinateRows, DirectionRows
from problems.networks import digits, mlp, parameter_count, resnet20, small_cnn

MAKERS = {
    "mlp": lambda seed: mlp((64, 32, 10), seed=seed),
    "small_cnn": lambda seed: small_cnn((8, 16), seed=seed),
    "resnet20": lambda seed: resnet20(inputs=1, seed=seed),
}


@pytest.mark.parametrize("module", ["", ".architectures", ".augmentation", ".digit_images", ".images", ".loss"])
def test_docstring_examples_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"problems.networks{module}"))
    assert result.attempted and not result.failed


# --- architectures ---------------------------------------------------------------------------------------------------


def test_parameter_counts_are_those_of_the_paper() -> None:
    """The counts of the small networks are the columns of DeepZero's figure 2; ResNet-20's is that of its code."""
    counts = [parameter_count(small_cnn((18,) * depth, inputs=3, bias=True)) for depth in range(1, 6)]
    assert counts == [730, 3700, 6670, 9640, 12610]
    network = resnet20()
    weights = sum(p.numel() for p in network.parameters() if p.ndim >= 2)
    assert (parameter_count(network), weights) == (269_722, 268_336)
    # by hand: 64 * 32 + 32 + 32 * 10 + 10; 9 * (8 + 8 * 16) + 2 * (8 + 16) + 16 * 10 + 10
    assert parameter_count(mlp((64, 32, 10))) == 2410
    assert parameter_count(small_cnn((8, 16))) == 1442


@pytest.mark.parametrize("name", MAKERS)
def test_a_seed_gives_the_same_network_and_the_global_generator_stays(name: str) -> None:
    state = torch.get_rng_state()
    one, same, other = (MAKERS[name](seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    for (key, a), b, c in zip(
        one.state_dict().items(), same.state_dict().values(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)
        if key.endswith("weight") and a.ndim > 1:
            assert not torch.equal(a, c)
    torch.manual_seed(1)
    moved = MAKERS[name](3)
    assert torch.equal(moved[0].weight, one[0].weight)


def test_initial_values_have_the_right_spread() -> None:
    """Uniform in 1 / sqrt(fan-in) has the deviation 1 / sqrt(3 fan-in); ResNet's normal one sqrt(2 / fan-in)."""
    weight = mlp((400, 300, 10)).get_parameter("linear1.weight")
    assert weight.abs().max() <= 1 / 20
    assert weight.std().item() == pytest.approx(1 / math.sqrt(3 * 400), rel=0.02)
    for name, parameter in resnet20().named_parameters():
        if parameter.ndim == 4 and parameter.numel() > 5000:
            assert parameter.std().item() == pytest.approx(math.sqrt(2 / parameter[0].numel()), rel=0.05), name
    norm = resnet20().get_submodule("norm.batch")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.num_batches_tracked == 0 and norm.running_var.eq(1).all() and norm.weight.eq(1).all()


def test_every_network_is_a_sequence_of_stages_that_leaves_its_inputs_alone() -> None:
    images = digits()
    for name, make in MAKERS.items():
        network, x = make(0), images.train_inputs[:5]
        x = x.flatten(1) if name == "mlp" else x
        for stage in network.children():
            before = x.clone()
            after = stage(x)
            assert torch.equal(x, before), stage
            x = after
        assert x.shape == (5, 10)
    assert len(resnet20()) == 12
    assert small_cnn((16,) * 4)(images.test_inputs[:2]).shape == (2, 10)  # 8 pixels halve only three times


@pytest.mark.parametrize(("inputs", "size"), [(3, 32), (1, 8)])
def test_resnet20_computes_what_the_paper_says(inputs: int, size: int) -> None:
    """Against the same network written with functions alone (He et al. 2016, section 4.2, option A)."""
    network = resnet20(inputs=inputs, seed=2).double()
    values = {name: p.detach() for name, p in network.named_parameters()}
    x = torch.randn(4, inputs, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def norm(y: torch.Tensor, name: str) -> torch.Tensor:
        mean, var = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), keepdim=True, unbiased=False)
        scale, shift = (values[f"{name}.{part}"].reshape(1, -1, 1, 1) for part in ("weight", "bias"))
        return (y - mean) / torch.sqrt(var + 1e-5) * scale + shift

    y = norm(functional.conv2d(x, values["conv.weight"], padding=1), "norm.batch").clamp(min=0)
    for block in range(1, 10):
        stride, name = 2 if block in (4, 7) else 1, f"block{block}.branch"
        z = norm(functional.conv2d(y, values[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.norm1")
        z = norm(functional.conv2d(z.clamp(min=0), values[f"{name}.conv2.weight"], padding=1), f"{name}.norm2")
        if stride == 2:
            short = torch.zeros_like(z)
            extra = z.shape[1] - y.shape[1]
            short[:, extra // 2 : extra // 2 + y.shape[1]] = y[:, :, ::2, ::2]
            y = short
        y = (z + y).clamp(min=0)
    wanted = y.mean((2, 3)) @ values["head.linear.weight"].T + values["head.linear.bias"]
    torch.testing.assert_close(network(x), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: mlp((64,)), "inputs and outputs"),
        (lambda: mlp((64, 0, 10)), r"widths as whole numbers of at least 1, got \(64, 0, 10\)"),
        (lambda: mlp((64, 10), "gelu"), "tanh or relu, got 'gelu'"),  # type: ignore[arg-type]
        (lambda: small_cnn(()), "at least one level"),
        (lambda: small_cnn((8, 2.5)), "channels as whole numbers"),  # type: ignore[arg-type]
        (lambda: resnet20(inputs=0), "inputs as whole numbers"),
        (lambda: resnet20(seed=-1), "seed as a whole number"),
        (lambda: digits(seed=-1), "seed as a whole number"),
    ],
)
def test_wrong_sizes_are_refused(make, text) -> None:
    with pytest.raises(UsageError, match=text):
        make()


# --- a network's loss as a problem -----------------------------------------------------------------------------------


def test_the_loss_is_that_of_the_network() -> None:
    """At the start, against a plain forward of the same network in float64."""
    for name, network, flat in (
        ("network_mlp_tanh_64_16_10@seed4", mlp((64, 16, 10), "tanh", seed=4), True),
        ("network_cnn_2_3@seed1", small_cnn((2, 3), seed=1), False),
    ):
        problem, images = problems.get(name), digits(flat, seed=int(name[-1]))
        network.double().train()
        wanted = functional.cross_entropy(network(images.train_inputs[:256].double()), images.train_targets[:256])
        assert problem(problem.start)["loss"] == pytest.approx(wanted.item(), rel=1e-13)
        assert problem.task.space.names == tuple(key for key, _ in network.named_parameters())
        start = problem.task.space.encode(problem.start)
        assert np.array_equal(start, np.concatenate([p.detach().numpy().ravel() for p in network.parameters()]))


def test_what_is_shared_cannot_be_written_to() -> None:
    problem = problems.get("network_mlp_64_4_10")
    for params in (problem.start, problem.optimum.params):
        with pytest.raises(ValueError, match="read-only"):
            params["linear1.weight"][:] = 0.0


@pytest.mark.parametrize("name", ["network_mlp_64_4_10", "network_mlp_tanh_64_5_6_10", "network_cnn_2_3"])
def test_lazy_rows_have_the_losses_of_dense_ones(name: str) -> None:
    problem = problems.get(name)
    base = problem.task.space.encode(problem.start)
    rng = np.random.default_rng(0)
    columns = rng.permutation(np.append(np.repeat(-1, 3), rng.integers(0, len(base), 100)))
    rows = CoordinateRows(base, columns, rng.normal(size=len(columns)))
    lazy = problem.evaluate(rows)["loss"]
    np.testing.assert_allclose(lazy, problem.evaluate(rows[:])["loss"], rtol=1e-12)
    assert np.unique(lazy[columns == -1]).size == 1
    along = DirectionRows(base, np.arange(len(base)), 0.1, "gaussian", 0, np.array([0, 1, -1]), np.array([0, 0, 0]))
    np.testing.assert_allclose(problem.evaluate(along)["loss"], problem.evaluate(along[:])["loss"], rtol=1e-12)


def test_chunks_change_nothing_but_rounding() -> None:
    from dataclasses import replace

    problem = problems.get("network_mlp_64_4_10")
    base = problem.task.space.encode(problem.start)
    rows = CoordinateRows(base, np.arange(len(base)), base + 0.1)
    small = replace(problem, formula=replace(problem.formula, bytes=1))
    np.testing.assert_allclose(small.evaluate(rows)["loss"], problem.evaluate(rows)["loss"], rtol=1e-12)
    np.testing.assert_allclose(small.evaluate(rows[:9])["loss"], problem.evaluate(rows)["loss"][:9], rtol=1e-12)


def test_resnet20_is_a_problem_whose_optimum_is_not_known() -> None:
    problem = problems.get("network_resnet20")
    assert problem.task.space.dimension == 269_434  # one input channel: 288 weights fewer
    assert problem.optimum.how.startswith("not known")
    base = problem.task.space.encode(problem.start)
    last = np.arange(len(base) - 10, len(base))  # biases of the last layer
    rows = CoordinateRows(base, np.append(-1, last), np.append(0.0, base[last] + 1e-6))
    loss = problem.evaluate(rows)["loss"]
    assert loss[0] == pytest.approx(problem.optimum.value, rel=1e-12)
    assert abs((loss[1:] - loss[0]).sum() / 1e-6) < 1e-5  # the same shift of all outputs changes nothing


def test_what_travels_to_another_process_is_a_description() -> None:
    """Not the tensors: torch hands those to one process only, however many are to have them."""
    problem = problems.get("network_cnn_2")
    sent = pickle.dumps(problem.formula)
    assert len(sent) < 200
    row = problem.task.space.encode(problem.start)[None]
    arrived = pickle.loads(sent)(problem.task.space.values(row))
    assert arrived["loss"][0] == problem.evaluate(row)["loss"][0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("network_mlp_32_10", "64 pixels and 10 classes"),
        ("network_mlp_64", "64 pixels and 10 classes"),
        ("network_cnn", "network_mlp_64_32_10"),
        ("network_resnet21", "network_mlp_64_32_10"),
    ],
)
def test_other_networks_are_refused(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        bbopt.problems.get(name)


def test_weights_of_another_shape_are_refused() -> None:
    problem = problems.get("network_mlp_64_4_10")
    with pytest.raises(SpaceError, match=r"linear1\.weight: expected 256 numbers"):
        problem({**problem.start, "linear1.weight": np.zeros((3, 64))})
