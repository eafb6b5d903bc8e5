"""A forward pass with the random draws of its step: the same ones that the differences of the step have seen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bbopt.zeroth_order.network.draws import generators_of, seed_all
from bbopt.zeroth_order.network.objective import NetworkLoss

__all__ = ["drawn"]


@contextmanager
def drawn(problem: NetworkLoss) -> Iterator[None]:
    """Inside, whatever the module draws from stands at the problem's seed; afterwards all of it is as before."""
    generators = generators_of(problem.module, problem.inputs)
    before = generators.state()
    try:
        if problem.seed is not None:
            seed_all(problem.module, problem.inputs, problem.seed)
        yield
    finally:
        generators.set(before)
