"""Studies: many runs, found and read."""
