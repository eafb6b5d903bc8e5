"""The amortised Gaussian process: a network proposes hyperparameters, exact algebra predicts with all of them."""
