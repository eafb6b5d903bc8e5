"""The results of an evaluation as tables: titles, headings and rows of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["NAMES", "Table", "row_of", "tables"]

NAMES = {
    "pfn": "PFN",
    "amortised": "amortised GP",
    "anchors": "anchors alone",
    "right": "MAP GP",
    "wide": "MAP GP",
    "botorch": "MAP GP, BoTorch's priors",
    "gp": "gp's fit",
    "nothing": "no data",
    "floor": "Bayes floor",
}
DASH = "-"


class Table(NamedTuple):
    """A title that says what the numbers are, headings, and rows of text."""

    title: str
    headings: list[str]
    rows: list[list[str]]


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Everything there is to print. Tables without rows are left out.

    >>> nothing = {name: [] for name in ("gaps", "floor", "paired", "draws", "calibration", "functions", "costs", "checks")}
    >>> tables({**nothing, "sanity": {"pfn": {"order": 1e-7}}})
    [Table(title='Behaviour', headings=['check', 'PFN'], rows=[['order', '1e-07']])]
    """
    found = [
        _gaps(results, "plain", "anywhere", "Gap above the true-hyperparameter GP, plain tasks, points anywhere (nats per point)"),
        _gaps(results, "plain", "told", "Plain tasks, half of the points near the lowest told values"),
        _gaps(results, "plain", "quiet", "Quiet plain tasks (noise below 0.055), points anywhere"),
        _floor(results),
        _paired(results, "plain", "anywhere", "points anywhere"),
        _gaps(results, "mixture", "told", "Gap above the oracle, full mixture, half of the points near the lowest told values"),
        _gaps(results, "mixture", "latent", "Full mixture, noise-free values at the same points"),
        _paired(results, "mixture", "told", "half of the points near the lowest told values"),
        _gaps(results, "known", "anywhere", "Gap where every lengthscale is nearly the same, which the PFN and gp's fit are not told; points anywhere"),
        _paired(results, "known", "anywhere", "points anywhere"),
        _draws(results),
        *(_calibration(results, who) for who in ("pfn", "amortised")),
        *(_functions(results, who) for who in ("pfn", "amortised")),
        _sanity(results),
        _costs(results),
        _checks(results),
    ]  # fmt: skip
    return [table for table in found if table.rows]


