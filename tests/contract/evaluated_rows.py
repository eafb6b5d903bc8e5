"""Functions of many rows that the contract of evaluators has evaluated. Loading torch takes seconds, hence a file of its own."""

from __future__ import annotations

import torch

import bbopt


@bbopt.batched(device="cpu", bytes=2**22)
def sphere(W: torch.Tensor) -> torch.Tensor:
    """(n,) squared distance from 0.3 in every column."""
    return ((W - 0.3) ** 2).sum(1)


@bbopt.batched(device="cpu")
def too_short(W: torch.Tensor) -> torch.Tensor:
    return W[1:].sum(1)


@bbopt.batched(device="cpu")
def not_a_number(W: torch.Tensor) -> torch.Tensor:
    return torch.log(W[:, 0] - 10.0)
