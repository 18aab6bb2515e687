"""Networks of element-wise cells, by name: no unit sees another's past, and traces are exact."""

from __future__ import annotations

import math
from typing import TypedDict, Unpack

import torch

from timelocal.cells import IndRNNCell, LRUCell, MinGRUCell, MinLSTMCell, RTUCell
from timelocal.network.build import from_cell
from timelocal.network.decorrelation import Decorrelation
from timelocal.network.network import Network


class LayerOptions(TypedDict, total=False):
    """The options of every network besides its sizes: as in `timelocal.from_cell`."""

    num_layers: int
    bias: bool
    bidirectional: bool
    dropout: float
    layer_norm: bool
    skip: bool
    decorrelate: Decorrelation | float | None
    seed: int
    device: torch.device | str | None
    dtype: torch.dtype | None


def IndRNN(  # noqa: N802 — a class to its users, as RNN
    input_size: int,
    hidden_size: int,
    output_size: int,
    *,
    steps: float = 100.0,
    **options: Unpack[LayerOptions],
) -> Network:
    """An independently recurrent network with tanh units and a linear readout.

        h_t = tanh(u ⊙ h_{t-1} + V x_t + b)     y_t = W_out h_t + b_out

    Args:
        input_size, hidden_size, output_size: I, H and O.
        steps: the initial reach of the past: u ~ U(0, 2^{1/steps}), so that no signal more than doubles over
            this many steps.
        options: num_layers, bias, bidirectional, dropout, layer_norm, skip, decorrelate, seed, device, dtype,
            as in `RNN`. With decorrelate, D h replaces h: the Jacobian is then dense, and RTRL carries all
            of it.

    Raises:
        ArgumentError: as `RNN`, and for steps below 1.

    >>> import torch, timelocal as tl
    >>> network = tl.IndRNN(2, 16, output_size=3)
    >>> rule = tl.RTRL(network, at="every")
    >>> rule(torch.randn(4, 30, 2), torch.randint(3, (4, 30))).backward()

    Source: S. Li, W. Li, C. Cook, C. Zhu, Y. Gao. Independently recurrent neural network (IndRNN). CVPR,
    2018; there with ReLU units. Differs from `RNN` in having a vector in place of the matrix W.
    """
    return from_cell(IndRNNCell(steps), input_size, hidden_size, output_size, **options)


def LRU(  # noqa: N802
    input_size: int,
    hidden_size: int,
    output_size: int,
    *,
    r_min: float = 0.0,
    r_max: float = 1.0,
    max_phase: float = 2 * math.pi,
    **options: Unpack[LayerOptions],
) -> Network:
    """A linear recurrent unit network: complex, diagonal, stable; and a linear readout of both parts.

        h_t = λ ⊙ h_{t-1} + γ ⊙ (V x_t + b)     |λ| = exp(−exp ν), arg λ = exp θ, γ = √(1 − |λ|²)
        y_t = W_out [Re h_t, Im h_t] + b_out

    Args:
        hidden_size: H complex units, which have 2H states, nodes and features.
        r_min, r_max, max_phase: λ is initialised uniformly on the ring r_min ≤ |λ| ≤ r_max, 0 ≤ arg λ ≤
            max_phase. For long memories use r_min = 0.9, r_max = 0.999 and a small phase.
        options: as in `IndRNN`. With decorrelate, a D of 2H × 2H is applied between the features and their
            readers; the recurrence does not see it, and its Jacobian stays diagonal.

    Raises:
        ArgumentError: as `RNN`, and for an invalid ring.

    >>> import torch, timelocal as tl
    >>> network = tl.LRU(2, 16, output_size=3, r_min=0.9, r_max=0.999)
    >>> rule = tl.RTRL(network, at="every")
    >>> rule(torch.randn(4, 30, 2), torch.randint(3, (4, 30))).backward()
    >>> network.readout.weight.shape
    torch.Size([3, 32])

    Source: A. Orvieto et al. Resurrecting recurrent neural networks for long sequences. ICML, 2023; there
    with a direct path from the inputs, and an MLP after each layer. A stack of LRUs by itself is linear: see
    `RTU`.
    """
    cell = LRUCell(r_min, r_max, max_phase)
    return from_cell(cell, input_size, hidden_size, output_size, **options)


