"""The packages that are installed beside bbopt under general names (problems, surrogates, server).

A folder or file of the same name in the working directory hides them; that gets a clear error here instead of a strange
one later.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from bbopt.errors import MissingPackage


def neighbour(name: str) -> ModuleType:
    """Our package of this name. Raises MissingPackage if a foreign module stands in its place."""
    module = import_module(name)
    if getattr(module, "__bbopt__", False) is not True:
        raise MissingPackage(
            f"expected bbopt's own package {name!r}, got {getattr(module, '__file__', None) or list(module.__path__)}; "
            f"rename that file or folder, or start Python in another folder"
        )
    return module
