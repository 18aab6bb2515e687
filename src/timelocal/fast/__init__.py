"""What one native call does: which rule, cell, loss and optimizer. Nothing else knows of it."""

from timelocal.fast.epoch import repeated_estimate
from timelocal.fast.stream import NativeStream

__all__ = ["NativeStream", "repeated_estimate"]
