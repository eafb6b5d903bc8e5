"""The evaluation of networks: what is perfect scores perfectly, by independent computations, and the command goes on."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from bbopt.bench_surrogates import CELLS, run_surrogates
from bbopt.bench_surrogates_tables import tables
from bbopt.cli import main
from bbopt.report_beliefs import draw_beliefs
from surrogates.columns import Inputs
from surrogates.gp import condition
from surrogates.map_fit import Fitted
from surrogates.pfn.evaluation import POINTS, Belief, Cell, Reader, Summary, gaps, noise_of
from surrogates.pfn.evaluation_checks import LEVELS, function_coverage, sanity, told_coverage
from surrogates.pfn.evaluation_rivals import ZeroMean, _prior, fitted, floor, joined, nothing
from surrogates.pfn.mixture import Mixture
from surrogates.pfn.network import Network, Shape
from surrogates.pfn.normalise import Normal
from surrogates.pfn.weights import load_weights
from surrogates.prior import Tasks
from surrogates.training.weights import save_weights

SMALL = Shape(width=16, layers=1, heads=2, inner=16, columns=16, anchors=6)


@pytest.fixture
def network() -> Network:
    """Untrained, thus the kernel regressions alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Network(SMALL).requires_grad_(False).eval()


def truth(tasks: Tasks) -> Belief:
    """The exact process with the true hyperparameters, by `surrogates.gp` in NumPy."""
    means, sds, noises = [], [], []
    hyper = tasks.hyperparameters
    for b in range(len(tasks.X)):
        d, noise = tasks.X.shape[-1], float(hyper["log_noise"][b, 0].exp())
        known = Fitted(1.0 / hyper["inverse_lengthscales"][b].numpy(), 1.0, noise, 0.0, 0.0, 0.0, 0)
        y = tasks.y[b].numpy()[:, None]
        process = condition(Inputs.continuous(d), tasks.X[b].numpy(), y, [known], "matern52")
        mean, variance = process.mean_variance(tasks.Q[b].numpy())
        means.append(mean[:, 0])
        sds.append(np.sqrt(np.maximum(variance[:, 0], 1e-12)))
        noises.append(math.sqrt(noise))
    return Belief.gaussian(*map(torch.tensor, (np.stack(means), np.stack(sds), np.array(noises)[:, None])))


@pytest.mark.parametrize("cell", [Cell("plain", 1, 8), Cell("plain", 4, 24)])
def test_the_exact_process_has_no_gap(cell: Cell) -> None:
    tasks = cell.tasks(6)
    found = gaps(tasks, truth(tasks))
    assert len(found.told) == len(found.anywhere) == 6
    for each in (found.told, found.anywhere, found.latent):
        assert max(map(abs, each)) < 2e-3


def test_a_gap_is_the_divergence_of_two_normal_distributions() -> None:
    """Exact means moved by two standard deviations cost two nats, and doubled standard deviations log 2 - 3/8."""
    tasks = Cell("plain", 2, 24).tasks(6)
    exact = truth(tasks).told
    moved = Mixture(exact.log_weight, exact.mean + 2.0 * exact.sd, exact.sd)
    doubled = Mixture(exact.log_weight, exact.mean, 2.0 * exact.sd)
    assert np.mean(gaps(tasks, Belief(moved, moved)).told) == pytest.approx(2.0, abs=0.03)
    assert np.mean(gaps(tasks, Belief(doubled, doubled)).told) == pytest.approx(math.log(2) - 0.375, abs=0.01)


def test_exact_intervals_cover_what_they_say() -> None:
    tasks = Cell("plain", 2, 24).tasks(8)
    inside = told_coverage(tasks, truth(tasks))
    for level in LEVELS:
        share, error, binomial = inside.at(level)
        assert share == pytest.approx(level, abs=4 * binomial) and error < 0.03


