"""Zeroth-order optimization: gradients from function values alone. Nothing is imported here."""
