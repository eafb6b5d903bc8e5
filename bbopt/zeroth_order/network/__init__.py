"""Finite-difference gradients of the loss of a `torch.nn.Module`. Nothing is imported here: torch is loaded by what you use.

from bbopt.zeroth_order.network.objective import NetworkLoss, CrossEntropy, SquaredError, BlackBox
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.gradient import network_gradient, assign
"""
