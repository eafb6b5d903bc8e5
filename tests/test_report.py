"""The report from synthetic records: what the page says, what the files hold, and how it looks to a browser.

Seventeen problems, strategies of known strength, no optimizer: the numbers that must appear are known beforehand.
"""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from pages_kit import chromium

from bbopt.report.data import Bench, Limit, Parameter, ProblemFacts, Run
from bbopt.report.load import _chosen, problem_facts
from bbopt.report.summary import summarize
from bbopt.report.theme import drawing, inline_svg, looks, number
from bbopt.report.write import write_bench

PROBLEMS: tuple[tuple[str, int, int, float, float], ...] = (
    # name, parameters, constraints, optimum, share of feasible points at random
    ("jlh1", 2, 1, 0.03125, 0.28),
    ("jlh2", 2, 1, -1.82544, 0.62),
    ("gkxwc1", 2, 1, -2.0, 0.67),
    ("gkxwc2", 2, 1, 0.253236, 0.018),
    ("ackley_2d", 2, 2, 0.0, 0.17),
    ("ackley_6d", 6, 2, 0.0, 0.0036),
    ("ackley_10d", 10, 2, 0.0, 0.00003),
    ("keane_bump", 18, 2, -0.797114, 0.9999),
    ("three_bar_truss", 2, 3, 263.895843, 0.22),
    ("concrete_beam", 3, 2, 358.711641, 0.16),
    ("compression_spring", 3, 4, 0.0126652328, 0.015),
    ("pressure_vessel", 4, 4, 5885.332774, 0.4),
    ("welded_beam", 4, 5, 2.381134, 0.39),
    ("speed_reducer", 7, 11, 2994.471066, 0.004),
    ("heat_exchanger", 8, 6, 7049.248021, 0.0),
    ("cantilever_beam", 10, 11, 63108.74799, 0.01),
    ("car_side_impact", 11, 10, 22.842969, 0.08),
)
RATES = {"gp": 0.12, "random": 0.006, "sobol": 0.008, "cmaes": 0.03}


def run_of(
    facts: ProblemFacts, strategy: str, seed: int, budget: int, share: float, initial: int, learn: bool = True
) -> Run:
    """A run whose gap falls at the strategy's rate; the initial points depend on problem and seed alone."""
    scale = abs(facts.optimum or 0.0) or 1.0
    shared = np.random.default_rng([seed, len(facts.name), ord(facts.name[0])])
    own = np.random.default_rng([seed, len(facts.name), ord(strategy[0]), ord(strategy[-1])])
    objective, feasible = np.empty(budget), np.zeros(budget, dtype=bool)
    rate = RATES[strategy]
    for i in range(budget):
        rng = shared if i < initial else own
        steps = max(0, i - initial + 1)
        level = 2.0 * np.exp(-rate * steps * (learn and 4 / (facts.dimension + 2))) * rng.lognormal(0.0, 0.8)
        objective[i] = (facts.optimum or 0.0) + facts.sign * scale * level * rng.lognormal()
        feasible[i] = rng.random() < (share if i < initial else min(1.0, share * (1 + rate * 60)))
    c = len(facts.constraints)
    constraints = np.where(feasible[:, None], -1.0, 1.0) * np.abs(own.normal(size=(budget, c)))
    seconds = np.zeros(budget)
    if budget > initial:
        base = {"gp": 0.08, "cmaes": 2e-4}.get(strategy, 3e-5)
        growth = 1 + 0.01 * np.arange(budget - initial) * (strategy == "gp")
        seconds[initial:] = base * growth * own.lognormal(0, 0.2, budget - initial)
    params = tuple({p.name: float(own.random()) for p in facts.parameters} for _ in range(budget))
    violation = np.where(feasible, 0.0, constraints.max(axis=1, initial=0.0))
    told = 1.7e9 + np.cumsum(seconds + 0.01)
    numbers, status = tuple(range(budget)), ("ok",) * budget
    return Run(
        facts.name, strategy, seed, objective, constraints, feasible, violation, seconds, told, params, numbers, status
    )


