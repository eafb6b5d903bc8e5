"""What bbopt is tried on: problems with a known optimum and a source, found by name.

>>> import bbopt
>>> bbopt.problems.get("pressure_vessel").optimum.value
5885.332773623439
>>> len(bbopt.problems.names("engineering"))
17

Names. The engineering problems have the names in `names("engineering")`; `NAME_mixed` is the twin of one with
discrete variables, `NAME@boeb_2024_04` and `NAME@boeb_head` the two states of the public code of the PFN-CEI benchmark.
The synthetic functions are `branin`, `hartmann3`, `hartmann6` and `FAMILY_D` in D dimensions, such as `ackley_10`
(families in `problems.synthetic.FAMILIES`). `@shiftS` moves the optimum of a synthetic function to a random place in
the box, `@rotateS` turns the function about its optimum, both by the seed S: `rastrigin_5@shift3+rotate3`.
The loss of a small network, with its weights as parameters, is `network_mlp_64_32_10`, `network_mlp_tanh_64_32_10`,
`network_cnn_8_16` or `network_resnet20`, with any sizes in between, and `@seedS` for another start (needs torch; see
`problems.networks.loss`). These are in no suite: they have a start, `problem.start`, without which they make no sense.

What people rank: `landscape`, `sunset`, `poster`, `tone` and `verse`, with `@tasteS` for another hidden taste; their tasks ask
for rankings, and `renderer(name)` shows their points (`problems.tastes`). `Person` is somebody who ranks. Ranking oracles are
tried on `quadratic_100@start0` and `rosenbrock_100@start0` (any dimension, any seed of the start) and on `reacher`, a policy.
Any problem is there with the other kind of answer, too: `branin@ranked`, `landscape@values`.

Where nature draws some parameters (`names("environments")`), a call is one design in one environment, and the optimum that
of a functional over them: `problem.risk(design)`.

Data sets for classification, made by formula, are found by `data_set(name)`; `data_sets()` lists them.

Modules are imported when one of their problems is asked for.
"""

from __future__ import annotations

import difflib
import importlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bbopt.errors import MissingPackage, UsageError

if TYPE_CHECKING:
    from bbopt.task import Task

    from .classification import DataSet, data_set, data_sets
    from .people import Person
    from .problem import Optimum, Problem
    from .tastes import Renderer

__bbopt__ = True  # tells a folder of the same name apart, see bbopt.neighbours
__all__ = [
    "DataSet", "Optimum", "Person", "Problem", "data_set", "data_sets", "get", "names", "renderer", "renderer_for", "suites",
]  # fmt: skip

_VARIED = {  # function: module, of the problems whose form in the benchmark's public code differs from the literature's
    "concrete_beam": "structures",
    "spring": "machines",
    "pressure_vessel": "machines",
    "speed_reducer": "machines",
    "heat_exchanger": "machines",
    "cantilever": "structures",
    "car_side_impact": "car",
}

_Entry = tuple[str, str, tuple[Any, ...]]  # module, function, its arguments

_ENGINEERING: dict[str, _Entry] = {
    "jlh1": ("engineering_analytic", "jlh1", ()),
    "jlh2": ("engineering_analytic", "jlh2", ()),
    "gkxwc1": ("engineering_analytic", "gkxwc1", ()),
    "gkxwc2": ("engineering_analytic", "gkxwc2", ()),
    "ackley_constrained_2": ("engineering_analytic", "ackley_constrained", (2,)),
    "ackley_constrained_6": ("engineering_analytic", "ackley_constrained", (6,)),
    "ackley_constrained_10": ("engineering_analytic", "ackley_constrained", (10,)),
    "keane_bump_18": ("engineering_analytic", "keane_bump", ()),
    "three_bar_truss": ("engineering_structures", "three_bar_truss", ()),
    "concrete_beam": ("engineering_structures", "concrete_beam", ()),
    "spring": ("engineering_machines", "spring", ()),
    "pressure_vessel": ("engineering_machines", "pressure_vessel", ()),
    "welded_beam": ("engineering_structures", "welded_beam", ()),
    "speed_reducer": ("engineering_machines", "speed_reducer", ()),
    "heat_exchanger": ("engineering_machines", "heat_exchanger", ()),
    "cantilever": ("engineering_structures", "cantilever", ()),
    "car_side_impact": ("engineering_car", "car_side_impact", ()),
}


