"""One job of a comparison of classifiers: train a model on the first rows of a draw and score it on the test rows.

The training draw is a function of the data set and the seed, the test rows of the data set alone. What happens in a
process before a job, such as imports, is kept out of its CPU seconds by one training on a few rows.
"""

from __future__ import annotations

import hashlib
import time
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bbopt.bench_classify.models import Prediction, fit, model, unavailable
from bbopt.bench_classify.plan import Job
from bbopt.bench_classify.results import Result
from bbopt.bench_classify.scores import scores
from bbopt.errors import UsageError
from problems.classification import DataSet, data_set
from surrogates.columns import Inputs

__all__ = ["held_out", "run_job", "training_rows"]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
TRAINING, TESTING = 1, 2
OFF = 1e-3  # how far probabilities may be from adding up to 1


def _generator(name: str, purpose: int, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng([int.from_bytes(digest[:8], "big"), purpose, seed])


@lru_cache(maxsize=4)
def training_rows(name: str, seed: int, size: int) -> tuple[Array, Labels]:
    """The first `size` rows of the training draw of a data set and a seed, and their labels.

    >>> few, many = training_rows("four_islands", 0, 5), training_rows("four_islands", 0, 9)
    >>> bool((few[0] == many[0][:5]).all())
    True
    """
    return data_set(name).sample(size, _generator(name, TRAINING, seed))


@lru_cache(maxsize=8)
def held_out(name: str, n: int) -> tuple[Array, Labels]:
    """The n test rows of a data set and their labels, the same for every seed."""
    return data_set(name).sample(n, _generator(name, TESTING, 0))


def run_job(job: Job, test: int) -> Result:
    """Train and score. An exception of the model becomes a result with an error; only programs that are to end are let through."""
    chosen, made = model(job.model), data_set(job.data)
    X, labels = training_rows(job.data, job.seed, job.size)
    rows, truth = held_out(job.data, test)
    columns = made.space.columns
    inputs = Inputs(columns.kind, columns.levels, columns.group)
    try:
        reason = unavailable(job.model)
        if reason:
            raise UsageError(reason)
        start = time.process_time()
        fitted = fit(chosen, inputs, X.copy(), labels.copy(), job.seed)
        prediction = fitted.predict(rows.copy())
        seconds = time.process_time() - start
        classes = fitted.classes
        _check(prediction, classes, made, len(rows))
        found = scores(prediction, classes, truth, len(made.classes), made.positive)
    except Exception as error:  # whatever it is, it is one model's failure; the next call tries it again
        return Result(job, {}, error=f"{type(error).__name__}: {error}")
    return Result(job, found, seconds, len(np.unique(labels)))


def _check(prediction: Prediction, classes: Labels, made: DataSet, rows: int) -> None:
    """Raise UsageError where a prediction is not one of probabilities."""
    p = prediction.probabilities
    if p.shape != (rows, len(classes)) or not set(classes.tolist()) <= set(range(len(made.classes))):
        raise UsageError(
            f"expected probabilities of shape ({rows}, {len(classes)}), got {p.shape} of classes {classes}"
        )
    if not np.isfinite(p).all() or p.min() < -OFF or np.abs(p.sum(axis=1) - 1.0).max() > OFF:
        raise UsageError("expected probabilities that are finite, not negative and add up to 1")