def test_densities_and_probabilities_belong_together(network: Network) -> None:
    """Also beyond 4 standard deviations, where values are compressed."""
    tasks = Cell("mixture", 2, 10).tasks(2)
    belief = Reader(tasks.X, tasks.y, 6).believe(network, tasks.Q[:, :3])
    normal = Normal.of(tasks.y)
    even = torch.linspace(-7, 7, 4001, dtype=torch.float64).expand(2, 3, -1)
    fine = torch.linspace(-9, 9, 901, dtype=torch.float64)  # of every component, however narrow
    parts = (belief.told.mean[..., None] + belief.told.sd[..., None] * fine).flatten(2).clamp(-7, 7)
    z = torch.cat([even, parts], -1).sort(-1).values
    y = normal.backward(z.flatten(1)).reshape(z.shape)
    mass = belief.below(False, y)
    density = belief.log_density(False, y, torch.zeros(2, 1, dtype=torch.float64)).exp()
    steps = (0.5 * (density[..., 1:] + density[..., :-1]) * y.diff(dim=-1)).sum(-1)
    assert (steps - (mass[..., -1] - mass[..., 0])).abs().max() < 2e-3


def test_tasks_of_a_cell_are_always_the_same() -> None:
    one, two = Cell("mixture", 6, 10).tasks(3), Cell("mixture", 6, 10).tasks(3)
    assert torch.equal(one.told, two.told) and one.Q.shape[1] == POINTS
    assert not torch.equal(one.X, Cell("held-out", 6, 10).tasks(3).X)
    assert all(0.01 <= sd <= 0.3 for sd in noise_of(Cell("plain", 1, 8).tasks(20)))


def test_summary() -> None:
    found = Summary.of((0.0, 1.0, 5.0))
    assert (found.mean, found.median, found.tasks) == (2.0, 1.0, 3)
    assert found.error == pytest.approx(math.sqrt(7.0 / 3.0))
    assert math.isnan(Summary.of(()).mean) and Summary.of(()).tasks == 0


def test_the_fitted_process_follows_its_gradient() -> None:
    cell = Cell("plain", 2, 8)
    tasks = cell.tasks(1)
    prior, kernel = _prior(cell, "right")
    target = ZeroMean(Inputs.continuous(2), tasks.X[0].numpy(), kernel, prior)
    theta, y = np.array([-0.5, -1.5, -6.0]), tasks.y[0].numpy()
    value, gradient = target(theta, y, None)
    for j, step in enumerate(1e-5 * np.eye(3)):
        assert gradient[j] == pytest.approx((target(theta + step, y, None)[0] - target(theta - step, y, None)[0]) / 2e-5, abs=1e-6)  # fmt: skip
    assert math.isfinite(value)


def test_contestants_stand_in_their_order(network: Network) -> None:
    """64 rows in one dimension are enough for everyone who looks at them; the floor is at the bottom."""
    cell = Cell("plain", 1, 64)
    tasks = cell.tasks(4)
    few = Cell("plain", 1, 8)
    assert np.mean(gaps(tasks, fitted(cell, tasks)).anywhere) < 0.1
    assert np.mean(gaps(tasks, Reader(tasks.X, tasks.y, 6).believe(network, tasks.Q)).anywhere) < 0.15
    assert np.mean(gaps(tasks, nothing(cell, tasks)).anywhere) > 1.0
    small = few.tasks(4)
    halves = floor(small, 48)
    bottom = np.mean(gaps(small, joined(*halves)).anywhere)
    assert 0.0 < bottom < np.mean(gaps(small, fitted(few, small)).anywhere)
    assert bottom <= np.mean([gaps(small, half).anywhere for half in halves]) + 1e-9, "the density is concave in mixing"


@pytest.mark.parametrize("priors", ["wide", "botorch"])
def test_fitted_processes_with_other_priors(priors: str) -> None:
    cell = Cell("mixture", 2, 10)
    tasks = cell.tasks(3)
    assert all(map(math.isfinite, gaps(tasks, fitted(cell, tasks, priors)).told))  # type: ignore[arg-type]


