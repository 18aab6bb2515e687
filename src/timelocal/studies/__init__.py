"""Studies: doing, finding and reading many runs."""
