"""Delta propagation against the plain loop in float64, layer kind by layer kind, and what it refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bbopt.zeroth_order.network.base import opened
from bbopt.zeroth_order.network.delta import Delta
from bbopt.zeroth_order.network.delta_loss import expm1
from bbopt.zeroth_order.network.gradient import network_gradient
from bbopt.zeroth_order.network.naive import Naive
from bbopt.zeroth_order.network.objective import BlackBox, CrossEntropy, Loss, NetworkLoss, SquaredError
from problems.networks import digits, mlp, resnet20, small_cnn
from problems.networks.architectures import ResidualBlock


class Applied(nn.Module):
    """A module made of layers and a forward that is a function of the module and the inputs."""

    def __init__(self, forward: Callable[[Applied, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.call = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


def images(channels: int = 2, size: int = 6, batch: int = 5, spatial: int = 2) -> Tensor:
    shape = (batch, channels, *[size] * spatial)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def problem_of(module: nn.Module, inputs: Tensor, loss: Loss | None = None) -> NetworkLoss:
    """With weights that no symmetry makes alike, also those that start as ones and zeros."""
    generator = torch.Generator().manual_seed(0)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) and norm.running_var is not None:
                norm.running_mean.uniform_(-0.2, 0.2, generator=generator)
                norm.running_var.uniform_(0.5, 1.5, generator=generator)
    if loss is None:
        with torch.no_grad():
            outputs = module(inputs)
        classes = outputs.shape[1]
        loss = CrossEntropy(torch.randint(classes, (len(inputs), *outputs.shape[2:]), generator=generator))
    return NetworkLoss(module, inputs, loss, seed=3)


def difference(problem: NetworkLoss, radius: float = 1e-3, count: int = 12, bytes: int | None = None) -> float:
    """Norm-wise relative difference of changes by delta and by the plain loop, over coordinates of every parameter."""
    generator = torch.Generator().manual_seed(2)
    gap = size = 0.0
    with opened(problem, None) as (base, chosen):
        delta, naive = Delta(base, bytes), Naive(base)
        for name, index in chosen.indices.items():
            assert delta.refusal(name) is None, f"{name}: {delta.refusal(name)}"
            some = index[torch.randperm(len(index), generator=generator)[:count]]
            steps = torch.where(torch.rand(len(some), generator=generator) < 0.5, -radius, radius).double()
            found, wanted = delta.changes(name, some, steps), naive.changes(name, some, steps)
            gap += float((found - wanted).square().sum())
            size += float(wanted.square().sum())
    assert size > 0.0
    return (gap / size) ** 0.5


def conv(**options: object) -> nn.Module:
    layer: nn.Module = nn.Conv2d(2, 6, 3, **options)  # type: ignore[arg-type]
    return nn.Sequential(layer, nn.Tanh(), nn.Conv2d(6, 4, 3, **options), nn.AdaptiveAvgPool2d(1), nn.Flatten())  # type: ignore[arg-type]


def twice(layer: nn.Module) -> nn.Module:
    """A layer behind a convolution, where a change is still in one channel, and behind a second one, where it is in all."""
    again = copy.deepcopy(layer) if list(layer.parameters()) else layer
    fixed = isinstance(layer, nn.LayerNorm)  # made for one size of the images
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), layer, nn.Conv2d(6, 6, 3, padding=1), nn.Identity() if fixed else again,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip


ACTIVATIONS = [nn.ReLU(), nn.ReLU(inplace=True), nn.Tanh(), nn.GELU(), nn.SiLU(), nn.Sigmoid(), nn.LeakyReLU(), nn.ELU(),
               nn.Softplus(), nn.Mish(), nn.Hardswish(), nn.ReLU6(), nn.Hardtanh(), nn.Identity()]  # fmt: skip
POOLS = [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d(2, 1, dilation=2),
         nn.AvgPool2d(2), nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1, count_include_pad=False),
         nn.AvgPool2d(2, 2, ceil_mode=True), nn.AdaptiveAvgPool2d(3), nn.AdaptiveAvgPool2d(4), nn.AdaptiveMaxPool2d(2)]  # fmt: skip
OTHERS = [nn.Dropout(0.4), nn.Dropout2d(0.3), nn.BatchNorm2d(6), nn.BatchNorm2d(6, affine=False), nn.GroupNorm(2, 6, affine=False),
          nn.LocalResponseNorm(2), nn.Upsample(scale_factor=2), nn.ZeroPad2d(1), nn.InstanceNorm2d(6),
          nn.Softmax2d(), nn.LayerNorm((6, 6), elementwise_affine=False)]  # fmt: skip


@pytest.mark.parametrize("layer", ACTIVATIONS + POOLS + OTHERS, ids=str)
def test_layers_after_a_convolution(layer: nn.Module) -> None:
    assert difference(problem_of(twice(layer), images()), count=6) < 1e-10


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 2},
        {"padding": "same", "dilation": 2},
        {"padding": (1, 2), "stride": (2, 1)},
        {"groups": 2, "padding": 1},
        {"padding": 1, "padding_mode": "circular"},
        {"padding": 2, "padding_mode": "reflect", "bias": False},
        {"padding": 1, "padding_mode": "replicate"},
    ],
    ids=str,
)
def test_convolutions(options: dict[str, object]) -> None:
    assert difference(problem_of(conv(**options), images())) < 1e-10


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # torch tells of a copy
def test_convolutions_of_an_even_kernel_that_keep_the_size() -> None:
    """'same' pads such a kernel by more on the right than on the left."""
    module = nn.Sequential(
        nn.Conv2d(2, 3, 2, padding="same"), nn.Tanh(), nn.Conv2d(3, 3, 4, padding="same"), nn.Flatten()
    )
    assert difference(problem_of(module, images())) < 1e-10


@pytest.mark.parametrize("spatial", [1, 3])
def test_convolutions_over_one_and_three_dimensions(spatial: int) -> None:
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[spatial - 1]
    pool = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[spatial - 1]
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[spatial - 1]
    module = nn.Sequential(
        layer(2, 4, 3, padding=1), norm(4), nn.ReLU(), pool(2), layer(4, 3, 2), norm(3), nn.Tanh(), layer(3, 2, 1),
        nn.Flatten(), nn.Linear(2 * 2**spatial, 3),
    )  # fmt: skip
    assert difference(problem_of(module, images(size=6, spatial=spatial))) < 1e-10


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_of_columns_and_of_flattened_channels(training: bool) -> None:
    module = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.Flatten(), nn.BatchNorm1d(48), nn.Tanh(), nn.Linear(48, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3)
    )  # fmt: skip
    assert difference(problem_of(module.train(training), images())) < 1e-10


FORWARDS: dict[str, Callable[[Applied, Tensor], Tensor]] = {
    "branches meet": lambda m, x: _two(m, x).flatten(1),
    "joined channels": lambda m, x: m.b(torch.cat([m.a(x).relu(), m.a2(x)], 1)[:, 2:6]).amax((2, 3)),
    "cut and padded": lambda m, x: (
        m.b(F.pad(m.a(x)[:, :, ::2, 1:], (1, 0, 0, 1, 1, 0))[:, :4]).mean(dim=(-1, -2), keepdim=True).view(5, -1)
    ),
    "scalars and gates": lambda m, x: m.b(2.0 * m.a(x) * torch.sigmoid(m.a2(x)) - 1.0).sum((2, 3)),
    "squeeze and excite": lambda m, x: m.b(m.a(x) * m.a2(x).mean((2, 3), keepdim=True).sigmoid()).flatten(1),
    "views by size": lambda m, x: m.b(m.a(x).view(x.size(0), 4, -1).reshape(x.shape[0], 4, 6, 6)).view(x.size(0), -1),
}


def _two(m: Applied, x: Tensor) -> Tensor:
    a = m.a(x)
    out: Tensor = m.b(F.relu(m.n(a)) - 0.5 * a)
    return out


@pytest.mark.parametrize("name", FORWARDS)
def test_forwards_that_branch(name: str) -> None:
    module = Applied(
        FORWARDS[name],
        a=nn.Conv2d(2, 4, 3, padding=1),
        a2=nn.Conv2d(2, 4, 1),
        n=nn.BatchNorm2d(4),
        b=nn.Conv2d(4, 3, 3, padding=1),
    )
    if name not in ("joined channels", "scalars and gates", "squeeze and excite"):
        del module.a2
    if name != "branches meet":
        del module.n
    assert difference(problem_of(module, images())) < 1e-10


def residual() -> nn.Module:
    """Blocks that keep the size and change it, with a shortcut that pads channels: every kind of meeting occurs."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), ResidualBlock(4, 4), ResidualBlock(4, 8),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip


@pytest.mark.parametrize("training", [True, False])
def test_residual_blocks(training: bool) -> None:
    assert difference(problem_of(residual().train(training), images(channels=1, size=8, batch=4))) < 1e-10


def test_resnet20() -> None:
    assert difference(problem_of(resnet20(inputs=1), images(channels=1, size=8, batch=4)), count=1) < 1e-9


def test_functions_in_place_of_layers() -> None:
    class Functions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(5)))
            self.scale, self.shift = nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4))
            self.weight, self.bias = nn.Parameter(torch.zeros(3, 36)), nn.Parameter(torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            x = F.conv2d(x, self.kernel, padding="same")
            x = F.batch_norm(x, None, None, self.scale, bias=self.shift, training=True)
            x = F.max_pool2d(F.dropout(F.relu(x, inplace=True), 0.3), 2)
            x = F.avg_pool2d(x, 1)
            return F.linear(torch.flatten(x, 1), self.weight, self.bias)

    assert difference(problem_of(Functions(), images())) < 1e-10


class TransformerBlock(nn.Module):
    """Attention of two heads and a perceptron, each behind a layer norm, and a linear layer over the mean token."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(4), nn.LayerNorm(4)
        self.mix, self.join, self.out = nn.Linear(4, 12), nn.Linear(4, 4), nn.Linear(4, 3)
        self.think = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.mix(self.before(x)).chunk(3, dim=-1)
        heads = [each.view(batch, tokens, 2, 2).transpose(1, 2) for each in (q, k, v)]
        mixed = F.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.join(mixed)
        x = x + self.think(self.between(x))
        out: Tensor = self.out(x.mean(1))
        return out


def test_a_transformer_block() -> None:
    """Linear layers over the last of three dimensions: perturbations are dense at once."""
    tokens = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert difference(problem_of(TransformerBlock(), tokens)) < 1e-10


def test_layers_that_have_parameters_and_no_rule_of_their_own() -> None:
    """They are run once per perturbation, and what follows is shared."""
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.PReLU(4), nn.ConvTranspose2d(4, 3, 2, stride=2), nn.PReLU(), nn.Flatten(),
        nn.LayerNorm(192), nn.Linear(192, 3),
    )  # fmt: skip
    assert difference(problem_of(module, images())) < 1e-10


@pytest.mark.parametrize("kind", ["squared", "black box", "per sample", "per pixel"])
def test_losses(kind: str) -> None:
    inputs = images()
    module = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1))
    flat = nn.Sequential(nn.Flatten(), nn.Linear(72, 5), nn.ReLU(), nn.Linear(5, 2))
    losses: dict[str, tuple[nn.Module, Loss | None]] = {
        "squared": (flat, SquaredError(torch.ones(5, 2).double())),
        "black box": (flat, BlackBox(lambda outputs: outputs.abs().max())),
        "per sample": (flat, BlackBox(lambda outputs: outputs.square().sum(1))),
        "per pixel": (module, None),  # cross-entropy of (B, C, H, W) against (B, H, W)
    }
    assert difference(problem_of(losses[kind][0], inputs, losses[kind][1])) < 1e-9


@pytest.mark.parametrize(("radius", "bound"), [(1e-5, 1e-8), (1e-3, 1e-10)])
@pytest.mark.parametrize("network", ["cnn", "mlp", "residual"])
def test_accuracy_of_check_5(network: str, radius: float, bound: float) -> None:
    """Facts, section 6, check 5: against the plain loop, norm-wise, float64."""
    data = digits(flat=network == "mlp")
    made = {"cnn": lambda: small_cnn((8, 16)), "mlp": lambda: mlp((64, 32, 32, 10)), "residual": residual}
    module = made[network]()
    problem = NetworkLoss(module.double(), data.train_inputs[:64].double(), CrossEntropy(data.train_targets[:64]))
    assert difference(problem, radius, count=20) <= bound


@pytest.mark.parametrize("largest", [1e-3, 0.03, 0.4])
def test_small_exponentials_have_full_precision(largest: float) -> None:
    """Against float64, within two units in the last place, on each side of where the series take over."""
    x = torch.linspace(-largest, largest, 10_001, dtype=torch.float32)
    wanted = torch.expm1(x.double())
    found = expm1(x.clone()).double()
    assert float(((found - wanted).abs() / wanted.abs().clamp(min=1e-30)).max()) < 2 * 2.0**-23


@pytest.mark.parametrize("network", ["cnn", "mlp"])
def test_float32_at_a_small_radius(network: str) -> None:
    """Facts, section 6, check 2: cosine to autograd at 1e-4, where the plain loop has lost half of its digits."""
    data = digits(flat=network == "mlp")
    module = small_cnn((8, 16)) if network == "cnn" else mlp((64, 32, 32, 10))
    inputs, targets = data.train_inputs[:128], data.train_targets[:128]
    found = network_gradient(NetworkLoss(module, inputs, CrossEntropy(targets)), radius=1e-4, level="delta")
    assert set(found.engines.values()) == {"delta"}
    F.cross_entropy(module(inputs), targets).backward()
    one = torch.cat([found.gradient[name].flatten() for name, _ in module.named_parameters()])
    other = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    assert float(one @ other / (one.norm() * other.norm())) >= 0.9995


def test_channels_last_inputs_and_weights() -> None:
    module = small_cnn((4, 6)).to(memory_format=torch.channels_last)
    inputs = images(channels=1, size=8).to(memory_format=torch.channels_last)
    problem = problem_of(module, inputs)
    module.to(memory_format=torch.channels_last)
    assert not module[4].weight.is_contiguous()
    assert difference(problem) < 1e-10


def test_steps_of_length_zero_change_nothing() -> None:
    """Not even by rounding: float32, in chunks with and without a row of their own for the base."""
    module = small_cnn((4, 6))
    data = digits()
    problem = NetworkLoss(module, data.train_inputs[:32], CrossEntropy(data.train_targets[:32]))
    for bytes in (2**14, 2**22):
        with opened(problem, None) as (base, chosen):
            delta = Delta(base, bytes)
            for name, index in chosen.indices.items():
                assert not delta.changes(name, index, torch.zeros(len(index), dtype=torch.float64)).any(), name


def test_chunks_do_not_matter_beyond_rounding() -> None:
    problem = problem_of(small_cnn((4, 6)), images(channels=1, size=8))
    for bytes in (1, 2**14, 2**16, 2**24):
        assert difference(problem, bytes=bytes) < 1e-10


def test_answers_do_not_depend_on_earlier_ones() -> None:
    """Bit by bit: workers that share out a gradient rely on it. The last budget has chunks without a row for the base."""
    data = digits()
    problem = NetworkLoss(small_cnn((4, 6)), data.train_inputs[:32], CrossEntropy(data.train_targets[:32]))
    for bytes in (2**22, 2**12):
        answers = []
        for before in ((), ("norm2.weight", "conv1.weight")):
            with opened(problem, None) as (base, chosen):
                delta = Delta(base, bytes)
                for name in before:
                    delta.changes(name, chosen.indices[name][:3], torch.full((3,), 1e-2, dtype=torch.float64))
                index = torch.arange(2, 31)
                answers.append(delta.changes("conv1.weight", index, torch.full((29,), 1e-3, dtype=torch.float64)))
        assert torch.equal(answers[0], answers[1])


def test_steps_so_long_that_the_exponential_overflows() -> None:
    problem = problem_of(mlp((6, 5, 3)), torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double())
    assert difference(problem, radius=1e4) < 1e-10
