"""The engineering suite against numbers and codes that are not ours.

`reference/engineering.json` was measured by another author with another code. BoTorch's test functions are a second
implementation of six of the problems, in forms that differ; each comparison says how. The search for anything better than the
stated optima is in `test_problems_optima.py`.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import problems
from problems import Problem

Array = np.ndarray[Any, np.dtype[np.float64]]

REFERENCE = json.loads((Path(__file__).parent / "reference" / "engineering.json").read_text())
OPTIMA = REFERENCE["optima"]
CALIBRATION = REFERENCE["calibration"]["runs"]


def inside(problem: Problem, metrics: dict[str, Array]) -> tuple[Array, Array]:
    """y (k,) and g (k, c) of a batch, written out here independently of `Task.to_inside`."""
    columns = []
    for constraint in problem.task.constraints:
        if constraint.upper is not None:
            columns.append(metrics[constraint.name] - constraint.upper)
        if constraint.lower is not None:
            columns.append(constraint.lower - metrics[constraint.name])
    return metrics[problem.task.objectives[0].name], np.stack(columns, axis=1)


def flat(params: dict[str, Any]) -> list[float]:
    return np.concatenate([np.ravel(np.asarray(value, float)) for value in params.values()]).tolist()


def columns_of(problem: Problem, V: Array) -> dict[str, Array]:
    """Columns for the formula from plain values (k, D), in the order of the parameters."""
    space = problem.task.space
    return {
        name: V[:, space.slice(name)] if getattr(parameter, "shape", None) else V[:, space.slice(name)][:, 0]
        for name, parameter in space.parameters.items()
    }


def box(problem: Problem) -> tuple[Array, Array]:
    """Lower and upper bounds, shape (D,), of plain values; list parameters by their ends."""
    ends = [
        (p.low, p.high) if hasattr(p, "low") else (p.choices[0], p.choices[-1])
        for p in problem.task.space.parameters.values()
        for _ in range(p.size)
    ]
    return np.array([low for low, _ in ends], float), np.array([high for _, high in ends], float)


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", problems.names("engineering"))
def test_dimension_and_number_of_constraints(name):
    task = problems.get(name).task
    assert [task.space.dimension, task.c] == REFERENCE["shape"][name]


@pytest.mark.parametrize("name", [name for suite in problems.suites()[:4] for name in problems.names(suite)])
def test_the_box_is_that_of_the_reference(name):
    low, high = box(problems.get(name))
    assert np.column_stack([low, high]).tolist() == REFERENCE["boxes"][name]


@pytest.mark.parametrize("name", OPTIMA)
def test_the_optimum_agrees_with_the_reference_to_every_digit_printed(name):
    expected, problem = OPTIMA[name], problems.get(name)
    printed = Decimal(expected["f"])
    digit = 10.0 ** int(printed.as_tuple().exponent)
    assert abs(problem.optimum.value - float(printed)) <= 0.5001 * max(digit, 10.0 ** -expected.get("digits", 9))
    if "x" not in expected:
        return
    ours, theirs = flat(problem.optimum.params), [Decimal(value) for value in expected["x"]]
    slack = 10.0 ** -expected["digits"] if "digits" in expected else 0.0
    for mine, other in zip(ours, theirs, strict=True):
        assert abs(mine - float(other)) <= 0.51 * 10.0 ** int(other.as_tuple().exponent) + slack + 1e-6 * abs(mine)


@pytest.mark.parametrize("name", [name for name in OPTIMA if "active" in OPTIMA[name]])
def test_the_active_constraints_are_those_of_the_reference(name):
    problem = problems.get(name)
    metrics = problem(problem.optimum.params)
    for constraint in problem.task.constraints:
        limit = constraint.upper if constraint.upper is not None else constraint.lower
        gap = abs(metrics[constraint.name] - limit) / max(1.0, abs(limit))
        assert (gap < 1e-6) == (constraint.name in OPTIMA[name]["active"]), (constraint.name, gap)


def test_twins_and_variants_have_the_box_and_the_value_of_the_original_where_they_should():
    for name in problems.names("engineering-mixed"):
        twin, original = problems.get(name), problems.get(name.removesuffix("_mixed"))
        low, high = box(twin)
        assert np.all(low >= box(original)[0])
        assert np.all(high <= box(original)[1])
        point = twin.task.space.decode(twin.task.space.from_uniform(np.full((1, len(low)), 0.37))[0])
        assert twin(point) == pytest.approx(original(point), rel=1e-15)
        assert twin.optimum.value >= original.optimum.value * (1 - 1e-12)
    for suite in ("engineering-boeb-2024-04", "engineering-boeb-head"):
        assert len(problems.names(suite)) == 7


def test_the_bar_table_is_the_multiples_of_six_bars():
    """k bars of ACI sizes 4 to 9, k = 1 to 15, gives the printed table and two more entries (7.0 and 10.0)."""
    from problems.engineering_structures import BAR_AREAS

    products = {round(k * area, 2) for k in range(1, 16) for area in (0.20, 0.31, 0.44, 0.60, 0.79, 1.00)}
    assert len(BAR_AREAS) == 76
    assert list(BAR_AREAS) == sorted(products - {7.0, 10.0})


SLIPS_OF_THE_CAR = {  # constraint, as in the literature, as in the benchmark's code
    1: (" - 0.32", " - 0.9"),
    2: (" + 0.00184 x9x10 - 0.018 x2^2 - 0.32", " - 0.9"),
    3: (" 0.61 x2", " 0.061 x2"),
    4: ("7.77", "7.7"),
}


@pytest.mark.parametrize("form", ["", "@boeb_2024_04", "@boeb_head"])
def test_the_car_is_the_sum_of_the_terms_of_the_reference(form):
    """The reference's table, read as text: every term is a number times the variables written after it."""
    car = problems.get("car_side_impact" + form)
    texts = list(REFERENCE["car_responses_minus_limits"])
    if form:
        for index, (before, after) in SLIPS_OF_THE_CAR.items():
            assert before in texts[index]
            texts[index] = texts[index].replace(before, after)
        texts[3] = texts[3].replace(" - 0.32", " - 0.9")
    low, high = box(car)
    V = np.random.default_rng(4).uniform(low, high, (200, 11))
    _, g = inside(car, car.formula(columns_of(car, V)))
    for column, text in zip(g.T, texts, strict=True):
        total = np.zeros(len(V))
        for sign, number, variables in re.findall(r"([+-]?) ?([0-9.]+)((?: ?x\d+(?:\^2)?)*)", text):
            term = np.full(len(V), float(sign + number))
            for index, square in re.findall(r"x(\d+)(\^2)?", variables):
                term *= V[:, int(index) - 1] ** (2 if square else 1)
            total += term
        assert column == pytest.approx(total, rel=1e-12, abs=1e-12)


