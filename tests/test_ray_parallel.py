"""Forward parallelism: the same bits from any number of workers, what travels, workers that die or drift."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray", reason="forward parallelism runs on Ray")
torch = pytest.importorskip("torch", reason="networks are torch modules")

from ray_subject import cluster  # noqa: E402
from ray_training import Drifting, Failing, Mortal, Training  # noqa: E402

from bbopt.errors import EvaluatorError, UsageError, ValueRefused  # noqa: E402
from bbopt.ray_cluster import Cluster, RayWorker  # noqa: E402
from bbopt.zeroth_order.network import parallel_ray  # noqa: E402
from bbopt.zeroth_order.network.coordinates import Coordinates  # noqa: E402
from bbopt.zeroth_order.network.estimate import NetworkGradient  # noqa: E402
from bbopt.zeroth_order.network.gradient import network_gradient  # noqa: E402
from bbopt.zeroth_order.network.parallel import InProcessPool, Unit, digest, units  # noqa: E402
from bbopt.zeroth_order.network.parallel_ray import RayPool, _costs, _flat, _spread, _Work  # noqa: E402

STEPS = 4


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch, cluster(patch) as opened:
        yield opened


@pytest.fixture(scope="module")
def reference() -> tuple[list[NetworkGradient], str]:
    """Gradients of a few steps, computed in this process, and the parameters after them."""
    training = Training()
    with InProcessPool(training) as pool:
        return follow(training, pool), digest(training.module)


def follow(training: Training, pool: Any, steps: range = range(STEPS)) -> list[NetworkGradient]:
    found = []
    for number in steps:
        found.append(pool.gradient(number))
        training.apply(number, found[-1].gradient)
    return found


def assert_same(found: list[NetworkGradient], wanted: list[NetworkGradient]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        for what in ("loss", "queries", "extra", "radius", "engines", "fallbacks"):
            assert getattr(one, what) == getattr(other, what)
        assert one.gradient.keys() == other.gradient.keys()
        assert all(torch.equal(one.gradient[name], other.gradient[name]) for name in other.gradient)


# -- the cut -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(5,), (256, 257, 1), (300_000, 7), (20, 0, 3000)])
def test_units_cover_every_coordinate_once(sizes: tuple[int, ...]) -> None:
    coordinates = Coordinates({f"p{i}": torch.arange(size) for i, size in enumerate(sizes) if size})
    cut = units(coordinates)
    for name, index in coordinates.indices.items():
        mine = [unit for unit in cut if unit.parameter == name]
        assert [unit.start for unit in mine] == [0, *(unit.stop for unit in mine[:-1])]
        assert mine[-1].stop == len(index)
    assert all(len(unit) > 0 for unit in cut)
    assert len(cut) <= 128 + len(sizes)
    assert len({len(unit) for unit in cut}) <= 1 + len(sizes)


def test_in_this_process_it_is_the_gradient_of_the_network(reference: tuple[list[NetworkGradient], str]) -> None:
    training = Training()
    step = training.step(0)
    plain = network_gradient(step.problem, coordinates=step.coordinates, radius=step.radius)
    found = reference[0][0]
    assert (found.queries, found.loss) == (step.coordinates.count + 1, plain.loss)
    for name in plain.gradient:
        assert torch.allclose(found.gradient[name], plain.gradient[name], rtol=0, atol=1e-5)
        assert torch.count_nonzero(found.gradient[name]) <= len(step.coordinates.indices[name])


def test_orders_cover_the_step_and_get_smaller() -> None:
    training = Training(widths=(64, 100, 10), keep=1.0)
    work = _Work(None, training, training.step(0), 0, False, {})  # type: ignore[arg-type]
    orders = []
    while order := work.take(2):
        orders.append(order)
    assert sorted(sum(orders, ()), key=str) == sorted(work.cut, key=str)
    cost = _costs(work.cut, {})
    sizes = [sum(cost[unit] for unit in order) for order in orders]
    assert sizes[0] > 2 * sizes[-1]
    assert len(orders) <= 24
    work.give_back(orders[1])
    assert set(sum(iter(partial(work.take, 2), ()), ())) == set(orders[1])


def test_what_took_long_is_expected_to_take_long() -> None:
    cut = (Unit("early", 0, 10), Unit("late", 0, 10), Unit("late", 10, 20), Unit("new", 0, 1))
    assert _costs(cut, {})[cut[0]] > _costs(cut, {})[cut[1]]
    assert _costs(cut, {"early": 0.1, "late": 0.3}) == pytest.approx(dict(zip(cut, (1.0, 3.0, 3.0, 0.2), strict=True)))


def test_what_travels_of_a_gradient_is_its_active_part() -> None:
    training = Training()
    step = training.step(0)
    with InProcessPool(training) as pool:
        gradient = pool.gradient(0).gradient
    flat = _flat(step.coordinates, gradient)
    assert (flat.dtype, flat.shape) == (np.float32, (step.coordinates.count,))
    assert all(torch.equal(part, gradient[name]) for name, part in _spread(step, flat).items())


def test_a_digest_sees_every_bit() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    seen = {digest(net)}
    for tensor in net.state_dict().values():
        tensor.view(-1)[0] += 1
        seen.add(digest(net))
    assert len(seen) == 1 + len(net.state_dict())


# -- on Ray ------------------------------------------------------------------------------------------------------------


def test_one_worker_whose_parameters_drift(
    ray_cluster: Cluster,
    reference: tuple[list[NetworkGradient], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is found out, gets the parameters again, and gives the bits of this process. Otherwise no weights travel."""
    sent: list[int] = []
    call = RayWorker.call

    def recorded(self: RayWorker, method: str, *arguments: Any) -> Any:
        import ray

        sent.append(len(ray.cloudpickle.dumps([each for each in arguments if not isinstance(each, ray.ObjectRef)])))
        return call(self, method, *arguments)

    stored: list[Any] = []
    put = Cluster.put
    monkeypatch.setattr(RayWorker, "call", recorded)
    monkeypatch.setattr(Cluster, "put", lambda self, value: stored.append(value) or put(self, value))
    training = Training()
    with RayPool(partial(Drifting, tmp_path / "drifted"), training, workers=1, check=1) as pool:
        assert_same(follow(training, pool), reference[0])
        assert pool.resent == 1
    assert digest(training.module) == reference[1]
    weights = 4 * sum(p.numel() for p in training.module.parameters())
    assert max(sent) < weights / 2  # an order is a number and units
    assert sum(isinstance(each, dict) for each in stored) == 2  # the state: to a new worker, and after the drift
    assert [len(each) for each in stored if isinstance(each, np.ndarray)] == [605] * (STEPS - 1)  # half of the gradient