def facts_of(name: str, d: int, c: int, optimum: float | None, maximize: bool = False) -> ProblemFacts:
    """Facts with generic names, the known optimum at the middle of the box."""
    parameters = tuple(Parameter(f"x{i + 1}", "0 … 1") for i in range(d))
    limits = tuple(Limit(f"g{i + 1}", upper=0.0) for i in range(c))
    return ProblemFacts(
        name,
        "f",
        maximize=maximize,
        parameters=parameters,
        constraints=limits,
        optimum=optimum,
        optimum_params={p.name: 0.5 for p in parameters} if optimum is not None else None,
        optimum_constraints={limit.name: 0.0 for limit in limits},
        dimension=d,
        source="Somebody (1974), A journal of many things",
    )


def bench_of(
    problems: int = 17,
    strategies: tuple[str, ...] = ("gp", "sobol", "random"),
    seeds: int = 10,
    budget: int = 100,
    initial: int = 20,
) -> Bench:
    """A complete synthetic benchmark."""
    facts = [(facts_of(name, d, c, best), share) for name, d, c, best, share in PROBLEMS[:problems]]
    runs = tuple(
        run_of(one, strategy, seed, budget, share, initial)
        for one, share in facts
        for strategy in strategies
        for seed in range(seeds)
    )
    return Bench(
        title="engineering",
        strategies=strategies,
        problems=tuple(one for one, _ in facts),
        seeds=tuple(range(seeds)),
        budget=budget,
        initial=initial,
        runs=runs,
        protocol=(
            ("Date", "2026-11-21"),
            ("bbopt", "0.1.0"),
            ("Python", "3.11.7"),
            ("NumPy, SciPy, torch, BoTorch", "2.4.6, 1.17.1, 2.13.0, 0.18.1"),
            ("Machine", "2 cores, x86_64, Linux; synthetic records"),
        ),
        strategy_fields={name: f"{name.capitalize()}()" for name in strategies},
    )


def page_of(bench: Bench, folder: Path) -> str:
    """The page of a benchmark's report as text."""
    path = write_bench(bench, folder / "report")
    assert path == folder / "report" / "index.html"
    return path.read_text("utf-8")


def words_of(page: str) -> str:
    """What a reader sees, without tags, figures and styles."""
    page = re.sub(r"<(style|svg)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page)))


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))


