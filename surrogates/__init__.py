"""Models of a black box: arrays in, posterior out. They know nothing of tasks, queries or strategies."""
