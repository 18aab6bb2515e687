"""Numbers about finished runs: statistics for few seeds."""
