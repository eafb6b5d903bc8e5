"""Conditions in text: a small, safe expression language over parameters, evaluated on whole columns.

Numbers, strings, parameter names, ``+ - * / // % **``, comparisons (also chained: ``a <= b <= c``), ``and or not``,
``in`` / ``not in`` with a list, indexing of vector parameters (``w[0]``), and the functions of `FUNCTIONS`. The text is
parsed with Python's own parser and only the listed kinds of node are accepted; nothing is ever executed as code.

A condition has a truth value and, for search methods, a *violation*: 0 where it holds, else a non-negative number that
shrinks towards the boundary (|lhs - rhs| of the failed comparison; sums over `and`, minimum over `or`).

An equality between numbers holds within `EQUAL_TOLERANCE` of the size of its two sides, and within `ROUNDING` of the size
of their terms where these cancel (``a + b - c == 0``): sums of decimals are rarely exact.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bbopt.errors import ExpressionError

EQUAL_TOLERANCE = 1e-9
ROUNDING = 1e-12

Array = np.ndarray[Any, np.dtype[Any]]

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "floor": np.floor,
    "ceil": np.ceil,
    "min": lambda *values: _reduce(np.minimum, values),
    "max": lambda *values: _reduce(np.maximum, values),
    "sum": lambda *values: _reduce(np.add, values),
}
CONSTANTS = {"pi": np.pi, "e": np.e, "True": True, "False": False, "None": None}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
}


def _reduce(function: Any, values: tuple[Any, ...]) -> Any:
    """`function` (a ufunc) over several arguments, or over the entries of one vector parameter (its last axis)."""
    if len(values) == 1:
        single = np.asarray(values[0])
        # in memory order, so that a row gives the same sum alone and among others
        return function.reduce(np.ascontiguousarray(single), axis=-1) if single.ndim > 1 else single
    result = values[0]
    for column in values[1:]:
        result = function(result, column)
    return result


@dataclass(frozen=True)
class Expression:
    """A condition over named columns.

    >>> rule = Expression.parse("a + b <= 1", {"a", "b"})
    >>> rule.holds({"a": np.array([0.2, 0.9]), "b": np.array([0.3, 0.4])}, 2)
    array([ True, False])
    >>> rule.violation({"a": np.array([0.2, 0.9]), "b": np.array([0.3, 0.4])}, 2).round(3).tolist()
    [0.0, 0.3]
    """

    text: str
    tree: ast.expr
    names: frozenset[str]

    @staticmethod
    def parse(text: str, known: Collection[str]) -> Expression:
        """Read `text`; every name in it must be one of `known`, a function or a constant."""
        if not isinstance(text, str) or not text.strip():
            raise ExpressionError(f"expected a condition as text, such as 'a + b <= 1'; got {text!r}")
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            raise ExpressionError(f"cannot read the condition {text!r}: {error.msg} at column {error.offset}") from None
        names: set[str] = set()
        _check(tree, text, known, names)
        if not isinstance(tree, ast.Compare | ast.BoolOp | ast.UnaryOp) or (
            isinstance(tree, ast.UnaryOp) and not isinstance(tree.op, ast.Not)
        ):
            raise ExpressionError(
                f"the condition {text!r} is a value, not a comparison; write for example {text.strip() + ' <= 0'!r}"
            )
        if not names:
            raise ExpressionError(
                f"the condition {text!r} names no parameter of the space ({', '.join(sorted(known))})"
            )
        return Expression(text.strip(), tree, frozenset(names))

    def check(self, columns: Mapping[str, Array]) -> None:
        """Raise ExpressionError if the condition makes no sense for columns of these kinds; `columns`: of one row."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and columns[node.value.id].ndim < 2:
                raise ExpressionError(
                    f"the condition {self.text!r}: {node.value.id} is no vector, so it has no entries"
                )
        try:
            self.violation(columns, 1)
        except (TypeError, ValueError, IndexError) as error:
            raise ExpressionError(
                f"the condition {self.text!r} cannot be evaluated ({error}); compare numbers with numbers, text with text, "
                f"and vectors by their entries, w[0], or by sum(w), min(w), max(w)"
            ) from None

    def holds(self, columns: Mapping[str, Array], rows: int) -> Array:
        """(rows,) bool: where the condition is true. Not-a-number (a root of a negative number, say) counts as false."""
        with np.errstate(all="ignore"):
            truth = _truth(self.tree, columns)
        return np.broadcast_to(np.asarray(truth, bool), (rows,)).copy()

    def violation(self, columns: Mapping[str, Array], rows: int) -> Array:
        """(rows,) float: 0 where the condition holds, positive elsewhere, infinite where it cannot be evaluated."""
        with np.errstate(all="ignore"):
            amount = np.asarray(_violation(self.tree, columns, True), float)
        amount = np.where(np.isnan(amount), np.inf, amount)
        return np.broadcast_to(amount, (rows,)).copy()


