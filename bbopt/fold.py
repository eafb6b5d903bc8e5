"""The state of a strategy as a fold over its study's log, continued where it stopped, or from before a correction."""

from __future__ import annotations

from typing import Any

from bbopt.book import Book
from bbopt.query import Key
from bbopt.strategy import Strategy
from bbopt.task import Task

KEPT = 8  # states along the way
SMALL = 256  # columns: wider states are not kept, they may be large


class Fold:
    """Folds `tell` over the lessons of one book.

    A correction changes lessons that were folded before. The fold then goes on from a state before the first one that
    changed: some are kept, close together for the last lessons, since these are what people take back.
    """

    def __init__(self, strategy: Strategy, task: Task, seed: int) -> None:
        self._strategy, self._task = strategy, task
        self._seed = seed
        self._revision = 0
        self._taken: list[tuple[int, int, int]] = []  # (query, row, version of the query's answer) of each lesson
        self._states: list[tuple[int, Any]] = []  # after so many lessons, the last one at the end

    def state(self, book: Book) -> Any:
        """The state after all lessons of the book."""
        by_rows = self._strategy.learns == "rows"
        lessons: list[Any] = book.lessons if by_rows else book.completed
        if self._revision != book.revision or len(self._taken) > len(lessons):
            self._go_back(book, lessons, by_rows)
            self._revision = book.revision
        if not self._states:
            self._states.append((0, self._strategy.init(self._task, Key(self._seed, -1))))
        done, state = self._states[-1]
        for lesson in lessons[done:]:
            query, row = lesson if by_rows else (lesson, -1)
            record = book.records[query]
            rows = book.learnt(query, row)
            answer = record.ranking if record.ranking is not None else book.values(record, rows)
            state = self._strategy.tell(self._task, state, record.query, answer)
            self._taken.append((query, row, record.version))
            self._keep(state)
        return state

    def _go_back(self, book: Book, lessons: list[Any], by_rows: bool) -> None:
        """Forget what was folded from the first lesson on that has changed."""
        same = 0
        for lesson, taken in zip(lessons, self._taken, strict=False):
            query, row = lesson if by_rows else (lesson, -1)
            if (query, row, book.records[query].version) != taken:
                break
            same += 1
        while self._states and self._states[-1][0] > same:
            self._states.pop()
        del self._taken[self._states[-1][0] if self._states else 0 :]

    def _keep(self, state: Any) -> None:
        """Keep a state; of those along the way, drop the one that leaves the least gap for its age."""
        n = len(self._taken)
        self._states.append((n, state))
        if self._task.space.dimension > SMALL:
            del self._states[:-1]
        elif len(self._states) > KEPT:
            counts = [count for count, _ in self._states]
            gaps = [(counts[i + 1] - (counts[i - 1] if i else 0)) / (n - counts[i]) for i in range(len(counts) - 1)]
            del self._states[gaps.index(min(gaps))]
