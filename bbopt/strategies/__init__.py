"""Search methods, one per file. `bbopt.table` has their names; nothing is imported here."""
