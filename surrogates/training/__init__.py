"""One training loop for every network of this package: what is trained is a subject, all else is here."""
