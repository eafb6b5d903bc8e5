"""What `bbopt.bench_ranking` measures, part by part: each gives plain data, lines of text, and what it missed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bbopt import table
from bbopt.bench_ranking_runs import (
    Answerer,
    Array,
    Function,
    Run,
    box,
    differences,
    free,
    noisy_gradient,
    oracle,
    person,
    rosenbrock,
    run,
    sphere,
    told,
)
from bbopt.optimizer import Optimizer
from bbopt.query import Key, Query
from bbopt.strategies.cmaes import CMAES
from bbopt.strategy import Strategy
from bbopt.task import Task
from bbopt.zeroth_order.openes import OpenES
from bbopt.zeroth_order.rank_gradient import Comparisons, best_of, from_groups, from_ranking
from bbopt.zeroth_order.rank_sgd import RankSGD

D, M = 100, 15
PAPER = RankSGD(slate=M, candidates=8, factor=0.5, orthogonal=False)
GRID = [100, 200, 300, 400, 500, 600, 800, 1000, 1300, 1600, 2000, 2500, 3000, 4000, 5000]
Data = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """measure: plain data; show: lines of these; missed: which thresholds these miss."""

    measure: Callable[[], Data]
    show: Callable[[Data], list[str]]
    missed: Callable[[Data], list[str]]


def median(values: list[float]) -> float:
    return float(np.median(values))


def starting(seed: int) -> Array:
    """(100,) from N(0, I), the paper's start."""
    return np.random.default_rng(1000 + seed).standard_normal(D)


# -- the estimator ---------------------------------------------------------------------------------------------------------

NOTES = {
    "15, 1": 3.23,
    "15, 5": 8.79,
    "15, 15": 12.5,
    "8, 8": 5.93,
    "5-5-5": 10.6,
    "3-9-3": 10.3,
    "2-4-2": 5.2,
    "6, 6": 4.09,
}
"""Efficiency of answers as calculated in the notes: (m, k), or bins."""


def comparisons(answer: str) -> Comparisons:
    if "-" in answer:
        ends = np.cumsum([int(size) for size in answer.split("-")])
        return from_groups([range(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)], int(ends[-1]))
    m, k = map(int, answer.split(", "))
    return from_ranking(best_of(np.arange(float(m)), k), m)


def simulated_efficiency(graph: Comparisons, draws: int) -> float:
    """c^2 / s^2 from draws of slates on a linear function: along its gradient, and across it."""
    rng, m = np.random.default_rng(1), len(graph.weights)
    along = np.sort(rng.standard_normal((draws, m)), axis=1) @ graph.weights
    across = rng.standard_normal((draws, m)) @ graph.weights
    return float(along.mean() ** 2 / across.var())


def measure_estimator() -> Data:
    graphs = {answer: comparisons(answer) for answer in NOTES}
    return {a: [NOTES[a], graph.efficiency, simulated_efficiency(graph, 100_000)] for a, graph in graphs.items()}


def show_estimator(data: Data) -> list[str]:
    lines = ["answer (m, k) or bins    notes  formula  100,000 slates"]
    return lines + [f"{answer:>21}  {a:7.2f}  {b:7.2f}  {c:14.2f}" for answer, (a, b, c) in data.items()]


def missed_estimator(data: Data) -> list[str]:
    return [f"efficiency of {answer}" for answer, (notes, _, found) in data.items() if abs(found / notes - 1.0) > 0.03]


# -- the paper's functions -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """A strategy and what answers it; exact: it sees values; theory: the k of (15, k) whose iterations are known."""

    strategy: Strategy
    answer: Answerer
    exact: bool = False
    k: int = 0


SPHERE: dict[str, Method] = {f"rank-sgd, ({M}, {k})": Method(PAPER, oracle(k), k=k) for k in (15, 5, 3, 1)} | {
    "rank-sgd, orthogonal": Method(RankSGD(slate=M, candidates=8, factor=0.5), oracle()),
    "rank-sgd, defaults": Method(RankSGD(slate=M), oracle()),
    "rank-sgd, of values": Method(RankSGD(slate=M, candidates=8, factor=0.5), told, exact=True),
    "cmaes": Method(CMAES(population=M), oracle()),
    "openes": Method(OpenES(pairs=8), oracle()),
}
ROSENBROCK: dict[str, Method] = {
    "rank-sgd, (15, 15)": Method(PAPER, oracle()),
    "rank-sgd, (15, 1)": Method(PAPER, oracle(1)),
    "rank-sgd, defaults": Method(RankSGD(slate=M), oracle()),
    "cmaes": Method(CMAES(population=M), oracle()),
    "openes": Method(OpenES(pairs=8), oracle()),
}


