"""The sentences and the quoted numbers of the page about a comparison of classifiers."""

from __future__ import annotations

from bbopt.bench_classify.figures import label
from bbopt.bench_classify.scores import BINS
from bbopt.bench_classify.summary import Summary
from bbopt.report.theme import number
from problems.classification import DataSet, data_set

__all__ = [
    "QUOTED",
    "QUOTED_COLUMNS",
    "QUOTED_TEXT",
    "about_data",
    "about_model",
    "definitions",
    "difference_caption",
    "lead",
    "missing",
    "protocol",
    "rank_caption",
    "shares",
]

QUOTED_TEXT = (
    "F1 with all training rows, in brackets with a tenth of them: means of 20 repeats from Picard, Ahmed (2024), Fast and "
    "Accurate Zero-Training Classification for Tabular Engineering Data, arXiv 2401.06948, as stored in the plotting "
    "notebook of its public code (GitHub cyrilpic/classification4design). None of it was run again here: AutoGluon and "
    "XGBoost are not part of this comparison. Shown are the four data sets that have a relative in this suite; thresholds, "
    "boxes, rows and the truss differ, so that only the order of the models may be compared. TabPFN is version 1; "
    "AG+ and AG~ are AutoGluon's presets “best” and “medium”; a star is a search of 100 trials for hyperparameters, by "
    "accuracy, which explains the zeros on the unbalanced beam."
)
QUOTED_COLUMNS = (
    "solar heat exchanger, 500 rows",
    "3-bar truss in 6-D, 1000 rows",
    "welded beam, 2000 rows",
    "welded beam balanced, 2500 rows",
)
QUOTED = (
    ("TabPFN", (".989 (.930)", ".884 (.529)", ".679 (.094)", ".904 (.840)")),
    ("XGBoost", (".980 (.894)", ".850 (.638)", ".455 (.049)", ".853 (.696)")),
    ("AG+", (".986 (.901)", ".885 (.595)", ".525 (.093)", ".922 (.804)")),
    ("AG~", (".973 (.877)", ".867 (.535)", ".540 (.108)", ".915 (.726)")),
    ("XGBoost*", (".977 (.903)", ".849 (.606)", ".340 (.050)", ".845 (.679)")),
    ("SVM*", (".980 (.913)", ".851 (.562)", ".000 (.057)", ".912 (.799)")),
    ("k-NN*", (".979 (.865)", ".788 (.542)", ".402 (.104)", ".892 (.752)")),
    ("decision tree*", (".972 (.853)", ".711 (.472)", ".000 (.027)", ".808 (.653)")),
)


def lead(summary: Summary) -> str:
    """What was compared, in one sentence."""
    models, data, seeds = len(summary.models), len(summary.data), len(summary.seeds)
    sizes = ", ".join(map(str, summary.sizes))
    return (
        f"{models} classifier{'s' * (models != 1)} on {data} engineering data set{'s' * (data != 1)} made by formula, "
        f"trained with {sizes} rows, {seeds} training draw{'s' * (seeds != 1)} each."
    )


def missing(summary: Summary) -> list[str]:
    """What the page lacks: models that could not be used, jobs without a result."""
    found = [f"{label(name)} is left out: {reason}" for name, reason in summary.left_out.items()]
    left = summary.planned - summary.complete
    if left:
        text = f"{left} of {summary.planned} trainings have no result yet; the same command goes on with them."
        found.append(text + " Means are over those that have one.")
    for job, error in list(summary.errors.items())[:5]:
        found.append(f"{label(job.model)} on {label(job.data)}, {job.size} rows, seed {job.seed}: {error}")
    if len(summary.errors) > 5:
        found.append(f"{len(summary.errors) - 5} more errors stand in results.jsonl.")
    return found


def protocol(summary: Summary) -> list[tuple[str, str]]:
    """How it was done."""
    session = (summary.definition.get("sessions") or [{}])[-1]
    versions = ", ".join(f"{name} {version}" for name, version in session.get("versions", {}).items())
    machine = session.get("machine", {})
    limited = [f"{label(n)} up to {limit} rows" for n in summary.models if (limit := summary.limit(n)) is not None]
    rows = [
        ("Trainings", f"{summary.complete} of {summary.planned}"),
        ("Test rows", f"{summary.definition['test']}, the same for every seed"),
        (
            "Training rows",
            "nested: the first rows of one draw per data set and seed, " + ", ".join(map(str, summary.sizes)),
        ),
        ("Seeds", str(len(summary.seeds))),
        ("Threads", "1"),
        ("Versions", versions or "–"),
        ("Machine", f"{machine.get('processor', '–')}, {machine.get('cores', '–')} cores"),
    ]
    return [*rows, ("Limits", "; ".join(limited))] if limited else rows


def rank_caption(summary: Summary) -> str:
    """What the mean ranks are over, and what a dash means."""
    text = (
        "Mean ranks over data sets and seeds; 1 is best, ties share their ranks. At each number of training rows the models "
        "that take part are ranked among themselves. Bold: the best of the row."
    )
    limited = [name for name in summary.models if summary.limit(name) is not None]
    return text + (f" A dash: {', '.join(map(label, limited))} is not trained with that many rows." if limited else "")


def difference_caption(summary: Summary) -> str:
    """What the critical difference diagram is over."""
    sizes = ", ".join(map(str, summary.common_sizes))
    text = (
        "Mean ranks of the models over the data sets, by F1. The score of a model on a data set is the mean of its ranks "
        f"over the seeds and over {sizes} training rows"
    )
    text += " (sizes with all models)" if len(summary.common_sizes) < len(summary.sizes) else ""
    return text + "; bars join models whose mean ranks differ by less than Nemenyi’s critical difference at 5 %."


def definitions(summary: Summary) -> list[str]:
    """The scores in words."""
    return [
        "F1 = 2 TP / (2 TP + FP + FN) with the rarer class as the positive one, 0 where nothing is found; for more than two "
        "classes the mean of the F1 of each class. The decision is the most probable class, for the support vector machine "
        "its own (the sign of its margin, which Platt’s scaling may contradict where one class is rare).",
        "A class that is missing from the training rows gets probability 0; training rows of one class only predict that "
        "class. Calibration error: class-wise, as the mean over the classes of the distance between mean probability and "
        f"observed share in {BINS} bins of equal width, weighted by their rows. All scores but this one are scikit-learn’s.",
        "Rows are uniform in the box of the features, which every model gets scaled to the unit cube; in a balanced data set "
        "uniform within each class, and as many of each.",
    ]


def shares(made: DataSet) -> str:
    """The classes of a data set with their shares.

    >>> shares(data_set("welded_beam"))
    'infeasible 97.3 %, feasible 2.66 %'
    """
    return ", ".join(
        f"{name} {number(100 * share, 3)} %" for name, share in zip(made.classes, made.shares, strict=True)
    )


def about_model(summary: Summary, name: str) -> str:
    """A model with its settings, and with the weights that it came with."""
    settings = summary.definition["models"][name]
    return str(settings["model"]) + (f"; weights {settings['weights']}" if "weights" in settings else "")


def about_data(name: str) -> str:
    """A data set in two sentences."""
    made = data_set(name)
    kind = "features" if made.dimension > 1 else "feature"
    return f"{made.docs} {made.dimension} {kind}; {shares(made)}. {made.source}."
