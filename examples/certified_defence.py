"""A classifier that can only be queried gets a provable defence: a denoiser of 77 weights in front, trained by its scores alone.

Under Gaussian noise, the vote of a classifier holds within a radius that can be computed (randomised smoothing). A classifier that
never saw noise votes poorly; a denoiser before it helps. Its weights are ours, the classifier's are not: differences along the 64
pixels that the denoiser gives and backpropagation through the denoiser alone take 65 queries, whatever the denoiser's size.
Differences along each weight treat denoiser and classifier as one black box.

Run it: python examples/certified_defence.py [picture.png]
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bbopt.report_applications import draw_defence
from bbopt.zeroth_order.network.gradient import network_gradient
from bbopt.zeroth_order.network.objective import BlackBox, NetworkLoss
from problems.certification import largest_radius
from problems.denoised_smoothing import SIGMA, Denoiser, Losses, Oracle, certified, digits_classifier, train_denoiser
from problems.networks import digits

STEPS = int(os.environ.get("BBOPT_EXAMPLE_BUDGET", "200"))  # of Adam, 64 images each
torch.set_num_threads(1)  # products as small as these lose more to waking threads than they gain


def by_pixels(denoiser: nn.Module, noisy: Tensor, losses: Losses) -> dict[str, Tensor]:
    problem = NetworkLoss(denoiser, noisy, BlackBox(losses, stacked=True))
    return dict(network_gradient(problem, level="hybrid", radius=1e-3).gradient)


def by_weights(denoiser: nn.Module, noisy: Tensor, losses: Losses) -> dict[str, Tensor]:
    problem = NetworkLoss(denoiser, noisy, BlackBox(losses, stacked=True))
    return dict(network_gradient(problem, radius=1e-3).gradient)


images = digits()
test, truth = images.test_inputs[:180], images.test_targets[:180].numpy()
classifier = Oracle(digits_classifier())  # scikit-learn's perceptron, seen from outside: images in, scores out
trained: dict[str, nn.Module] = {"no denoiser": nn.Identity()}
for name, gradient in (("denoiser, by pixels", by_pixels), ("denoiser, by weights", by_weights)):
    trained[name] = train_denoiser(Denoiser(), classifier, images.train_inputs, gradient, steps=STEPS)

radii, largest = np.linspace(0.0, 0.6, 121), largest_radius(SIGMA, 500, 0.001)
found = {name: certified(denoiser, classifier, test).accuracy(truth, radii) for name, denoiser in trained.items()}
print(f"certified accuracy of {len(test)} images, % (no radius beyond {largest:.2f} can be certified by 500 draws)")
print(f"  {'L2 radius':22s}" + "".join(f"{radius:8.3f}" for radius in radii[::25]))
for name, accuracy in found.items():
    print(f"  {name:22s}" + "".join(f"{100 * share:8.1f}" for share in accuracy[::25]))
if len(sys.argv) > 1:
    clean = test[:5]
    noisy = clean + SIGMA * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        cleaner = trained["denoiser, by pixels"](noisy)
    rows = {"image": clean, "with noise": noisy, "denoised": cleaner}
    draw_defence(Path(sys.argv[1]), radii, found, {title: row[:, 0].numpy() for title, row in rows.items()}, largest)
    print(f"picture: {sys.argv[1]}")
