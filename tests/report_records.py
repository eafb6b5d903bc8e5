"""Synthetic records for the tests of the report: seventeen problems, strategies of known strength, no optimizer."""

from __future__ import annotations

import numpy as np

from bbopt.report.data import Bench, Limit, Parameter, ProblemFacts, Run

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
