"""A table with the checks that belong to it, as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Check", "Comparison", "verdict"]


@dataclass(frozen=True)
class Check:
    """A measured value that may not exceed a limit, in words.

    >>> Check("seconds of training", 12.3, 20.0).line()
    'ok      seconds of training: 12.3, at most 20'
    """

    says: str
    value: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether the value is a number within the limit."""
        return self.value <= self.limit

    def line(self) -> str:
        """The check with what came of it."""
        return f"{'ok    ' if self.holds else 'MISSED'}  {self.says}: {self.value:.4g}, at most {self.limit:.4g}"


@dataclass(frozen=True)
class Comparison:
    """A title, headings, rows of text, and the checks on their numbers."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    checks: Sequence[Check]

    def lines(self) -> Iterator[str]:
        """The table, the first column to the left and the others to the right, and below it the checks."""
        cells = [list(self.headings), *(list(row) for row in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.headings))]
        yield self.title
        for row in cells:
            first, *others = (text.rjust(width) for text, width in zip(row, widths, strict=True))
            yield "  ".join([row[0].ljust(len(first)), *others]).rstrip()
        for check in self.checks:
            yield check.line()


def verdict(checks: Sequence[Check]) -> tuple[str, int]:
    """The last line, and the exit status: 1 where a check does not hold.

    >>> verdict([Check("a", 1.0, 2.0), Check("b", float("nan"), 2.0)])
    ('missed: b (1 of 2 checks hold)', 1)
    """
    missed = [check.says for check in checks if not check.holds]
    if missed:
        return f"missed: {'; '.join(missed)} ({len(checks) - len(missed)} of {len(checks)} checks hold)", 1
    return f"all {len(checks)} checks hold", 0