def descend(method: Method, function: Function, seed: int, until: float, rows: int) -> Run:
    """Around the start of the seed, which strategies that begin at 0 see as their origin."""
    task, start = free(D, "values" if method.exact else "ranking"), starting(seed)
    if isinstance(method.strategy, RankSGD):
        return run(
            method.strategy, task, function, method.answer, 10_000, seed=seed, start=start, until=until, rows=rows
        )
    return run(
        method.strategy, task, lambda X: function(X + start), method.answer, 10_000, seed=seed, until=until, rows=rows
    )


def rivals(function: Function, seed: int, until: float, rows: int) -> dict[str, Run]:
    start = starting(seed)
    return {
        name: differences(function, start, M, 8, seed=seed, until=until, rows=rows, orthogonal=orthogonal)
        for name, orthogonal in (("differences", False), ("differences, orthogonal", True))
    }


def theory(k: int) -> float:
    """Iterations from 100 to 1 on the sphere with an exact line search."""
    efficiency = comparisons(f"{M}, {k}").efficiency
    return math.log(100.0) / -math.log(1.0 - efficiency / (efficiency + D - 1.0))


def measured(runs: list[Run], k: int) -> Data:
    curve = [median([each.after(rows) for each in runs]) for rows in GRID]
    return {"iterations": median([each.rounds_to(1.0) for each in runs]), "rows": median([each.rows_to(1.0) for each in runs]),
            "theory": theory(k) if k else None, "curve": curve, "seeds": len(runs)}  # fmt: skip


def measure_sphere() -> Data:
    found = {}
    for name, method in SPHERE.items():
        seeds = 3 if isinstance(method.strategy, CMAES) else 5
        found[name] = measured([descend(method, sphere, seed, 1.0, 5000) for seed in range(seeds)], method.k)
    others = [rivals(sphere, seed, 1.0, 5000) for seed in range(5)]
    return found | {name: measured([each[name] for each in others], 0) for name in others[0]}


def show_sphere(data: Data) -> list[str]:
    lines = [f"|x|^2, d = {D}, slates of {M}, from 100 to 1     slates or rounds   theory   evaluations   seeds"]
    for name, each in data.items():
        wanted = f"{each['theory']:6.1f}" if each["theory"] else "     -"
        lines.append(f"{name:<44}  {each['iterations']:15.0f}   {wanted}   {each['rows']:11.0f}   {each['seeds']:5d}")
    return lines


def missed_sphere(data: Data) -> list[str]:
    missed = []
    for k, bar in ((15, 44), (5, 60), (1, 155)):
        each = data[f"rank-sgd, ({M}, {k})"]
        if each["iterations"] > min(bar, 1.12 * each["theory"]):
            missed.append(f"iterations with k = {k}")
    if data["rank-sgd, of values"]["rows"] > 1.15 * data["differences"]["rows"]:
        missed.append("evaluations beside differences of values")
    return missed


def measure_rosenbrock() -> Data:
    found = {}
    for name, method in ROSENBROCK.items():
        seeds = 2 if isinstance(method.strategy, CMAES) else 5
        runs = [descend(method, rosenbrock, seed, -1.0, 5000) for seed in range(seeds)]
        rises = [float(np.diff(each.values).max()) for each in runs]
        found[name] = {"curve": [median([each.after(rows) for each in runs]) for rows in GRID], "rise": max(rises)}
    others = [rivals(rosenbrock, seed, -1.0, 5000) for seed in range(5)]
    for name in others[0]:
        runs = [each[name] for each in others]
        found[name] = {"curve": [median([each.after(rows) for each in runs]) for rows in GRID], "rise": 0.0}
    return found