def _forms(form: str, separator: str, *of: str) -> dict[str, _Entry]:
    return {f"{name}{separator}{form}": (f"engineering_{_VARIED[name]}", name, (form,)) for name in of}


_MIXED = ("concrete_beam", "pressure_vessel", "speed_reducer", "cantilever", "car_side_impact")
_EXTRA: dict[str, _Entry] = {
    "reacher": ("policy", "reacher", ()),
    **{
        f"branin_williams_{over}": ("environments", "branin_williams", (over, level))
        for over, level in (("mean", None), ("cvar", 0.7))
    },
    **{f"tail_{over}": ("environments", "tail", (over,)) for over in ("mean", "worst", "var", "cvar")},
    **{
        f"cantilever_load_{over}": ("environments", "cantilever_load", (over, level))
        for over, level in (("mean", None), ("cvar", 0.9))
    },
    "rustem_howe": ("environments", "rustem_howe", ()),
    "welded_beam_coello": ("engineering_structures", "welded_beam", ("coello",)),
    **_forms("mixed", "_", *_MIXED),
    **_forms("boeb_2024_04", "@", *_VARIED),
    **_forms("boeb_head", "@", *_VARIED),
}

_SUITES: dict[str, tuple[str, ...]] = {
    "engineering": tuple(_ENGINEERING),
    "engineering-mixed": tuple(f"{name}_mixed" for name in _MIXED),
    "engineering-boeb-2024-04": tuple(f"{name}@boeb_2024_04" for name in _VARIED),
    "engineering-boeb-head": tuple(f"{name}@boeb_head" for name in _VARIED),
    "synthetic": (
        "branin",
        "hartmann3",
        "hartmann6",
        "ackley_10@shift0",
        "levy_10",
        "rosenbrock_10",
        "rastrigin_10@shift0",
        "griewank_10@shift0",
        "styblinski_tang_10",
        "sphere_10@shift0",
        "ellipsoid_10@shift0+rotate0",
    ),
    "people": ("landscape", "sunset", "poster", "tone", "verse"),
    "environments": (
        "branin_williams_mean",
        "branin_williams_cvar",
        "tail_mean",
        "tail_worst",
        "tail_var",
        "tail_cvar",
        "cantilever_load_mean",
        "cantilever_load_cvar",
        "rustem_howe",
    ),
    "rank-oracles": ("quadratic_100@start0", "rosenbrock_100@start0", "reacher"),
}

_SYNTHETIC = re.compile(
    r"(?:(?P<fixed>branin|hartmann[36])|(?P<family>[a-z_]+)_(?P<dimension>[1-9]\d{0,5}))"
    r"(?:@(?!\+)(?:shift(?P<shift>\d{1,18}))?(?:\+?rotate(?P<rotate>\d{1,18}))?)?"
)
_UNBOUNDED = re.compile(r"(quadratic|rosenbrock)_([1-9]\d{0,5})@start(\d{1,18})")
_TASTE = re.compile(r"(landscape|sunset|poster|tone|verse)(?:@taste([1-9]\d{0,17}))?")


def suites() -> tuple[str, ...]:
    """Names of the suites.

    >>> suites()[:2]
    ('engineering', 'engineering-mixed')
    """
    return tuple(_SUITES)


def names(suite: str | None = None) -> tuple[str, ...]:
    """Names of the problems of a suite in its order, or of all that are listed anywhere.

    The synthetic functions exist in every dimension and with every seed; the list has one of each.
    Raises `UsageError` for an unknown suite.

    >>> names("engineering-mixed")[:2]
    ('concrete_beam_mixed', 'pressure_vessel_mixed')
    """
    if suite is None:
        return tuple(dict.fromkeys([name for listed in _SUITES.values() for name in listed] + list(_EXTRA)))
    if suite not in _SUITES:
        raise UsageError(f"no suite {suite!r}; there are {', '.join(_SUITES)}")
    return _SUITES[suite]


