"""A certified defence of a classifier that can only be queried: train a denoiser in front of it, then smooth the two.

The classifier f belongs to somebody else: it takes images and gives class scores, no gradient. Under the noise that
randomised smoothing needs (`certification`) it is poor, since it never saw noise. A small denoiser D_theta is put before
it and trained to keep the answers that f gives to clean images,

    min_theta  E_x E_delta  CE(f(D_theta(x + delta)), argmax f(x)),    delta ~ N(0, sigma^2 I)                        (1)

the stability loss of denoised smoothing: Salman, Sun, Yang, Kapoor, Kolter (2020), Denoised Smoothing: A Provable Defense for
Pretrained Classifiers, NeurIPS, arXiv 2003.01908, here by queries alone as in Chen et al. (2024), DeepZero, ICLR, arXiv
2310.02025. No labels are needed. Theirs are DnCNN and ResNet-50 on ten classes of ImageNet; here, a denoiser of 77 or 737
weights before a perceptron of scikit-learn on its 8 x 8 digits, in seconds.

Who trains is an argument: `train_denoiser` asks a function for the gradient of (1) on one mini-batch, and gives it the
denoiser, the noisy images and the loss of each of its outputs, which only queries f. Image and noise are drawn once per
step, so all queries of a gradient see the same.

Scores must change smoothly with the image. A tree ensemble's do not: its differences are 0 almost everywhere, and where they
are not, they are jumps. Take a classifier with smooth scores: a perceptron, a logistic regression, a support vector machine.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier
from torch import Tensor, nn

from bbopt.errors import UsageError

from .certification import Certificates, certify
from .networks import digits

__all__ = ["Classifier", "Denoiser", "Gradient", "Losses", "Oracle", "certified", "digits_classifier", "first_order",
           "open_copy", "train_denoiser"]  # fmt: skip

SIGMA = 0.25
"""Standard deviation of the noise, for pixels from 0 to 1."""
SMALLEST = 1e-12  # probability below which a score is not told from 0 in the loss

Scores = Callable[[Tensor], Tensor]
"""Class probabilities (n, classes) of images (n, 1, h, w)."""
Losses = Callable[[Tensor], Tensor]
"""Cross entropy (..., n), float64, of each image that the denoiser gave (..., n, 1, h, w); only queries the classifier."""
Gradient = Callable[[nn.Module, Tensor, Losses], Mapping[str, Tensor]]
"""The gradient of the mean loss by the name of the denoiser's parameter: of (denoiser, noisy images, losses)."""


class Classifier(Protocol):
    """What is needed of a classifier of scikit-learn, or anybody's: probabilities (n, classes) of rows of pixels (n, d)."""

    def predict_proba(self, X: NDArray[np.float64]) -> NDArray[np.float64]: ...


class Oracle:
    """A classifier that can be queried for its scores and nothing else; `images` counts the images it was asked for.

    >>> oracle = Oracle(digits_classifier())
    >>> oracle(digits().test_inputs[:3]).shape, oracle.images
    (torch.Size([3, 10]), 3)
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.images = 0

    def __call__(self, images: Tensor) -> Tensor:
        """Probabilities (n, classes), float64, without a gradient."""
        rows = images.detach().flatten(1).to("cpu", torch.float64).numpy()
        self.images += len(rows)
        return torch.from_numpy(np.asarray(self.classifier.predict_proba(rows), dtype=np.float64))


@cache
def digits_classifier(seed: int = 0) -> MLPClassifier:
    """A perceptron with 64 hidden units, trained by scikit-learn on the clean digits: some 97 % of the test images."""
    images = digits(flat=True)
    rows = images.train_inputs.double().numpy()
    return MLPClassifier((64,), max_iter=1000, random_state=seed).fit(rows, images.train_targets.numpy())


def open_copy(classifier: MLPClassifier) -> Scores:
    """The same perceptron written in torch, which can be differentiated: what an attacker with the weights would have."""
    weights = [(torch.from_numpy(w.copy()), torch.from_numpy(b.copy())) for w, b in
               zip(classifier.coefs_, classifier.intercepts_, strict=True)]  # fmt: skip

    def scores(images: Tensor) -> Tensor:
        rows = images.flatten(1).double()
        for w, b in weights[:-1]:
            rows = torch.relu(rows @ w + b)
        w, b = weights[-1]
        return torch.softmax(rows @ w + b, dim=1)

    return scores


class Denoiser(nn.Module):
    """x + conv(relu(... conv(x))): 3 x 3 convolutions of these hidden channels around a shortcut, images stay their size.

    Weights start uniform within 1 / sqrt(inputs of the unit), from the seed and not from torch's global generator; those of
    the last convolution at 0, so that training starts from the classifier as it is.

    >>> [sum(p.numel() for p in Denoiser(hidden).parameters()) for hidden in ((4,), (8, 8))]
    [77, 737]
    """

    def __init__(self, hidden: tuple[int, ...] = (4,), seed: int = 0) -> None:
        super().__init__()
        channels = (1, *hidden, 1)
        stages: list[nn.Module] = []
        generator = torch.Generator().manual_seed(seed)
        for before, after in itertools.pairwise(channels):
            conv = nn.Conv2d(before, after, 3, padding=1, device="meta").to_empty(device="cpu")  # draws nothing
            bound = 1.0 / math.sqrt(9 * before)
            for values in conv.parameters():
                nn.init.uniform_(values, -bound, bound, generator=generator)
            stages += [conv, nn.ReLU()]
        for values in conv.parameters():
            nn.init.zeros_(values)
        self.body = nn.Sequential(*stages[:-1])

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, 1, h, w) with less noise."""
        cleaner: Tensor = images + self.body(images)
        return cleaner


