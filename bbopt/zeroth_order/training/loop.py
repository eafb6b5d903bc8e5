"""The training loop: batch, mask, estimate, update; epoch by epoch, with a log and checkpoints.

Chen et al. (2024), DeepZero, ICLR, arXiv 2310.02025, section 4: the estimate is coordinate-wise, over coordinates that a
random mask leaves, whose share in each layer comes from scores made once at the start. The batch, the mask and the
directions of a step are functions of (seed, step), so a run that was stopped and resumed is the run that was not, to the
bit on the same machine with the same number of threads. Where the network has buffers, such as the statistics of batch
norm, they move once a step, by the pass at the step's own weights; perturbed passes leave them alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from bbopt.errors import BboptError, ValueRefused
from bbopt.zeroth_order.network.parallel import Replica
from bbopt.zeroth_order.training.checkpoint import Run, load_checkpoint, save_checkpoint
from bbopt.zeroth_order.training.estimate import Found, confirmed, gradients
from bbopt.zeroth_order.training.evaluation import Score, evaluate
from bbopt.zeroth_order.training.examples import Examples, Vary
from bbopt.zeroth_order.training.recipe import Recipe
from bbopt.zeroth_order.training.record import Record, append, cut
from bbopt.zeroth_order.training.replica import TrainingReplica
from surrogates.training.group import Interruption, stopping
from surrogates.training.threads import limited_threads
from surrogates.training.weights import save_tensors

__all__ = ["WEIGHTS", "Diverged", "Trained", "train"]

WEIGHTS = "weights.safetensors"
Gradient = Callable[[int], Found]


class Diverged(BboptError):
    """The loss is no finite number any more. Checkpoints from before are still there."""


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training gave: the network, in its training mode, its score on the test examples, and what it took."""

    module: nn.Module
    score: Score
    steps: int
    queries: int
    seconds: float


def train(
    recipe: Recipe,
    module: nn.Module,
    examples: Examples,
    folder: Path | None = None,
    *,
    vary: Vary | None = None,
    factory: Callable[[], Replica] | None = None,
    report: Callable[[Record], None] = lambda record: None,
) -> Trained:
    """Train a copy of the network on the examples, or go on with the training in `folder`.

    module: with its first weights, for inputs of the examples; its outputs are scores of the classes. folder: of the log
    (`log.jsonl`), the checkpoint, and in the end the weights (`weights.safetensors`); None keeps nothing. vary: applied to
    the inputs of each batch. factory: of replicas of this training, for workers of the recipe's machine. report: called with every line of the log.

    Raises KeyboardInterrupt after SIGINT or SIGTERM, at the next step, with a checkpoint from which the same call goes on;
    Diverged where the loss is not finite; UsageError where the folder holds a training of another recipe, or where a GPU is
    asked for and there is none.

    >>> from problems.networks import digits, mlp
    >>> recipe = Recipe.from_json({"epochs": 1, "batch": 480, "update": {"rate": 0.5}})
    >>> trained = train(recipe, mlp((64, 8, 10)), digits(flat=True))
    >>> trained.steps, trained.queries  # 3 steps of 611 queries
    (3, 1833)
    """
    with limited_threads(recipe.machine.threads), stopping() as interruption:
        run = Run(TrainingReplica(recipe, module, examples, vary))
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            load_checkpoint(recipe, run, folder)
            cut(folder, run.step)
        with gradients(recipe, run.replica, factory) as gradient:
            try:
                _follow(recipe, run, gradient, folder, interruption, report)
            finally:
                if folder is not None and not run.midway:
                    save_checkpoint(recipe, run, folder)
        replica = run.replica
        if run.step < replica.steps:
            raise KeyboardInterrupt
        score = evaluate(replica.module, examples.test_inputs, examples.test_targets)
        trained = Trained(replica.module, score, run.step, run.queries + replica.queries, run.seconds)
        if folder is not None:
            _save_weights(recipe, trained, folder)
    return trained


def _follow(
    recipe: Recipe, run: Run, gradient: Gradient, folder: Path | None, interruption: Interruption,
    report: Callable[[Record], None],
) -> None:  # fmt: skip
    """Steps until the end or an interruption."""
    began = saved = time.monotonic()
    replica = run.replica
    epoch = replica.steps // recipe.epochs
    while run.step < replica.steps and not interruption.asked:
        ending = (run.step + 1) % epoch == 0
        agreed, active = _step(recipe, run, gradient, ending)
        now = time.monotonic()
        run.seconds, began = run.seconds + now - began, now
        if ending or run.step % recipe.every == 0:
            score = (
                evaluate(replica.module, replica.examples.test_inputs, replica.examples.test_targets)
                if ending
                else None
            )
            record = _record(recipe, run, agreed, active, score)
            run.losses.clear()
            if folder is not None:
                append(folder, record)
            report(record)
        if folder is not None and time.monotonic() - saved >= recipe.save_seconds:
            save_checkpoint(recipe, run, folder)
            saved = time.monotonic()


def _step(recipe: Recipe, run: Run, gradient: Gradient, ending: bool) -> tuple[tuple[float, float], int]:
    """One step; cosine and error of its gradient at the end of an epoch, and how many coordinates took part."""
    replica, agreed = run.replica, (math.nan, math.nan)
    run.midway = True  # the first mask may prune weights
    step = replica.step(run.step)
    run.midway = (
        recipe.estimate.kind == "first-order"
    )  # whose pass moves buffers; differences leave everything as it was
    try:
        found = gradient(run.step)
        if not math.isfinite(found.loss):
            raise ValueRefused(f"the loss is {found.loss}")
        if recipe.check and ending:
            agreed = confirmed(recipe, step, run.step)
    except ValueRefused as trouble:
        run.midway = True  # what was saved before is worth more than this
        raise Diverged(
            f"expected a finite loss at step {run.step}, but {trouble}; lower update.rate (it is {recipe.update.rate}) or"
            " raise schedule.warmup, and train in another folder"
        ) from trouble
    run.midway = True
    replica.apply(run.step, found.gradient)
    run.step += 1
    run.queries += found.queries
    run.losses.append(found.loss)
    run.midway = False
    return agreed, step.coordinates.count


def _record(recipe: Recipe, run: Run, agreed: tuple[float, float], active: int, score: Score | None) -> Record:
    """A line of the log at a step that was just taken."""
    steps = run.replica.steps
    return Record(
        step=run.step,
        epoch=run.step * recipe.epochs / steps,
        seconds=run.seconds,
        share=run.step / steps,
        loss=math.fsum(run.losses) / len(run.losses),
        queries=run.queries + run.replica.queries,
        rate=recipe.rate(run.step - 1, steps),
        radius=recipe.radius(run.step - 1, steps),
        active=active,
        accuracy=math.nan if score is None else score.accuracy,
        test_loss=math.nan if score is None else score.loss,
        cosine=agreed[0],
        error=agreed[1],
    )


def _save_weights(recipe: Recipe, trained: Trained, folder: Path) -> None:
    """Weights and buffers with the recipe, what it took and what it gave."""
    tensors = {name: part.detach().cpu().clone() for name, part in trained.module.state_dict().items()}
    header = {
        "recipe": recipe.to_json(), "steps": trained.steps, "seconds": trained.seconds, "queries": trained.queries,
        "accuracy": trained.score.accuracy, "test_loss": trained.score.loss,
    }  # fmt: skip
    save_tensors(folder / WEIGHTS, tensors, header)
