"""The combinations of rule, cell, loss and optimizer that a single native call supports."""

from timelocal.fast.epoch import repeated_estimate
from timelocal.fast.stream import NativeStream

__all__ = ["NativeStream", "repeated_estimate"]
