"""Scores of candidate points computed from a posterior, and the search for the best candidate."""
