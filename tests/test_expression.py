"""The language of conditions: what it means, what it refuses, and how it measures violation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbopt.errors import ExpressionError
from bbopt.expression import FUNCTIONS, Expression

KNOWN = {"a", "b", "c", "s", "w", "n"}


def columns(**given: Any) -> dict[str, Any]:
    one: dict[str, Any] = {"a": 0.5, "b": 2.0, "c": -1.0, "n": 3.0, **given}
    found = {name: np.array([value]) for name, value in one.items()}
    text = np.empty(1, object)
    text[0] = given.get("s", "x")
    return {**found, "s": text, "w": np.array([given.get("w", [1.0, 2.0, 3.0])])}


def holds(text: str, **given: Any) -> bool:
    return bool(Expression.parse(text, KNOWN).holds(columns(**given), 1)[0])


def violation(text: str, **given: Any) -> float:
    return float(Expression.parse(text, KNOWN).violation(columns(**given), 1)[0])


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("a + b <= 2.5", True),
        ("a + b < 2.5", False),
        ("c <= a <= b", True),
        ("c <= b <= a", False),
        ("a < b > c", True),
        ("not a > b", True),
        ("a > 1 or b > 1", True),
        ("a > 1 and b > 1", False),
        ("a < 1 and not (b < 1 or c > 0)", True),
        ("n in [1, 2, 3]", True),
        ("n not in [1, 2, 3]", False),
        ("n in [a, b]", False),
        ("s == 'x'", True),
        ("s != 'x'", False),
        ("s in ['y', 'z']", False),
        ("s == 3", False),
        ("b ** 2 == 4", True),
        ("n // 2 == 1 and n % 2 == 1", True),
        ("-c == 1 and +c == -1", True),
        ("n ** -1 < 0.34", True),
        ("w[0] + w[2] == 4", True),
        ("sum(w) == 6 and min(w) == 1 and max(w) == 3", True),
        ("max(a, b, c) == 2 and min(a, b) == 0.5 and sum(a, b) == 2.5", True),
        ("abs(c) == 1 and sqrt(4 * a * b) == 2", True),
        ("exp(log(b)) == 2 and log2(b) == 1 and log10(100 * a * b) == 2", True),
        ("sin(pi) + 1 == 1 and cos(0 * a) == 1 and tan(0 * a) == 0", True),
        ("floor(a) == 0 and ceil(a) == 1", True),
        ("e > 2.7 and a > 0", True),
        ("sqrt(c) >= 0", False),  # not a number counts as false
        ("1 / (a - 0.5) > 0", True),  # infinity
    ],
)
def test_meaning(text: str, true: bool) -> None:
    assert holds(text) is true
    assert (violation(text) == 0) is true


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "as text"),
        (None, "as text"),
        ("a +", "cannot read"),
        ("a <= ", "cannot read"),
        ("a + b", "is a value, not a comparison"),
        ("-a", "is a value, not a comparison"),
        ("a", "is a value"),
        ("1 <= 2", "names no parameter"),
        ("a <= q", "names 'q', which is no parameter; the space has a, b, c"),
        ("a.real <= 1", "a.real"),
        ("__import__('os') <= a", "uses"),
        ("a <= open('x')", "uses"),
        ("(lambda: a)() <= 1", "uses"),
        ("[x for x in w] == a", "uses"),
        ("a if b > 1 else c <= 1", "uses|is a value"),
        ("a is 1", "'is'"),
        ("a in s", "'in' without a list"),
        ("a & b <= 1", "BitAnd"),
        ("a @ b <= 1", "MatMult"),
        ("a <= 1 and b", "as a truth value"),
        ("a <= 1j", "1j"),
        ("a == b''", "constant"),
        ("sum() <= a", "uses"),
        ("max(a, key=b) <= 1", "uses"),
        ("w[a] <= 1", "uses"),
        ("w[0:2] <= a", "uses"),
        ("(a := 3) <= b", "uses"),
        ("f'{a}' == s", "uses"),
        ("w[-1] <= a", "uses"),
        ("a <= 1; b <= 2", "cannot read"),
    ],
)
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_what_is_refused(text: Any, words: str) -> None:
    with pytest.raises(ExpressionError, match=words):
        Expression.parse(text, KNOWN)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("w <= 1", "vectors by their entries"),
        ("w == 1", "vectors by their entries"),
        ("max(w, a) <= 1", "cannot be evaluated"),
        ("w[3] <= 1", "out of bounds"),
        ("a[0] <= 1", "a is no vector"),
        ("s <= 3", "text with text"),
        ("s + 1 == 3", "cannot be evaluated"),
        ("sqrt(s) <= 1", "cannot be evaluated"),
    ],
)
def test_what_makes_no_sense_for_these_columns(text: str, words: str) -> None:
    """Found when the task is made, not in the middle of a study; a[0] would have been row 0 for every row."""
    with pytest.raises(ExpressionError, match=words):
        Expression.parse(text, KNOWN).check(columns())


def test_names_are_those_of_the_space() -> None:
    assert Expression.parse("a + sum(w) <= pi * b", KNOWN).names == {"a", "b", "w"}
    assert Expression.parse("e <= 1", {"e"}).names == {"e"}  # a parameter hides a constant


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("a + b <= 1", 1.5),
        ("a >= b", 1.5),
        ("b <= a and b <= c", 1.5 + 3.0),
        ("b <= a or b <= c", 1.5),
        ("not (b >= a and b >= c)", 1.5),
        ("not (b >= a or b >= c)", 4.5),
        ("b <= a <= c", 1.5 + 1.5),
        ("a == 0.75", 0.25),
        ("s == 'y'", 1.0),
        ("s in ['y', 'z']", 1.0),
        ("a < 0.5", 1e-12),
        ("sqrt(c) >= 0", math.inf),
    ],
)
def test_violation_is_the_distance_of_what_failed(text: str, amount: float) -> None:
    assert violation(text) == pytest.approx(amount, rel=1e-9)


@given(a=st.floats(-10, 10), b=st.floats(-10, 10), c=st.floats(-10, 10))
def test_no_violation_exactly_where_it_holds(a: float, b: float, c: float) -> None:
    for text in (
        "a <= b <= c",
        "a < b or not c >= a",
        "a * b >= c and a != b",
        "not (a == b or b < c)",
        "not (a <= b <= c)",
        "a + b == c or abs(a) > 1",
    ):
        amount = violation(text, a=a, b=b, c=c)
        assert (amount == 0) is holds(text, a=a, b=b, c=c), text
        assert amount >= 0


@given(st.lists(st.decimals(0, 1, places=2), min_size=2, max_size=3))
def test_sums_of_decimals_are_equal_to_their_total(parts: list[Any]) -> None:
    given_values = dict(zip("abc", map(float, parts), strict=False))
    text = " + ".join(given_values)
    assert holds(f"{text} == {sum(parts)}", **given_values)
    assert not holds(f"{text} == {float(sum(parts)) + 1e-6}", **given_values)


def test_terms_that_cancel() -> None:
    """0.1 + 0.2 - 0.3 is 5.6e-17: relative to its two sides, no rounding error would ever be forgiven."""
    assert holds("a + b - c == 0", a=0.1, b=0.2, c=0.3)
    assert holds("0 == -a - b + c", a=0.1, b=0.2, c=0.3)
    assert holds("sum(w) == 0", w=[0.1, 0.2, -0.3])
    assert not holds("a + b - c == 0", a=0.1, b=0.2, c=0.3 + 1e-10)
    assert not holds("a == 0", a=1e-11)


def test_a_row_counts_the_same_alone_and_among_others() -> None:
    rng = np.random.default_rng(0)
    W = rng.random((50, 33))
    rule = Expression.parse("sum(w) <= 16.5 and max(w) - min(w) >= 0.9", {"w"})
    whole = rule.violation({"w": W}, 50)
    for layout in (W, np.asfortranarray(W), np.repeat(W, 2, axis=1)[:, ::2]):
        alone = np.array([rule.violation({"w": layout[i : i + 1]}, 1)[0] for i in range(50)])
        assert np.array_equal(alone, rule.violation({"w": layout}, 50)) and np.array_equal(alone, whole)


def test_true_is_not_one() -> None:
    assert not holds("s == 1", s=True)
    assert holds("s == True", s=True)
    assert holds("s == None", s=None)


def test_functions_are_documented_in_the_refusal() -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression.parse("a <= eval(b)", KNOWN)
    assert all(name in str(caught.value) for name in FUNCTIONS)
