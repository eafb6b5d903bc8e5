"""From `module:function` on the command line to a user's function. Runs in the renderer's own process.

As with `python -m`, modules are looked for in the current directory first, then among the installed ones.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

import bbopt

__all__ = ["check_spec", "find_function"]

_SPEC = re.compile(r"(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<function>[^\W\d]\w*(\.[^\W\d]\w*)*)")


def check_spec(spec: str) -> tuple[str, str]:
    """Module and function of a spec. Raises bbopt.UsageError where it does not read `module:function`."""
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise bbopt.UsageError(
            f"renderer: expected auto, table, picture or module:function, such as my_pictures:draw for the function draw "
            f"in my_pictures.py; got {spec!r}"
        )
    return match["module"], match["function"]


def find_function(spec: str) -> Callable[[dict[str, Any]], Any]:
    """The function that the spec names, of one argument. Raises bbopt.UsageError: no such module or function, a module that
    cannot be imported, something that cannot be called with a dict of parameters.

    Puts the current directory in front of this process's search path, for imports that the function does later too.
    """
    name, path = check_spec(spec)
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    found: Any = _module(name, spec, here)
    for part in path.split("."):
        if not hasattr(found, part):
            callables = [key for key, value in vars(found).items() if callable(value) and not key.startswith("_")]
            near = difflib.get_close_matches(part, callables, n=3, cutoff=0.5) or callables[:6]
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise bbopt.UsageError(f"renderer {spec}: no function {part!r} in {_where(found)}{hint}")
        found = getattr(found, part)
    _check_signature(found, spec)
    function: Callable[[dict[str, Any]], Any] = found
    return function


def _module(name: str, spec: str, here: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name is not None and (name == missing.name or name.startswith(f"{missing.name}.")):
            raise bbopt.UsageError(
                f"renderer {spec}: no module {missing.name!r} in {here} nor installed; start in the folder that holds it"
            ) from None
        raise bbopt.UsageError(f"renderer {spec}: {name} needs a module that is not installed: {missing}") from None
    except BaseException:  # whatever a user's module does when it is imported, exit() included
        raise bbopt.UsageError(f"renderer {spec}: importing {name} failed\n{traceback.format_exc().strip()}") from None


def _check_signature(found: Any, spec: str) -> None:
    if not callable(found):
        raise bbopt.UsageError(
            f"renderer {spec}: expected a function of one argument, a dict of parameter values; got {found!r}"
        )
    if inspect.iscoroutinefunction(found) or inspect.isgeneratorfunction(found):
        raise bbopt.UsageError(f"renderer {spec}: expected a plain function, got an async or generator function")
    try:
        signature = inspect.signature(found)
    except (ValueError, TypeError):  # some written in C say nothing
        return
    try:
        signature.bind({})
    except TypeError:
        raise bbopt.UsageError(
            f"renderer {spec}: expected a function of one argument, a dict of parameter values; got "
            f"{spec.partition(':')[2]}{signature}"
        ) from None


def _where(found: Any) -> str:
    return str(getattr(found, "__file__", None) or getattr(found, "__qualname__", None) or found)