def get(name: str) -> Problem:
    """The problem of this name. Raises `UsageError` with the nearest names where there is none.

    >>> get("welded_beam").task.metrics[:2]
    ('cost', 'shear_stress')
    """
    problem = _find(name)
    if problem is None or problem.name != name:
        near = difflib.get_close_matches(name, names(), n=4, cutoff=0.5)
        hint = (
            f"did you mean {', '.join(near)}?"
            if near
            else f"the suites are {', '.join(_SUITES)}; names(suite) lists one."
        )
        raise UsageError(
            f"no problem {name!r}; {hint} Synthetic ones are called like branin, ackley_10, levy_4@shift3, networks like "
            f"network_mlp_64_32_10; NAME@ranked and NAME@values are for the other kind of answer"
        )
    return replace(problem, suites=tuple(suite for suite, listed in _SUITES.items() if name in listed))


def _find(name: str) -> Problem | None:
    """The problem that the name describes, None where it describes none."""
    base, _, form = name.rpartition("@")
    if base and form in ("ranked", "values"):
        found = _find(base)
        return found and (found.ranked() if form == "ranked" else found.valued())
    entry = {**_ENGINEERING, **_EXTRA}.get(name)
    if entry is not None:
        module, function, arguments = entry
        problem: Problem = getattr(importlib.import_module(f".{module}", __name__), function)(*arguments)
        return problem
    if taste := _TASTE.fullmatch(name):
        from .tastes import taste_problem

        return taste_problem(taste[1], int(taste[2] or 0))
    if start := _UNBOUNDED.fullmatch(name):
        from .unbounded import unbounded

        return unbounded(start[1], int(start[2]), int(start[3]))
    return _network(name) if name.startswith("network_") else _synthetic(name)


def renderer(name: str) -> Renderer:
    """What shows the points of a problem that people rank, `landscape` and the others of `names("people")`: a function from
    params to a PNG or WAV file as bytes, or to SVG or plain text. Raises `UsageError` for another name.

    >>> problem = get("landscape")
    >>> renderer("landscape")(problem.optimum.params)[1:4]
    b'PNG'
    """
    taste = _TASTE.fullmatch(name.removesuffix("@values"))
    if taste is None:
        raise UsageError(f"no renderer for {name!r}; there is one for each of {', '.join(_SUITES['people'])}")
    from . import tastes

    return tastes.renderer(taste[1])


def renderer_for(task: Task) -> Renderer | None:
    """What shows the points of a task whose parameters are called as those of a problem that people rank; None for others.

    >>> renderer_for(get("branin").task) is None
    True
    """
    from . import tastes

    return tastes.renderer_for(task)


def _synthetic(name: str) -> Problem | None:
    """The synthetic function that the name describes, None where it describes none."""
    match = _SYNTHETIC.fullmatch(name)
    if match is None:
        return None
    from .synthetic import FAMILIES, synthetic

    if match["family"] and match["family"] not in FAMILIES:
        return None
    number = {key: int(match[key]) if match[key] else None for key in ("dimension", "shift", "rotate")}
    return synthetic(match["fixed"] or match["family"], number["dimension"], number["shift"], number["rotate"])


def _network(name: str) -> Problem | None:
    """The loss of the network that the name describes, None where it describes none."""
    try:
        from .networks.loss import network_problem
    except ModuleNotFoundError as missing:
        raise MissingPackage(
            f"{name} needs torch and scikit-learn ({missing}); pip install 'bbopt[network]'"
        ) from missing

    return network_problem(name)


def __getattr__(name: str) -> Any:
    if name == "Person":
        return importlib.import_module(".people", __name__).Person
    if name in ("Optimum", "Problem"):
        return getattr(importlib.import_module(".problem", __name__), name)
    if name in ("DataSet", "data_set", "data_sets"):
        return getattr(importlib.import_module(".classification", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
