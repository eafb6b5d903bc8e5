"""Objectives that take a batch of rows: marks, decoding, shapes that are refused, memory, devices."""

from __future__ import annotations

import functools
import pickle
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="batched objectives work on torch tensors")

import bbopt  # noqa: E402
from bbopt.device_batch import Batching, DeviceFunction, batched, batching_of, decoded  # noqa: E402
from bbopt.errors import MissingPackage, UsageError, ValueRefused  # noqa: E402
from bbopt.query import CoordinateRows  # noqa: E402
from bbopt.space import Categorical, Fixed, Float, Int, Space  # noqa: E402
from bbopt.task import Constraint, Objective, Task  # noqa: E402

CPU = Batching(device="cpu")
LINE = Task(Space(x=Float(-2, 2), y=Float(0, 4)))
LIMITED = Task(Space(x=Float(-2, 2)), [Objective("f", maximize=True)], [Constraint("g", upper=1.0)])


@batched
def marked(X: Any) -> Any:
    return X.sum(1)


@batched(device="cpu", dtype=torch.float32, bytes=80)
def marked_with_options(X: Any) -> Any:
    return X.sum(1)


class Model:
    """An objective that is an object, and has state."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, X: Any) -> Any:
        self.seen.append(len(X))
        return X.sum(1)


# -- the mark ----------------------------------------------------------------------------------------------------------


def test_a_decorator_with_and_without_options() -> None:
    assert batching_of(marked) == Batching("auto", "float64", 2**26)
    assert batching_of(marked_with_options) == Batching("cpu", "float32", 80)
    assert batching_of(len) is None
    assert marked.__name__ == "marked"  # the function itself, not a wrapper
    assert marked(torch.ones(2, 3)).tolist() == [3.0, 3.0]
    assert bbopt.batched is batched


def test_the_mark_survives_pickling_by_name_and_by_value() -> None:
    assert batching_of(pickle.loads(pickle.dumps(marked))) == batching_of(marked)
    assert pickle.loads(pickle.dumps(marked)) is marked
    loaded = pickle.loads(pickle.dumps(batched(Model(), device="cpu")))
    assert batching_of(loaded) == CPU
    cloudpickle = pytest.importorskip("cloudpickle", reason="Ray's way of pickling")
    there = 3.0
    nested = batched(lambda X: X.sum(1) + there, device="cpu")
    again = cloudpickle.loads(cloudpickle.dumps(nested))
    assert batching_of(again) == CPU
    assert again(torch.ones(1, 1)).tolist() == [4.0]


def test_objects_are_wrapped_and_stay_as_they_are() -> None:
    model = Model()
    mine = batched(model)
    assert batching_of(mine) is not None
    assert batching_of(model) is None
    assert isinstance(mine, functools.partial)
    assert batching_of(batched(model.__call__, device="cpu")) == CPU


def test_two_marks_of_one_function_are_refused() -> None:
    def function(X: Any) -> Any:
        return X[:, 0]

    batched(function, device="cpu")
    assert batched(function, device="cpu") is function
    with pytest.raises(UsageError, match=r"function is marked already, with Batching\(device='cpu'"):
        batched(function, device="cuda")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "gpu"}, "'auto', 'cpu' or 'cuda', got 'gpu'"),
        ({"dtype": "int64"}, "float64, float32.*got 'int64'"),
        ({"bytes": 0}, "at least 1, got 0"),
        ({"bytes": True}, "at least 1, got True"),
    ],
)
def test_options_that_are_none(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        batched(marked, **options)
    with pytest.raises(UsageError, match="expected a function of a tensor of rows, got 3"):
        batched(3)  # type: ignore[type-var]


# -- what the function is given ----------------------------------------------------------------------------------------

MIXED = Space(
    a=Float(0.0625, 6.1875, step=0.0625),
    b=Float(1e-3, 1e3, log=True),
    c=Int(2, 12),
    d=Categorical(["x", "y", "z"]),
    e=Float(-1, 3, shape=(2, 2)),
    f=Float(scale=3.0),
    g=Fixed("steel"),
)
CONDITIONAL = Space(kind=Categorical(["none", "some"]), depth=Int(1, 9, when="kind == 'some'"), x=Float(0, 1))


@hypothesis.given(U=st.lists(st.floats(0, 1), min_size=18, max_size=18))
def test_columns_are_the_decoded_values(U: list[float]) -> None:
    X = MIXED.from_uniform(np.reshape(U, (2, 9)))
    for row, values in zip(X, decoded(MIXED, X), strict=True):
        point = MIXED.decode(row)
        flat = [point["a"], point["b"], point["c"], ["x", "y", "z"].index(point["d"]), *point["e"].ravel(), point["f"]]
        assert values.tolist() == flat  # bitwise what a plain function would get


def test_inactive_parameters_are_nan() -> None:
    X = np.array(
        [CONDITIONAL.encode({"kind": "none", "x": 0.5}), CONDITIONAL.encode({"kind": "some", "depth": 3, "x": 0.5})]
    )
    values = decoded(CONDITIONAL, X)
    assert np.isnan(values[0, 1])
    assert values[1].tolist() == [1.0, 3.0, 0.5]


def test_rows_per_call_follow_from_the_bytes_and_lazy_rows_are_read_in_parts() -> None:
    seen: list[tuple[int, str, str]] = []

    def function(X: Any) -> Any:
        seen.append((len(X), str(X.dtype), X.device.type))
        return X[:, 0] - X[:, 1]

    rows = CoordinateRows(np.array([0.5, 0.5]), np.array([-1, 0, 1, 0, 1]), np.array([0.0, 1.0, 1.0, 0.0, 0.0]))
    results, failures = DeviceFunction(function, Batching("cpu", "float32", bytes=16), LINE).answer(rows)
    assert results[:, 0].tolist() == [-2.0, 0.0, -4.0, -4.0, 0.0]
    assert seen == [(2, "torch.float32", "cpu"), (2, "torch.float32", "cpu"), (1, "torch.float32", "cpu")]
    assert failures == [None] * 5
    assert Batching(bytes=1).rows(270_000) == 1


# -- what comes back ---------------------------------------------------------------------------------------------------


def answer(function: Any, task: Task = LIMITED, n: int = 3) -> tuple[Any, list[BaseException | None]]:
    rows = np.linspace(0.0, 1.0, n * task.space.dimension).reshape(n, -1)
    return DeviceFunction(function, CPU, task).answer(rows)


@pytest.mark.parametrize(
    "function",
    [
        lambda X: torch.stack([X[:, 0], -X[:, 0]], 1),
        lambda X: {"g": -X[:, 0], "f": X[:, 0]},
        lambda X: {"f": X[:, 0].numpy(), "g": (-X[:, 0]).to(torch.float32)},
        lambda X: torch.stack([X[:, 0], -X[:, 0]], 1).requires_grad_(),
    ],
)
def test_tensors_and_mappings(function: Any) -> None:
    results, failures = answer(function)
    assert results.tolist() == [[-2.0, 2.0], [0.0, 0.0], [2.0, -2.0]]
    assert failures == [None] * 3


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda X: X[:, 0], r"expected a tensor \(3, 2\) or a mapping from f, g to tensors \(3,\), got shape \(3,\)"),
        (lambda X: torch.zeros(2, 2), r"got shape \(2, 2\)"),
        (lambda X: X.sum(), r"got shape \(\)"),
        (lambda X: {"f": X[:, 0]}, "got the keys f$"),
        (lambda X: {"f": X[:, 0], "g": X[0]}, r"got shape \(1,\) for g"),
        (lambda X: [0.0, 0.0, 0.0], r"got \[0.0, 0.0, 0.0\]"),
        (lambda X: None, "got None"),
        (lambda X: X > 0, "got torch.bool"),
    ],
)
def test_other_shapes_are_refused_by_name(function: Any, words: str) -> None:
    results, failures = answer(function)
    assert np.isnan(results).all()
    assert all(isinstance(failure, ValueRefused) for failure in failures)
    with pytest.raises(ValueRefused, match=f"<lambda>: .*{words}"):
        raise failures[0]  # type: ignore[misc]


def test_an_exception_fails_the_rows_of_its_call_and_no_others() -> None:
    def function(X: Any) -> Any:
        if (X == 2.0).any():
            raise OSError("the licence server is gone")
        return X[:, 0]

    task = Task(Space(x=Float(-2, 2)))
    device = DeviceFunction(function, Batching("cpu", bytes=16), task)
    results, failures = device.answer(np.array([[0.0], [0.5], [0.75], [1.0], [0.25]]))
    assert results[[0, 1, 4], 0].tolist() == [-2.0, 0.0, -1.0]
    assert [isinstance(failure, OSError) for failure in failures] == [False, False, True, True, False]


def test_impossible_is_narrowed_down_to_its_rows() -> None:
    calls: list[int] = []

    def function(X: Any) -> Any:
        calls.append(len(X))
        if (X > 1.9).any():
            raise bbopt.Impossible("too long")
        return X[:, 0]

    rows = np.full((64, 1), 0.25)
    rows[[5, 40]] = 1.0
    results, failures = DeviceFunction(function, CPU, Task(Space(x=Float(-2, 2)))).answer(rows)
    assert [i for i, failure in enumerate(failures) if failure is not None] == [5, 40]
    assert np.isfinite(results[:, 0]).sum() == 62
    assert len(calls) < 2 * 2 * 7  # two searches by halves, not 64 calls


# -- memory and devices ------------------------------------------------------------------------------------------------


def test_running_out_of_memory_halves_the_batch_and_goes_on() -> None:
    """The allocation is a real one, and fails: 8 petabytes per row above 16 rows."""
    sizes: list[int] = []

    def function(X: Any) -> Any:
        sizes.append(len(X))
        torch.empty(len(X) * 10**15 if len(X) > 16 else 1, dtype=torch.float64)
        return X[:, 0]

    device = DeviceFunction(function, CPU, Task(Space(x=Float(0, 1))))
    results, failures = device.answer(np.linspace(0, 1, 100)[:, None])
    assert failures == [None] * 100
    assert np.allclose(results[:, 0], np.linspace(0, 1, 100), atol=1e-9, rtol=0)
    assert sizes[:4] == [100, 50, 25, 13]
    assert max(sizes[3:]) == 13
    sizes.clear()
    device.answer(np.zeros((26, 1)))
    assert sizes == [13, 13]  # remembered


def test_one_row_that_does_not_fit_is_a_failure() -> None:
    def function(X: Any) -> Any:
        return torch.empty(10**16, dtype=torch.float64)

    _, failures = answer(function, Task(Space(x=Float(0, 1))), 2)
    assert all(isinstance(failure, RuntimeError) and "allocate" in str(failure) for failure in failures)


def test_other_errors_of_torch_are_no_lack_of_memory() -> None:
    calls: list[int] = []

    def function(X: Any) -> Any:
        calls.append(len(X))
        return X @ X

    _, failures = answer(function, Task(Space(x=Float(0, 1))), 4)
    assert calls == [4]
    assert all(isinstance(failure, RuntimeError) for failure in failures)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the GPU that the test wants absent")
def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"Model: .*expected a GPU.*device='auto'.*RayEvaluator\(gpus=1\)"):
        DeviceFunction(batched(Model(), device="cuda"), Batching("cuda"), LINE)
    assert DeviceFunction(marked, Batching("auto"), LINE).device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu() -> None:
    device = DeviceFunction(lambda X: X.sum(1) + X.is_cuda, Batching("auto"), LINE)
    assert device.answer(np.array([[0.5, 0.0]]))[0].tolist() == [[1.0]]


def test_without_torch_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingPackage, match=r"pip install 'bbopt\[botorch\]'"):
        DeviceFunction(marked, CPU, LINE)
