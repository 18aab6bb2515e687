"""Train recurrent networks without backpropagation through time."""

__version__ = "0.1.0"
