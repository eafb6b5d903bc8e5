"""Expected utility of the best option: how good the best row of a slate is expected to be.

    qEUBO(x_1 .. x_q) = E[max_i f(x_i)]

Lin, Astudillo, Frazier, Bakshy 2022, "Preference exploration for efficient Bayesian optimization with multiple outcomes"
(AISTATS, arXiv 2203.11382) for pairs; Astudillo, Lin, Bakshy, Frazier 2023, "qEUBO: a decision-theoretic acquisition
function for preferential Bayesian optimization" (AISTATS, arXiv 2303.15746) for slates. A pair has a closed form. For more
rows we do not differentiate a Monte-Carlo average of maxima: given S joint draws of all rows but one, b_s their best,

    E[max] = mean_s E[max(b_s, f(x)) | draw s] = mean_s b_s + mean_s EI_s(x)

where f(x) given draw s is Gaussian. So the last row is integrated in closed form, a slate is filled row by row with the
expected improvement over the rows before it, and polished by taking rows out and seeking them again, one by one. Every
step is the score `ConstrainedLogEI` with the process conditioned on each draw.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.special import ndtr

from surrogates.gp import root_of
from surrogates.improvement import LOG_ROOT_2PI
from surrogates.predictor import Predictor, prior_correlation

Array = NDArray[np.float64]
JITTER = 1e-9  # on the diagonal of the correlations of a slate's rows


def best_of_pair(mean: Array, covariance: Array) -> float:
    """E[max(f_1, f_2)] of two jointly Gaussian numbers: mean (2,), covariance (2, 2) (Lin et al. 2022, equation 2).

    >>> round(best_of_pair(np.zeros(2), np.eye(2)), 6)  # 1 / sqrt(pi)
    0.56419
    """
    difference = float(mean[0] - mean[1])
    spread = float(np.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2.0 * covariance[0, 1], 0.0)))
    if spread == 0.0:
        return float(mean.max())
    u = difference / spread
    return float(mean[1] + spread * (np.exp(-0.5 * u * u - LOG_ROOT_2PI) + u * ndtr(u)))


def best_of_slate(utility: Predictor, rows: Array, normal: Array) -> float:
    """E[max f] over (q, d) rows by S draws: normal (q, S) standard normal numbers. The pair's is exact without draws."""
    moments = utility.forward(rows)
    root = root_of(utility.covariance(rows)[0], float(utility.scale[0]))
    return float((moments.mean[0] + root @ normal[: len(rows)]).max(axis=0).mean())


def given_rows(process: Predictor, rows: Array, normal: Array) -> tuple[Predictor, Array]:
    """The process given each of S joint draws of its own values at rows, and those values (k, S).

    process: one output, one vector of weights; rows: (k, d); normal: (at least k, S) standard normal numbers.
    """
    if not len(rows):
        return process, np.zeros((0, normal.shape[1]))
    scale, H, weights = float(process.scale[0]), process.inverse[0], process.weights[0]
    features = process.inputs.features(rows)
    k = process.correlations(features)[0][0]  # (k, N)
    half = H @ k.T
    rates = 1.0 / process.lengthscales[:, process.inputs.owner]
    prior = prior_correlation(process.kernel, features, features, rates)[0]
    root = root_of(prior - half.T @ half + JITTER * np.eye(len(rows)), 1.0)
    drawn = np.sqrt(scale) * normal[: len(rows)]
    inverse_root = lapack.dtrtri(root, lower=1)[0]
    beta = inverse_root.T @ drawn
    values = k @ weights + root @ drawn + process.mean[0]
    corner = -inverse_root @ (half.T @ H)
    inverse = np.block([[H, np.zeros((len(H), len(rows)))], [corner, inverse_root]])
    extended = np.concatenate([weights - H.T @ (half @ beta), beta])
    X = np.concatenate([process.X, rows])
    return replace(process, X=X, inverse=inverse[None], weights=extended[None]), values
