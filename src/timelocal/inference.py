"""Training inside `torch.inference_mode()`, whose results can also be used outside."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


def outside_inference_mode(function: Callable[P, T]) -> Callable[P, T]:
    """The function, run with inference mode off: what torch makes in it can never be written to outside.

    Grad mode is then on: `torch.no_grad` goes below, where it is wanted.

    >>> made = outside_inference_mode(torch.zeros)
    >>> with torch.inference_mode():
    ...     made(2).is_inference()
    False
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if not torch.is_inference_mode_enabled():
            return function(*args, **kwargs)
        with torch.inference_mode(False):
            return function(*args, **kwargs)

    return run