def test_a_cantilever_of_equal_segments_is_the_beam_of_the_textbook():
    """Deflection P L^3 / (3 E I) of the whole 500 cm, stress 6 P a / (b h^2) at a distance a from the tip."""
    metrics = problems.get("cantilever")(
        {f"{key}_{i}": v for key, v in (("width", 4.0), ("height", 50.0)) for i in range(1, 6)}
    )
    assert metrics["deflection"] == pytest.approx(50_000 * 500**3 / (3 * 2e7 * (4 * 50**3 / 12)), rel=1e-14)
    assert metrics["volume"] == 4 * 50 * 500
    for i in range(1, 6):
        assert metrics[f"stress_{i}"] == pytest.approx(6 * 50_000 * (600 - 100 * i) / (4 * 50**2), rel=1e-14)
        assert metrics[f"aspect_{i}"] == 12.5


# --- the traps of the box --------------------------------------------------------------------------------------------


def test_the_spring_is_large_and_finite_at_and_beyond_its_pole():
    spring = problems.get("spring")
    d = np.array([0.25, 0.3, 0.3, 1.0, 2.0, 0.30000001])
    D = np.array([0.25, 0.3, 0.3000000000001, 0.5, 0.25, 0.3])
    stress = spring.formula({"wire_diameter": d, "coil_diameter": D, "coils": np.full(6, 5.0)})["shear_stress"]
    assert np.all(stress == 10.0)
    lowest, highest = box(spring)
    V = np.random.default_rng(0).uniform(lowest, highest, (200_000, 3))
    V = V[V[:, 1] - V[:, 0] > 1e-3 * V[:, 0]]
    assert 3 < spring.formula(columns_of(spring, V))["shear_stress"].max() < 10  # the cap touches the pole alone


def test_the_corner_of_the_truss_and_the_origin_of_keane_are_finite_and_infeasible():
    for name, zero in (("three_bar_truss", np.zeros((1, 2))), ("keane_bump_18", np.zeros((1, 18)))):
        problem = problems.get(name)
        y, g = inside(problem, problem.formula(columns_of(problem, zero)))
        assert np.isfinite(y).all()
        assert np.isfinite(g).all()
        assert g.max() > 0