def show_rosenbrock(data: Data) -> list[str]:
    lines = [f"Rosenbrock, d = {D}, slates of {M}: median value after   1,000      2,000      5,000 evaluations"]
    places = [GRID.index(rows) for rows in (1000, 2000, 5000)]
    return lines + [f"{name:<42}" + "".join(f"{each['curve'][i]:14.1f}" for i in places) for name, each in data.items()]


def missed_rosenbrock(data: Data) -> list[str]:
    return [f"{name} on Rosenbrock: a rise of {each['rise']:g}" for name, each in data.items()
            if name.startswith("rank-sgd") and each["rise"] > 0.0]  # fmt: skip


# -- noise and people ------------------------------------------------------------------------------------------------------


def measure_noise() -> Data:
    method = {level: Method(PAPER, noisy_gradient(level)) for level in (0.5, 1.0)}
    return {
        str(level): median([descend(each, sphere, seed, 1.0, 20_000).rounds_to(1.0) for seed in range(5)])
        for level, each in method.items()
    }


def show_noise(data: Data) -> list[str]:
    lines = ["normal noise in gradient slates (standard deviations of the slate)   iterations to 1   notes"]
    notes = {"0.5": 49, "1.0": 70}
    return lines + [f"{level:>64}   {found:15.0f}   {notes[level]:5d}" for level, found in data.items()]


def missed_noise(data: Data) -> list[str]:
    return [f"noise of {level}" for level, bar in (("0.5", 60), ("1.0", 85)) if data[level] > bar]


# dimension, slate, form: answers to 10 % and 1 % without noise, and with Plackett-Luce noise of 1/2, in the notes
PEOPLE: dict[tuple[int, int, str], tuple[int, int, int, int] | None] = {
    (3, 6, "full"): (4, 8, 6, 12), (12, 4, "worst"): (36, 92, 48, 112), (12, 6, "top 1"): None, (12, 6, "full"): (18, 40, 24, 52),
    (12, 6, "bins 2-2-2"): None, (12, 8, "bins 2-4-2"): (14, 30, 20, 42), (12, 8, "full"): (12, 30, 16, 38), (24, 6, "full"): None,
    (24, 8, "bins 2-4-2"): (26, 74, 36, 100), (24, 8, "full"): (22, 60, 30, 94),
}  # fmt: skip
RATERS, MOST = 30, 120


def taste(d: int, strategy: RankSGD, answer: Answerer, seed: int, levels: tuple[float, ...]) -> list[float]:
    """Answers until the distance^2 to a hidden target, uniform in the box, is each of these shares of what it was."""
    target = np.random.default_rng([seed, 5]).random(d)

    def distance(X: Array) -> Array:
        return sphere(X - target)

    begin = float(distance(strategy.init(box(d), Key(seed, -1)).x[None])[0])
    found = run(strategy, box(d), distance, answer, MOST, seed=seed, until=min(levels) * begin)
    return [found.slates_to(level * begin) for level in levels]


def measure_people() -> Data:
    found = {}
    for d, m, form in PEOPLE:
        answers: list[float] = []
        for level in (0.0, 0.5, 1.0):
            answer = person(form, "plackett-luce", level) if level else person(form)
            each = [taste(d, RankSGD(slate=m), answer, seed, (0.1, 0.01)) for seed in range(RATERS)]
            answers += np.median(each, axis=0).tolist()
        found[f"{d}, {m}, {form}"] = [value if math.isfinite(value) else None for value in answers]
    return found


def show_people(data: Data) -> list[str]:
    lines = [f"answers to 10 % / 1 % of the start's distance^2, median of {RATERS} people, at most {MOST}; Plackett-Luce noise",
             "  d   m  answers           none     0.5     1.0      notes: none     0.5"]  # fmt: skip
    for key, answers in data.items():
        d, m, form = key.split(", ")
        notes = PEOPLE[int(d), int(m), form]
        pairs = ["/".join("  -" if v is None else f"{v:3.0f}" for v in answers[i : i + 2]) for i in (0, 2, 4)]
        beside = f"{notes[0]:>3}/{notes[1]:3}  {notes[2]:>3}/{notes[3]:3}" if notes else ""
        lines.append(f"{d:>3} {m:>3}  {form:<12}  " + " ".join(f"{pair:>8}" for pair in pairs) + f"      {beside:>12}")
    return lines


