"""The one table of peers: from names to classes."""

from __future__ import annotations

import difflib
import importlib
from typing import Any

from bbopt.cli_input import read_strategy
from bbopt.compare.peer import Peer
from bbopt.compare.peer_bbopt import Bbopt
from bbopt.errors import UsageError

__all__ = ["PEERS", "find"]

PEERS: dict[str, str] = {
    "bbopt": "bbopt.compare.peer_bbopt:Bbopt",
    "optuna-tpe": "bbopt.compare.peer_optuna:OptunaTPE",
    "optuna-gp": "bbopt.compare.peer_optuna:OptunaGP",
    "ax": "bbopt.compare.peer_ax:Ax",
    "botorch": "bbopt.compare.peer_botorch:Botorch",
    "cma": "bbopt.compare.peer_cma:Cma",
    "cobyla": "bbopt.compare.peer_cobyla:Cobyla",
    "nevergrad": "bbopt.compare.peer_nevergrad:Nevergrad",
    "pymoo": "bbopt.compare.peer_pymoo:Pymoo",
    "smac": "bbopt.compare.peer_smac:Smac",
    "hebo": "bbopt.compare.peer_hebo:Hebo",
    "random": "bbopt.compare.peer_random:Random",
}


def find(name: str) -> Peer:
    """The peer of this name; or the strategy of bbopt that "bbopt:STRATEGY" or "bbopt:STRATEGY:option=value,..." names; or
    an adapter of your own, "module:Class". Raises UsageError, with what is near, for an unknown one.

    >>> find("random").name, find("bbopt:sobol").name
    ('random', 'bbopt:sobol')
    """
    if name.startswith("bbopt:"):
        return Bbopt(name, read_strategy(name.removeprefix("bbopt:")))
    target = PEERS.get(name, name if ":" in name else None)
    if target is None:
        near = difflib.get_close_matches(str(name), PEERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(
            f"compare: expected a peer of {', '.join(PEERS)}, bbopt:STRATEGY, or module:Class; got {name!r}{hint}"
        )
    module, _, attribute = target.partition(":")
    try:
        made: Any = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UsageError(
            f"compare: expected a class that makes a peer without arguments at {target!r}: {error}"
        ) from error
    peer: Peer = made
    return peer
