"""What one native call does: which rule, cell, loss and optimizer. Nothing else knows of it."""

from timelocal.fast.epoch import repeated_estimate
from timelocal.fast.stream import NATIVE, native_run

__all__ = ["NATIVE", "native_run", "repeated_estimate"]
