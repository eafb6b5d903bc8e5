"""Parameters as a table for people: an HTML document of our own in which every text is escaped.

One row per parameter that the point has (inactive conditional ones are absent), in the order of the space. A bounded number
has a bar that shows where it lies in its range, on the axis on which the search sees it, so that the cards of a slate can be
compared at a glance. Shown in a sandboxed frame; light and dark by the reader's scheme, the style is in the document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

import bbopt
from server.rendering import Rendering

__all__ = ["TableRenderer", "number"]

MOST_ROWS, MOST_ENTRIES, LONGEST_TEXT = 200, 6, 2_000

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Parameters</title>
<style>
:root { color-scheme: light dark; --ink: #1c2530; --muted: #66717e; --line: #dde2e8; --paper: #fefefe; --bar: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ed; --muted: #98a3b0; --line: #353d48; --paper: #171c23; --bar: #56a9e8; } }
body { margin: 0; padding: .5rem .75rem; background: var(--paper); color: var(--ink);
  font: 15px/1.4 "Inter", "Source Sans 3", "Liberation Sans", "Helvetica Neue", Arial, sans-serif; }
table { border-collapse: collapse; width: 100%%; }
th, td { padding: .35rem 0; text-align: left; vertical-align: top; font-weight: 400; border-top: 1px solid var(--line); }
tr:first-child > * { border-top: 0; }
th { color: var(--muted); padding-right: 1rem; max-width: 9rem; overflow-wrap: anywhere; }
td { overflow-wrap: anywhere; white-space: pre-wrap; }
td.number { text-align: right; font-variant-numeric: tabular-nums lining-nums; white-space: nowrap; }
.bar { display: block; height: 3px; margin-top: .2rem; border-radius: 2px; background: var(--line); }
.bar i { display: block; height: 3px; border-radius: 2px; background: var(--bar); }
.more { color: var(--muted); }
</style>
<table>%s</table></html>
"""


@dataclass(frozen=True)
class TableRenderer:
    """The table of a point of this task, as a Rendering of kind "table"."""

    task: bbopt.Task

    def __call__(self, params: Mapping[str, Any], /) -> Rendering:
        names = [name for name in self.task.space.parameters if name in params]
        rows = "\n".join(self._row(name, params[name]) for name in names[:MOST_ROWS])
        if len(names) > MOST_ROWS:
            rows += f'\n<tr><td class="more" colspan="2">and {len(names) - MOST_ROWS:,} more</td></tr>'
        return Rendering("text/html", (_PAGE % rows).encode("utf-8", "replace"), "table of parameters", "table")

    def close(self) -> None:
        """Nothing was started."""

    def _row(self, name: str, value: Any) -> str:
        numeric = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        cell = escape(_text(value)) + (self._bar(name, value) if numeric else "")
        exact = f' title="{escape(repr(float(value)))}"' if isinstance(value, float) else ""
        shape = ' class="number"' if numeric else ""
        return f'<tr><th scope="row">{escape(name)}</th><td{shape}{exact}>{cell}</td></tr>'

    def _bar(self, name: str, value: Any) -> str:
        parameter = self.task.space.parameters[name]
        if not isinstance(parameter, bbopt.Float | bbopt.Int) or not parameter.bounded:
            return ""
        share = float(parameter.encode(value, name)[0])  # in [0, 1] where there are bounds
        return f'<span class="bar"><i style="width:{100 * share:.1f}%"></i></span>'


def _text(value: Any) -> str:
    """A parameter's value for reading: numbers rounded, long texts cut, arrays summarised."""
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float | np.integer | np.floating):
        return number(value)
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text):,} characters)"


def _array(values: np.ndarray[Any, Any]) -> str:
    if values.size <= MOST_ENTRIES:
        return ", ".join(number(value) for value in values.ravel())
    shape = " × ".join(f"{length:,}" for length in values.shape)
    low, middle, high = np.quantile(values, [0.0, 0.5, 1.0]).tolist()
    if abs(middle) < 1e-12 * (high - low):
        middle = 0.0  # what is left of rounding
    return f"{shape} numbers: {number(low)} to {number(high)}, median {number(middle)}"


def number(value: Any) -> str:
    """A number for reading: whole ones in full, others to four digits, with a true minus sign.

    >>> number(1234567), number(-0.012345), number(123456.7), number(1e-9)
    ('1,234,567', '−0.01235', '123,457', '1.000e−09')
    """
    if isinstance(value, int | np.integer):
        text = f"{int(value):,}"
    else:
        size = abs(float(value))
        if size and not 1e-4 <= size < 1e7:
            text = f"{float(value):.3e}"
        elif size >= 1000:
            text = f"{float(value):,.0f}"
        else:
            text = f"{float(value):.4g}"
    return text.replace("-", "−")
