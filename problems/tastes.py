"""Pictures, sounds and verses that people rank, as problems: a hidden taste stands in for the person.

Each is a task with feedback "ranking" whose points are shown by a renderer, a pure function from params to a file:

    landscape   12 parameters   PNG
    sunset       6 parameters   PNG
    poster      10 parameters   SVG
    tone         6 parameters   WAV
    verse        6 parameters   plain text

The taste is a point x*, drawn by the seed in NAME@tasteS (NAME is NAME@taste0) from the middle three fifths of every range.
The objective "liking" is maximised, 0 at x* and negative elsewhere: minus the squared distance |x - x*|^2 in encoded
parameters (ranges are [0, 1]) for all but the sunset, whose colours are compared as eyes do, in CIELAB.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bbopt.space import Float, Space
from bbopt.task import Objective, Task

from .problem import Array, Columns, Optimum, Problem

__all__ = ["RENDERED", "Nearness", "Renderer", "renderer", "renderer_for", "taste_problem"]

Renderer = Callable[[Mapping[str, Any]], bytes | str]
"""From the params of a point to a PNG or WAV file, or to SVG or plain text. Pure: equal params give equal results."""

RENDERED = {
    "landscape": "pictures_landscape",
    "sunset": "pictures_sunset",
    "poster": "pictures_poster",
    "tone": "sounds",
    "verse": "verses",
}
"""Name and module: it has `PARAMETERS`, the renderer under the name, and a taste of its own, `taste(target)`, if any."""

DOCS = {
    "landscape": "A landscape as a picture: mood of the sky, sun, clouds, hills, haze, lake.",
    "sunset": "A sky from one colour at the top to another at the bottom.",
    "poster": "A poster: colours, size and place of a title and of the shapes around it.",
    "tone": "A short tone: pitch, timbre, attack and decay, vibrato.",
    "verse": "Four lines of verse whose words depend on the parameters.",
}


@dataclass(frozen=True)
class Nearness:
    """The formula of most tastes: minus the squared distance from a target, in encoded parameters.

    parameters: name to range; target: name to the value that is liked best.
    """

    parameters: tuple[tuple[str, Float], ...]
    target: tuple[float, ...]

    def parts(self, columns: Columns) -> Array:
        """(k, d): minus the squared distance along each parameter, in widths of its range."""
        distance = [
            parameter.axis.encode(np.asarray(columns[name], float)) - parameter.axis.encode(np.asarray(value))
            for (name, parameter), value in zip(self.parameters, self.target, strict=True)
        ]
        return 0.0 - np.stack(distance, axis=1) ** 2  # and not -0.0 at the target

    def __call__(self, columns: Columns) -> dict[str, Array]:
        return {"liking": np.sum(self.parts(columns), axis=1)}


def taste_problem(name: str, taste: int = 0) -> Problem:
    """One of `RENDERED`, with a hidden taste by seed.

    >>> problem = taste_problem("landscape", 3)
    >>> problem.name, problem(problem.optimum.params)
    ('landscape@taste3', {'liking': 0.0})
    """
    module = importlib.import_module(f".{RENDERED[name]}", __package__)
    parameters: dict[str, Float] = module.PARAMETERS
    space = Space(parameters)
    rng = np.random.default_rng([taste, *name.encode()])
    target = space.decode(space.canonical(0.2 + 0.6 * rng.random((1, space.dimension)))[0])
    make = getattr(module, "taste", Nearness)
    return Problem(
        name if taste == 0 else f"{name}@taste{taste}",
        Task(space, (Objective("liking", maximize=True),), feedback="ranking"),
        make(tuple(parameters.items()), tuple(target.values())),
        Optimum(0.0, target, "closed form: the hidden taste itself"),
        "made for bbopt; the setting of a person with a hidden taste is that of Tang, Rybin, Chang (ICLR 2024)",
        DOCS[name],
    )


def renderer(name: str) -> Renderer:
    """What shows the points of one of `RENDERED`."""
    result: Renderer = getattr(importlib.import_module(f".{RENDERED[name]}", __package__), name)
    return result


def renderer_for(task: Task) -> Renderer | None:
    """What shows the points of a task: the renderer whose parameters are called as the task's are, or None."""
    for name, module in RENDERED.items():
        if set(importlib.import_module(f".{module}", __package__).PARAMETERS) == set(task.space.parameters):
            return renderer(name)
    return None
