"""Names for the types that cross walls, and the axis alphabet.

Axes everywhere (names, docstrings, einsum): `b` batch, `t` time, `i` input, `h` hidden, `g` nodes
(gates times hidden), `o` output, `l` layer, `k` perturbation direction. At the surface tensors are batch
first, `(b, t, i)`; inside, time comes first, `(t, b, i)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from torch import Tensor

Gradients: TypeAlias = dict[str, Tensor]
"""Parameter name, as in `network.named_parameters()`, to a tensor of that parameter's shape."""

Place: TypeAlias = Literal["last", "every", "ramp", "mean"]
"""Where the loss is: at the last valid step; at every step; at every step with weights that grow linearly,
2 s / (T + 1) at step s of T; or once, at the mean of the outputs over the valid steps."""

LossFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(outputs (n, o), targets (n, ...)) -> losses (n,)."""

State: TypeAlias = tuple[Tensor, ...]
"""The recurrent state of one layer and direction: (h,) or, for the LSTM, (h, c), each (b, h)."""

States: TypeAlias = Tensor | tuple[Tensor, ...]
"""States of a whole stack as torch.nn has them: h, or (h, c) for the LSTM, each (l·directions, b, h)."""

Memory: TypeAlias = dict[str, Tensor]
"""What an online rule carries from step to step: tensors (b, …) of fixed size, zero at the start."""
