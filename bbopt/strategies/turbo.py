"""Bayesian optimisation in a trust region, for many columns: TuRBO-1, and SCBO where there are constraints.

Eriksson et al. 2019 (arXiv 1910.01739) and Eriksson and Poloczek 2021 (arXiv 2002.08526): a Gaussian process of the rows of
a region around the best row (`turbo_model`); of candidates in the region (`turbo_candidates`) those that are best in a draw
of the posterior (Thompson sampling) are asked, one draw for each row of a batch: the lowest objective among the candidates that
are feasible in the draw, or the least violation where none is. Success and failure move the region's length
(`turbo_region`).

Differences: rows out are not asked again; without noise no told row is; rows that cannot work are learnt from as in `gp`;
where columns are held, the region lies around the row that the model likes best under their values; where a region of steps
and choices is used up, rows come from the whole space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from bbopt.errors import UsageError
from bbopt.query import Answer, Key, Query, Request
from bbopt.strategies.blas_thread import one_blas_thread
from bbopt.strategies.gp_domain import design_size, domain_of, finite_points, spread_rows
from bbopt.strategies.gp_state import GPState
from bbopt.strategies.haste import NO_FIT, NO_MODEL, fits_in, near_best, with_note
from bbopt.strategies.turbo_region import SUCCESSES, TurboState, better_first, tolerance
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]
REST = 256  # rows of the whole space that are looked at where the region is used up


@dataclass(frozen=True)
class Turbo:
    """A trust region around the best row, searched by Thompson sampling from a local Gaussian process.

    initial: rows of the space-filling design with which every region starts; None: twice (d + 1), at least 5, at most 50, and
    at most a quarter of `budget`. budget: evaluations planned, used for nothing else. successes: batches in a row that
    must bring an improvement before the region grows; failures: rows in a row without one before it shrinks, None: as many as
    there are columns, at least 4 and at most 20.

    >>> Turbo(initial=20)
    Turbo(initial=20, budget=None, successes=3, failures=None)
    """

    initial: int | None = None
    budget: int | None = None
    successes: int = SUCCESSES
    failures: int | None = None

    handles: ClassVar[frozenset[str]] = frozenset({"constraints", "noise", "fixed", "categorical", "conditional"})
    learns: ClassVar[Literal["rows", "queries"]] = "rows"
    instant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("initial", "budget", "successes", "failures"):
            value = getattr(self, name)
            if value is None and name != "successes":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                least = "at least 1" if name == "successes" else "at least 1, or None"
                raise UsageError(f"Turbo: expected {name} as a whole number of {least}; got {value!r}")

    def init(self, task: Task, key: Key) -> TurboState:
        return TurboState.empty(task)

    def tell(self, task: Task, state: TurboState, query: Query, answer: Answer) -> TurboState:
        return state.after(query, answer, self.successes, self.failures or tolerance(task.space.dimension))

    def ask(self, task: Task, state: TurboState, request: Request, key: Key) -> Query:
        with np.errstate(all="ignore"), one_blas_thread():
            asked = sum(query.size for query in request.open if query.memo.get("region") == state.number)
            have = len(state.rows) + state.failed + min(asked, len(request.pending))
            spread = min(max(design_size(task, self.initial, self.budget) - have, 0), request.n)
            rows, memo = [spread_rows(task, request, key, spread)], dict[str, Any]()
            if spread < request.n:
                more, memo = self._modelled(task, state, request, key, request.n - spread, rows[0])
                rows.append(more)
        held = [[column, value] for column, value in sorted(request.held.items())]
        return Query(np.concatenate(rows), {"region": state.number, "design": spread, "held": held, **memo})

    def recommend(self, task: Task, state: TurboState) -> Array | None:
        """The told row with the best posterior mean of its region's model among those believed feasible."""
        told = state.told
        if not len(told.X):
            return None
        best = int(better_first(told.values)[0])
        if not task.noisy and np.isnan(told.std).all():
            return np.array(told.X[best])
        from bbopt.strategies.turbo_model import local_model, nearest

        with np.errstate(all="ignore"), one_blas_thread():
            rows = np.flatnonzero(state.region == state.region[best])
            rows = rows[nearest(told.X[rows], told.X[best], np.ones(task.space.dimension))]
            model = local_model(task, _only(told, rows), {}, False)
            values = np.where(model.noisy, model.gp.mean_variance(model.gp.X)[0], model.gp.Z)
        return np.array(told.X[rows[better_first(values)[0]]])

    def _modelled(
        self, task: Task, state: TurboState, request: Request, key: Key, n: int, before: Array
    ) -> tuple[Array, dict[str, Any]]:
        """(n, D) rows of the region, and the memo; before: rows of the same ask that the design gave."""
        pending = np.concatenate([request.pending, before])
        if not len(state.rows):
            if not len(state.told.failed):
                return spread_rows(task, request, key, n, len(before)), {}
            from bbopt.strategies.failures import rows_away

            nothing = replace(state.told, X=state.told.X[:0], values=state.told.values[:0])
            return rows_away(task, nothing, request, key, n, pending), {}
        if not fits_in(request.deadline, min(len(state.rows), 400), 1 + task.c, refit=False):
            return self._in_haste(task, state, request, key, n, pending), {"note": NO_MODEL}
        try:
            return self._drawn(task, state, request, key, n, pending)
        except (ArithmeticError, np.linalg.LinAlgError) as trouble:
            note = f"the model failed ({trouble}); space-filling points instead"
            return spread_rows(task, request, key, n, len(before)), {"note": note}

    def _in_haste(self, task: Task, state: TurboState, request: Request, key: Key, n: int, pending: Array) -> Array:
        from bbopt.strategies.turbo_draws import away_from

        domain, rng = domain_of(task, request.held), key.rng("haste")
        rows = state.rows[better_first(state.told.values[state.rows])[:3]]
        best = domain.settle(state.told.X[rows], rng)
        return near_best(domain, best, away_from(task, state.told, pending), rng, n)

    def _drawn(
        self, task: Task, state: TurboState, request: Request, key: Key, n: int, pending: Array
    ) -> tuple[Array, dict[str, Any]]:
        from bbopt.strategies.turbo_candidates import candidates, moving, sides
        from bbopt.strategies.turbo_draws import Scene, away_from, choose, local_chance
        from bbopt.strategies.turbo_model import local_model, nearest

        domain, points = domain_of(task, request.held), finite_points(task, request.held)
        told, rng = state.told, key.rng("region")
        warm = told.warm(request.open)
        warm = warm if warm.get("region") == state.number else {}
        free = moving(domain)
        weights = sides(np.asarray(warm["lengthscales"])[0], free) if warm else np.ones(domain.dimension)
        best = state.rows[better_first(told.values[state.rows])[0]]
        rows = state.rows[nearest(told.X[state.rows], told.X[best], weights)]
        hurried = not fits_in(request.deadline, len(rows), 1 + task.c, refit=True)
        model = local_model(task, _only(told, rows), warm, hurried)
        weights = sides(model.gp.fitted[0].lengthscales, free)
        centre = self._centre(model, domain, request.held, rng)
        away = away_from(task, told, pending, 0.0 if points is not None else None)
        space = candidates(centre, state.length, weights, domain, rng)
        scene = Scene(model.gp, space, away, local_chance(task, state, rows))
        chosen = choose(scene, n, rng)
        if len(chosen) < n:  # the region is used up
            rest = domain.sample(REST, rng) if points is None else points
            rest = rest[~away(rest) & ~(rest[:, None] == chosen[None]).all(axis=2).any(axis=1)]
            chosen = np.concatenate([chosen, rng.permutation(rest)[: n - len(chosen)]])
        if len(chosen) < n:  # the space is, too
            chosen = np.concatenate([chosen, domain.sample(n - len(chosen), rng)])
        count = len(told.X)
        memo = model.memo | {"fitted": count, "seen": count, "hash": told.fingerprint(count), "length": state.length}
        return chosen, with_note(memo, NO_FIT if hurried else "")

    def _centre(self, model: Any, domain: Any, held: Mapping[int, float], rng: np.random.Generator) -> Array:
        """(D,) the row around which the region lies: the best told one; by the model where there is noise or columns are held."""
        gp = model.gp
        X = domain.settle(gp.X, rng) if held else gp.X
        values = gp.mean_variance(X)[0] if held else np.where(model.noisy, gp.mean_variance(X)[0], gp.Z)
        return np.asarray(domain.settle(X[better_first(values)[:1]], rng)[0])


def _only(told: GPState, rows: Array) -> GPState:
    """Some of the told rows."""
    return replace(told, X=told.X[rows], values=told.values[rows], std=told.std[rows])
