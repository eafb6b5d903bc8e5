"""What a data set says about its lengthscales, in closed form: derivatives of the likelihood at fixed reference points.

For a Matern-5/2 process with one lengthscale for all columns, at a small grid of lengthscales and noises, with
A = correlations plus noise and alpha = A^-1 z (Rasmussen and Williams 2006, equation 5.9):

    d log p / d log l_j = (quadratic_j - trace_j) / 2,   quadratic_j = alpha^T A_j alpha,   trace_j = tr(A^-1 A_j),

A_j the derivative of A in log l_j. Both parts, per column and reference point, and the likelihoods themselves are nearly
sufficient for what a network has to find; they cost a few factorisations, which all outputs of the same rows share.
They do not depend on the order of rows, and go along with the order of columns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from surrogates.prior_process import lower_factors

__all__ = ["GLOBAL", "PER_COLUMN", "column_statistics"]

LENGTHS, NOISES = (0.1, 0.3, 0.9, 2.7), (2e-3, 0.2)  # of the reference points
REFERENCES = tuple((length, noise) for length in LENGTHS for noise in NOISES)
PER_COLUMN = 3 * len(REFERENCES)
GLOBAL = 3 * len(REFERENCES)
SMALL = 1e-6


def column_statistics(differences: Tensor, z: Tensor, offset: float) -> tuple[Tensor, Tensor]:
    """(B, m, d, PER_COLUMN) statistics of columns and (B, m, GLOBAL) of all, for m values z (B, m, n) per row.

    differences: (B, d, n, n) squared differences of the rows, column by column. offset: prior variance of the constant
    mean, in units of the process's. float64 in, float32 out, of the order of 1.

    >>> X = torch.rand(2, 9, 3, dtype=torch.float64)
    >>> differences = (X[:, :, None] - X[:, None]).square().permute(0, 3, 1, 2)
    >>> columns, whole = column_statistics(differences, X.sum(-1)[:, None], 10.0)
    >>> columns.shape, whole.shape
    (torch.Size([2, 1, 3, 24]), torch.Size([2, 1, 24]))
    """
    d, n = differences.shape[1:3]
    distance, flat = differences.sum(1), differences.flatten(2)  # (B, n, n), (B, d, n n)
    columns, whole = [], []
    for length in LENGTHS:
        ell = length * math.sqrt(d)
        s = (5.0 * distance).sqrt() / ell
        decay = torch.exp(-s)
        slope = ((5.0 / 3.0) * (1.0 + s) * decay / ell**2)[:, None]
        A = (1.0 + s + s.square() / 3.0) * decay + offset
        for noise in NOISES:
            L = lower_factors(A, torch.full_like(A[..., 0], noise**2))
            inverse = torch.cholesky_inverse(L)
            alpha = z @ inverse  # (B, m, n)
            fit = (alpha * z).sum(-1)  # (B, m)
            log_det = 2.0 * L.diagonal(dim1=-2, dim2=-1).log().sum(-1)[:, None]
            pairs = torch.cat([inverse[:, None], alpha[..., :, None] * alpha[..., None, :]], 1)  # (B, 1 + m, n, n)
            sums = flat @ (slope * pairs).flatten(2).transpose(1, 2)  # (B, d, 1 + m)
            trace = sums[..., :1].transpose(1, 2)
            quadratic = sums[..., 1:].transpose(1, 2) * (n / (fit[..., None] + SMALL))
            columns += [
                torch.asinh(30.0 * quadratic / n), torch.asinh(30.0 * trace / n).expand_as(quadratic),
                torch.asinh((quadratic - trace) / math.sqrt(n)),
            ]  # fmt: skip
            whole += [torch.log(fit / n + SMALL), -0.5 * log_det - 0.5 * n * torch.log(fit / n + SMALL), log_det / n]
    evidence = torch.stack([part.expand_as(whole[0]) for part in whole[1::3]], -1)
    evidence = torch.asinh(0.3 * (evidence - evidence.amax(-1, keepdim=True)))
    logs = torch.stack([part.expand_as(whole[0]) for index, part in enumerate(whole) if index % 3 != 1], -1)
    return torch.stack(columns, -1).float(), torch.cat([evidence, logs], -1).float()
