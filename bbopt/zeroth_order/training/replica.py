"""One copy of a training: network, optimizer, mask, data; the same steps give the same bits in every process.

Parallel training keeps one replica per process and sends gradients around, no weights: see
`bbopt.zeroth_order.network.parallel`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from bbopt.errors import UsageError
from bbopt.zeroth_order.network.choice import Level
from bbopt.zeroth_order.network.objective import CrossEntropy, NetworkLoss
from bbopt.zeroth_order.network.parallel import Step
from bbopt.zeroth_order.network.steps import Scheme
from bbopt.zeroth_order.training.draws import drawn
from bbopt.zeroth_order.training.examples import NOISE, Examples, Vary, batch, seed_of
from bbopt.zeroth_order.training.masks import Mask, prune, renewed
from bbopt.zeroth_order.training.recipe import Recipe
from bbopt.zeroth_order.training.update import load_state, state

__all__ = ["TrainingReplica", "check_device"]


class TrainingReplica:
    """What changes while training, and how: `step` says what is differentiated, `apply` follows a gradient.

    module: a copy, in training mode, on the recipe's device. steps: of the whole run. queries: spent on scores so far.

    Raises UsageError where the recipe asks for a GPU and there is none.
    """

    def __init__(self, recipe: Recipe, module: nn.Module, examples: Examples, vary: Vary | None = None) -> None:
        check_device(recipe)
        self.recipe, self.examples, self.vary = recipe, examples, vary
        self.module = copy.deepcopy(module).to(recipe.machine.device).train()
        self.optimizer = recipe.update.optimizer(self.module.parameters())
        self.steps = recipe.steps(len(examples.train_targets))
        self.mask = Mask()
        self.queries = 0

    def problem(self, number: int) -> NetworkLoss:
        """The loss of a step's batch, with the step's draws."""
        inputs, targets = batch(self.recipe, self.examples, self.vary, number)
        return NetworkLoss(self.module, inputs, CrossEntropy(targets), seed_of(self.recipe.seed, number, NOISE))

    def step(self, number: int) -> Step:
        """What a step differentiates. Before the first one its mask is drawn, which may prune weights."""
        self._renew(number)
        return Step(
            self.problem(number),
            self.mask.coordinates(self.module),
            self.recipe.radius(number, self.steps),
            cast(Scheme, self.recipe.estimate.scheme),
            cast(Level, self.recipe.estimate.level),
        )

    def apply(self, number: int, gradient: Mapping[str, Tensor]) -> None:
        """One update along a step's gradient, by parameter; one that it lacks is 0, and decay moves such weights still.

        Before that, buffers (statistics of batch norm) move as one pass over the step's batch moves them; with
        backpropagation its own pass has done so.
        """
        if self.recipe.estimate.kind != "first-order" and any(True for _ in self.module.buffers()):
            problem = self.problem(number)
            with drawn(problem), torch.no_grad():
                self.module(problem.inputs)
        for part in self.optimizer.param_groups:
            part["lr"] = self.recipe.rate(number, self.steps)
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad:
                parameter.grad = gradient[name] if name in gradient else torch.zeros_like(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        prune(self.mask, self.module)
        if number + 1 < self.steps:
            self._renew(number + 1)

    def _renew(self, number: int) -> None:
        """The mask of a step, if it is another one."""
        epoch = number // (self.steps // self.recipe.epochs)
        self.mask, spent = renewed(self.recipe, self.mask, self.module, self.examples, epoch)
        self.queries += spent

    def save(self) -> dict[str, Any]:
        """All of it: tensors (copies on the CPU) by name, and facts as JSON."""
        tensors = {"module." + name: part.detach().cpu().clone() for name, part in self.module.state_dict().items()}
        moments, rest = state(self.optimizer)
        tensors |= {"optimizer." + name: part for name, part in moments.items()}
        tensors |= {"kept." + name: part for name, part in (self.mask.kept or {}).items()}
        facts = {
            "optimizer": rest, "round": self.mask.round, "ratios": dict(self.mask.ratios), "dense": self.mask.kept is None,
            "pruned": list(self.mask.names), "score_queries": self.queries,
        }  # fmt: skip
        return {"tensors": tensors, "facts": facts}

    def load(self, state: Mapping[str, Any]) -> None:
        """Put it where `save` found it."""
        tensors, facts = cast(Mapping[str, Tensor], state["tensors"]), state["facts"]

        def under(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): part for name, part in tensors.items() if name.startswith(prefix)}

        self.module.load_state_dict(under("module."))
        load_state(self.optimizer, under("optimizer."), facts["optimizer"])
        kept = None if facts["dense"] else under("kept.")
        self.mask = Mask(facts["round"], facts["ratios"], kept, tuple(facts["pruned"]))
        self.queries = facts["score_queries"]


def check_device(recipe: Recipe) -> None:
    """Raises UsageError where the recipe asks for a GPU and there is none."""
    if recipe.machine.device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "machine.device cuda: expected a GPU that torch can use, found none; train with device cpu, or install a"
            " torch that is built for the GPU"
        )