def _check(node: ast.AST, text: str, known: Collection[str], names: set[str]) -> None:
    def refuse(what: str) -> ExpressionError:
        return ExpressionError(f"the condition {text!r} uses {what}; allowed are parameters, numbers, strings, arithmetic, "
                               f"comparisons, and/or/not, in [...], and {', '.join(sorted(FUNCTIONS))}")  # fmt: skip

    match node:
        case ast.Constant(value=value):
            if not isinstance(value, bool | int | float | str | None):
                raise refuse(f"the constant {value!r}")
        case ast.Name(id=name):
            if name in known:
                names.add(name)
            elif name not in CONSTANTS:
                raise ExpressionError(
                    f"the condition {text!r} names {name!r}, which is no parameter; the space has {', '.join(sorted(known))}"
                )
        case ast.BinOp(left=left, op=op, right=right):
            if type(op) not in _ARITHMETIC:
                raise refuse(f"the operator {type(op).__name__}")
            _check(left, text, known, names)
            _check(right, text, known, names)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Not(), operand=operand):
            _check(operand, text, known, names)
        case ast.BoolOp(values=values):
            for part in values:
                if not isinstance(part, ast.Compare | ast.BoolOp | ast.UnaryOp):
                    raise refuse(f"{ast.unparse(part)!r} as a truth value")
                _check(part, text, known, names)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            _check(left, text, known, names)
            for relation, right in zip(ops, comparators, strict=True):
                if isinstance(relation, ast.Is | ast.IsNot):
                    raise refuse("'is'")
                if isinstance(relation, ast.In | ast.NotIn) and not isinstance(right, ast.List | ast.Tuple | ast.Set):
                    raise refuse("'in' without a list")
                for member in right.elts if isinstance(right, ast.List | ast.Tuple | ast.Set) else [right]:
                    _check(member, text, known, names)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS and args:
            for argument in args:
                _check(argument, text, known, names)
        case ast.Subscript(value=ast.Name() as value, slice=ast.Constant(value=int())):
            _check(value, text, known, names)
        case _:
            raise refuse(f"{ast.unparse(node)!r}")


def _value(node: ast.expr, columns: Mapping[str, Array]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return columns[name] if name in columns else CONSTANTS[name]
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _value(left, columns), _value(right, columns)
            if isinstance(op, ast.Pow):
                a = np.asarray(a, float)  # an integer base with a negative exponent is an error in NumPy
            return _ARITHMETIC[type(op)](a, b)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return np.negative(_value(operand, columns))
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, columns)
        case ast.Call(func=ast.Name(id=name), args=args):
            return FUNCTIONS[name](*(_value(argument, columns) for argument in args))
        case ast.Subscript(value=value, slice=ast.Constant(value=int(index))):
            return np.asarray(_value(value, columns))[..., index]
        case _:
            return _truth(node, columns)


def _terms(node: ast.expr, columns: Mapping[str, Array]) -> Any:
    """Sum of the sizes of the terms of a sum: what its rounding errors are relative to, also where the terms cancel."""
    match node:
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub(), right=right):
            return _terms(left, columns) + _terms(right, columns)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return _terms(operand, columns)
        case ast.Call(func=ast.Name(id="sum"), args=args):
            return _reduce(np.add, tuple(np.abs(_value(argument, columns)) for argument in args))
        case _:
            return np.abs(_value(node, columns))


