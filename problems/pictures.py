"""What pictures are made of: colours in the spaces that eyes see them in, soft noise, and a PNG of an array.

Only NumPy and the standard library. Everything is a function of its arguments: the same picture gives the same bytes.

Colours are sRGB in [0, 1] (IEC 61966-2-1), last axis 3. OKLab (Ottosson 2020, "A perceptual color space for image
processing") is used where colours are mixed, CIELAB (CIE 1976, D65) where they are compared.
"""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bbopt.errors import UsageError

Picture = NDArray[np.float32]
Numbers = NDArray[Any]

_FROM_RGB = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)  # linear sRGB to XYZ
_WHITE = _FROM_RGB.sum(axis=1)  # of sRGB, D65
_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_FROM_LMS, _FROM_OKLAB = np.linalg.inv(_TO_LMS), np.linalg.inv(_TO_OKLAB)


def linear(rgb: Numbers) -> Numbers:
    """Light from sRGB."""
    x = np.asarray(rgb, dtype=float)
    return np.where(x <= 0.04045, x / 12.92, ((np.maximum(x, 0.04045) + 0.055) / 1.055) ** 2.4)


def srgb(light: Numbers) -> Numbers:
    """sRGB from light, clipped to [0, 1]."""
    x = np.clip(light, 0.0, 1.0)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 0.0031308) ** (1 / 2.4) - 0.055)


def oklab(rgb: Numbers) -> Numbers:
    """OKLab from sRGB."""
    result: Numbers = np.cbrt(linear(rgb) @ _TO_LMS.T) @ _TO_OKLAB.T
    return result


def from_oklab(lab: Numbers) -> Numbers:
    """sRGB from OKLab, clipped where a screen cannot show it."""
    return srgb(((np.asarray(lab) @ _FROM_OKLAB.T) ** 3) @ _FROM_LMS.T)


def cielab(rgb: Numbers) -> Numbers:
    """CIELAB from sRGB: L* from 0 to 100, a* and b*. The Euclidean distance is the colour difference of 1976.

    >>> cielab(np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])).round(2).tolist()
    [[100.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    x = (linear(rgb) @ _FROM_RGB.T) / _WHITE
    root = np.where(x > (6 / 29) ** 3, np.cbrt(x), x * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack(
        [116 * root[..., 1] - 16, 500 * (root[..., 0] - root[..., 1]), 200 * (root[..., 1] - root[..., 2])], axis=-1
    )


def from_hex(code: str) -> Numbers:
    """sRGB (3,) from a code such as "#1d3557".

    >>> (from_hex("#ff8000") * 255).tolist()
    [255.0, 128.0, 0.0]
    """
    return np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def to_hex(rgb: Numbers) -> str:
    """The code of a colour (3,).

    >>> to_hex(np.array([1.0, 0.5, 0.0]))
    '#ff8000'
    """
    return "#" + "".join(f"{int(value):02x}" for value in np.floor(np.clip(rgb, 0, 1) * 255 + 0.5))


def blend(colours: Numbers, at: Numbers) -> Numbers:
    """A walk along colours (n, ..., 3) in OKLab, at places in [0, n - 1], shape (k,): (k, ..., 3) in OKLab.

    The colours are given in OKLab too; between two of them the mixture is linear.
    """
    places = np.clip(at, 0, len(colours) - 1)
    left = np.minimum(places.astype(int), len(colours) - 2)
    share = (places - left).reshape(-1, *[1] * (colours.ndim - 1))
    result: Numbers = colours[left] * (1 - share) + colours[left + 1] * share
    return result


def smoothstep(x: Numbers) -> Numbers:
    """0 below 0, 1 above 1, with level ends."""
    t = np.clip(x, 0, 1)
    result: Numbers = t * t * (3 - 2 * t)
    return result


@lru_cache(maxsize=64)
def waves(seed: int, cells: int, points: int) -> Numbers:
    """Value noise (points,) in [-1, 1]: random heights at `cells` places along the width, joined softly; read-only."""
    heights = np.random.default_rng([seed, cells]).uniform(-1, 1, cells + 2)
    at = np.linspace(0, cells, points)
    left = np.minimum(at.astype(int), cells)
    share = smoothstep(at - left)
    curve: Numbers = heights[left] * (1 - share) + heights[left + 1] * share
    curve.flags.writeable = False
    return curve


@lru_cache(maxsize=8)
def clouds(seed: int, across: int, down: int, width: int, height: int, octaves: int = 5) -> Picture:
    """Fractal noise (height, width): value noise of `across` by `down` cells, and octaves of it; read-only.

    Each pixel's rank, in [0, 1]: a threshold t leaves the part 1 - t of the picture.
    """
    total = np.zeros((height, width))
    rng = np.random.default_rng([seed, across, down])
    for octave in range(octaves):
        columns, rows = across * 2**octave, down * 2**octave
        grid = rng.uniform(0, 1, (rows + 2, columns + 2))
        x, y = np.linspace(0, columns, width), np.linspace(0, rows, height)
        i, j = np.minimum(x.astype(int), columns), np.minimum(y.astype(int), rows)
        u, v = smoothstep(x - i), smoothstep(y - j)[:, None]
        top = grid[j][:, i] * (1 - u) + grid[j][:, i + 1] * u
        bottom = grid[j + 1][:, i] * (1 - u) + grid[j + 1][:, i + 1] * u
        total += (top * (1 - v) + bottom * v) * 0.5**octave
    rank = np.empty(width * height, np.float32)
    rank[np.argsort(total, axis=None, kind="stable")] = np.linspace(0, 1, width * height, dtype=np.float32)
    texture: Picture = rank.reshape(height, width)
    texture.flags.writeable = False
    return texture


def png(rgb: Numbers) -> bytes:
    """The PNG file of a picture (height, width, 3) with values in [0, 1].

    Eight bits per channel, every row stored as its difference to the row above (filter 2), which suits soft gradients.
    Raises `UsageError` for another shape. Source: W3C, Portable Network Graphics (third edition), 2025.

    >>> png(np.zeros((2, 3, 3)))[:8]
    b'\\x89PNG\\r\\n\\x1a\\n'
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise UsageError(f"png: expected a picture of shape (height, width, 3), got {rgb.shape}")
    height, width, _ = rgb.shape
    pixels = np.clip(rgb * 255 + 0.5, 0, 255).astype(np.uint8).reshape(height, 3 * width)
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = 2
    rows[0, 1:] = pixels[0]
    rows[1:, 1:] = pixels[1:] - pixels[:-1]  # modulo 256
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 3)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
