"""Training: one readable loop, its history, checkpoints that resume bit for bit."""

from timelocal.training.checkpoint import load_weights
from timelocal.training.history import History
from timelocal.training.loop import fit

__all__ = ["History", "fit", "load_weights"]