def test_no_point_of_the_last_cantilever_of_the_benchmark_is_feasible():
    problem = problems.get("cantilever@boeb_head")
    low, high = box(problem)
    deflection = problem.formula(columns_of(problem, np.random.default_rng(0).uniform(low, high, (100, 10))))[
        "deflection"
    ]
    assert deflection == pytest.approx(9.735e7, rel=1e-4)  # the value in the reference


# --- another implementation ------------------------------------------------------------------------------------------


def against_botorch(name: str, function: str, n: int = 500) -> tuple[Problem, Array, Array, Array, Array]:
    """Random points of our box, our metrics inside, and BoTorch's objective and constraints (g <= 0 feasible)."""
    torch = pytest.importorskip("torch")
    synthetic = pytest.importorskip("botorch.test_functions.synthetic")
    problem = problems.get(name)
    low, high = box(problem)
    V = np.random.default_rng(1).uniform(low, high, (n, len(low)))
    if name.endswith("_mixed"):
        V = np.array(
            [flat(problem.task.space.decode(row)) for row in problem.task.space.from_uniform((V - low) / (high - low))]
        )
    y, g = inside(problem, problem.formula(columns_of(problem, V)))
    other = getattr(synthetic, function)(**({"dim": V.shape[1]} if "Keane" in function else {}))
    X = torch.tensor(V, dtype=torch.float64)
    return problem, V, y, g, np.column_stack([other._evaluate_true(X).numpy(), -other._evaluate_slack_true(X).numpy()])


def test_pressure_vessel_against_botorch():
    """Same formulas; BoTorch rounds the thicknesses to 1/16, so the mixed twin is compared."""
    _, _, y, g, other = against_botorch("pressure_vessel_mixed", "PressureVessel")
    assert np.allclose(np.column_stack([y, g]), other, rtol=1e-12, atol=1e-7)


def test_speed_reducer_against_botorch():
    """BoTorch leaves g5, g6 in units of stress (1100, 850), g7 to g9 without division by their limit."""
    _, V, y, g, other = against_botorch("speed_reducer", "SpeedReducer")
    b_over_m = V[:, 0] / V[:, 1]
    ratio = g + 1
    ours = np.column_stack(
        [y, g[:, :4], 1100 * g[:, 4], 850 * g[:, 5], 40 * g[:, 6], 5 - 5 / ratio[:, 7], 12 * g[:, 8], g[:, 9:]]
    )
    assert b_over_m == pytest.approx(5 / ratio[:, 7], rel=1e-12)
    assert np.allclose(ours, other, rtol=1e-10, atol=1e-9)


def test_spring_against_botorch():
    """Same formulas for D > d; BoTorch keeps the sign beyond the pole and cuts every constraint at 100."""
    _, V, y, g, other = against_botorch("spring", "TensionCompressionString", 2000)
    sane = (V[:, 1] > 1.01 * V[:, 0]) & (np.abs(other) < 100).all(axis=1)
    assert sane.sum() > 300
    assert np.allclose(np.column_stack([y, g])[sane], other[sane], rtol=1e-11, atol=1e-12)
    _, _, y, g, other = against_botorch("spring@boeb_head", "TensionCompressionString", 2000)
    assert np.allclose(np.column_stack([y, np.minimum(g, 100)]), other, rtol=1e-9, atol=1e-12)


def test_welded_beam_against_botorch():
    """BoTorch has Coello's shear, bending, deflection and cost; its buckling load has t b^3 * 6 for t b^3 / 6.

    So its sixth constraint is compared through that factor of 36. It lacks h >= 0.125, which is in its box.
    """
    _, _, y, g, other = against_botorch("welded_beam_coello", "WeldedBeamSO")
    load = 6000 - 36 * (6000 - g[:, 3])
    ours = np.column_stack([y, g[:, 0], g[:, 1], g[:, 2], g[:, 5], g[:, 4], load])
    assert np.allclose(ours, other, rtol=1e-9, atol=1e-9)
    _, V, deb, _, _ = against_botorch("welded_beam", "WeldedBeamSO")
    assert deb == pytest.approx(problems.get("welded_beam_coello").formula(
        columns_of(problems.get("welded_beam_coello"), V))["cost"], rel=1e-14)  # fmt: skip