def missed_people(data: Data) -> list[str]:
    answers = data["12, 8, bins 2-4-2"][2]
    return [] if answers is not None and answers <= 28 else ["a noisy person with three bins of eight"]


# -- few answers -----------------------------------------------------------------------------------------------------------

FEW = ("rank-sgd", "preference-gp", "cmaes", "openes")
ANSWERS, PEOPLE_OF_FEW = (4, 8, 12), 4


def few(name: str) -> Strategy:
    options: Mapping[str, Any] = {"cmaes": {"population": 6}, "openes": {"pairs": 3}}.get(name, {"slate": 6})
    return table.configured(name, options)


def measure_few() -> Data:
    found: Data = {}
    for d in (3, 6):
        for name in FEW:
            runs, begun = [], time.process_time()
            for seed in range(PEOPLE_OF_FEW):
                target = np.random.default_rng([seed, 5]).random(d)

                def distance(X: Array, target: Array = target) -> Array:
                    return sphere(X - target)

                answer = person("full", "plackett-luce", 0.5)
                runs.append(run(few(name), box(d), distance, answer, ANSWERS[-1], seed=seed).values)
            seconds = (time.process_time() - begun) / PEOPLE_OF_FEW / ANSWERS[-1]
            found[f"{d}, {name}"] = [*(median([each[n - 1] for each in runs]) for n in ANSWERS), seconds]
    return found


def show_few(data: Data) -> list[str]:
    lines = [f"slates of 6, Plackett-Luce noise 0.5, median of {PEOPLE_OF_FEW} people: distance^2 to the target of what is recommended",
             "  d                     " + "".join(f"{f'after {n}':>12}" for n in ANSWERS) + "   CPU s per answer"]  # fmt: skip
    for key, (*values, seconds) in data.items():
        d, name = key.split(", ")
        lines.append(f"{d:>3}  {name:<18} " + "".join(f"{value:12.4f}" for value in values) + f"{seconds:19.3f}")
    return lines


# -- seconds per ask -------------------------------------------------------------------------------------------------------

ASKS: dict[str, tuple[str, int]] = {
    "rank-sgd": ("rank-sgd", 12),
    "cmaes": ("cmaes", 12),
    "rank-sgd, latent image": ("rank-sgd", 16_384),
}
LIMIT = 0.5


def measure_asks() -> Data:
    return {label: seconds_of_ask(name, d, 200 if d < 1000 else 20) for label, (name, d) in ASKS.items()}


def seconds_of_ask(name: str, d: int, answers: int) -> float:
    """CPU seconds of the longest of the last 10 asks of a slate of 6, the log in memory, after so many answers."""
    task: Task = box(d) if d < 1000 else free(d)
    opt, longest = Optimizer(task, few(name)), 0.0
    weights = np.random.default_rng(0).standard_normal(d)
    for number in range(answers + 10):
        begun = time.thread_time()
        query: Query = opt.ask_query()
        if number >= answers:
            longest = max(longest, time.thread_time() - begun)
        order = np.argsort(query.X[np.arange(query.size)] @ weights)
        opt.rank([query.first + int(row) for row in order])
    return longest


def show_asks(data: Data) -> list[str]:
    return ["CPU seconds of an ask of a slate of 6 after 200 answers (20 for the latent image, 16,384 numbers)"] + [
        f"{label:<24} {seconds:.4f}" for label, seconds in data.items()
    ]


def missed_asks(data: Data) -> list[str]:
    return [f"an ask of {label} takes {seconds:.2f} s" for label, seconds in data.items() if seconds > LIMIT]


def nothing(data: Data) -> list[str]:
    return []


PARTS: dict[str, Part] = {
    "estimator": Part(measure_estimator, show_estimator, missed_estimator),
    "sphere": Part(measure_sphere, show_sphere, missed_sphere),
    "rosenbrock": Part(measure_rosenbrock, show_rosenbrock, missed_rosenbrock),
    "noise": Part(measure_noise, show_noise, missed_noise),
    "people": Part(measure_people, show_people, missed_people),
    "few": Part(measure_few, show_few, nothing),
    "asks": Part(measure_asks, show_asks, missed_asks),
}
