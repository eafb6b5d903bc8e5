"""The sentences of a report: what was run, what came out, what is missing, and what the words mean."""

from __future__ import annotations

from collections.abc import Sequence

from bbopt.report.data import ProblemFacts
from bbopt.report.statistics import cliques
from bbopt.report.summary import Summary
from bbopt.report.theme import number

__all__ = [
    "counted",
    "definitions",
    "findings",
    "gap_caption",
    "lead",
    "listing",
    "missing",
    "p",
    "protocol",
    "rank_caption",
    "size",
]


def size(facts: ProblemFacts) -> str:
    """Number of variables and constraints, as `d = 4, 5 constraints`."""
    limits = len(facts.constraints)
    return f"d = {facts.dimension}" + (f", {limits} constraint{'s' * (limits != 1)}" if limits else "")


def listing(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def counted(n: int, word: str) -> str:
    plural = word[:-1] + "ies" if word.endswith("y") else word + "s"
    return f"{n} {word if n == 1 else plural}"


def p(p: float) -> str:
    """A p value with its sign; below 0.0001 only that."""
    return "< 0.0001" if p < 1e-4 else f"= {p:.2g}"


def lead(summary: Summary) -> str:
    bench = summary.bench
    text = (
        f"{counted(len(bench.strategies), 'strategy')} ({listing(bench.strategies)}) on "
        f"{counted(len(bench.problems), 'problem')} with {counted(len(bench.seeds), 'seed')}, "
        f"{bench.budget} evaluations each"
    )
    if bench.initial:
        text += f", the first {bench.initial} of them shared by all strategies"
    return text + "."


def findings(summary: Summary) -> list[str]:
    """What the numbers say, in sentences that hold for any outcome."""
    sentences = []
    comparison = summary.comparison
    if comparison is not None:
        ranks = dict(zip(summary.bench.strategies, comparison.mean_ranks, strict=True))
        text = "Mean ranks over " + counted(len(summary.compared), "problem") + ": "
        text += ", ".join(f"{name} {ranks[name]:.2f}" for name in summary.order) + "."
        test = comparison.friedman
        if test is not None and comparison.difference is not None:
            text += f" Friedman test: χ² = {test.statistic:.2f}, p {p(test.p)}."
            best, *others = summary.order
            apart = [name for name in others if ranks[name] - ranks[best] >= comparison.difference]
            if test.p < 0.05 and apart:
                text += f" {best} is significantly better than {listing(apart)} (Nemenyi, 5 %)."
        sentences.append(text)
    solved = []
    for name in summary.order:
        known = [view for view in summary.problems if view.known and view.cells[name].n]
        within = sum(float(view.cells[name].final()[0][1]) <= 0.01 for view in known)
        if known:
            solved.append(f"{name} on {within} of {len(known)}")
    if solved:
        sentences.append("A median gap of at most 1 % to the known optimum was reached by " + listing(solved) + ".")
    return sentences


def missing(summary: Summary) -> list[str]:
    """What is not there yet, or cannot be right; empty for a complete benchmark."""
    bench, sentences = summary.bench, list(summary.bench.notes)
    failed = sum(bool(run.error) for run in bench.runs)
    if summary.complete < summary.planned:
        text = f"This benchmark is not complete: {summary.complete} of {counted(summary.planned, 'run')} have used their budget."
        partial = [
            view.facts.label for view in summary.problems if any(c.complete < c.planned for c in view.cells.values())
        ]
        text += f" Missing in part or altogether: {listing(partial)}." if len(partial) < len(summary.problems) else ""
        sentences.append(text + " Run the same command again to continue.")
    if failed:
        sentences.append(f"{counted(failed, 'run')} failed; their tracebacks stand below.")
    if summary.comparison is not None and len(summary.compared) < len(summary.problems):
        left = [v.facts.label for v in summary.problems if v.facts.name not in summary.compared]
        sentences.append(f"Not in the ranks, because no seed is complete for all strategies: {listing(left)}.")
    beaten = [view.facts.label for view in summary.problems if view.beaten]
    if beaten:
        sentences.append(f"Better than the known optimum, which should be looked into: {listing(beaten)}.")
    unknown = [view.facts.label for view in summary.problems if not view.known]
    if unknown:
        sentences.append(
            f"No optimum is known for {listing(unknown)}; gaps there refer to the best value of this benchmark."
        )
    return sentences


def protocol(summary: Summary) -> list[tuple[str, str]]:
    bench = summary.bench
    seeds = ", ".join(map(str, bench.seeds))
    if len(bench.seeds) > 3 and list(bench.seeds) == list(range(bench.seeds[0], bench.seeds[-1] + 1)):
        seeds = f"{bench.seeds[0]} to {bench.seeds[-1]}"
    rows = [
        ("Evaluations per run", str(bench.budget)),
        ("Shared initial points", str(bench.initial) if bench.initial else "none"),
        ("Seeds", seeds),
        ("Runs complete", f"{summary.complete} of {summary.planned}"),
    ]
    rows += list(bench.protocol)
    return rows + [(f"Strategy {name}", bench.strategy_fields.get(name, "")) for name in bench.strategies]


def rank_caption(summary: Summary) -> str:
    comparison = summary.comparison
    if comparison is None:
        return ""
    text = f"Mean rank of each strategy over {counted(len(summary.compared), 'problem')}; 1 is best."
    if comparison.difference is None:
        return text + " Tests need at least two problems."
    joined = cliques(list(comparison.mean_ranks), comparison.difference)
    text += " A bar joins strategies whose mean ranks differ by less than the critical difference" if joined else ""
    text += " of the Nemenyi test at 5 %." if joined else " All differences exceed the critical one (Nemenyi, 5 %)."
    return text


def gap_caption(summary: Summary) -> str:
    text = (
        "Relative gap of the best feasible value to the known optimum against evaluations, on a log scale: median "
        "(line) and range between the quartiles (band) over the seeds. "
    )
    if summary.bench.initial > 1:
        text += "The shaded part on the left are the shared initial points. "
    return text + (
        "A run without a feasible point has an infinite gap: a line begins where half of the runs have one, and a band "
        f"that reaches the top includes runs that have none. Dotted: the floor of {number(summary.floor, 1)}."
    )


def definitions(summary: Summary) -> list[str]:
    initial = summary.bench.initial
    texts = [
        (
            "Gap: the distance of the best feasible value so far from the known optimum, divided by the absolute value of the "
            f"optimum (not divided where that is 0). Gaps below {number(summary.floor, 1)} are shown there and count as equal, "
            "because optima are known to six digits or somewhat more. A run without a feasible point has an infinite gap, "
            "which ranks last; two such runs are equal."
        ),
        "Feasible: all outcome constraints hold within the tolerance of the task, which is 0 unless the problem says more.",
        "Quartiles are linear between order statistics, and infinite where the upper neighbour is.",
    ]
    if initial:
        texts.append(
            f"Initial points: for each problem and seed, {initial} points drawn uniformly from the unit cube of encoded "
            "parameters (from the set that satisfies the known conditions, where a problem has some), evaluated first "
            "by every strategy. Differences between strategies are therefore differences after these points."
        )
    texts.append(
        "Ranks: within a problem and a seed the strategies are ranked by their final gap; the mean over the seeds is the "
        "score of the problem, and the scores are ranked again. These ranks enter Friedman’s test (corrected for ties) and "
        "the critical difference of Nemenyi’s test (Demšar, Journal of Machine Learning Research 7, 2006, 1–30)."
    )
    return texts
