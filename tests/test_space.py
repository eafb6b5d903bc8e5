"""Parameters and their encoding: exact round trips, canonical rows, conditions, JSON, and refusals by name."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bbopt.errors import ExpressionError, SpaceError
from bbopt.parameters import Categorical, Fixed, Float, Int, Parameter
from bbopt.space import Space

JSON = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.text("abc", max_size=2), st.sampled_from([0.5, [1], {"k": 1}])
)


@st.composite
def numbers(draw: st.DrawFn) -> Parameter:
    shape = draw(st.sampled_from([None, None, (1,), (3,), (2, 2)]))
    kind = draw(st.sampled_from(["float", "log", "step", "int", "logint", "stepint", "unbounded"]))
    if kind == "unbounded":
        return Float(scale=draw(st.floats(1e-6, 1e6)), shape=shape)
    if kind in ("log", "logint"):
        low = draw(st.integers(1, 1000)) if kind == "logint" else draw(st.floats(1e-9, 1e3))
        factor = draw(st.integers(1, 10**6))
        return (
            Int(int(low), int(low) * factor, log=True, shape=shape)
            if kind == "logint"
            else Float(low, low * factor, log=True, shape=shape)
        )
    low = draw(st.integers(-(10**6), 10**6))
    width = draw(st.integers(0, 10**6))
    if kind == "int":
        return Int(low, low + width, shape=shape)
    if kind == "stepint":
        return Int(low, low + width, step=draw(st.integers(1, 50)), shape=shape)
    scale = 10.0 ** draw(st.integers(-12, 6))
    if kind == "step":
        step = draw(st.sampled_from([0.1, 0.0625, 0.25, 1 / 3, 7.0]))
        return Float(low * scale, (low + width) * scale, step=step * max(width, 1) / 20 * scale, shape=shape)
    return Float(low * scale, (low + width) * scale, shape=shape)


@st.composite
def choices(draw: st.DrawFn) -> Parameter:
    values = draw(st.lists(JSON, min_size=1, max_size=5, unique_by=lambda v: json.dumps(v)))
    return Categorical(values, ordered=draw(st.booleans()))


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    found = draw(st.lists(st.one_of(numbers(), choices()), min_size=1, max_size=4))
    parameters: dict[str, Parameter] = {f"p{i}": parameter for i, parameter in enumerate(found)}
    if draw(st.booleans()):
        parameters["flag"] = Categorical(["on", "off"])
        parameters["child"] = Float(0, 1, when="flag == 'on'")
        parameters["grandchild"] = Int(1, 5, when="child >= 0.5")
    if draw(st.booleans()):
        parameters["constant"] = Fixed(draw(JSON))
    return Space(parameters)


@settings(max_examples=100)
@given(space=spaces(), seed=st.integers(0, 10**6))
def test_round_trips_are_exact(space: Space, seed: int) -> None:
    """Rows are fixed points of canonical, encode(decode(x)) is x, and decode(encode(params)) is params, through JSON."""
    rng = np.random.default_rng(seed)
    U = np.concatenate([rng.random((4, space.dimension)), rng.integers(2, size=(2, space.dimension)).astype(float)])
    for X in (space.from_uniform(U), space.canonical(rng.normal(0.5, 1.0, U.shape))):
        assert np.isfinite(X).all()
        assert np.array_equal(space.canonical(X), X)
        for x in X:
            params = space.decode(x)
            assert np.array_equal(space.encode(params), x)
            plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in params.items()}
            assert np.array_equal(space.encode(json.loads(json.dumps(plain))), x)
            active = space.active(x[None])[0]
            assert np.array_equal(x[~active], space.neutral[~active])


@settings(max_examples=80)
@given(space=spaces())
def test_json_and_equality(space: Space) -> None:
    again = Space.from_json(json.loads(json.dumps(space.to_json())))
    assert again == space and hash(again) == hash(space) and again.to_json() == space.to_json()


@settings(max_examples=80)
@given(parameter=numbers(), seed=st.integers(0, 10**6))
def test_decoded_numbers_are_within_their_bounds_and_reach_them(parameter: Any, seed: int) -> None:
    space = Space(p=parameter)
    X = np.concatenate([np.zeros((1, space.dimension)), np.ones((1, space.dimension))])
    if parameter.low is None:
        return
    low, high = (np.asarray(space.decode(x)["p"]) for x in X)
    assert (low == parameter.low).all()
    assert (high <= parameter.high).all()
    if parameter.step is None:
        assert (high == parameter.high).all()
    else:
        assert (high > parameter.high - parameter.step).all()
    values = space.values(space.from_uniform(np.random.default_rng(seed).random((20, space.dimension))))["p"]
    assert (values >= parameter.low).all() and (values <= parameter.high).all()


def test_encoding_in_numbers() -> None:
    """Worked by hand: linear and log axes go to [0, 1], choices to their index, unbounded ones are divided by a power of 2."""
    space = Space(
        a=Float(-1, 3), b=Float(0.01, 100, log=True), c=Int(2, 12), d=Float(0, 1, step=0.25), e=Categorical(["x", "y", "z"]),
        f=Categorical(["lo", "mid", "hi"], ordered=True), g=Float(scale=9.0), h=Fixed("steel"), v=Float(0, 2, shape=(2,)),
    )  # fmt: skip
    params = {"a": 0.0, "b": 1.0, "c": 7, "d": 0.75, "e": "z", "f": "mid", "g": -4.0, "h": "steel", "v": [0.5, 2.0]}
    x = space.encode(params)
    assert np.allclose(x, [0.25, 0.5, 0.5, 0.75, 2, 1, -0.5, 0.25, 1.0], rtol=1e-15)
    back = space.decode(x)
    assert {k: v for k, v in back.items() if k != "v"} == {k: v for k, v in params.items() if k != "v"}
    assert back["v"].tolist() == [0.5, 2.0] and type(back["c"]) is int and type(back["a"]) is float
    assert space.columns.kind == ("float", "float", "int", "float", "category", "ordered", "float", "float", "float")
    assert space.columns.levels == (0, 0, 11, 5, 3, 3, 0, 0, 0)
    assert space.columns.group == (0, 1, 2, 3, 4, 5, 6, 8, 8)
    assert space.columns.bounded == (True,) * 6 + (False, True, True)
    assert space.dimension == 9 and space.size is None


def test_people_see_short_decimals() -> None:
    space = Space(a=Float(0, 1), b=Float(0.1, 0.7, step=0.1), c=Float(1e-5, 1, log=True), d=Float(1000, 2000))
    for name, value in (("a", 0.1), ("a", 1 / 3), ("b", 0.3), ("b", 0.7), ("c", 0.001), ("d", 1234.5)):
        x = space.encode({"a": 0.5, "b": 0.2, "c": 0.01, "d": 1500.0, name: value})
        shown = space.decode(x)[name]
        assert len(repr(shown)) <= 16 and shown == pytest.approx(value, rel=1e-11)
    assert space.decode(space.encode({"a": 0.1, "b": 0.3, "c": 0.001, "d": 1234.5})) == {
        "a": 0.1,
        "b": 0.3,
        "c": 0.001,
        "d": 1234.5,
    }


def test_levels_are_equally_likely() -> None:
    space = Space(a=Int(1, 4), b=Float(0, 1, step=0.5), c=Categorical(["x", "y", "z"]))
    u = (np.arange(1200) + 0.5) / 1200
    X = space.from_uniform(np.stack([u, u, u], axis=1))
    for column, levels in enumerate((4, 3, 3)):
        assert (np.unique(X[:, column], return_counts=True)[1] == 1200 // levels).all()


def test_true_1_and_text_1_are_different_choices() -> None:
    space = Space(a=Categorical([True, 1, "1", None, [1, 2]]))
    for value in (True, 1, "1", None, [1, 2]):
        decoded = space.decode(space.encode({"a": value}))["a"]
        assert decoded == value and type(decoded) is type(value)


def test_inactive_parameters_are_absent() -> None:
    space = Space(
        kind=Categorical(["tree", "net"]), depth=Int(1, 9, when="kind == 'tree'"), leaf=Float(0, 1, when="depth >= 5")
    )
    x = space.encode({"kind": "net"})
    assert space.decode(x) == {"kind": "net"}
    other = x.copy()
    other[1:] = 0.9
    assert np.array_equal(space.canonical(other)[0], x)  # equal points are equal rows
    assert space.active(np.stack([x, space.encode({"kind": "tree", "depth": 5, "leaf": 0.5})])).tolist() == [
        [True, False, False],
        [True] * 3,
    ]
    with pytest.raises(SpaceError, match="leaf: inactive here"):
        space.encode({"kind": "tree", "depth": 4, "leaf": 0.5})
    with pytest.raises(SpaceError, match="depth: missing"):
        space.encode({"kind": "tree"})
    assert space.conditional and space.inactive_names(x[None])["depth"].tolist() == [True]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Float(0), "both bounds"),
        (lambda: Float(1, 0), "low <= high"),
        (lambda: Float(0, 1, log=True), "low > 0"),
        (lambda: Float(0, float("nan")), "finite"),
        (lambda: Float(0, "1"), "a number"),  # type: ignore[arg-type]
        (lambda: Float(-1.7e308, 1.7e308), "too wide"),
        (lambda: Float(0, 1, step=0), "positive"),
        (lambda: Float(0, 1, step=1e-30), "levels"),
        (lambda: Float(0, 1, scale=1.0), "not both"),
        (lambda: Float(scale=-1.0), "positive scale"),
        (lambda: Float(0, 1, shape=(0,)), "shape"),
        (lambda: Float(0, 1, shape=3), "shape"),  # type: ignore[arg-type]
        (lambda: Float(0, 1, role="color"), "role"),
        (lambda: Float(0, 1, when=3), "when"),  # type: ignore[arg-type]
        (lambda: Int(0, 1.5), "whole"),  # type: ignore[arg-type]
        (lambda: Int(0, True), "a number"),
        (lambda: Int(0, 2**60), r"2\*\*50"),
        (lambda: Categorical([]), "choice"),
        (lambda: Categorical(["a", "a"]), "different"),
        (lambda: Categorical("abc"), "a list"),  # type: ignore[arg-type]
        (lambda: Categorical([object()]), "JSON"),
        (lambda: Fixed(object()), "JSON"),
        (lambda: Space(), "at least one"),
        (lambda: Space({"a": 3}), "a: expected a Float"),  # type: ignore[dict-item]
        (lambda: Space({3: Float(0, 1)}), "names as text"),  # type: ignore[dict-item]
        (lambda: Space(a=Float(0, 1, when="b > 0"), b=Float(0, 1, when="a > 0")), "circle"),
    ],
)  # fmt: skip
def test_bad_definitions_are_refused(make: Any, words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        make()


def test_a_condition_that_makes_no_sense_is_refused_with_the_space() -> None:
    for text in ("s > 3", "w >= 1", "other == 1", "a >= 0"):
        with pytest.raises(ExpressionError):
            Space(s=Categorical(["x", "y"]), w=Float(0, 1, shape=(2,)), a=Float(0, 1, when=text))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"a": 0.5}, "n: missing"),
        ({"a": 0.5, "n": 3, "s": "x", "zz": 1}, "zz: no such parameter"),
        ({"a": 1.5, "n": 3, "s": "x"}, r"a: expected a value within \[0, 1\]"),
        ({"a": float("nan"), "n": 3, "s": "x"}, "a: expected finite"),
        ({"a": "1", "n": 3, "s": "x"}, "a: expected a number"),
        ({"a": None, "n": 3, "s": "x"}, "a: expected a number"),
        ({"a": True, "n": 3, "s": "x"}, "a: expected a number"),
        ({"a": [0.5], "n": 3, "s": "x"}, "a: expected a number"),
        ({"a": 0.5, "n": 3.5, "s": "x"}, "n: expected 1 plus a multiple of 1"),
        ({"a": 0.5, "n": 3, "s": "w"}, "s: expected one of"),
    ],
)
def test_bad_points_are_refused_by_name(params: dict[str, Any], words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        Space(a=Float(0, 1), n=Int(1, 9), s=Categorical(["x", "y"])).encode(params)


def test_encode_some_is_part_of_encode() -> None:
    space = Space(a=Float(0, 2), v=Float(0, 1, shape=(2,)), n=Int(0, 4))
    assert space.encode_some({"v": [0.25, 0.5], "n": 1}) == {1: 0.25, 2: 0.5, 3: 0.25}
    with pytest.raises(SpaceError, match="b: no such"):
        space.encode_some({"b": 1})


def test_a_space_of_270000_columns_is_quick() -> None:
    """Vectors are handled whole: one call per parameter, not per column."""
    space = Space(w=Float(-1, 1, shape=(270_000,)))
    x = space.from_uniform(np.random.default_rng(0).random((1, 270_000)))[0]
    assert np.array_equal(space.encode(space.decode(x)), x)
    assert len(space.columns.kind) == 270_000


def test_size() -> None:
    assert Space(a=Int(0, 2), b=Categorical([1, 2]), c=Float(0, 1, step=0.5), d=Fixed(1)).size == 18
    assert Space(a=Int(0, 2), b=Float(0, 1)).size is None
    assert Space(a=Float(3, 3)).size == 1
