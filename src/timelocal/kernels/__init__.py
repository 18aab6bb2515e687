"""A layer over a whole sequence: forward (`scan`) and back through time (`backward_scan`).

`torch_scan` is the plain-torch twin of every kernel, and its definition.
"""

from timelocal.kernels.torch_scan import backward_scan, scan

__all__ = ["backward_scan", "describe", "scan"]


def describe() -> dict[str, str]:
    """Which path is active, and why: what `timelocal doctor` prints."""
    return {"path": "torch", "reason": "no native kernel is built"}
