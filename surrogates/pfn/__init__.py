"""A prior-data fitted network: one forward pass from told rows to predictive distributions, trained here on a prior."""
