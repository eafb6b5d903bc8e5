"""The handwritten digits that scikit-learn ships: 1,797 images of 8 x 8 pixels, no download.

Alpaydin, Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (its test part).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits

from bbopt.errors import UsageError

from .images import ImageSet

__all__ = ["digits"]

TEST_SIZE = 360  # of 1,797, a fifth


def digits(flat: bool = False, seed: int = 0) -> ImageSet:
    """1,437 images for training and 360 for testing, split at random by the seed; pixels from 0 to 1.

    Inputs are (n, 1, 8, 8), or (n, 64) where `flat`. Raises `UsageError` where the seed is no whole number of at least 0.

    >>> images = digits()
    >>> images.train_inputs.shape, images.test_targets.shape
    (torch.Size([1437, 1, 8, 8]), torch.Size([360]))
    """
    if type(seed) is not int or seed < 0:
        raise UsageError(f"digits: expected the seed as a whole number of at least 0, got {seed!r}")
    pixels, classes = _all_digits()
    order = np.random.default_rng([seed, 1797]).permutation(len(pixels))
    test, train = order[:TEST_SIZE], order[TEST_SIZE:]
    images = ImageSet(
        torch.from_numpy(pixels[train]),
        torch.from_numpy(classes[train]),
        torch.from_numpy(pixels[test]),
        torch.from_numpy(classes[test]),
        classes=10,
    )
    return images.flat() if flat else images


@cache
def _all_digits() -> tuple[
    np.ndarray[tuple[int, ...], np.dtype[np.float32]], np.ndarray[tuple[int, ...], np.dtype[np.int64]]
]:
    """All images (1797, 1, 8, 8) and classes (1797,), in the order of the file; only indexed, never handed out."""
    data, classes = load_digits(return_X_y=True)
    return (data / 16.0).astype(np.float32).reshape(-1, 1, 8, 8), classes.astype(np.int64)
