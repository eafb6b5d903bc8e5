"""The report of a benchmark folder: one self-contained HTML page, with the same numbers as CSV and PNG files beside it."""

from __future__ import annotations

from bbopt.report.write import write_bench, write_report

__all__ = ["write_bench", "write_report"]
