"""Networks of spiking cells, by name: all-or-none spikes, with a surrogate in place of their derivative."""

from __future__ import annotations

from typing import TypedDict, Unpack

from timelocal.cells import ALIFCell, LIFCell
from timelocal.network.build import from_cell
from timelocal.network.elementwise import LayerOptions
from timelocal.network.network import Network


class SpikeOptions(TypedDict, total=False):
    """The options of a spiking cell for its readout, surrogate derivative and firing rate: as in `LIF`."""

    readout_decay: float
    surrogate: str
    dampening: float
    sharpness: float
    detach_reset: bool
    rate: float | None
    rate_strength: float


class SpikingOptions(SpikeOptions, LayerOptions, total=False):
    """The options of the cell and those of every network."""


_OF_THE_CELL = SpikeOptions.__annotations__


def LIF(  # noqa: N802 — a class to its users, as RNN
    input_size: int,
    hidden_size: int,
    output_size: int,
    *,
    membrane: float = 0.9,
    threshold: float = 1.0,
    **options: Unpack[SpikingOptions],
) -> Network:
    """A network of leaky integrate-and-fire neurons with a leaky readout.

        v_t = α v_{t-1} + V x_t + W z_{t-1} + b − θ z_{t-1}     z_t = 1 if v_t > θ else 0
        f_t = κ f_{t-1} + (1 − κ) z_t                           y_t = W_out f_t + b_out

    The spikes z have no derivative. Perturbation rules (ANP, NP, WP) need none; for the others it is
    ∂z_t/∂v_t = (γ/θ) S(k (v_t − θ)/θ), so that BPTT here is surrogate-gradient learning.

    Args:
        input_size, hidden_size, output_size: I, H and O.
        membrane: α, the fraction the membrane keeps from step to step, in [0, 1): exp(−step / time constant).
        threshold: θ, positive; a spike subtracts it from the membrane in the next step.
        options: readout_decay is κ, in [0, 1), by default 0.8; with 0 the readout sees the spikes. surrogate
            is S: "triangular" max(0, 1 − |u|), the default, "sigmoid", "fast_sigmoid" or "arctan", of
            `timelocal.cells.SURROGATES`; dampening is γ, 0.3, and sharpness k, 1. detach_reset=True takes no
            derivative through − θ z_{t-1}, as in the e-prop paper; False does. rate=f* adds, under every
            rule, the local gradient of (c/2) Σ_j (f_j − f*)² over a batch's mean rates f_j in spikes per
            step, with c = rate_strength; it is not part of the loss. The rest: num_layers, bias,
            bidirectional, dropout, decorrelate, seed, device, dtype, as in `IndRNN`. D is applied between f
            and its readers.

    Raises:
        ArgumentError: as `RNN`, and for constants outside their range.

    >>> import torch, timelocal as tl
    >>> network = tl.LIF(2, 16, output_size=3, surrogate="fast_sigmoid", rate=0.05)
    >>> rule = tl.EProp(network, feedback="symmetric", at="every")
    >>> rule(torch.randn(4, 30, 2), torch.randint(3, (4, 30))).backward()
    >>> spikes = network.scan(torch.randn(4, 30, 2)).layers[0][0].hidden
    >>> spikes.shape, spikes.unique().tolist()
    (torch.Size([30, 4, 16]), [0.0, 1.0])

    Source: G. Bellec et al. A solution to the learning dilemma for recurrent networks of spiking neurons.
    Nature Communications 11:3625, 2020; here without a refractory period, and with a weight from each neuron
    to itself (zero in the paper), which the traces of `EProp` follow and those of `RFLO` do not. Surrogates:
    E. O. Neftci, H. Mostafa, F. Zenke. Surrogate gradient learning in spiking neural networks. IEEE Signal
    Processing Magazine 36(6), 2019.
    """
    own = {name: options.pop(name) for name in _OF_THE_CELL if name in options}  # type: ignore[misc]
    cell = LIFCell(membrane, threshold, **own)
    return from_cell(cell, input_size, hidden_size, output_size, **options)  # type: ignore[misc]


def ALIF(  # noqa: N802
    input_size: int,
    hidden_size: int,
    output_size: int,
    *,
    membrane: float = 0.9,
    threshold: float = 1.0,
    adaptation: float = 0.2,
    adaptation_decay: float = 0.98,
    **options: Unpack[SpikingOptions],
) -> Network:
    """A network of leaky integrate-and-fire neurons with adaptive thresholds, and a leaky readout.

        z_t = 1 if v_t > θ + β a_t else 0
        a_t = ρ a_{t-1} + z_{t-1}           the rest as in `LIF`

    Args:
        membrane, threshold, options: as in `LIF`.
        adaptation: β, the rise of the threshold after a spike, at least 0; 0 is `LIF`.
        adaptation_decay: ρ, the fraction of it left one step later, in [0, 1): the memory is 1/(1 − ρ) steps
            long.

    Raises:
        ArgumentError: as `LIF`.

    >>> import torch, timelocal as tl
    >>> network = tl.ALIF(2, 16, output_size=3, adaptation_decay=0.99)
    >>> rule = tl.EProp(network, feedback="gaussian", at="every")
    >>> rule(torch.randn(4, 30, 2), torch.randint(3, (4, 30))).backward()

    Source: as `LIF`; the network of such neurons is the paper's LSNN.
    """
    own = {name: options.pop(name) for name in _OF_THE_CELL if name in options}  # type: ignore[misc]
    cell = ALIFCell(membrane, threshold, adaptation, adaptation_decay, **own)
    return from_cell(cell, input_size, hidden_size, output_size, **options)  # type: ignore[misc]