def test_the_two_welded_beams_share_what_they_share():
    """Cost and three constraints are equal; Deb's buckling load is Coello's times sqrt(G/E), in rounded constants."""
    low, high = box(problems.get("welded_beam_coello"))
    V = np.random.default_rng(2).uniform(low, high, (200, 4))
    deb, coello = (
        problem.formula(columns_of(problem, V)) for problem in map(problems.get, ("welded_beam", "welded_beam_coello"))
    )
    for metric in ("cost", "bending_stress", "weld_excess", "deflection"):
        assert deb[metric] == pytest.approx(coello[metric], rel=1e-12)
    assert deb["buckling_load"] == pytest.approx(coello["buckling_load"] * np.sqrt(12 / 30), rel=2e-5)


def test_keane_against_botorch():
    """The same function; only the guard at the origin differs in form."""
    _, _, y, g, other = against_botorch("keane_bump_18", "KeaneBumpFunction")
    assert np.allclose(np.column_stack([y, g]), other, rtol=1e-11, atol=1e-12)


def test_car_against_botorch():
    """RE41 (Tanabe, Ishibuchi 2020) is this car at x8 = 0.345, x9 = 0.192, x10 = x11 = 0.

    It gives the pubic force, the mean of the two velocities and the sum of the violations, and has 1e-5 x6 in the
    weight, 0.0092928 x3 for 0.092928 x3 in the abdomen load, and 0.163 x3 times 0.192 instead of x8 in the lower
    viscous criterion; all three are put into our numbers here.
    """
    torch = pytest.importorskip("torch")
    multi = pytest.importorskip("botorch.test_functions.multi_objective")
    car = problems.get("car_side_impact")
    low, high = box(car)
    V = np.random.default_rng(3).uniform(low, high, (500, 11))
    V[:, 7:] = [0.345, 0.192, 0.0, 0.0]
    metrics = car.formula(columns_of(car, V))
    other = multi.CarSideImpact()._evaluate_true(torch.tensor(V[:, :7])).numpy()
    assert metrics["weight"] + 1e-5 * V[:, 5] == pytest.approx(other[:, 0], rel=1e-12)
    assert metrics["pubic_force"] == pytest.approx(other[:, 1], rel=1e-12)
    assert (metrics["pillar_velocity"] + metrics["door_velocity"]) / 2 == pytest.approx(other[:, 2], rel=1e-12)
    metrics["abdomen_load"] += (0.092928 - 0.0092928) * V[:, 2]
    metrics["viscous_lower"] += 0.163 * (0.345 - 0.192) * V[:, 2]
    _, g = inside(car, metrics)
    assert np.maximum(g, 0).sum(axis=1) == pytest.approx(other[:, 3], rel=1e-9, abs=1e-9)


# --- how much of the box is feasible, and what random search finds ----------------------------------------------------


def draw(problem: Problem, n: int, seed: int) -> tuple[Array, Array]:
    low, high = box(problem)
    V = np.random.default_rng(seed).uniform(low, high, (n, len(low)))
    return inside(problem, problem.formula(columns_of(problem, V)))


@pytest.mark.parametrize("name", REFERENCE["feasible_percent"])
def test_the_feasible_share_of_the_box(name):
    share, n = REFERENCE["feasible_percent"][name] / 100, 100_000
    _, g = draw(problems.get(name), n, seed=11)
    spread = np.sqrt(share * (1 - share) * (1 / n + 1 / 200_000))  # ours and theirs
    assert abs((g <= 0).all(axis=1).mean() - share) <= 5 * spread + 2 / n


@pytest.mark.parametrize("name", CALIBRATION)
def test_random_search_finds_what_it_found_elsewhere(name):
    """The three columns of the calibration table lie within 4 standard errors of what our 2,000 runs give."""
    first, within, median = CALIBRATION[name]
    runs = 2000
    y, g = draw(problems.get(name), runs * 220, seed=13)
    best = np.where((g <= 0).all(axis=1), y, np.inf).reshape(runs, 220)
    for theirs, ours in ((first, best[:, :20].min(axis=1)), (within, best.min(axis=1))):
        p = np.isfinite(ours).mean()
        assert abs(theirs - 50 * p) <= 4 * np.sqrt(50 * p * (1 - p)) + 1
    if median is not None:
        found = best.min(axis=1)[np.isfinite(best.min(axis=1))]
        assert abs((found < median).mean() - 0.5) <= 4 * np.sqrt(0.25 / within) + 0.01
