"""The server where people rank, and where programs of any language ask and tell. Started by `bbopt serve`."""

from __future__ import annotations

__bbopt__ = True  # tells a folder of the same name apart, see bbopt.neighbours
