"""From an estimate of the gradient to a step: pure functions of frozen states.

Gradient descent with momentum, Adam (D. Kingma, J. Ba, arXiv:1412.6980) and Rprop without weight backtracking (iRprop-:
C. Igel, M. Hüsken, 2000), each operation for operation as in `torch.optim` (SGD, Adam, Rprop), so that a run can be compared
step by step. With the rules that have `lengths` the rate is the length of a step, whatever the unit of the gradient.
`torch_updates.py` has every other optimizer of `torch.optim`, `update_rule.py` picks one by its text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class SGDState:
    """The momentum buffer; empty before the first step, and where there is no momentum."""

    velocity: Array


@dataclass(frozen=True)
class SGD:
    """Gradient descent: v = momentum v + (1 - dampening) g (v = g at the first step), x = x - rate v.

    Weight decay adds weight_decay x to g first. With nesterov the step is g + momentum v instead of v.

    >>> sgd = SGD(momentum=0.5)
    >>> x, state = sgd.step(np.array([1.0]), np.array([2.0]), sgd.start(1), rate=0.1)
    >>> x, state = sgd.step(x, np.array([2.0]), state, rate=0.1)
    >>> x.tolist(), state.velocity.tolist()
    ([0.5], [3.0])
    """

    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    lengths: ClassVar[bool] = False

    def start(self, size: int) -> SGDState:
        return SGDState(np.zeros(0))

    def step(self, x: Array, gradient: Array, state: SGDState, rate: float) -> tuple[Array, SGDState]:
        g = gradient + self.weight_decay * x if self.weight_decay else gradient
        if not self.momentum:
            return x - rate * g, state
        v = np.array(g)
        if len(state.velocity):
            v = self.momentum * state.velocity + (1.0 - self.dampening) * g
        return x - rate * (g + self.momentum * v if self.nesterov else v), SGDState(v)


@dataclass(frozen=True, eq=False)
class AdamState:
    """Averages of the gradient and of its square, and how many steps they are made of."""

    first: Array
    second: Array
    steps: int = 0


@dataclass(frozen=True)
class Adam:
    """Adam: m and v are averages of g and g^2, x = x - rate m_hat / (sqrt(v_hat) + epsilon), both corrected for their start.

    >>> x, state = Adam().step(np.zeros(2), np.array([1e-3, -50.0]), Adam().start(2), rate=0.1)
    >>> x.round(5).tolist(), state.steps
    ([-0.1, 0.1], 1)
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    lengths: ClassVar[bool] = True

    def start(self, size: int) -> AdamState:
        return AdamState(np.zeros(size), np.zeros(size))

    def step(self, x: Array, gradient: Array, state: AdamState, rate: float) -> tuple[Array, AdamState]:
        g = gradient + self.weight_decay * x if self.weight_decay else gradient
        t = state.steps + 1
        m = state.first + (1.0 - self.beta1) * (g - state.first)
        v = self.beta2 * state.second + (1.0 - self.beta2) * g**2
        denominator = np.sqrt(v) / math.sqrt(1.0 - self.beta2**t) + self.epsilon
        return x - rate / (1.0 - self.beta1**t) * (m / denominator), AdamState(m, v, t)


@dataclass(frozen=True, eq=False)
class RpropState:
    """The step size of each coordinate and its last gradient; both empty before the first step."""

    sizes: Array
    before: Array


@dataclass(frozen=True)
class Rprop:
    """Rprop: each coordinate has a step size of its own, and only the signs of the gradient count.

    A size begins at the rate of the first step, grows while the sign stays and shrinks when it changes; in the latter case
    the coordinate rests for a step. Needs gradients without noise; then it converges without a schedule.

    >>> rprop = Rprop()
    >>> x, state = rprop.step(np.zeros(1), np.array([7.0]), rprop.start(1), rate=0.1)
    >>> x, state = rprop.step(x, np.array([0.1]), state, rate=0.1)
    >>> x.round(6).tolist(), state.sizes.tolist()
    ([-0.22], [0.12])
    """

    shrink: float = 0.5
    grow: float = 1.2
    least: float = 1e-12
    most: float = 50.0

    lengths: ClassVar[bool] = True

    def start(self, size: int) -> RpropState:
        return RpropState(np.zeros(0), np.zeros(0))

    def step(self, x: Array, gradient: Array, state: RpropState, rate: float) -> tuple[Array, RpropState]:
        sizes = state.sizes if len(state.sizes) else np.full(len(x), rate)
        same = np.sign(gradient) * np.sign(state.before) if len(state.before) else np.zeros(len(x))
        change = np.where(same > 0, self.grow, np.where(same < 0, self.shrink, 1.0))
        sizes = np.clip(sizes * change, self.least, self.most)
        g = np.where(same < 0, 0.0, gradient)
        return x - np.sign(g) * sizes, RpropState(sizes, g)
