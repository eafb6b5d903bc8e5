"""Training of networks by finite differences: recipe, batches, masks, update, loop. Networks and data come from outside."""