class Balance(HTMLParser):
    """Checks that elements are closed in order, that ids are unique and that references inside the page lead somewhere."""

    VOID = ("meta", "link", "br", "img", "hr", "use")

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.ids: list[str] = []
        self.references: set[str] = set()
        self.addresses: set[str] = set()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._attributes(attrs)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._attributes(attrs)
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.stack.pop() == tag

    def _attributes(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "xlink:href", "src") and value:
                (self.references if value.startswith("#") else self.addresses).add(value)
            self.references |= {f"#{found}" for found in re.findall(r"url\(#([^)]+)\)", value or "")}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a complete benchmark: 17 problems, 3 strategies, 4 seeds."""
    return write_bench(bench_of(seeds=4), tmp_path_factory.mktemp("full"))


def test_page_is_one_file_without_addresses_of_other_hosts(full: Path) -> None:
    page = full.read_text("utf-8")
    found = Balance()
    found.feed(page)
    assert found.stack == []
    assert len(found.ids) == len(set(found.ids))
    assert {f"#{name}" for name in found.ids} >= found.references
    assert "<script" not in page
    outside = {address for address in found.addresses if not address.startswith("data:")}
    assert all((full.parent / address).is_file() for address in outside)  # the files beside it
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//|@import|url\((?!#)", page)


def test_page_says_what_was_run_and_what_came_out(full: Path) -> None:
    text = words_of(full.read_text("utf-8"))
    for sentence in (
        "3 strategies (gp, sobol and random) on 17 problems with 4 seeds, 100 evaluations each, the first 20 of them shared",
        "gp is significantly better than sobol and random",
        "Runs complete 204 of 204",
        "the critical difference of the Nemenyi test at 5 %",
        "Seeds 0 to 3",
        "No run has found a feasible point.",  # heat exchanger
    ):
        assert sentence in text
    for facts in bench_of().problems:
        assert facts.label in text
    assert "This benchmark is not complete" not in text


def test_summary_csv_equals_a_direct_computation(full: Path) -> None:
    bench = bench_of(seeds=4)
    rows = {(row["problem"], row["strategy"]): row for row in rows_of(full.parent / "summary.csv")}
    assert len(rows) == 17 * 3
    optima = {facts.name: facts.optimum or 0.0 for facts in bench.problems}
    for problem in ("pressure_vessel", "ackley_2d", "gkxwc2"):
        runs = [run for run in bench.runs if (run.problem, run.strategy) == (problem, "gp")]
        best = [run.objective[run.feasible].min() for run in runs]
        gaps = (np.array(best) - optima[problem]) / (abs(optima[problem]) or 1.0)
        assert float(rows[problem, "gp"]["gap_median"]) == pytest.approx(np.median(gaps))
        assert float(rows[problem, "gp"]["best_feasible_q3"]) == pytest.approx(np.quantile(best, 0.75))
        firsts = [int(np.flatnonzero(run.feasible)[0]) + 1 for run in runs]
        assert float(rows[problem, "gp"]["evaluations_to_feasible_median"]) == np.median(firsts)
    assert rows["heat_exchanger", "gp"]["gap_median"] == "inf"
    assert rows["heat_exchanger", "gp"]["best_feasible_median"] == ""


def test_trials_csv_has_every_evaluation_and_designs_csv_the_best(full: Path) -> None:
    bench = bench_of(seeds=4)
    trials = rows_of(full.parent / "trials.csv")
    assert len(trials) == 204 * 100
    assert sum(int(row["initial"]) for row in trials) == 204 * 20
    feasible = [float(r["objective"]) for r in trials if r["problem"] == "welded_beam" and r["feasible"] == "1"]
    designs = [row for row in rows_of(full.parent / "designs.csv") if row["problem"] == "welded_beam"]
    assert float(next(row["found"] for row in designs if row["kind"] == "objective")) == min(feasible)
    facts = next(facts for facts in bench.problems if facts.name == "welded_beam")
    assert len(designs) == 1 + len(facts.parameters) + len(facts.constraints)


def test_png_files_are_images(full: Path) -> None:
    for name in ("convergence", "best_feasible", "share_feasible", "first_feasible", "ranks", "seconds_per_ask"):
        content = (full.parent / f"{name}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 5000


def test_same_records_give_the_same_page(tmp_path: Path) -> None:
    bench = bench_of(problems=2, seeds=2, budget=30)
    assert page_of(bench, tmp_path / "a") == page_of(bench, tmp_path / "b")


@pytest.mark.parametrize(
    ("problems", "strategies", "seeds", "budget", "initial"),
    [(1, ("gp",), 1, 30, 20), (2, ("random",), 1, 1, 1), (3, ("gp", "random"), 1, 25, 0), (2, ("gp",), 5, 10, 20)],
    ids=["one of each", "one evaluation", "no initial points", "only initial points"],
)
def test_small_benchmarks(
    problems: int, strategies: tuple[str, ...], seeds: int, budget: int, initial: int, tmp_path: Path
) -> None:
    text = words_of(page_of(bench_of(problems, strategies, seeds, budget, min(initial, budget)), tmp_path))
    assert f"{budget} evaluations each" in text
    assert ("Mean ranks over" in text) == (len(strategies) > 1)


def test_partial_folder_says_what_is_missing(tmp_path: Path) -> None:
    bench = bench_of(problems=4, seeds=3, budget=40)
    runs = []
    for run in bench.runs:
        if run.problem == "jlh2" and run.strategy == "random":
            continue  # not begun
        if run.problem == "gkxwc1" and run.seed == 2 and run.strategy == "gp":
            run = cut(run, 25)
        if run.problem == "gkxwc2" and run.seed == 0 and run.strategy == "gp":
            run = dataclasses.replace(cut(run, 30), error="Traceback: <the model> broke & fell")
        runs.append(run)
    page = page_of(dataclasses.replace(bench, runs=tuple(runs)), tmp_path)
    text = words_of(page)
    assert "This benchmark is not complete: 31 of 36 runs have used their budget." in text
    assert "1 run failed" in text
    assert "Traceback: <the model> broke & fell" in text
    assert "Traceback: <the" not in page  # escaped
    assert "Not in the ranks, because no seed is complete for all strategies: JLH2." in text
    planned = rows_of(tmp_path / "report" / "runs.csv")
    assert len(planned) == 36
    assert sum(int(row["complete"]) for row in planned) == 31


def test_empty_folder_gives_a_page(tmp_path: Path) -> None:
    text = words_of(page_of(dataclasses.replace(bench_of(problems=2, seeds=2), runs=()), tmp_path))
    assert "0 of 12 runs have used their budget" in text


def cut(run: Run, n: int) -> Run:
    """The first n evaluations of a run."""
    parts: dict[str, Any] = {}
    for item in dataclasses.fields(run):
        value = getattr(run, item.name)
        parts[item.name] = value[:n] if isinstance(value, (np.ndarray, tuple)) else value
    return Run(**parts)


def test_curves_use_complete_runs_and_else_the_shortest_length() -> None:
    bench = bench_of(problems=1, strategies=("gp",), seeds=3, budget=40)
    one_short = dataclasses.replace(bench, runs=(cut(bench.runs[0], 10), *bench.runs[1:]))
    cell = summarize(one_short).problems[0].cells["gp"]
    assert (cell.n, len(cell.runs), cell.complete, cell.planned) == (40, 2, 2, 3)
    all_short = dataclasses.replace(
        bench, runs=(cut(bench.runs[0], 10), cut(bench.runs[1], 20), cut(bench.runs[2], 30))
    )
    cell = summarize(all_short).problems[0].cells["gp"]
    assert (cell.n, len(cell.runs), cell.complete) == (10, 3, 0)


def test_a_used_up_space_keeps_its_last_value() -> None:
    bench = bench_of(problems=1, strategies=("gp",), seeds=1, budget=40)
    ended = dataclasses.replace(bench, runs=(dataclasses.replace(cut(bench.runs[0], 25), exhausted=True),))
    cell = summarize(ended).problems[0].cells["gp"]
    assert (cell.n, cell.complete) == (40, 1)
    assert cell.best[0, 39] == cell.best[0, 24]


def test_maximised_problem_is_shown_in_its_own_sign(tmp_path: Path) -> None:
    facts = facts_of("yield_of_reactor", 2, 1, 10.0, maximize=True)
    runs = tuple(run_of(facts, name, seed, 40, 0.5, 10) for name in ("gp", "random") for seed in range(3))
    bench = dataclasses.replace(
        bench_of(1, ("gp", "random"), 3, 40, 10), problems=(facts,), runs=runs, title="selection"
    )
    view = summarize(bench).problems[0]
    assert all(np.nanmax(run.objective) <= 10.0 for run in runs)
    gap, value = view.cells["gp"].final()
    assert value[1] <= 10.0
    assert gap[1] == pytest.approx((10.0 - value[1]) / 10.0)
    assert value[0] >= value[1] >= value[2]  # at the ranks of the gaps
    assert "maximised" in words_of(page_of(bench, tmp_path))


def test_unknown_and_beaten_optima_are_said(tmp_path: Path) -> None:
    bench = bench_of(problems=2, seeds=2, budget=30)
    first, second = bench.problems
    optimum = (first.optimum or 0.0) + 1.0
    changed = (
        dataclasses.replace(first, optimum=optimum),
        dataclasses.replace(second, optimum=None, optimum_params=None),
    )
    text = words_of(page_of(dataclasses.replace(bench, problems=changed), tmp_path))
    assert "Better than the known optimum, which should be looked into: JLH1." in text
    assert "No optimum is known for JLH2" in text
    assert "(best seen)" in text


def test_names_that_are_markup_are_escaped(tmp_path: Path) -> None:
    bench = bench_of(problems=1, strategies=("gp",), seeds=1, budget=25)
    name = "<b>bold</b> & co"
    runs = tuple(dataclasses.replace(run, strategy=name) for run in bench.runs)
    page = page_of(dataclasses.replace(bench, strategies=(name,), runs=runs), tmp_path)
    assert name not in page
    found = Balance()
    found.feed(page)
    assert found.stack == []


def test_looks_are_distinct_for_many_strategies() -> None:
    chosen = looks([f"s{i}" for i in range(14)])
    assert len({(look.colour, look.dashes) for look in chosen.values()}) == 14
    assert len({look.colour for look in list(chosen.values())[:7]}) == 7


def test_numbers_for_readers() -> None:
    expected = {
        5885.332774: "5885",
        12345678.0: "1.235·10⁷",
        -0.5: "−0.5",
        1e-3: "0.001",
        9.99999: "10",
        1e5: "100\u2009000",
    }
    assert {value: number(value) for value in expected} == expected
    assert number(6059.714335, 7) == "6059.714"


def test_drawing_restores_the_settings_of_matplotlib() -> None:
    from matplotlib.figure import Figure

    before = dict(matplotlib.rcParams)
    with drawing():
        figure = Figure()
        figure.subplots().plot([1, 2], color="#0072b2")
        svg = inline_svg(figure, "one", "a < b")
    assert dict(matplotlib.rcParams) == before
    assert "var(--series0)" in svg
    assert "#0072b2" not in svg
    assert 'aria-label="a &lt; b"' in svg


def test_facts_of_a_real_problem() -> None:
    facts = problem_facts("pressure_vessel")
    assert facts.label == "Pressure vessel"
    assert facts.optimum == pytest.approx(5885.332774)
    assert facts.optimum_constraints is not None
    for limit in facts.constraints:
        value = facts.optimum_constraints[limit.name]
        assert limit.lower is None or value >= limit.lower - 1e-6 * max(1, abs(limit.lower))
        assert limit.upper is None or value <= limit.upper + 1e-6 * max(1, abs(limit.upper))
    assert len(facts.parameters) == 4
    assert facts.parameters[0].domain == "0.0625 … 6.1875"


def test_what_auto_chose_is_said() -> None:
    class Definitions:
        def definition(self, study: str) -> dict[str, Any]:
            name = "sobol" if study.startswith("b/") else "gp"
            return {"strategy": {"name": name, "options": {"budget": 9} if name == "gp" else {}}}

    strategies = {"auto": {"name": "auto"}, "later": {"name": "auto"}, "gp": {"name": "gp", "options": {}}}
    found = _chosen(Definitions(), {"a/auto/0", "a/auto/1", "b/auto/0", "a/gp/0"}, {"strategies": strategies})
    assert found == {"auto": "auto, which chose gp(budget=9) in 2 runs, sobol in 1 run"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as driven:
        yield driven


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_chromium_renders_the_page_quietly(width: int, scheme: str, full: Path, browser: Any) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(full.as_uri())
    assert complaints == []
    assert requests == [full.as_uri()]
    seen = page.evaluate(
        """() => ({
            wide: document.documentElement.scrollWidth,
            figures: [...document.querySelectorAll('svg.figure')].map(f => f.getBoundingClientRect().height),
            curve: getComputedStyle(document.querySelector('#convergence svg path[style*="--series0"]')).stroke,
            paper: getComputedStyle(document.body).backgroundColor,
        })"""
    )
    assert seen["wide"] <= width  # nothing sticks out; wide tables scroll by themselves
    assert len(seen["figures"]) >= 17 * 2
    assert min(seen["figures"]) > 50
    dark = scheme == "dark"
    assert seen["curve"] == ("rgb(86, 169, 232)" if dark else "rgb(0, 114, 178)")
    assert seen["paper"] == ("rgb(23, 28, 35)" if dark else "rgb(254, 254, 254)")
    context.close()
