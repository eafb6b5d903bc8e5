"""A landscape of twelve numbers: a sky with its light, clouds, ranges of hills one behind the other, and a lake.

`landscape(params)` is the PNG. Values outside the ranges of `PARAMETERS` are moved to the nearest end.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from bbopt.space import Float

from .pictures import Numbers, Picture, blend, clouds, from_hex, from_oklab, oklab, png, smoothstep, waves

WIDTH, HEIGHT = 360, 240

PARAMETERS = {
    "mood": Float(0, 6),  # night, dusk, sunset, gold, day, mist, aurora: along MOODS
    "sun_x": Float(0.05, 0.95),  # from left to right
    "sun_height": Float(-0.1, 1.0),  # from the horizon to the top of the sky
    "sun_size": Float(0.015, 0.12),  # radius, as a part of the width
    "glow": Float(0, 1),  # light around the sun
    "clouds": Float(0, 1),  # how much of the sky they cover
    "wander": Float(0, 1),  # which stretch of the hills is seen: one walks to the right
    "ridges": Float(0.05, 0.6),  # height of the hills, as a part of the sky
    "roughness": Float(0.25, 0.8),  # round hills to jagged mountains: weight of each octave over the one before
    "haze": Float(0, 1),  # how far hills fade into the sky
    "lake": Float(0, 0.4),  # part of the picture, from below
    "vignette": Float(0, 0.7),  # how dark the corners are
}

# zenith, middle and foot of the sky; sun; hills far and near
MOODS = (
    ("#070b1f", "#16244d", "#42608f", "#f4f0dc", "#2b3d66", "#04060d"),  # night
    ("#1b1646", "#6d3a7d", "#f0957f", "#ffe0b8", "#5b3f73", "#0f0a1e"),  # dusk
    ("#2c3f86", "#d9638a", "#ffb56e", "#fff3cf", "#8a4a74", "#1c0f2b"),  # sunset
    ("#4f7fb5", "#eec486", "#fff0bd", "#fffbe6", "#a98561", "#33251a"),  # gold
    ("#2a78c8", "#79b8ea", "#e2f3fb", "#fffdf0", "#7fa5b8", "#173d2b"),  # day
    ("#8ea7b5", "#c0d0d4", "#f1f2ea", "#ffffff", "#a3b5b8", "#2b4144"),  # mist
    ("#032a38", "#0e6e6b", "#b4ebb0", "#f9ffe4", "#1d5f63", "#02151b"),  # aurora
)
_LAYERS = 5
_OCTAVES = 6


@lru_cache(maxsize=1)
def _moods() -> Numbers:
    """(moods, 6, 3) colours in OKLab."""
    return oklab(np.array([[from_hex(code) for code in mood] for mood in MOODS]))


@lru_cache(maxsize=1)
def _grid() -> tuple[Picture, Picture, Picture]:
    """x (1, W) and y (H, 1) in pixels, and the square of the distance from the middle (H, W), 1 in the corners."""
    x = np.arange(WIDTH, dtype=np.float32)[None]
    y = np.arange(HEIGHT, dtype=np.float32)[:, None]
    far = (((x / (WIDTH - 1) - 0.5) ** 2 + (y / (HEIGHT - 1) - 0.5) ** 2) * 2).astype(np.float32)
    return x, y, far


@lru_cache(maxsize=1)
def _stars() -> Picture:
    """(H, W) brightness of a starry sky: few bright ones, many faint ones."""
    rng = np.random.default_rng(7)
    sky = np.zeros((HEIGHT, WIDTH), np.float32)
    sky[rng.integers(0, HEIGHT, 260), rng.integers(0, WIDTH, 260)] = rng.uniform(0.15, 1, 260) ** 2
    return sky


@lru_cache(maxsize=1)
def _cover() -> Picture:
    """(H, W) texture of the clouds, in [0, 1]."""
    return clouds(2, 4, 11, WIDTH, HEIGHT)


@lru_cache(maxsize=1)
def _trees() -> Numbers:
    """(2 W,) heights of firs in pixels, side by side along a ridge."""
    rng = np.random.default_rng(11)
    x = np.arange(2 * WIDTH)
    heights = np.zeros(2 * WIDTH)
    for place, tall in zip(rng.uniform(0, 2 * WIDTH, 220), rng.uniform(4, 15, 220), strict=True):
        heights = np.maximum(heights, tall - np.abs(x - place) * rng.uniform(2.2, 3.4))
    return heights


def landscape(params: Mapping[str, Any]) -> bytes:
    """The picture as a PNG of 360 x 240, some 10 ms: a function of the params alone.

    >>> middle = {name: (range.low + range.high) / 2 for name, range in PARAMETERS.items()}
    >>> landscape(middle) == landscape(middle)
    True
    """
    return png(paint(params))


def paint(params: Mapping[str, Any]) -> Picture:
    """The picture as an array (240, 360, 3)."""
    p = {name: float(np.clip(params[name], bound.low, bound.high)) for name, bound in PARAMETERS.items()}
    zenith, middle, foot, sun, far, near = blend(_moods(), np.array([p["mood"]]))[0]
    light = from_oklab(sun).astype(np.float32)
    horizon = (0.66 - 0.45 * p["lake"]) * HEIGHT
    shore = round(HEIGHT * (1 - p["lake"]))
    picture = np.empty((HEIGHT, WIDTH, 3), np.float32)
    dry = picture[:shore]
    _sky(dry, p, np.stack([zenith, middle, foot, sun]), light, horizon)
    _hills(dry, p, np.stack([foot, far, near]), light, horizon)
    _reflect(picture, shore, from_oklab(near).astype(np.float32))
    picture *= (1 - np.float32(p["vignette"]) * _grid()[2])[..., None]
    return picture


def _sky(picture: Picture, p: Mapping[str, float], colours: Numbers, light: Picture, horizon: float) -> None:
    """The sky over the whole of a picture: a gradient down to the horizon, stars, sun, light around it, clouds."""
    height = len(picture)
    x, y, _ = _grid()
    y = y[:height]
    down = np.clip(y[:, 0] / np.float32(horizon), 0, 1)
    picture[:] = from_oklab(blend(colours[:3], 2 * down**0.85)).astype(np.float32)[:, None]
    dark = float(smoothstep(np.array((0.42 - colours[0, 0]) / 0.2)))  # of the zenith
    if dark > 0:
        picture += ((dark * (1 - down**2))[:, None] * _stars()[:height])[..., None] * light
    away = np.hypot(x - np.float32(p["sun_x"] * WIDTH), y - np.float32(horizon * (1 - p["sun_height"])))
    radius = np.float32(p["sun_size"] * WIDTH)
    wide = np.exp(away * np.float32(-1 / (WIDTH * 0.28)))
    bright = np.float32(p["glow"]) * (np.float32(0.68) * np.exp(-away / (radius * 1.4 + 6)) + np.float32(0.4) * wide)
    disc = np.clip(radius - away + np.float32(0.5), 0, 1)
    bright = np.maximum(bright, disc)
    picture += bright[..., None] * (light - picture)
    if p["clouds"] > 0:
        texture = _cover()[:height]
        cover = smoothstep((texture - np.float32(1 - 0.8 * p["clouds"])) * np.float32(1 / 0.35))
        cover *= (np.float32(0.9) - np.float32(0.5) * down)[:, None]
        cover *= 1 - np.float32(0.6) * disc
        base, lit = (from_oklab(mixed).astype(np.float32) for mixed in _cloud_colours(colours))
        edge = np.float32(1.15) - np.float32(0.8) * texture + np.float32(0.45 * p["glow"]) * wide
        shade = base + np.clip(edge, 0, 1)[..., None] * (lit - base)
        picture += cover[..., None] * (shade - picture)


def _cloud_colours(colours: Numbers) -> tuple[Numbers, Numbers]:
    """Their shadow and their light, in OKLab: between the middle of the sky and its foot, and towards the sun."""
    _, middle, foot, sun = colours
    shadow = 0.55 * middle + 0.45 * foot
    return shadow * np.array([0.86, 0.8, 0.8]), 0.45 * foot + 0.55 * sun


@lru_cache(maxsize=1)
def _ranges() -> Numbers:
    """(layers, octaves, 2 W) noise in [-1, 1] of which hills are made, twice as wide as the picture."""
    return np.array(
        [
            [waves(29 * layer + octave, 2 * (2 + layer) * 2**octave, 2 * WIDTH) for octave in range(_OCTAVES)]
            for layer in range(_LAYERS)
        ]
    )


def _ridges(p: Mapping[str, float], horizon: float, shore: int) -> list[tuple[Numbers, float, float]]:
    """Of each range, the farthest first: the height of its ridge at every x, in pixels from the top; where its foot is;
    how tall it is."""
    weights = p["roughness"] ** np.arange(_OCTAVES)
    profiles = weights @ _ranges() / np.sqrt(np.sum(weights**2))
    x = np.arange(WIDTH)
    result = []
    for layer, profile in enumerate(profiles):
        depth = layer / (_LAYERS - 1)
        moved = x + p["wander"] * (WIDTH - 1) * (0.45 + 0.55 * depth)
        foot = horizon + (max(shore, horizon + 8) - horizon) * depth**1.25
        tall = p["ridges"] * horizon * (0.75 - 0.45 * depth)
        ridge = foot - tall * (0.45 + 0.75 * np.interp(moved, np.arange(2 * WIDTH), profile))
        if layer == _LAYERS - 1:
            ridge -= np.interp(moved, np.arange(2 * WIDTH), _trees()) * (0.6 + 0.4 * p["ridges"])
        result.append((ridge.astype(np.float32), foot, tall))
    return result


def _hills(picture: Picture, p: Mapping[str, float], colours: Numbers, light: Picture, horizon: float) -> None:
    """Ranges of hills, painted over a picture from the farthest to the nearest, which has trees on it."""
    x, y, _ = _grid()
    ranges = _ridges(p, horizon, len(picture))
    ends = [int(ridge.max()) + 2 for ridge, _, _ in ranges[1:]] + [len(picture)]  # below, a nearer range hides it
    shine = np.exp(-np.abs(x[0] - np.float32(p["sun_x"] * WIDTH)) / np.float32(WIDTH * 0.25)) * np.float32(p["glow"])
    for layer, (ridge, foot, tall) in enumerate(ranges):
        depth = layer / (_LAYERS - 1)
        part = slice(max(int(ridge.min()) - 1, 0), max(ends[layer], 0))
        rows = y[: len(picture)][part]
        below = rows - ridge[None]
        near = 0.15 + 1.85 * (depth * (1 - 0.55 * p["haze"]) + 0.25 * (1 - p["haze"])) / 1.25
        at = np.array([near, max(0.0, near - 0.95 * p["haze"])])  # of the range, of the mist at its foot
        body, mist = from_oklab(blend(colours, at)).astype(np.float32)
        sunk = np.float32(0.9 * (1 - 0.7 * depth)) * smoothstep((rows - (foot - tall)) / (1.1 * tall + 14))
        paint = body + sunk[..., None] * (mist - body)
        rim = np.exp(np.minimum(-below / 5, 0)) * (shine * np.float32(0.3 - 0.2 * depth))
        paint = paint + rim[..., None] * (light - paint)
        picture[part] += np.clip(below + np.float32(0.5), 0, 1)[..., None] * (paint - picture[part])


def _reflect(picture: Picture, shore: int, deep: Picture) -> None:
    """A lake from the row `shore` on: what is above it, upside down, broken by ripples that grow nearer."""
    rows = np.arange(HEIGHT - shore)
    ripple = np.sin(rows**0.8 * 2.1 + 0.7) * (0.4 + rows * 0.035)
    source = np.clip(shore - 1 - np.rint(rows * 1.15 + ripple).astype(int), 0, shore - 1)
    shift = np.rint(np.sin(rows**0.75 * 2.9) * (0.6 + rows * 0.04)).astype(int)
    columns = np.clip(np.arange(WIDTH)[None] + shift[:, None], 0, WIDTH - 1)
    water = picture[source[:, None], columns]
    share = (0.16 + 0.4 * rows / HEIGHT).astype(np.float32)[:, None, None]
    picture[shore:] = water + share * (deep - water)
    picture[shore : shore + 1] *= 0.85
