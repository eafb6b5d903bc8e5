"""Checkpoints of a training: all that it needs to go on as if it had not stopped, in one file that is never half written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bbopt.errors import UsageError
from surrogates.training.recipe import Training
from surrogates.training.weights import load_tensors, save_tensors

if TYPE_CHECKING:
    from surrogates.training.loop import Run

__all__ = ["CHECKPOINT", "load_checkpoint", "save_checkpoint"]

CHECKPOINT = "checkpoint.safetensors"
MAY_CHANGE = {"steps", "minutes", "threads", "workers", "device", "every", "save_seconds"}


def save_checkpoint(training: Training, run: Run, folder: Path) -> None:
    """Weights, their average, the optimizer's moments, the step, and what the next line of the log has so far."""
    if not run.step:
        return
    tensors = {"weights." + name: part.detach().cpu().clone() for name, part in run.network.state_dict().items()}
    tensors |= {"average." + name: part.cpu().clone() for name, part in run.average.items()}
    updates = 0
    for name, part in run.network.named_parameters():
        if state := run.optimizer.state.get(part):
            tensors["first." + name], tensors["second." + name] = state["exp_avg"].cpu(), state["exp_avg_sq"].cpu()
            updates = int(state["step"])
    header = {"training": training.to_json(), "step": run.step, "seconds": run.seconds, "updates": updates, "sums": run.sums}  # fmt: skip
    save_tensors(folder / CHECKPOINT, tensors, header)


def load_checkpoint(training: Training, run: Run, folder: Path) -> None:
    """Put the run where the checkpoint in the folder left it, if there is one.

    Raises UsageError where it is of another configuration, ValueRefused where the file is damaged.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return
    tensors, header = load_tensors(path)
    mine = training.to_json()
    try:
        theirs = Training.from_json(header["training"], type(training.subject)).to_json()
    except UsageError as trouble:
        raise UsageError(f"{folder} holds a training of another kind ({trouble}); give another folder") from trouble
    if other := [name for name in mine if name not in MAY_CHANGE and mine[name] != theirs[name]]:
        raise UsageError(
            f"{folder} holds a training with another {', '.join(other)}; give the same configuration, or another folder"
        )
    run.network.load_state_dict({name: tensors["weights." + name] for name in run.network.state_dict()})
    run.average = {name: tensors["average." + name].to(part.device) for name, part in run.average.items()}
    run.step, run.seconds, run.sums = header["step"], header["seconds"], dict(header.get("sums", {}))
    updates = header.get("updates", run.step)
    for name, part in run.network.named_parameters():
        if "first." + name in tensors:
            run.optimizer.state[part] = {
                "step": torch.tensor(float(updates)),
                "exp_avg": tensors["first." + name].to(part.device),
                "exp_avg_sq": tensors["second." + name].to(part.device),
            }
