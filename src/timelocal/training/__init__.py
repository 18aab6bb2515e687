"""Training: one readable loop over batches, and one over a stream; checkpoints that resume bit for bit."""

from timelocal.training.callbacks import TensorBoard
from timelocal.training.checkpoint import load_weights
from timelocal.training.history import History
from timelocal.training.loop import fit
from timelocal.training.stream import Learned, Stream

__all__ = ["History", "Learned", "Stream", "TensorBoard", "fit", "load_weights"]
