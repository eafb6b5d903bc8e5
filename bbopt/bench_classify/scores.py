"""How good predictions of classes are: F1, area under the ROC curve, log loss and calibration error.

F1, the area and log loss are scikit-learn's; the calibration error is class-wise (Kull et al., 2019, Beyond temperature
scaling, NeurIPS): probabilities of a class fall into 15 bins of equal width, and the distance between mean probability
and observed share, weighted by the rows of the bin, is averaged over the classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bbopt.bench_classify.models import Prediction

__all__ = ["BINS", "SCORES", "calibration_error", "decisions", "scores", "spread"]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
BINS = 15
SCORES = {"f1": True, "auc": True, "log_loss": False, "calibration": False}
"""Scores of `scores`, and whether more is better."""


def spread(prediction: Prediction, classes: Labels, k: int) -> Array:
    """(q, k) probabilities of all k classes; those that the model has not seen get 0. Rows add up to 1.

    >>> spread(Prediction(np.array([[0.25, 0.75]])), np.array([0, 2]), 3).tolist()
    [[0.25, 0.0, 0.75]]
    """
    whole = np.zeros((len(prediction.probabilities), k))
    whole[:, classes] = np.clip(np.asarray(prediction.probabilities, dtype=np.float64), 0.0, 1.0)
    return np.asarray(whole / whole.sum(axis=1, keepdims=True))


def decisions(prediction: Prediction, probabilities: Array) -> Labels:
    """(q,) labels: the model's own where it gives them, else the most probable class.

    >>> decisions(Prediction(np.array([[0.2, 0.8]])), np.array([[0.2, 0.8]])).tolist()
    [1]
    """
    if prediction.labels is not None:
        return prediction.labels
    most: Labels = np.argmax(probabilities, axis=1)
    return most


def calibration_error(probabilities: Array, truth: Labels) -> float:
    """Class-wise expected calibration error of probabilities (q, k) against labels (q,); 0 is best.

    >>> calibration_error(np.array([[0.5, 0.5]] * 4), np.array([0, 0, 1, 1]))
    0.0
    >>> calibration_error(np.array([[1.0, 0.0]] * 4), np.array([0, 0, 0, 1]))
    0.25
    """
    q, k = probabilities.shape
    total = 0.0
    for label in range(k):
        p = probabilities[:, label]
        place = np.minimum((p * BINS).astype(np.intp), BINS - 1)
        excess = np.bincount(place, weights=p - (truth == label), minlength=BINS)
        total += float(np.abs(excess).sum()) / q
    return float(total / k)


def scores(prediction: Prediction, classes: Labels, truth: Labels, k: int, positive: int | None) -> dict[str, Any]:
    """Scores by name of what a model that has seen `classes` predicts, against labels (q,) of k classes.

    F1 is that of the class `positive`, with None the mean over all k classes (macro); a class that is neither predicted nor there
    counts as 0. `auc` (for more than two classes the mean of one against the rest) is None where a class is missing from
    `truth`. Log loss is in nats; probabilities of 0 count as the smallest step of a float64, 2e-16.
    """
    from sklearn.metrics import f1_score, log_loss, roc_auc_score

    p = spread(prediction, classes, k)
    decided = decisions(prediction, p)
    every = np.arange(k)
    if positive is None:
        f1 = f1_score(truth, decided, labels=every, average="macro", zero_division=0.0)
    else:
        f1 = f1_score(truth, decided, labels=[positive], average="macro", zero_division=0.0)
    auc = None
    if len(np.unique(truth)) == k:
        auc = float(roc_auc_score(truth, p[:, 1]) if k == 2 else roc_auc_score(truth, p, multi_class="ovr"))
    return {
        "f1": float(f1),
        "auc": auc,
        "log_loss": float(log_loss(truth, p, labels=every)),
        "calibration": calibration_error(p, truth),
    }
