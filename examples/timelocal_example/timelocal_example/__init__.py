"""A learning rule, a cell and a data set for timelocal."""
