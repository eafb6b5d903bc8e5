"""Rows of a space as vectors of real numbers in which a Gaussian can be moved about, and back.

Numbers and ordered choices take one coordinate each (0 to 1 where bounded), unordered choices one per choice, of which
the largest wins. Columns with a single level take none. Levels freeze when the Gaussian becomes narrower than their
distance; the floor on its width is the idea of the margin of R. Hamano, S. Saito, M. Nomura, S. Shirakawa, CMA-ES with
Margin, GECCO 2022 (arXiv:2205.13482); that a row which changed its level is learnt from at the centre of the level is
from T. Marty, N. Hansen, A. Auger, Y. Semet, S. Héron, LB+IC-CMA-ES, PPSN 2024.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import NormalDist
from typing import Any

import numpy as np

from bbopt.parameters import Categorical, Fixed
from bbopt.space import Space

Array = np.ndarray[Any, np.dtype[Any]]


class Latent:
    """The coordinates of a space: `size` of them."""

    def __init__(self, space: Space) -> None:
        self.space = space
        columns = space.columns
        live = [j for j, levels in enumerate(columns.levels) if levels != 1]
        self.numeric = np.array([j for j in live if columns.kind[j] != "category"], int)
        self.levels = np.array([columns.levels[j] for j in self.numeric], int)
        self.bounded = np.array([columns.bounded[j] for j in self.numeric], bool)
        self.width = np.array([columns.levels[j] - 1.0 if columns.kind[j] == "ordered" else 1.0 for j in self.numeric])
        self.smooth = np.flatnonzero(self.bounded & (self.levels == 0))  # coordinates that must not leave [0, 1]
        self.stepped = np.flatnonzero(self.levels > 0)
        self.choices: list[tuple[int, slice]] = []  # column, its coordinates
        start = len(self.numeric)
        for j in live:
            if columns.kind[j] == "category":
                self.choices.append((j, slice(start, start + columns.levels[j])))
                start += columns.levels[j]
        self.size = start

    def centre(self) -> Array:
        """(size,) the middle of the bounded coordinates; 0 elsewhere, where all choices are equally good."""
        mean = np.zeros(self.size)
        mean[: len(self.numeric)] = np.where(self.bounded, 0.5, 0.0)
        return mean

    def rows(self, T: Array) -> Array:
        """(k, D) canonical rows of coordinates (k, size)."""
        X = np.tile(self.space.neutral, (len(T), 1))
        X[:, self.numeric] = T[:, : len(self.numeric)] * self.width
        for column, part in self.choices:
            X[:, column] = np.argmax(T[:, part], axis=1)
        return self.space.canonical(X)

    def outside(self, T: Array) -> Array:
        """(k,) bool: a continuous coordinate is out of its bounds."""
        inside = T[:, self.smooth]
        return np.asarray(((inside < 0.0) | (inside > 1.0)).any(axis=1))

    def clip(self, T: Array) -> Array:
        """The nearest coordinates within the bounds."""
        clipped = np.array(T)
        count = len(self.numeric)
        clipped[:, :count] = np.where(self.bounded, np.clip(T[:, :count], 0.0, 1.0), T[:, :count])
        return clipped

    def learnt(self, X: Array, T: Array, mean: Array, deviations: Array, held: Iterable[int]) -> Array:
        """(k, size) the coordinates from which to learn of evaluated rows X that were sampled at T.

        Continuous columns count where they were evaluated. A column with levels counts at the centre of its level if
        that is not the mean's, else where it was sampled. Held columns count at the mean, inactive ones where sampled.
        """
        result, count = np.array(T), len(self.numeric)
        at = X[:, self.numeric] / self.width
        sampled, middle = (
            self.rows(T)[:, self.numeric] / self.width,
            self.rows(mean[None])[:, self.numeric] / self.width,
        )
        as_sampled = (self.levels > 0) & (at == middle) & (at == sampled)
        result[:, :count] = np.where(as_sampled, T[:, :count], at)
        for column, part in self.choices:
            for i in np.flatnonzero(np.argmax(T[:, part], axis=1) != X[:, column]):
                result[i, part.start + int(X[i, column])] = T[i, part].max() + deviations[part].mean()
        active = self.space.active(X)
        result[:, :count] = np.where(active[:, self.numeric], result[:, :count], T[:, :count])
        for column in held:
            result[:, :count][:, self.numeric == column] = mean[:count][self.numeric == column]
            for own, part in self.choices:
                if own == column:
                    result[:, part] = mean[part]
        return result

    def at(self, x: Array, width: float) -> Array:
        """(size,) coordinates of one row; its choices are ahead of the others by `width`."""
        t = self.centre()
        t[: len(self.numeric)] = x[self.numeric] / self.width
        for column, part in self.choices:
            t[part.start + int(x[column])] = width
        return t

    def floors(self, mean: Array, rarity: float) -> Array:
        """(size,) standard deviations below which a change of level or choice would be rarer than `rarity` per sample."""
        floor = np.zeros(self.size)
        reach = NormalDist().inv_cdf(1.0 - min(rarity, 0.4))
        if len(self.stepped):
            low, high = self._borders(mean)
            floor[self.stepped] = np.minimum(mean[self.stepped] - low, high - mean[self.stepped]) / reach
        for _, part in self.choices:
            first, second = np.sort(mean[part])[::-1][:2]
            floor[part] = (first - second) / (reach * np.sqrt(2.0))
        return np.maximum(floor, 0.0)

    def _borders(self, mean: Array) -> tuple[Array, Array]:
        """Coordinates at which the levels of the mean end, -inf and inf at the ends of the range."""
        parameters = list(self.space.parameters.values())
        low, high = np.full(len(self.stepped), -np.inf), np.full(len(self.stepped), np.inf)
        for i, k in enumerate(self.stepped):
            parameter = parameters[self.space.columns.group[self.numeric[k]]]
            assert not isinstance(parameter, Fixed)
            x, levels = np.clip(mean[k : k + 1], 0.0, 1.0), int(self.levels[k])
            if isinstance(parameter, Categorical):
                index, values = np.rint(x * (levels - 1)), np.arange(levels) / (levels - 1)
                near = values[np.clip(index[0] + np.array([-1, 0, 1]), 0, levels - 1).astype(int)]
            else:
                axis, value = parameter.axis, parameter.axis.decode(x)
                near = axis.encode(axis.level(value + np.array([-1.0, 0.0, 1.0]) * (axis.step or 1.0)))
            if near[0] < near[1]:
                low[i] = (near[0] + near[1]) / 2
            if near[2] > near[1]:
                high[i] = (near[1] + near[2]) / 2
        return low, high