def first_order(denoiser: nn.Module, noisy: Tensor, losses: Losses) -> dict[str, Tensor]:
    """The gradient by backpropagation through denoiser and losses: the reference, for an open classifier only."""
    named = dict(denoiser.named_parameters())
    return dict(zip(named, torch.autograd.grad(losses(denoiser(noisy)).mean(), list(named.values())), strict=True))


def train_denoiser(
    denoiser: nn.Module,
    scores: Scores,
    images: Tensor,
    gradient: Gradient,
    steps: int = 200,
    batch: int = 64,
    learning_rate: float = 1e-2,
    sigma: float = SIGMA,
    seed: int = 0,
) -> nn.Module:
    """A copy of the denoiser after so many steps of Adam on the loss (1), the rate falling to 0 as a cosine.

    Images and noise depend on the seed alone, so that gradients can be compared. Raises `UsageError` where the first gradient
    is 0 everywhere: the scores do not change with the images, so there is nothing to learn from.
    """
    trained = copy.deepcopy(denoiser)
    named = dict(trained.named_parameters())
    adam = torch.optim.Adam(named.values(), lr=learning_rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        said = scores(images).argmax(1)
    for step in range(steps):
        rows = torch.randint(len(images), (batch,), generator=generator)
        noisy = images[rows] + sigma * torch.randn(images[rows].shape, generator=generator)
        found = gradient(trained, noisy, stability_losses(scores, said[rows]))
        if step == 0 and not any(bool(values.any()) for values in found.values()):
            raise UsageError(
                "expected scores that change with the image, but no query differed from another; a tree ensemble is flat "
                "almost everywhere: use a classifier with smooth scores (perceptron, logistic regression, SVM)"
            )
        for name, values in named.items():
            values.grad = found[name].to(values).detach()
        adam.step()
        cosine.step()
    return trained


def stability_losses(scores: Scores, targets: Tensor) -> Losses:
    """Cross entropy, float64, of the scores of images (..., n, 1, h, w) against the classes (n,) that the clean ones were given.

    Leading axes are outputs of several denoisers for the same n noisy images; all of them go into one call of `scores`.
    """

    def losses(outputs: Tensor) -> Tensor:
        lead = outputs.shape[:-3]
        given = scores(outputs.flatten(0, -4)).unflatten(0, lead)  # type: ignore[no-untyped-call]
        own = given.gather(-1, targets.expand(lead)[..., None])[..., 0]
        return -torch.log(own.clamp_min(SMALLEST)).double()

    return losses


def certified(
    denoiser: nn.Module | None, scores: Scores, images: Tensor, seed: int = 0, sigma: float = SIGMA, n: int = 500
) -> Certificates:
    """Certificates of images (m, 1, h, w) for the classifier behind the denoiser, or alone for None."""

    def classes(rows: NDArray[np.float64]) -> NDArray[np.int64]:
        with torch.no_grad():
            noisy = torch.from_numpy(rows.astype(np.float32)).reshape(-1, *images.shape[1:])
            found: NDArray[np.int64] = scores(noisy if denoiser is None else denoiser(noisy)).argmax(1).numpy()
        return found

    rows = images.flatten(1).double().numpy()
    return certify(classes, rows, sigma, np.random.default_rng(seed), scores(images[:1]).shape[1], n=n)
