"""The tables of a comparison, as texts: headings and rows, for the terminal and for the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bbopt.compare.gaps import class_of
from bbopt.compare.summary import MARGIN, Summary, Verdict, is_ours

__all__ = ["Table", "all_tables", "class_table", "gap_table", "peer_table", "verdict_lines"]


@dataclass(frozen=True)
class Table:
    """A caption, headings and rows of texts; bold: (row, column) of the best entries."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bold: frozenset[tuple[int, int]] = frozenset()


def _number(value: float, digits: int = 2) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def gap_table(summary: Summary, values: Mapping[tuple[str, str], float], what: str) -> Table:
    """One row per problem, one column per peer."""
    rows, bold = [], set()
    for place, problem in enumerate(summary.problems):
        found = [values.get((problem, peer), math.nan) for peer in summary.peers]
        least = min((value for value in found if not math.isnan(value)), default=math.nan)
        bold |= {(place, 2 + j) for j, value in enumerate(found) if value <= least + 5e-3}
        texts = []
        for peer, value in zip(summary.peers, found, strict=True):
            lost, runs = summary.never.get((problem, peer), 0), len(summary.seeds.get((problem, peer), ()))
            texts.append(_number(value) + (f" ({lost}/{runs} never)" if lost else ""))
        rows.append((problem, class_of(problem), *texts))
    return Table(what, ("problem", "class", *summary.peers), tuple(rows), frozenset(bold))


def peer_table(summary: Summary) -> Table:
    """One row per peer, the best mean rank first; those that are not ranked at the end."""
    order = sorted(summary.peers, key=lambda peer: (summary.rank.get(peer, math.inf), summary.peers.index(peer)))
    rows = []
    for peer in order:
        counts = [len(seeds) for (_, other), seeds in summary.seeds.items() if other == peer]
        seeds = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        median, high = summary.ask[peer]
        rows.append(
            (
                peer,
                _number(summary.rank.get(peer, math.nan)),
                _number(summary.area_rank.get(peer, math.nan)),
                _number(summary.seed_rank.get(peer, math.nan)),
                seeds,
                _number(median, 4),
                _number(high, 4),
                ", ".join(summary.versions[peer]),
            )
        )
    caption = (
        f"Mean ranks over {len(summary.ranked_problems)} problems, of the median log gap at the end, of that averaged over "
        f"the evaluations, and of single runs ({summary.seed_pairs} problems and seeds that all have). CPU seconds of an ask "
        "and its tell, one thread"
    )
    return Table(
        caption,
        ("peer", "rank", "rank of area", "rank by seed", "seeds", "CPU s", "CPU s 95 %", "version"),
        tuple(rows),
    )


def class_table(summary: Summary) -> Table:
    """One row per class of problems: ours beside the best single peer."""
    ours = [peer for peer in summary.peers if is_ours(peer)]
    rows = []
    for row in summary.classes:
        best = "-" if row.best is None else f"{row.best} ({_number(row.gaps[row.best])})"
        mine = [
            f"{_number(row.gaps.get(peer, math.nan))} ({row.behind(peer):+.2f})"
            if not math.isnan(row.behind(peer))
            else _number(row.gaps.get(peer, math.nan))
            for peer in ours
        ]
        rows.append((row.name, str(len(row.problems)), best, *mine))
    caption = (
        "Mean over the problems of a class of the median log gap at the end; in brackets how many decades behind the best "
        "single peer (negative: ahead)"
    )
    return Table(caption, ("class", "problems", "best single peer", *ours), tuple(rows))


def all_tables(summary: Summary) -> tuple[Table, ...]:
    """Every table, the one that answers most first."""
    return (
        peer_table(summary),
        class_table(summary),
        gap_table(
            summary,
            summary.end,
            f"Median log10 gap after {summary.budget} evaluations (k/n never: in k of n runs no feasible point)",
        ),
        gap_table(
            summary, summary.area, "Median of the log10 gap averaged over all evaluations (area under the curve)"
        ),
    )


def verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """In words, whether ours meet the bars."""
    lines = []
    for verdict in verdicts:
        if not verdict.next_peer:
            lines.append(f"{verdict.peer}: no other peer to compare with")
            continue
        place = "first" if verdict.first else "not first"
        lines.append(
            f"{verdict.peer}: {place} by mean rank, {verdict.rank:.2f}; next {verdict.next_peer}, {verdict.next_rank:.2f}"
            if verdict.first
            else f"{verdict.peer}: {place} by mean rank, {verdict.rank:.2f}; {verdict.next_peer} has {verdict.next_rank:.2f}"
        )
        worse = {name: value for name, value in verdict.behind.items() if value > MARGIN}
        if worse:
            text = "; ".join(f"{name}: {value:.2f}" for name, value in worse.items())
            lines.append(f"{verdict.peer}: more than {MARGIN} decades behind the best single peer in: {text}")
        else:
            lines.append(f"{verdict.peer}: in no class more than {MARGIN} decades behind the best single peer")
    return lines
