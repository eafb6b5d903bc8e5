"""The body of a request as JSON that means the same to everybody who reads it.

Python's reader takes NaN, numbers that overflow, and the last of two equal keys; other readers do not, and text that cannot be
written again (half a surrogate pair) fails later, in the store. All of that is refused here, once, for every endpoint.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

__all__ = ["problem_of"]

DEPTH = 32  # lists and objects inside each other; a task or an answer needs a quarter of it

_TOO_DEEP = f"expected at most {DEPTH} lists and objects inside each other, got more"
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_BRACKET = re.compile(r"[\[\]{}]")
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def problem_of(body: bytes) -> str | None:
    """What is wrong with a body, in words; None if it is sound.

    >>> problem_of(b'{"a": [1, 2.5, "x"]}'), problem_of(b'{"a": 1, "a": 2}')
    (None, "expected every key once, got 'a' twice")
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"expected text in UTF-8, got something else at byte {error.start}"
    try:
        value = json.loads(
            text, parse_constant=_no_constant, parse_float=_finite, parse_int=_whole, object_pairs_hook=_once
        )
        written = json.dumps(value, ensure_ascii=False)
        written.encode("utf-8")
    except UnicodeEncodeError:
        return "expected characters, got half of a surrogate pair"
    except RecursionError:
        return _TOO_DEEP
    except ValueError as error:
        return str(error) if isinstance(error, _Unsound) else f"expected JSON, got something else ({error})"
    if _depth(text) > DEPTH:
        return _TOO_DEEP
    return "expected text without the character U+0000, got one" if _NUL.search(written) else None


class _Unsound(ValueError):
    """Python takes it for JSON, others do not."""


def _no_constant(token: str) -> Any:
    raise _Unsound(f"expected numbers, got {token}, which JSON does not have; leave the value out, or send null")


def _finite(token: str) -> float:
    value = float(token)
    if not math.isfinite(value):
        raise _Unsound(f"expected numbers below 1.8e308, got {token[:20]}")
    return value


def _whole(token: str) -> int:
    if len(token) > 309:
        raise _Unsound(f"expected numbers below 1.8e308, got a whole number of {len(token)} digits")
    value = int(token)
    _finite(token)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Unsound(f"expected every key once, got {twice[:40]!r} twice")
    return found


def _depth(text: str) -> int:
    """Of lists and objects inside each other in a JSON text."""
    if text.count("[") + text.count("{") <= DEPTH:
        return 0
    deepest = depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest
