"""The progress of a benchmark on standard error: a bar on a terminal, a line twice a minute elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bbopt.bench.run import Progress

__all__ = ["bar", "duration", "line"]

LINE_SECONDS = 30.0


def duration(seconds: float | None) -> str:
    """A length of time in words, rounded as one would say it.

    >>> duration(8), duration(130), duration(5400), duration(None)
    ('8 s', '2 min', '1 h 30 min', 'unknown')
    """
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def line(progress: Progress, brief: bool = False) -> str:
    """Where a benchmark stands, in one line; a brief one does not say how many evaluations that is."""
    text = f"{progress.runs} of {progress.runs_total} runs"
    if not brief:
        text += f", {progress.evaluations} of {progress.evaluations_total} evaluations"
    if progress.failed:
        text += f", {progress.failed} failed"
    if progress.runs < progress.runs_total and progress.seconds_left is not None:
        text += f", about {duration(progress.seconds_left)} left"
    return text


@contextmanager
def bar(title: str) -> Iterator[Callable[[Progress], None]]:
    """A function that shows `Progress`, for as long as the context lasts."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console.print)
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console) as bars:
        task = bars.add_task(title, total=None, text="starting")

        def show(progress: Progress) -> None:
            bars.update(
                task, completed=progress.evaluations, total=progress.evaluations_total, text=line(progress, brief=True)
            )

        yield show


def _lines(write: Callable[[str], None]) -> Callable[[Progress], None]:
    last, written = time.monotonic(), ""

    def show(progress: Progress) -> None:
        nonlocal last, written
        ended = progress.runs + progress.failed == progress.runs_total
        text = line(progress)
        if text != written and (ended or time.monotonic() - last >= LINE_SECONDS):
            last, written = time.monotonic(), text
            write(text)

    return show
