"""The arguments of native calls, by name: structures whose fields both sides list in the same order.

Every field is eight bytes wide. The fields of one structure are its sizes, numbers and addresses; an address
of 0 means "none". `agree` compares the sizes of both sides when the package is imported.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence


def integers(names: str) -> list[tuple[str, type]]:
    """Fields for sizes, flags and addresses.

    >>> [name for name, _ in integers("steps x")]
    ['steps', 'x']
    """
    return [(name, ctypes.c_int64) for name in names.split()]


def numbers(names: str) -> list[tuple[str, type]]:
    """Fields for real numbers."""
    return [(name, ctypes.c_double) for name in names.split()]


def agree(what: str, ours: Sequence[type[ctypes.Structure]], theirs: Sequence[int]) -> None:
    """Raise an `ImportError` unless the kernels' structures are as large as these."""
    sizes = [ctypes.sizeof(own) for own in ours]
    if sizes != list(theirs):
        raise ImportError(
            f"{what} calls have {sizes} bytes here and {list(theirs)} in the kernels: rebuild them"
        )