def row_of(rows: list[dict[str, Any]], where: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row with the given entries, or None.

    >>> row_of([{"d": 1, "n": 8}, {"d": 2, "n": 8}], {"d": 2})
    {'d': 2, 'n': 8}
    """
    return next((row for row in rows if all(row.get(key) == value for key, value in where.items())), None)


def _gaps(results: Mapping[str, Any], kind: str, measure: str, title: str) -> Table:
    rows = [row for row in results["gaps"] if row["kind"] == kind and measure in row]
    who = list(dict.fromkeys(row["who"] for row in rows))
    cells = list(dict.fromkeys((row["d"], row["n"]) for row in rows))
    lines = []
    for d, n in cells:
        line = [str(d), str(n)]
        for name in who:
            line.append(_text((row_of(rows, {"d": d, "n": n, "who": name}) or {}).get(measure)))
        lines.append(line)
    if lines:
        means = [[row[measure]["mean"] for row in rows if row["who"] == name] for name in who]
        medians = [[row[measure]["median"] for row in rows if row["who"] == name] for name in who]
        lines.append(["all", "", *(f"{_number(_mean(a))} [{_number(_mean(b))}]" for a, b in zip(means, medians, strict=True))])  # fmt: skip
    return Table(
        f"{title}: mean ± standard error [median over tasks]", ["d", "n", *(NAMES[name] for name in who)], lines
    )


def _floor(results: Mapping[str, Any]) -> Table:
    """The few tasks whose floor is known."""
    rows = results["floor"]
    who = ["floor", *dict.fromkeys(row["who"] for row in rows if row["who"] != "floor")]
    lines = []
    for d, n in dict.fromkeys((row["d"], row["n"]) for row in rows):
        here = {"d": d, "n": n}
        bottom = row_of(rows, {**here, "who": "floor"}) or {}
        line = [str(d), str(n), *(_text((row_of(rows, {**here, "who": name}) or {}).get("anywhere")) for name in who)]
        lines.append([*line, _number(bottom["halves_apart"]["anywhere"])])
    if lines:
        means = [_mean([row["anywhere"]["mean"] for row in rows if row["who"] == name]) for name in who]
        lines.append(["all", "", *map(_number, means), ""])
    tasks = rows[0]["anywhere"]["tasks"] if rows else 0
    title = f"Beside the Bayes floor, the first {tasks} plain tasks of each cell, points anywhere: mean ± standard error [median]"
    return Table(title, ["d", "n", *(NAMES[name] for name in who), "two populations differ by"], lines)


def _paired(results: Mapping[str, Any], kind: str, measure: str, where: str) -> Table:
    """The amortised process minus everyone else."""
    rows = [row for row in results["paired"] if row["kind"] == kind and measure in row and row["who"] != "nothing"]
    who = list(dict.fromkeys(row["who"] for row in rows))
    lines = []
    for d, n in dict.fromkeys((row["d"], row["n"]) for row in rows):
        here = ((row_of(rows, {"d": d, "n": n, "who": name}) or {}).get(measure) for name in who)
        lines.append([str(d), str(n), *map(_text, here)])
    title = f"Gap of the amortised GP minus that of others on the same {kind} tasks, {where}: mean ± standard error [median]"
    return Table(title, ["d", "n", *(NAMES[name] for name in who)], lines)


def _draws(results: Mapping[str, Any]) -> Table:
    lines = [
        [row["kind"], str(row["d"]), str(row["n"]), f"{row['median']:.1f}"]
        + [f"{100 * row[name]:.0f} %" for name in ("below_4", "enough", "refined", "tempered")]
        + [f"{row['milliseconds']:.0f}"]
        for row in results["draws"]
    ]
    title = "How far 64 draws of the amortised GP's hyperparameters counted: effective number over tasks, shares of tasks, CPU ms per fit"
    return Table(title, ["kind", "d", "n", "median", "below 4", "19.2 or more", "refined", "tempered", "ms"], lines)


def _costs(results: Mapping[str, Any]) -> Table:
    rows = results["costs"]
    who = list(dict.fromkeys(row["who"] for row in rows))
    names = {**NAMES, "gp": "fast fit", "botorch": "BoTorch's fit"}
    lines = []
    for case in dict.fromkeys(row["case"] for row in rows):
        found = (row_of(rows, {"case": case, "who": name}) or {} for name in who)
        lines.append([case, *(_number(row.get("median")) for row in found)])
    return Table("CPU seconds of a fit, one thread: median", ["data", *(names[name] for name in who)], lines)


def _checks(results: Mapping[str, Any]) -> Table:
    rows = results["checks"]
    lines = [[row["check"], row["limit"], row["found"], "passed" if row["passed"] else "missed"] for row in rows]
    return Table("Checks of the amortised GP", ["check", "limit", "found", ""], lines)


def _calibration(results: Mapping[str, Any], who: str) -> Table:
    rows = [row for row in results["calibration"] if row["who"] == who and row["kind"] == "held-out"]
    lines = [[str(row["d"]), str(row["n"]), *_shares(row)] for row in rows]
    if rows:
        lines.append(["all", "", *(f"{100 * _mean([row['coverage'][level]['mean'] for row in rows]):.1f}" for level in ("0.5", "0.9", "0.95"))])  # fmt: skip
    title = f"Calibration, {NAMES[who]}: % of told values in central intervals, held-out tasks of the whole prior (± over tasks; binomial)"
    return Table(title, ["d", "n", "50 %", "90 %", "95 %"], lines)


def _functions(results: Mapping[str, Any], who: str) -> Table:
    rows = [row for row in results["functions"] if row["who"] == who]
    lines = [[row["function"], str(row["n"]), *_shares(row), _number(row["error"])] for row in rows]
    if rows:
        shares = (_mean([row["coverage"][level]["mean"] for row in rows]) for level in ("0.5", "0.9", "0.95"))
        lines.append(
            ["all", "", *(f"{100 * share:.1f}" for share in shares), _number(_mean([row["error"] for row in rows]))]
        )
    title = f"Calibration, {NAMES[who]}: % of noise-free values of test functions in central intervals, uniform designs; rms error in sds"
    return Table(title, ["function", "n", "50 %", "90 %", "95 %", "rms error"], lines)


def _shares(row: Mapping[str, Any]) -> list[str]:
    found = []
    for level in ("0.5", "0.9", "0.95"):
        share = row["coverage"][level]
        error = DASH if share["error"] is None else f"{100 * share['error']:.1f}"
        found.append(f"{100 * share['mean']:.1f} ± {error}; {100 * share['binomial']:.1f}")
    return found


def _sanity(results: Mapping[str, Any]) -> Table:
    who = list(results["sanity"])
    names = list(dict.fromkeys(name for found in results["sanity"].values() for name in found))
    lines = [[name, *(f"{results['sanity'][each][name]:.3g}" for each in who)] for name in names]
    return Table("Behaviour", ["check", *(NAMES[each] for each in who)], lines)


def _text(summary: Mapping[str, Any] | None) -> str:
    if summary is None or not summary["tasks"]:
        return DASH
    return f"{_number(summary['mean'])} ± {_number(summary['error'])} [{_number(summary['median'])}]"


def _number(value: float | None) -> str:
    """Three places, fewer for what is large."""
    if value is None or value != value:  # no number, or no mean of none
        return DASH
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.0f}"


def _mean(values: list[Any]) -> float:
    good = [value for value in values if value is not None]
    return sum(good) / len(good) if good else float("nan")