def RTU(  # noqa: N802
    input_size: int,
    hidden_size: int,
    output_size: int,
    *,
    r_min: float = 0.0,
    r_max: float = 1.0,
    max_phase: float = 2 * math.pi,
    nonlinearity: str = "relu",
    **options: Unpack[LayerOptions],
) -> Network:
    """A recurrent trace unit network: an `LRU` with a nonlinearity on its features, and a linear readout.

        h_t as in `LRU`     f_t = φ([Re h_t, Im h_t])     y_t = W_out f_t + b_out

    Args:
        r_min, r_max, max_phase, options: as in `LRU`.
        nonlinearity: φ, "relu" or "tanh".

    Raises:
        ArgumentError: as `LRU`, and for an unknown nonlinearity.

    >>> import torch, timelocal as tl
    >>> network = tl.RTU(2, 16, output_size=3, num_layers=2)
    >>> rule = tl.SnAp1(network)
    >>> rule(torch.randn(4, 30, 2), torch.tensor([0, 1, 2, 0])).backward()

    Source: E. Elelimy, A. White, M. Bowling, M. White. Real-time recurrent learning using trace units in
    reinforcement learning. NeurIPS, 2024: the linear RTU.
    """
    cell = RTUCell(r_min, r_max, max_phase, nonlinearity)
    return from_cell(cell, input_size, hidden_size, output_size, **options)


def MinGRU(  # noqa: N802
    input_size: int,
    hidden_size: int,
    output_size: int,
    *,
    update: float = 0.5,
    update_max: float | None = None,
    **options: Unpack[LayerOptions],
) -> Network:
    """A minimal GRU network, whose gates see only the input, with a linear readout.

        z_t = σ(V_z x_t + b_z)     h_t = (1 − z_t) ⊙ h_{t-1} + z_t ⊙ (V_c x_t + b_c)
        y_t = W_out h_t + b_out

    Args:
        update: the initial z for zero input; the memory is then about 1/update steps long.
        update_max: the value of the last unit; it grows geometrically from `update` over the units, which
            gives memories of all lengths in between. None: all units start alike.
        options: as in `IndRNN`. D is applied between h and its readers, not in the recurrence.

    Raises:
        ArgumentError: as `RNN`, and for updates that are not between 0 and 1 or in the wrong order.

    >>> import torch, timelocal as tl
    >>> network = tl.MinGRU(2, 16, output_size=3, update=1 / 500)
    >>> rule = tl.RTRL(network, at="every")
    >>> rule(torch.randn(4, 30, 2), torch.randint(3, (4, 30))).backward()

    Source: L. Feng, F. Tung, M. O. Ahmed, Y. Bengio, H. Hajimirsadeghi. Were RNNs all we needed?
    arXiv:2410.01201, 2024, section 3.1.
    """
    return from_cell(
        MinGRUCell(update, update_max), input_size, hidden_size, output_size, **options
    )


def MinLSTM(  # noqa: N802
    input_size: int,
    hidden_size: int,
    output_size: int,
    *,
    forget_bias: float = 0.0,
    **options: Unpack[LayerOptions],
) -> Network:
    """A minimal LSTM network, whose gates see only the input and sum to one, with a linear readout.

        f, i = σ(V x_t + b)     h_t = (f ⊙ h_{t-1} + i ⊙ (V_c x_t + b_c)) / (f + i)
        y_t = W_out h_t + b_out

    Args:
        forget_bias: the initial b_f; a larger value remembers longer.
        options: as in `MinGRU`.

    Raises:
        ArgumentError: as `RNN`, and for a bias that is not finite.

    >>> import torch, timelocal as tl
    >>> network = tl.MinLSTM(2, 16, output_size=3)
    >>> rule = tl.EProp(network, at="every", feedback="symmetric")
    >>> rule(torch.randn(4, 30, 2), torch.randint(3, (4, 30))).backward()

    Source: as `MinGRU`, section 3.2, with the normalised gates.
    """
    cell = MinLSTMCell(forget_bias)
    return from_cell(cell, input_size, hidden_size, output_size, **options)