def test_of_two_workers_one_is_killed_in_the_middle_of_a_step(
    ray_cluster: Cluster, reference: tuple[list[NetworkGradient], str], tmp_path: Path
) -> None:
    training = Training()
    with RayPool(partial(Mortal, tmp_path / "killed", 2), training, workers=2) as pool:
        assert_same(follow(training, pool), reference[0])
    assert int((tmp_path / "killed").read_text()) != os.getpid()  # a worker wrote it, then killed itself with -9


def test_it_goes_on_from_any_step_and_after_an_error(
    ray_cluster: Cluster, reference: tuple[list[NetworkGradient], str]
) -> None:
    training = Failing(at=1)
    with RayPool(partial(Failing, at=1), training, workers=1) as pool:
        found = follow(training, pool, range(1))
        with pytest.raises(ValueRefused, match="finite"):
            pool.gradient(1)
        training.at = -1  # the caller's own is fine now, and a worker that starts anew is told of it
        found += follow(training, pool, range(1, 2))
        pool.gradient(2)
        found += follow(training, pool, range(2, STEPS))  # step 2 once more
        assert_same(found, reference[0])


def test_factories_and_numbers_that_are_none(ray_cluster: Cluster) -> None:
    training = Training()
    with (
        RayPool(partial(Training, widths=()), training, workers=1) as pool,
        pytest.raises(EvaluatorError, match="a replica that workers on Ray can make"),
    ):
        pool.gradient(0)
    with pytest.raises(UsageError, match="at most 2 workers"):
        RayPool(Training, training, workers=3)
    with pytest.raises(UsageError, match=r"1 GPUs.*leave gpus= at 0"):
        RayPool(Training, training, gpus=1)
    with pytest.raises(UsageError, match=r"check: .*at least 1, got 0"):
        RayPool(Training, training, check=0)


def test_workers_that_die_before_they_answer_are_not_started_for_ever(
    ray_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel_ray, "STARTS", 2)
    with (
        RayPool(partial(os._exit, 3), Training(), workers=1) as pool,
        pytest.raises(EvaluatorError, match="2 in a row ended: "),
    ):
        pool.gradient(0)


def test_a_state_that_is_loaded_can_be_written_to() -> None:
    frozen = torch.from_numpy(np.zeros(2))
    state: Mapping[str, Any] = {"tensors": {"a": frozen}, "facts": {"n": 1}}
    copy = parallel_ray._writable(state)
    copy["tensors"]["a"] += 1
    assert frozen.tolist() == [0.0, 0.0]
    assert copy["facts"] == {"n": 1}
