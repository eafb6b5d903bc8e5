"""The driver of an optimization: rows out to an evaluator, outcomes back into the study, until there is a reason to stop.

Only the driver touches the study. It hands rows out while the budget lasts and tells every outcome as it comes, so that the
strategy is asked again on all answers there are as soon as the evaluator has room. Whatever the reason to stop is, the
answers that have arrived by then are told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bbopt.errors import EvaluatorError, Exhausted, Waiting
from bbopt.evaluate import Evaluator, Function, Stopped
from bbopt.interrupt import let_through
from bbopt.optimizer import Optimizer
from bbopt.outcome import Batch, Failure, Impossible, Outcome
from bbopt.results import read_results
from bbopt.trial import Trial

Array = np.ndarray[Any, np.dtype[Any]]


class Drive:
    """One run of `bbopt.minimize`, whose arguments these are.

    answered: rows that used up their share of the budget; stopped: why no more rows go out, empty while they do; heard: is
    called after each outcome.
    """

    def __init__(
        self,
        opt: Optimizer,
        budget: int,
        target: float | None = None,
        seconds: float | None = None,
        catch: tuple[type[Exception], ...] = (),
        callback: Callable[[Optimizer, Trial], bool | None] | None = None,
        ask_deadline: float | None = None,
    ) -> None:
        self.opt, self._budget, self._target, self._catch, self._callback = opt, budget, target, catch, callback
        self._ask_deadline = ask_deadline
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self.answered = opt.evaluations()
        self.heard: Callable[[], None] = lambda: None
        self._out = 0  # rows at the evaluator
        self._pulled = False  # whether it asked for any
        self._left = opt.open_rows(opt.owner)  # open since an earlier run that was killed
        self._dry: Waiting | Exhausted | None = None  # why there was nothing to ask since the last outcome
        best = None if target is None else opt.best()
        values = [] if best is None else [list((best.values or {}).values())]
        self.stopped = "target" if values and self._is_reached(np.array(values)) else ""

    def go(self, evaluator: Evaluator, function: Function) -> None:
        """Until there is a reason to stop. Raises what the user's function raised and nobody named."""
        while not self.stopped:
            self._pulled = False
            self._once(evaluator.run(function, self.opt.task, self.supply))
            if self.stopped:
                return
            if self._out or not self._pulled:
                raise EvaluatorError(f"expected an outcome for every row, and asking for rows until there are none; "
                                     f"{type(evaluator).__name__} ended with {self._out} rows unanswered")  # fmt: skip
            if self._dry is None:
                continue
            if isinstance(self._dry, Exhausted):
                self.stopped = "exhausted"
                continue
            # what the strategy waits for was given out by hand, or to somebody who died
            self._left = self.opt.open_rows()
            if not self._left:
                raise self._dry
            self._dry = None

    def supply(self, rows: int, fresh: int) -> list[Batch]:
        """Rows for the evaluator, never more than the budget has left; see `bbopt.evaluate.Supply`."""
        self._pulled = True
        if not self.stopped and self.answered >= self._budget:
            self.stopped = "budget"
        if not self.stopped and self._deadline is not None and time.monotonic() >= self._deadline:
            self.stopped = "seconds"
        rows = min(rows, self._budget - self.answered - self._out)
        if self.stopped or rows < 1 or self._dry is not None:
            return []
        if self._left:
            first, *others = self._left
            batches, rest = [first.take(slice(0, rows))], first.take(slice(rows, None))
            self._left = ([rest] if len(rest) else []) + others
        else:
            try:
                batches = self.opt.ask_rows(rows, fresh=min(rows, fresh), deadline=self._ask_deadline)
            except (Waiting, Exhausted) as reason:
                self._dry = reason
                return []
        self._out += sum(map(len, batches))
        return batches

    def _once(self, outcomes: Iterator[Outcome]) -> None:
        trouble: Exception | None = None
        try:
            for outcome in outcomes:
                trouble = self._take(outcome)
                if trouble is not None or self.stopped in ("target", "callback"):
                    for late in _arrived(outcomes):
                        again = self._take(late)
                        trouble = trouble or again
                    break
        except KeyboardInterrupt:
            for late in _arrived(outcomes):
                self._take(late)
            raise
        finally:
            close = getattr(outcomes, "close", None)
            if close is not None:
                close()
        if trouble is not None:
            raise trouble

    def _take(self, outcome: Outcome) -> Exception | None:
        """Tell what became of some rows. An exception that nobody named, or a result that is none, is returned."""
        opt, batch = self.opt, outcome.batch
        self._out -= len(batch)
        self._dry = None
        trouble: Exception | None = None
        reasons: dict[int, tuple[str, bool]] = {}
        for position, failure in outcome.failures.items():
            impossible = isinstance(failure.error, Impossible)
            reasons[position] = (str(failure.error) if impossible else failure.reason), impossible
            if not (impossible or failure.lost or isinstance(failure.error, self._catch)):
                trouble = trouble or _exception(failure)
        metrics, refused, error = read_results(opt.task, outcome)
        if error is not None:  # these trials stay open
            kept = np.flatnonzero(~refused)
            places = {int(position): place for place, position in enumerate(kept)}
            batch, metrics = batch.take(kept), metrics[kept]
            reasons = {places[position]: reason for position, reason in reasons.items() if position in places}
            trouble = trouble or error
        if len(batch):
            opt.tell_rows(batch, metrics, reasons)
        lost = sum(not impossible for _, impossible in reasons.values())
        given_up = batch.attempt > opt.retries  # it used its share of the budget
        self.answered += len(batch) - (0 if given_up else lost)
        self.heard()
        self._look(batch, metrics)
        return trouble

    def _look(self, batch: Batch, metrics: Array) -> None:
        """Whether the callback or the target end the run."""
        if self._callback is not None:
            for number in batch.numbers.tolist():
                with let_through():
                    stop = self._callback(self.opt, self.opt.trial(number))
                if stop:
                    self.stopped = self.stopped or "callback"
        if self._is_reached(metrics):
            self.stopped = "target"

    def _is_reached(self, metrics: Array) -> bool:
        """Whether a row is feasible and at least as good as the target; NaN is neither."""
        task = self.opt.task
        if self._target is None:
            return False
        Y, G = task.to_inside(dict(zip(task.metrics, metrics.T, strict=True)))
        target = -self._target if task.objectives[0].maximize else self._target
        return bool(((target >= Y[0]) & (G <= 0).all(axis=0)).any())


def _arrived(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    """What has arrived at an evaluator that is told to stop."""
    throw = getattr(outcomes, "throw", None)
    try:
        if throw is not None:
            yield throw(Stopped())
            yield from outcomes
    except (Stopped, StopIteration):
        return


def _exception(failure: Failure) -> Exception:
    """What is raised again; with the traceback from the worker, where it has none of its own."""
    error = failure.error if isinstance(failure.error, Exception) else RuntimeError(failure.reason)
    if error.__traceback__ is None:
        error.add_note(f"In the worker:\n{failure.reason}")
    return error
