"""Random crops and flips of a batch of images, as a function of a generator."""

from __future__ import annotations

import torch
from torch import Tensor

from bbopt.errors import UsageError

__all__ = ["crop_and_flip"]


def crop_and_flip(images: Tensor, generator: torch.Generator, pad: int = 4, fill: tuple[float, ...] = (0.0,)) -> Tensor:
    """Each image moved by up to `pad` pixels in both directions and, with chance 1/2, mirrored left to right.

    images: (n, channels, height, width). What moves in from outside has the value `fill`, one number or one per
    channel: black, for images that were centred and divided, is `ImageSet.black`. The draws are made on the CPU, so
    that they are the same on every device; the same state of the generator gives the same images.
    Raises `UsageError` for another shape, a negative pad, or a fill of another length.

    >>> image = torch.arange(4.0).reshape(1, 1, 2, 2)
    >>> crop_and_flip(image, torch.Generator().manual_seed(1), pad=0).shape
    torch.Size([1, 1, 2, 2])
    """
    if images.ndim != 4:
        raise UsageError(
            f"crop_and_flip: expected images (n, channels, height, width), got shape {tuple(images.shape)}"
        )
    if pad < 0 or len(fill) not in (1, images.shape[1]):
        raise UsageError(
            f"crop_and_flip: expected pad >= 0 and a fill of 1 or {images.shape[1]} numbers, got {pad} and {fill!r}"
        )
    n, channels, height, width = images.shape
    down = torch.randint(2 * pad + 1, (n, 1), generator=generator)
    right = torch.randint(2 * pad + 1, (n, 1), generator=generator)
    mirrored = torch.randint(2, (n, 1), generator=generator).bool()
    across = torch.arange(width)
    rows = (down + torch.arange(height)).to(images.device)
    columns = (right + torch.where(mirrored, across.flip(0), across)).to(images.device)
    ground = images.new_tensor(fill).reshape(1, -1, 1, 1)
    padded = ground.expand(n, channels, height + 2 * pad, width + 2 * pad).clone()
    padded[:, :, pad : pad + height, pad : pad + width] = images
    each = torch.arange(n, device=images.device)[:, None, None]
    moved = padded[each, :, rows[:, :, None], columns[:, None, :]]  # (n, height, width, channels)
    return moved.permute(0, 3, 1, 2).contiguous()
