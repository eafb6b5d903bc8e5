"""The look of the figures: colours, lines, axes, and how a Matplotlib figure becomes part of a page.

Colours are Okabe and Ito's (Color Universal Design, 2008), told apart by people with any colour vision and, with the
line styles, in a grey print. In the page each colour is a CSS variable, so that figures follow the reader's light or
dark scheme: figures are drawn in the light colours, and `inline_svg` replaces these by the variables.

Matplotlib is used through its object interface on the Agg and SVG canvases; its settings are changed inside a context
that restores them. Matplotlib is imported by the functions that need it, not by this module.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from math import isnan
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["INK", "Look", "css_variables", "drawing", "empty", "inline_svg", "looks", "number", "png_bytes", "tidy"]

# name of the CSS variable -> (light scheme, dark scheme)
INK, MUTED, GRID, WASH, PAPER = "#1c2530", "#66717e", "#dde2e8", "#f1f4f7", "#fefefe"
_BASE = {
    "ink": (INK, "#e4e8ed"),
    "muted": (MUTED, "#98a3b0"),
    "grid": (GRID, "#353d48"),
    "wash": (WASH, "#222932"),
    "paper": (PAPER, "#171c23"),
}
_SERIES = [
    ("#0072b2", "#56a9e8"),  # blue
    ("#d55e00", "#f58b45"),  # vermilion
    ("#009e73", "#35c89c"),  # bluish green
    ("#b5569a", "#e28fca"),  # reddish purple, darker than the original for thin lines
    ("#c98a00", "#edb73e"),  # orange
    ("#2d9fd0", "#7fd0f5"),  # sky blue
    ("#5b5b5b", "#b9b9b9"),  # grey
]
_DASHES: list[tuple[float, ...]] = [(), (4.5, 1.5), (1.2, 1.2), (6, 1.5, 1.2, 1.5), (3, 1), (8, 2), (1, 2.5)]
_MARKERS = "osD^vPX"


@dataclass(frozen=True)
class Look:
    """How one strategy is drawn everywhere: colour, CSS variable, dashes in points (empty: solid), marker."""

    colour: str
    variable: str
    dashes: tuple[float, ...]
    marker: str

    @property
    def linestyle(self) -> Literal["-"] | tuple[float, tuple[float, ...]]:
        """The dashes in Matplotlib's words."""
        return (0.0, self.dashes) if self.dashes else "-"


def looks(strategies: Sequence[str]) -> dict[str, Look]:
    """One look per strategy, by its place in the list; after seven, colours repeat with other dashes and markers.

    >>> looks(["gp", "random"])["gp"].colour
    '#0072b2'
    """
    chosen = {}
    for place, name in enumerate(strategies):
        turn, index = divmod(place, len(_SERIES))
        shifted = (index + 3 * turn) % len(_DASHES)
        chosen[name] = Look(_SERIES[index][0], f"series{index}", _DASHES[shifted], _MARKERS[shifted])
    return chosen


def css_variables() -> tuple[str, str]:
    """Declarations of all colours for the light and for the dark scheme."""
    pairs = _BASE | {f"series{index}": pair for index, pair in enumerate(_SERIES)}
    light = " ".join(f"--{name}: {pair[0]};" for name, pair in pairs.items())
    dark = " ".join(f"--{name}: {pair[1]};" for name, pair in pairs.items())
    return light, dark


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib's settings for our figures; the user's come back afterwards."""
    import matplotlib

    settings: dict[str, Any] = {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],  # comes with Matplotlib and has all the signs
        "font.size": 9.0,
        "axes.edgecolor": MUTED,
        "axes.linewidth": 0.6,
        "axes.labelcolor": MUTED,
        "axes.labelsize": 8.5,
        "axes.titlesize": 9.5,
        "axes.unicode_minus": True,
        "text.color": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelsize": 8.0,
        "ytick.labelsize": 8.0,
        "legend.frameon": False,
        "figure.facecolor": PAPER,
        "axes.facecolor": "none",
        "svg.fonttype": "none",
        "svg.hashsalt": "bbopt",
        "path.simplify": True,
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # the report does not depend on a matplotlibrc
        matplotlib.rcParams.update(settings)  # type: ignore[arg-type]  # its keys are literals
        yield


def tidy(axes: Axes, grid: str = "y") -> None:
    """Open frame, quiet grid behind the data."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(True, axis="both" if grid == "both" else "x" if grid == "x" else "y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=2.5, width=0.6, pad=2.5)
    axes.tick_params(which="minor", length=0)


def empty(axes: Axes, message: str) -> None:
    """Say in the middle of the axes why there is nothing to see."""
    axes.text(0.5, 0.5, message, transform=axes.transAxes, ha="center", va="center", color=MUTED, fontsize=8.5)


def number(value: float, digits: int = 4) -> str:
    """A number for readers: `digits` significant ones, thin spaces in thousands, a true minus, ∞ and – for none.

    >>> number(63108.74799), number(0.0126652), number(-2.0), number(float("inf")), number(1.5e-7)
    ('63\\u2009109', '0.01267', '−2', '∞', '1.5·10⁻⁷')
    """
    if isnan(value):
        return "–"
    if value in (float("inf"), float("-inf")):
        return "∞" if value > 0 else "−∞"
    if value == 0.0:
        return "0"
    magnitude = abs(value)
    if magnitude >= 1e7 or magnitude < 1e-3:
        mantissa, exponent = f"{magnitude:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        text = power if mantissa == "1" else f"{mantissa}·{power}"
    else:
        shown = float(f"{magnitude:.{digits - 1}e}")
        places = max(0, digits - 1 - int(f"{shown:e}".split("e")[1]))
        text = f"{magnitude if places == 0 else shown:,.{places}f}"
        text = (text.rstrip("0").rstrip(".") if "." in text else text).replace(",", "\u2009")
        if shown < 1e4:
            text = text.replace("\u2009", "")
    return ("−" if value < 0 else "") + text


def png_bytes(figure: Figure, dots_per_inch: int = 200) -> bytes:
    """The figure as a PNG file on white paper."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dots_per_inch, metadata={"Software": "bbopt"})
    return buffer.getvalue()


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an `<svg>` element for a page: colours as CSS variables, ids that start with `name`, and a title.

    `label` is what a screen reader says. No fonts, scripts or addresses of other hosts are in it.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasSVG(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->|<style.*?</style>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"url\(#([^)]+)\)", svg)) | set(re.findall(r'href="#([^"]+)"', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'(?:xlink:)?href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"'DejaVu Sans'(?:, [^;\"]*)?sans-serif", "var(--sans)", svg)
    for variable, (light, _) in (_BASE | {f"series{i}": pair for i, pair in enumerate(_SERIES)}).items():
        svg = svg.replace(light, f"var(--{variable})")
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    head = f'<svg class="figure" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label, quote=True)}">'
    body = re.sub(r"\n\s*", "\n", svg[svg.index(">") + 1 :])
    return f"{head}<title>{escape(label)}</title>{body}".strip()
