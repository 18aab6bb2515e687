"""Replacements for a cell's derivative: functions of the pre-activations, by name or given."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from timelocal import plugins
from timelocal.errors import ArgumentError, Problem, described, unknown_name

Slope: TypeAlias = Callable[[Tensor], Tensor]
"""A function from pre-activations a (t, b, g) to the factors of the signal at each node, (t, b, g)."""


def constant(nodes: Tensor) -> Tensor:
    """1 everywhere: the signal itself."""
    return torch.ones_like(nodes)


def cos(nodes: Tensor) -> Tensor:
    """cos a."""
    return nodes.cos()


def sech2(nodes: Tensor) -> Tensor:
    """1 − tanh² a, the derivative of a unit that is a tanh."""
    return 1 - nodes.tanh() ** 2


SLOPES: dict[str, Slope] = {"constant": constant, "cos": cos, "sech2": sech2}


def find_slope(slope: str | Slope) -> Slope:
    """The function of this name, of `module:function`, or the one given.

    Raises:
        ArgumentError: for an unknown name, or a function that does not return a tensor of its argument's
            shape.

    >>> find_slope("torch:cos")(torch.zeros(2, 1))
    tensor([[1.],
            [1.]])
    """
    found = slope
    if isinstance(slope, str):
        problem = None if ":" in slope else unknown_name("slope", slope, SLOPES)
        if problem is not None:
            raise ArgumentError(f"{problem} Or give a function, or module:function.")
        found = SLOPES.get(slope) or plugins.attribute(f"slope: got {slope!r}", slope)
    expected = "a function of the pre-activations (t, b, g) that returns a tensor of their shape"
    if not callable(found):
        raise ArgumentError(str(Problem("slope", described(found), expected)))
    probe = torch.zeros(1, 2, 3)
    try:
        made: object = found(probe)
    except Exception as error:  # whatever a function of the user's raises
        got = f"one that raised {type(error).__name__}: {error}"
        raise ArgumentError(str(Problem("slope", got, expected))) from error
    if not isinstance(made, Tensor) or made.shape != probe.shape:
        told = f"shape {tuple(made.shape)}" if isinstance(made, Tensor) else described(made)
        got = f"one that makes {told} of shape {tuple(probe.shape)}"
        raise ArgumentError(str(Problem("slope", got, expected)))
    return found