def _same(a: Any, b: Any, terms: Any = 0.0) -> Any:
    """Equality: numbers within the tolerance, everything else exactly (True is not 1)."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.kind in "iuf" and b.dtype.kind in "iuf":
        size = np.maximum(np.maximum(np.abs(a), np.abs(b)), 1e-300)
        return np.abs(a - b) <= np.maximum(EQUAL_TOLERANCE * size, ROUNDING * terms)
    one, two = np.broadcast_arrays(a.astype(object), b.astype(object))
    equal = [(type(p) is type(q) and p == q) or (_is_number(p) and _is_number(q) and p == q)
             for p, q in zip(one.ravel(), two.ravel(), strict=True)]  # fmt: skip
    return np.array(equal, bool).reshape(one.shape)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)


def _compare(op: ast.cmpop, before: ast.expr, left: Any, right: ast.expr, columns: Mapping[str, Array]) -> Any:
    """One comparison; left: the value of the expression `before`."""
    if isinstance(op, ast.In | ast.NotIn):
        members: list[ast.expr] = right.elts  # type: ignore[attr-defined]  # checked when parsed
        found = np.zeros(np.shape(left), bool)
        for member in members:
            found = found | _same(left, _value(member, columns))
        return found if isinstance(op, ast.In) else ~found
    b = _value(right, columns)
    match op:
        case ast.Lt():
            return np.less(left, b)
        case ast.LtE():
            return np.less_equal(left, b)
        case ast.Gt():
            return np.greater(left, b)
        case ast.GtE():
            return np.greater_equal(left, b)
        case _:
            numbers = np.asarray(left).dtype.kind in "iuf" and np.asarray(b).dtype.kind in "iuf"
            same = _same(left, b, _terms(before, columns) + _terms(right, columns) if numbers else 0.0)
            return same if isinstance(op, ast.Eq) else ~same


def _truth(node: ast.expr, columns: Mapping[str, Array]) -> Any:
    match node:
        case ast.Compare(left=first, ops=ops, comparators=comparators):
            result: Any = True
            left = _value(first, columns)
            for op, right in zip(ops, comparators, strict=True):
                result = np.logical_and(result, _compare(op, first, left, right, columns))
                if right is not comparators[-1]:
                    first, left = right, _value(right, columns)
            return result
        case ast.BoolOp(op=joint, values=values):
            parts = [_truth(value, columns) for value in values]
            return _reduce(np.logical_and if isinstance(joint, ast.And) else np.logical_or, tuple(parts) + (parts[0],))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return np.logical_not(_truth(operand, columns))
        case _:
            return np.asarray(_value(node, columns), bool)


def _violation(node: ast.expr, columns: Mapping[str, Array], wanted: bool) -> Any:
    """How far `node` is from being `wanted`; `not` flips what is wanted, and turns `and` into `or` (De Morgan)."""
    match node:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _violation(operand, columns, not wanted)
        case ast.BoolOp(op=joint, values=values):
            parts = [np.asarray(_violation(value, columns, wanted), float) for value in values]
            joined = isinstance(joint, ast.And) == wanted
            return _reduce(
                np.add if joined else np.minimum, tuple(parts) + ((np.zeros(()),) if joined else (parts[0],))
            )
        case ast.Compare(left=first, ops=ops, comparators=comparators):
            parts = []
            left = _value(first, columns)
            for relation, right in zip(ops, comparators, strict=True):
                truth: Array = np.asarray(_compare(relation, first, left, right, columns), bool)
                failed = truth != wanted
                b = None if isinstance(relation, ast.In | ast.NotIn) else _value(right, columns)
                parts.append(np.where(failed, _distance(left, b), 0.0))
                first, left = right, b
            joined = wanted
            return _reduce(np.add if joined else np.minimum, (*parts, np.zeros(()) if joined else parts[0]))
        case _:
            return np.where(np.asarray(_truth(node, columns), bool) == wanted, 0.0, 1.0)


def _distance(a: Any, b: Any) -> Any:
    """|a - b| for numbers plus a speck (a strict comparison fails at distance 0), 1 for anything else."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.kind in "iuf" and b.dtype.kind in "iuf":
        return np.abs(a - b) + 1e-12
    return np.ones(np.broadcast_shapes(a.shape, b.shape))
