"""A concert poster of ten numbers, as SVG: its colours, a disc, stripes, and the size and place of the title.

Colours are two hues on paper, in OKLab's polar form. The words are escaped; no font is named but the browser's own.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from math import cos, pi, sin
from typing import Any

import numpy as np

from bbopt.space import Float

from .pictures import from_oklab, to_hex

WIDTH, HEIGHT = 300, 420
MARGIN = 24
TITLE = ("Night", "Music")
LINES = ("Six evenings for strings and voice", "June to August, in the old quarry")

PARAMETERS = {
    "hue": Float(0, 1),  # of the disc, once round the circle of colours
    "spread": Float(0.05, 0.6),  # from there to the hue of the stripes
    "paper": Float(0.12, 0.97),  # its lightness
    "colour": Float(0.02, 0.16),  # how strong colours are
    "title_size": Float(34, 84),  # in pixels
    "title_height": Float(0.16, 0.86),  # where it stands, from the top
    "disc_size": Float(0.1, 0.6),  # radius, as a part of the width
    "disc_x": Float(0, 1),
    "disc_height": Float(0, 1),
    "slant": Float(-60, 60),  # of the stripes, in degrees
}


def _colour(lightness: float, strength: float, hue: float) -> str:
    angle = 2 * pi * hue
    return to_hex(from_oklab(np.array([lightness, strength * cos(angle), strength * sin(angle)])))


def poster(params: Mapping[str, Any]) -> str:
    """The poster as an SVG of 300 x 420: a function of the params alone.

    >>> poster({name: range.low for name, range in PARAMETERS.items()})[:4]
    '<svg'
    """
    return draw(params, TITLE, LINES)


def draw(params: Mapping[str, Any], title: tuple[str, ...], lines: tuple[str, ...]) -> str:
    """The poster with any words; they are escaped."""
    p = {name: float(np.clip(params[name], bound.low, bound.high)) for name, bound in PARAMETERS.items()}
    dark = p["paper"] < 0.6
    paper = _colour(p["paper"], 0.25 * p["colour"], p["hue"] + 0.45)
    ink = _colour(0.97 if dark else 0.16, 0.01, p["hue"])
    disc = _colour(0.72 if dark else 0.62, p["colour"], p["hue"])
    stripe = _colour(0.6 if dark else 0.78, 0.8 * p["colour"], p["hue"] + p["spread"])
    cx, cy, radius = p["disc_x"] * WIDTH, p["disc_height"] * HEIGHT, p["disc_size"] * WIDTH
    size, top = p["title_size"], p["title_height"] * HEIGHT
    step = 0.92 * size
    first = min(max(top, MARGIN + 0.75 * size), HEIGHT - MARGIN - 48 - (len(title) - 1) * step)
    below = first + (len(title) - 1) * step + 26
    stripes = "".join(f'<rect x="-300" y="{-40 + 34 * i}" width="600" height="{3 + 3 * i:.0f}"/>' for i in range(6))
    heading = "".join(
        f'<text x="{MARGIN}" y="{first + i * step:.1f}" font-size="{size:.1f}" font-weight="800" '
        f'letter-spacing="{-0.03 * size:.2f}">{html.escape(word)}</text>'
        for i, word in enumerate(title)
    )
    small = "".join(
        f'<text x="{MARGIN}" y="{below + 18 * i:.1f}" font-size="13">{html.escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">'
        f"<title>{html.escape(' '.join(title))}</title>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{paper}"/>'
        f'<g fill="{stripe}" transform="translate({WIDTH / 2} {HEIGHT / 2}) rotate({p["slant"]:.2f})">{stripes}</g>'
        f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{radius:.1f}" fill="{disc}"/>'
        f'<g fill="{ink}" font-family="system-ui, sans-serif">{heading}{small}</g></svg>'
    )
