"""bbopt: black-box and Bayesian optimization behind one ask/tell interface.

    import bbopt

    space = bbopt.Space(width=bbopt.Float(0, 2), bolts=bbopt.Int(2, 12))
    task = bbopt.Task(space, objectives=[bbopt.Objective("cost")])
    opt = bbopt.Optimizer(task)
    for _ in range(30):
        trial = opt.ask()
        opt.tell(trial, cost(**trial.params))
    opt.best()

Names are loaded when they are first used, so importing bbopt is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "bbopt.agreement": ("Agreement", "PairAgreement", "RaterAgreement"),
    "bbopt.device_batch": ("batched",),
    "bbopt.errors": (
        "AlreadyTold", "BboptError", "EvaluatorError", "Exhausted", "ExpressionError", "MissingPackage", "NotAStore",
        "NotHandled", "SpaceError", "StoreError", "StoreFull", "StoreMissing", "StoreTooNew", "StudyExists", "StudyMissing",
        "TaskError", "TaskMismatch", "UnknownTrial", "UsageError", "ValueRefused", "Waiting",
    ),
    "bbopt.evaluate": ("Evaluator", "InProcess"),
    "bbopt.evaluate_processes": ("Processes",),
    "bbopt.evaluate_ray": ("RayEvaluator",),
    "bbopt.optimizer": ("Optimizer",),
    "bbopt.outcome": ("Batch", "Failure", "Impossible", "Outcome"),
    "bbopt.prediction": ("Prediction",),
    "bbopt.query": ("CoordinateRows", "Key", "Query", "Ranking", "Request", "Values", "pool"),
    "bbopt.earlier_data": ("earlier",),
    "bbopt.run": ("Result", "minimize"),
    "bbopt.script": ("Script", "Slates"),
    "bbopt.slates": ("RankRequest", "Ranked", "Slate"),
    "bbopt.space": ("Categorical", "Fixed", "Float", "Int", "Space"),
    "bbopt.store": ("MemoryStore", "SQLiteStore"),
    "bbopt.strategy": ("Strategy",),
    "bbopt.task": ("Constraint", "Objective", "Task"),
    "bbopt.trial": ("Trial",),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted([*_HOME, "advice", "problems"])

if TYPE_CHECKING:
    import problems as problems
    from bbopt import advice as advice
    from bbopt.agreement import Agreement as Agreement
    from bbopt.agreement import PairAgreement as PairAgreement
    from bbopt.agreement import RaterAgreement as RaterAgreement
    from bbopt.device_batch import batched as batched
    from bbopt.earlier_data import earlier as earlier
    from bbopt.errors import AlreadyTold as AlreadyTold
    from bbopt.errors import BboptError as BboptError
    from bbopt.errors import EvaluatorError as EvaluatorError
    from bbopt.errors import Exhausted as Exhausted
    from bbopt.errors import ExpressionError as ExpressionError
    from bbopt.errors import MissingPackage as MissingPackage
    from bbopt.errors import NotAStore as NotAStore
    from bbopt.errors import NotHandled as NotHandled
    from bbopt.errors import SpaceError as SpaceError
    from bbopt.errors import StoreError as StoreError
    from bbopt.errors import StoreFull as StoreFull
    from bbopt.errors import StoreMissing as StoreMissing
    from bbopt.errors import StoreTooNew as StoreTooNew
    from bbopt.errors import StudyExists as StudyExists
    from bbopt.errors import StudyMissing as StudyMissing
    from bbopt.errors import TaskError as TaskError
    from bbopt.errors import TaskMismatch as TaskMismatch
    from bbopt.errors import UnknownTrial as UnknownTrial
    from bbopt.errors import UsageError as UsageError
    from bbopt.errors import ValueRefused as ValueRefused
    from bbopt.errors import Waiting as Waiting
    from bbopt.evaluate import Evaluator as Evaluator
    from bbopt.evaluate import InProcess as InProcess
    from bbopt.evaluate_processes import Processes as Processes
    from bbopt.evaluate_ray import RayEvaluator as RayEvaluator
    from bbopt.optimizer import Optimizer as Optimizer
    from bbopt.outcome import Batch as Batch
    from bbopt.outcome import Failure as Failure
    from bbopt.outcome import Impossible as Impossible
    from bbopt.outcome import Outcome as Outcome
    from bbopt.prediction import Prediction as Prediction
    from bbopt.query import CoordinateRows as CoordinateRows
    from bbopt.query import Key as Key
    from bbopt.query import Query as Query
    from bbopt.query import Ranking as Ranking
    from bbopt.query import Request as Request
    from bbopt.query import Values as Values
    from bbopt.query import pool as pool
    from bbopt.run import Result as Result
    from bbopt.run import minimize as minimize
    from bbopt.script import Script as Script
    from bbopt.script import Slates as Slates
    from bbopt.slates import Ranked as Ranked
    from bbopt.slates import RankRequest as RankRequest
    from bbopt.slates import Slate as Slate
    from bbopt.space import Categorical as Categorical
    from bbopt.space import Fixed as Fixed
    from bbopt.space import Float as Float
    from bbopt.space import Int as Int
    from bbopt.space import Space as Space
    from bbopt.store import MemoryStore as MemoryStore
    from bbopt.store import SQLiteStore as SQLiteStore
    from bbopt.strategy import Strategy as Strategy
    from bbopt.task import Constraint as Constraint
    from bbopt.task import Objective as Objective
    from bbopt.task import Task as Task
    from bbopt.trial import Trial as Trial
else:

    def __getattr__(name: str) -> Any:
        if name in _HOME:
            value = getattr(import_module(_HOME[name]), name)
        elif name == "advice":
            value = import_module("bbopt.advice")
        elif name == "problems":
            from bbopt.neighbours import neighbour

            value = neighbour("problems")
        else:
            raise AttributeError(f"module 'bbopt' has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted([*globals(), *__all__])
