"""What a toolkit must offer to be compared: a `Peer`, which starts searches; a `Search`, which is asked and told.

`Toolkit` is a peer of an installed package with what most of them have in common. A new adapter is one file with one
such class, and a line in `bbopt.compare.peers`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

from bbopt.compare.view import Result, View

__all__ = ["Peer", "Search", "Toolkit", "quiet"]


class Search(Protocol):
    """One run of a peer on a task."""

    def ask(self) -> dict[str, Any]:
        """The next point, as params of the task. Raises `bbopt.errors.Exhausted` where there is none left."""
        ...

    def tell(self, params: dict[str, Any], result: Result | None) -> None:
        """What the last asked point gave; None where it gave no finite numbers."""
        ...


class Peer(Protocol):
    """A toolkit with its recommended settings."""

    @property
    def name(self) -> str:
        """As in `--peer`."""
        ...

    @property
    def settings(self) -> str:
        """In words: which settings these are, and who recommends them."""
        ...

    def version(self) -> str:
        """Name and version of what runs. Raises ImportError where it is not installed."""
        ...

    def refuses(self, view: View) -> str | None:
        """Why this peer cannot have the task, in words; None where it can."""
        ...

    def slow(self, view: View) -> bool:
        """Whether it takes so long on this task that it gets fewer seeds."""
        ...

    def start(self, view: View, seed: int, budget: int) -> Search:
        """A new search. The same seed gives the same points, as far as the toolkit allows that."""
        ...


class Toolkit:
    """A peer that needs one package: `package` as pip calls it, `module` as Python does."""

    package: ClassVar[str]
    module: ClassVar[str]

    def version(self) -> str:
        with quiet():
            importlib.import_module(self.module)
        return f"{self.package} {importlib.metadata.version(self.package)}"

    def refuses(self, view: View) -> str | None:
        return None

    def slow(self, view: View) -> bool:
        return False


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of other people's packages: which settings are used is said elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
