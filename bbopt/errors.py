"""Every error that bbopt raises on purpose, as one small tree.

    BboptError
    ├── UsageError           an argument is out of place or out of range
    │   ├── SpaceError       a parameter or a point does not fit
    │   ├── TaskError        objectives, constraints or `where` do not fit
    │   └── ExpressionError  the text of a condition cannot be read
    ├── ValueRefused         a told value is not one (NaN, text, unknown metric, wrong length)
    ├── UnknownTrial         no trial has this number
    ├── AlreadyTold          the trial has another answer already
    ├── NotHandled           the strategy lacks an ability that the task or the call needs
    │   └── NotApplicable    a way to differentiate a network does not fit it (in bbopt.zeroth_order.network.engine)
    ├── Waiting              nothing to ask before open trials are answered
    ├── Exhausted            every point of a finite space has been asked
    ├── MissingPackage       an optional package is not installed
    ├── EvaluatorError       workers cannot be started, or cannot load the function
    └── StoreError           the file of a store
        ├── StoreMissing, NotAStore, StoreTooNew, StoreFull
        ├── StudyMissing, StudyExists
        └── TaskMismatch     the study holds a different task

Messages say what was expected, what came, and what to do. Catch `BboptError` to catch them all;
the classes also derive from the built-in error a Python user would expect (`ValueError`, `KeyError`, ...).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class BboptError(Exception):
    """Base of every error raised on purpose by bbopt."""


class UsageError(BboptError, ValueError):
    """An argument is out of place or out of range."""


class SpaceError(UsageError):
    """A parameter's definition, or a point given by the user, does not fit the space."""


class TaskError(UsageError):
    """Objectives, constraints or known conditions do not fit together."""


class ExpressionError(UsageError):
    """The text of a condition (`where=`, `when=`) cannot be read or names something unknown."""


class ValueRefused(BboptError, ValueError):
    """A told value is not a usable number. Nothing was recorded; the trial is still open."""


class UnknownTrial(BboptError, KeyError):
    """The study has no trial with this number."""

    def __str__(self) -> str:  # KeyError would show the message in quotes
        return str(self.args[0]) if self.args else ""


class AlreadyTold(BboptError):
    """The trial was answered already, with something else. `amend` corrects it, `retract` takes it back."""


class NotHandled(BboptError):
    """The strategy does not claim an ability that the task, or this call, needs."""


class Waiting(BboptError):
    """Nothing more can be asked before open trials are answered.

    `open` holds the trials that are out; `available` is the number of rows that `ask(n, fewer=True)` would give now.
    """

    def __init__(self, message: str = "", open: Sequence[Any] = (), available: int = 0) -> None:
        super().__init__(message or "the strategy waits for the answers to its open queries")
        self.open = tuple(open)
        self.available = available


class Exhausted(BboptError):
    """Every point of a finite space has been asked, and repeats are not wanted (no noise was declared)."""


class MissingPackage(BboptError, ImportError):
    """A package that this feature needs is not installed; the message names the command that installs it."""


class EvaluatorError(BboptError, RuntimeError):
    """The workers of an evaluator cannot be started, or cannot load the function. Whatever was told before is recorded."""


class StoreError(BboptError):
    """The file of a store cannot be used. Whatever was told before is still in it."""


class StoreMissing(StoreError, FileNotFoundError):
    """There is no store at this path."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class NotAStore(StoreError):
    """The file is there but is not a bbopt store."""


class StoreTooNew(StoreError):
    """The store was written by a newer version of bbopt."""


class StoreFull(StoreError):
    """The disk (or the store's size limit) is full. The last operation left no trace; earlier ones are safe."""


class StudyMissing(StoreError, KeyError):
    """The store has no study of this name."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class StudyExists(StoreError):
    """The store has a study of this name already."""


class TaskMismatch(StoreError):
    """The study of this name was made for a different task; the message shows the difference."""
