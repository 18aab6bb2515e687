"""Every table and figure of the two papers, one file a paper."""
