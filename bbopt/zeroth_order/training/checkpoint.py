"""Checkpoints: all that a training needs to go on as if it had not stopped, in one file that is never half written.

Random numbers are functions of (seed, step), so that the step is all there is to remember of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bbopt.errors import UsageError
from bbopt.zeroth_order.training.recipe import Recipe
from bbopt.zeroth_order.training.replica import TrainingReplica
from surrogates.training.weights import load_tensors, save_tensors

__all__ = ["CHECKPOINT", "Run", "load_checkpoint", "save_checkpoint"]

CHECKPOINT = "checkpoint.safetensors"
MAY_CHANGE = {"machine", "every", "check", "save_seconds"}


@dataclass
class Run:
    """Where a training is.

    queries: forward passes of a batch so far, without those for scores. losses: of the steps since the last line of the
    log. midway: while an update is being made, when the rest of this cannot be saved.
    """

    replica: TrainingReplica
    step: int = 0
    seconds: float = 0.0
    queries: int = 0
    midway: bool = False
    losses: list[float] = field(default_factory=list)


def save_checkpoint(recipe: Recipe, run: Run, folder: Path) -> None:
    """Write weights and buffers, the optimizer's state, the mask, and where the run is."""
    saved = run.replica.save()
    header = {"recipe": recipe.to_json(), "step": run.step, "seconds": run.seconds, "queries": run.queries,
              "losses": run.losses, "replica": saved["facts"]}  # fmt: skip
    save_tensors(folder / CHECKPOINT, saved["tensors"], header)


def load_checkpoint(recipe: Recipe, run: Run, folder: Path) -> None:
    """Put the run where the checkpoint in the folder left it, if there is one.

    Raises UsageError where it is of another recipe, ValueRefused where the file is damaged.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return
    tensors, header = load_tensors(path)
    mine, theirs = recipe.to_json(), header.get("recipe", {})
    other = [name for name in mine if name not in MAY_CHANGE and mine[name] != theirs.get(name)]
    if other:
        raise UsageError(
            f"{folder} holds a training with another {', '.join(other)}; give the same configuration, or another folder"
        )
    run.replica.load({"tensors": tensors, "facts": header["replica"]})
    run.step, run.seconds, run.queries = header["step"], header["seconds"], header["queries"]
    run.losses = list(header["losses"])
