"""The evaluators that the contract runs for: one entry here for a new one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bbopt.evaluate import Evaluator, InProcess
from bbopt.evaluate_processes import Processes
from bbopt.evaluate_ray import RayEvaluator


@dataclass(frozen=True)
class Subject:
    """make: an evaluator with `workers`, `batch` and `seconds`; apart: the function runs in processes apart from the study,
    which may die and hang, several at once; says_how: it knows how a worker died."""

    make: Callable[..., Evaluator]
    apart: bool
    says_how: bool = True


def _in_process(workers: int = 1, batch: int | None = None, seconds: Any = None) -> InProcess:
    return InProcess(batch)


EVALUATORS = {
    "InProcess": Subject(_in_process, apart=False),
    "Processes": Subject(Processes, apart=True),
    "RayEvaluator": Subject(RayEvaluator, apart=True, says_how=False),
}
