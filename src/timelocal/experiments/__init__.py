"""Experiments: frozen configurations, and a run of one of them."""
