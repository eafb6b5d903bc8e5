"""Small networks, the images they are trained on, and a network's loss as a problem.

>>> from problems.networks import digits, mlp
>>> images = digits(flat=True)
>>> mlp((64, 32, 10), seed=0)(images.train_inputs).shape
torch.Size([1437, 10])

The modules need torch, and scikit-learn for `digits`; they are imported when one of their names is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from bbopt.errors import MissingPackage

if TYPE_CHECKING:
    from .architectures import mlp, parameter_count, resnet20, small_cnn
    from .augmentation import crop_and_flip
    from .cifar import cifar10
    from .digit_images import digits
    from .images import ImageSet
else:

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
        except ModuleNotFoundError as missing:
            raise MissingPackage(
                f"problems.networks.{name} needs torch, and scikit-learn for its digits ({missing}); pip install 'bbopt[network]'"
            ) from missing


_HOME = {
    "ImageSet": "images",
    "cifar10": "cifar",
    "crop_and_flip": "augmentation",
    "digits": "digit_images",
    "mlp": "architectures",
    "parameter_count": "architectures",
    "resnet20": "architectures",
    "small_cnn": "architectures",
}

__all__ = ["ImageSet", "cifar10", "crop_and_flip", "digits", "mlp", "parameter_count", "resnet20", "small_cnn"]
