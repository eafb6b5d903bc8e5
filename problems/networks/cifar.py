"""CIFAR-10 from a folder that the user has: 60,000 colour images of 32 x 32 in ten classes. Nothing is downloaded.

Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images. Two of its published forms are read:

* the binary version, `cifar-10-batches-bin`: records of one byte for the class and 3,072 for the pixels, channel by
  channel and row by row;
* the Python version, `cifar-10-batches-py`, whose files are pickles. They are read by `batch_reader`, which takes the
  numbers out and runs nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from bbopt.errors import UsageError

from .batch_reader import read_batch
from .images import ImageSet

__all__ = ["DEVIATION", "MEAN", "cifar10"]

MEAN = (0.4914, 0.4822, 0.4465)
"""Mean of each channel over the training images, pixels from 0 to 1."""
DEVIATION = (0.2470, 0.2435, 0.2616)
"""Standard deviation of each channel over the pixels of the training images."""

ROWS = 10_000  # images in a file
PIXELS = 3 * 32 * 32
_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
_TEST = ("test_batch",)
_FORMS = (("cifar-10-batches-bin", ".bin"), ("cifar-10-batches-py", ""))

Bytes = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def cifar10(folder: str | Path) -> ImageSet:
    """CIFAR-10 as float32, (50000, 3, 32, 32) and (10000, 3, 32, 32), less the mean and divided by the deviation.

    folder: where `data_batch_1.bin` (or `data_batch_1`) to 5 and `test_batch.bin` (`test_batch`) are, or the folder
    above it, as the published archives unpack. Takes some 740 MB. Raises `UsageError` where a file is missing, has the
    wrong size, or holds something else.
    """
    place, ending = _find(Path(folder))
    train, train_classes = _read_all(place, ending, _TRAIN)
    test, test_classes = _read_all(place, ending, _TEST)
    return ImageSet(
        torch.from_numpy(train),
        torch.from_numpy(train_classes),
        torch.from_numpy(test),
        torch.from_numpy(test_classes),
        classes=10,
        mean=MEAN,
        deviation=DEVIATION,
    )


def _find(folder: Path) -> tuple[Path, str]:
    """Where the files are, and how their names end."""
    for inner, ending in _FORMS:
        for place in (folder, folder / inner):
            if (place / (_TRAIN[0] + ending)).is_file():
                missing = [name + ending for name in (*_TRAIN, *_TEST) if not (place / (name + ending)).is_file()]
                if missing:
                    raise UsageError(f"cifar10: {place} lacks {', '.join(missing)}; unpack the archive again")
                return place, ending
    raise UsageError(
        f"cifar10: expected data_batch_1.bin to data_batch_5.bin and test_batch.bin (the binary version), or the same "
        f"names without .bin (the Python version), in {folder} or a folder cifar-10-batches-bin or cifar-10-batches-py "
        f"in it; found {'neither' if folder.is_dir() else 'no such folder'}. Put the unpacked archive there, or use digits()"
    )


def _read_all(
    place: Path, ending: str, names: tuple[str, ...]
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    """Inputs (n, 3, 32, 32) and classes (n,) of several files in order, one file in memory at a time."""
    inputs = np.empty((len(names) * ROWS, 3, 32, 32), np.float32)
    classes = np.empty(len(names) * ROWS, np.int64)
    mean = np.array(MEAN, np.float32)[:, None, None]
    deviation = np.array(DEVIATION, np.float32)[:, None, None]
    for i, name in enumerate(names):
        path = place / (name + ending)
        pixels, labels = _read_binary(path) if ending else read_batch(path, ROWS, PIXELS)
        if labels.max() > 9:
            raise UsageError(f"cifar10: expected classes from 0 to 9 in {path}, got {labels.max()}; is this CIFAR-10?")
        part = slice(i * ROWS, (i + 1) * ROWS)
        inputs[part] = pixels.reshape(ROWS, 3, 32, 32)
        classes[part] = labels
        inputs[part] = (inputs[part] / np.float32(255) - mean) / deviation
    return inputs, classes


def _read_binary(path: Path) -> tuple[Bytes, Bytes]:
    """Pixels (ROWS, 3072) and classes (ROWS,) of a file of the binary version."""
    size, wanted = path.stat().st_size, ROWS * (1 + PIXELS)
    if size != wanted:
        raise UsageError(
            f"cifar10: expected {wanted} bytes in {path} ({ROWS} records of 3073), got {size}; get the file again"
        )
    records = np.fromfile(path, np.uint8).reshape(ROWS, 1 + PIXELS)
    return records[:, 1:], records[:, 0]