def test_units_do_not_matter() -> None:
    """A task and its prediction in other units have the same gap."""
    cell = Cell("mixture", 2, 10)
    tasks = cell.tasks(3)
    other = replace(tasks, y=1e6 * tasks.y, told=1e6 * tasks.told, latent=1e6 * tasks.latent,
                    told_density=tasks.told_density - math.log(1e6), latent_density=tasks.latent_density - math.log(1e6))  # fmt: skip
    one, two = gaps(tasks, fitted(cell, tasks, "wide")), gaps(other, fitted(cell, other, "wide"))
    np.testing.assert_allclose(one.told, two.told, rtol=1e-4, atol=1e-4)


def test_behaviour_of_the_untrained_network(network: Network) -> None:
    found = sanity(network)
    assert found["told_row_error"] < 0.05 and found["shrinking"] > 0.7
    assert max(found["order"], found["columns"], found["affine"]) < 1e-4
    assert found["sd_160"] < 0.5 * found["sd_5"]


def test_a_given_function_is_covered(network: Network) -> None:
    inside, error = function_coverage(network, lambda X: np.sin(5 * X[:, 0]) + X[:, 1], 2, 20, 3, seed=0)
    assert inside.at(0.9)[0] > 0.6 and error < 0.3


def test_the_command_keeps_its_parts_and_goes_on(network: Network, tmp_path: Path) -> None:
    weights = tmp_path / "net.safetensors"
    save_weights(weights, network, {"steps": 0})
    cells = tuple(CELLS[name] for name in ("plain-d1-n8", "mixture-d2-n10", "known-d1-n16", "held-out-d2-n10"))
    threads = torch.get_num_threads()
    first = run_surrogates(tmp_path / "out", weights, 4, cells=cells, functions=("branin",))
    assert torch.get_num_threads() == threads
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == first
    assert {row["who"] for row in first["gaps"]} == {"pfn", "anchors", "right", "wide", "botorch", "nothing"}
    assert len(first["calibration"]) == 1 and len(first["functions"]) == 4 and first["sanity"] == {}
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("parts*/*/*.json")}
    lost, broken = sorted(parts)[:2]
    lost.unlink()
    broken.write_text("{")
    assert run_surrogates(tmp_path / "out", weights, 4, cells=cells, functions=("branin",)) == first
    changed = {path for path in parts if path.stat().st_mtime_ns != parts[path]}
    assert changed == {lost, broken}
    assert all(len(row) == len(table.headings) for table in tables(first) for row in table.rows)


def test_the_command_prints_tables_or_json_and_draws(network: Network, tmp_path: Path) -> None:
    weights = tmp_path / "net.safetensors"
    save_weights(weights, network, {"steps": 0})
    call = ["bench-surrogates", "--out", str(tmp_path / "out"), "--weights", str(weights), "--tasks", "2",
            "--cell", "plain-d1-n8", "--floor", "-q"]  # fmt: skip
    shown = CliRunner().invoke(main, [*call, "--record"])
    assert shown.exit_code == 0, shown.output
    recorded = load_weights(weights)[1]["evaluation"]
    assert recorded["tasks"] == 2 and {"plain told", "plain anywhere"} <= set(recorded["gaps"])
    assert CliRunner().invoke(main, ["bench-surrogates", "--out", str(tmp_path), "--record"]).exit_code == 2
    assert "Bayes floor" in shown.output and "MAP GP" in shown.output
    for name in ("gaps.png", "beliefs_1d.png", "beliefs_2d.png"):
        assert (tmp_path / "out" / name).read_bytes()[:4] == b"\x89PNG"
    document = json.loads(CliRunner().invoke(main, [*call, "--json"]).stdout)
    assert {row["who"] for row in document["floor"]} == {"pfn", "anchors", "right", "nothing", "floor"}
    wrong = CliRunner().invoke(main, [*call, "--cell", "plain-d3-n8"])
    assert wrong.exit_code == 2 and "plain-d2-n24" in wrong.output


def test_beliefs_of_weights_that_are_not_there(tmp_path: Path) -> None:
    from bbopt.errors import ValueRefused

    with pytest.raises(ValueRefused, match="expected a safetensors file"):
        draw_beliefs(tmp_path, tmp_path / "none")
