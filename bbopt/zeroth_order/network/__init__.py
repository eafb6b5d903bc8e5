"""Finite-difference gradients of the loss of a `torch.nn.Module`. Importing this loads nothing; torch comes with what is used.

objective           NetworkLoss: a module, a mini-batch, a loss (CrossEntropy, SquaredError, BlackBox), a seed of its draws
coordinates         Coordinates: which scalars take part
gradient            network_gradient: one function for every level; NetworkGradient; assign, for any torch.optim optimizer
sweep               sweep: the same in parts, against one base pass
random_directions   random_gradient: Gaussian, sign, sphere and orthonormal directions, for the module or for each tensor
hybrid              hybrid_gradient: a black box behind a network that is ours
untouched           untouched: a module lent out and returned bit by bit

What may be known of the module is its level, and decides which engine answers: `naive` one forward per scalar, `prefix` (level
"staged") restarts at the perturbed stage, `delta` propagates changes, `vmapped` stacks perturbations, `units` moves
pre-activations. `choice` picks for each parameter the fastest that is valid.
"""

from __future__ import annotations

from importlib.util import find_spec

from bbopt.errors import MissingPackage

if find_spec("torch") is None:
    raise MissingPackage("gradients of networks need torch; pip install 'bbopt[network]'")
