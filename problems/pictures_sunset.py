"""A sky between two colours, six numbers: lightness, green to red and blue to yellow of its top and of its foot.

The numbers are OKLab's, in ranges that a screen can show nearly everywhere, so every step looks about equally large. The taste compares the
colours that come out as eyes do: liking is minus the mean over nine heights of the squared difference in CIELAB, in
hundreds (so that black against white is -1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bbopt.space import Float

from .pictures import Numbers, cielab, from_oklab, oklab, png, smoothstep
from .problem import Array, Columns

WIDTH, HEIGHT = 240, 240
HEIGHTS = 9  # at which skies are compared

PARAMETERS = {
    "top_lightness": Float(0.2, 0.75),
    "top_red": Float(-0.1, 0.16),
    "top_yellow": Float(-0.16, 0.1),
    "foot_lightness": Float(0.45, 0.95),
    "foot_red": Float(-0.08, 0.18),
    "foot_yellow": Float(-0.08, 0.16),
}


def _ends(columns: Mapping[str, Any]) -> tuple[Numbers, Numbers]:
    """Top and foot in OKLab, (k, 3) each; the nearest that a screen can show, so that mixtures have no edge."""
    values = [np.clip(np.asarray(columns[name], float), bound.low, bound.high) for name, bound in PARAMETERS.items()]
    top, foot = np.stack(values[:3], axis=-1), np.stack(values[3:], axis=-1)
    return oklab(from_oklab(top)), oklab(from_oklab(foot))


def colours(columns: Mapping[str, Any], heights: Numbers) -> Numbers:
    """sRGB (k, n, 3) of k skies at n heights, 0 at the top and 1 at the foot."""
    top, foot = _ends(columns)
    share = smoothstep(heights)[:, None]
    return from_oklab(top[:, None, :] * (1 - share) + foot[:, None, :] * share)


def sunset(params: Mapping[str, Any]) -> bytes:
    """The sky as a PNG of 240 x 240, some 3 ms: a function of the params alone.

    >>> sunset({name: range.low for name, range in PARAMETERS.items()})[1:4]
    b'PNG'
    """
    one = {name: np.array([params[name]]) for name in PARAMETERS}
    rows = colours(one, np.linspace(0, 1, HEIGHT))[0]
    picture = np.repeat(rows[:, None, :], WIDTH, axis=1)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    away = np.hypot(x - WIDTH / 2, y - 0.72 * HEIGHT)
    light = rows[-1] + 0.75 * (1 - rows[-1])
    shine = np.maximum(np.clip(24.5 - away, 0, 1), 0.5 * np.exp(-away / 45))
    sea = np.arange(HEIGHT)[:, None] >= 0.8 * HEIGHT
    shine = np.where(sea, 0.35 * np.exp(-np.abs(x - WIDTH / 2) / (12 + 0.3 * np.maximum(y - 0.8 * HEIGHT, 0))), shine)
    picture = np.where(sea[..., None], picture[::-1] * 0.35 + picture * 0.4, picture)
    return png(picture + shine[..., None] * (light - picture))


@dataclass(frozen=True)
class Sameness:
    """The formula of the taste for skies: minus the mean squared difference from a target's colours in CIELAB, in hundreds."""

    parameters: tuple[tuple[str, Float], ...]
    target: tuple[float, ...]

    def parts(self, columns: Columns) -> Array:
        """(k, 3): in lightness, in green to red, in blue to yellow."""
        heights = np.linspace(0, 1, HEIGHTS)
        wanted = {name: np.array([value]) for (name, _), value in zip(self.parameters, self.target, strict=True)}
        difference = cielab(colours(columns, heights)) - cielab(colours(wanted, heights))
        apart: Array = np.mean((difference / 100) ** 2, axis=1)
        return 0.0 - apart  # and not -0.0 at the target

    def __call__(self, columns: Columns) -> dict[str, Array]:
        return {"liking": np.sum(self.parts(columns), axis=1)}


taste = Sameness
