"""Making networks: `RNN`, `GRU`, `LSTM`, networks of your own cells, and conversion from and to torch.nn."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from timelocal.arguments import flag_problem, memory_problem, whole_problem
from timelocal.cells import (
    AutogradCell,
    BlackBox,
    Cell,
    GRUResetAfter,
    GRUResetBefore,
    LSTMCell,
    RNNCell,
    cell_problems,
)
from timelocal.errors import Problem, UnsupportedError, described, raise_problems
from timelocal.network.decorrelation import Decorrelation
from timelocal.network.network import Network
from timelocal.network.recurrent import Recurrent
from timelocal.seeding import generator as seeded_generator


def RNN(  # noqa: N802 — named as the torch.nn class it stands in for
    input_size: int,
    hidden_size: int,
    output_size: int,
    *,
    tau: float = 1.0,
    orthogonal: bool = False,
    num_layers: int = 1,
    bias: bool = True,
    bidirectional: bool = False,
    dropout: float = 0.0,
    layer_norm: bool = False,
    skip: bool = False,
    decorrelate: Decorrelation | float | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Network:
    """A tanh RNN with a linear readout.

        a_t = V x_t + W h_{t-1} + b     h_t = (1 − 1/τ) h_{t-1} + (1/τ) tanh a_t     y_t = W_out h_t + b_out

    Args:
        input_size, hidden_size, output_size: I, H and O.
        tau: time constant in steps, at least 1; 1 is `torch.nn.RNN`, larger values give a leaky RNN.
        orthogonal: whether W is initialised as a random orthogonal matrix, which preserves the norm of a
            state.
        num_layers, bias, bidirectional, dropout: as in `torch.nn.RNN`.
        layer_norm: whether the inputs of each layer but the first are normalised over the units, to mean 0
            and variance 1, without parameters, which V and b would absorb.
        skip: whether each layer adds its features to its inputs from below, before normalisation: the
            readout and the layers above then see the sum of all layers' features. Not with decorrelate.
        decorrelate: None, a `Decorrelation`, or just its learning rate: whether D h replaces h in W h and in
            the readout, with a D that learns under any rule.
        seed: of the initial parameters, drawn from U(−1/√H, 1/√H) as in torch.nn.

    Raises:
        ArgumentError: for sizes that are not positive integers and other invalid arguments.

    >>> import torch, timelocal as tl
    >>> network = tl.RNN(2, 16, output_size=3)
    >>> network(torch.zeros(4, 10, 2)).shape
    torch.Size([4, 10, 3])
    """
    return from_cell(
        RNNCell(tau, orthogonal), input_size, hidden_size, output_size,
        num_layers=num_layers, bias=bias, bidirectional=bidirectional, dropout=dropout,
        layer_norm=layer_norm, skip=skip, decorrelate=decorrelate, seed=seed, device=device, dtype=dtype,
    )  # fmt: skip


def GRU(  # noqa: N802
    input_size: int,
    hidden_size: int,
    output_size: int,
    *,
    reset_after: bool = True,
    num_layers: int = 1,
    bias: bool = True,
    bidirectional: bool = False,
    dropout: float = 0.0,
    layer_norm: bool = False,
    skip: bool = False,
    decorrelate: Decorrelation | float | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Network:
    """A gated recurrent unit network with a linear readout.

        r, z = σ(V x_t + W h_{t-1} + b)     h_t = (1 − z) ⊙ n + z ⊙ h_{t-1}
        reset_after=True:   n = tanh(V_n x_t + b_in + r ⊙ (W_n h_{t-1} + b_hn))
        reset_after=False:  n = tanh(V_n x_t + b_in + W_n (r ⊙ h_{t-1}) + b_hn)

    Args:
        reset_after: True is `torch.nn.GRU` and cuDNN, whose DFA needs no weight transport at all; False
            is the cell of Cho et al. (2014) and of the DFA paper.
        The rest: as in `RNN`.

    >>> import timelocal as tl
    >>> tl.GRU(28, 512, output_size=10, reset_after=False).cell
    GRUResetBefore()
    """
    raise_problems([flag_problem("reset_after", reset_after)])
    return from_cell(
        GRUResetAfter() if reset_after else GRUResetBefore(),
        input_size, hidden_size, output_size,
        num_layers=num_layers, bias=bias, bidirectional=bidirectional, dropout=dropout,
        layer_norm=layer_norm, skip=skip, decorrelate=decorrelate, seed=seed, device=device, dtype=dtype,
    )  # fmt: skip


def LSTM(  # noqa: N802
    input_size: int,
    hidden_size: int,
    output_size: int,
    *,
    num_layers: int = 1,
    bias: bool = True,
    bidirectional: bool = False,
    dropout: float = 0.0,
    layer_norm: bool = False,
    skip: bool = False,
    decorrelate: Decorrelation | float | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Network:
    """An LSTM network with a linear readout: the cell of `torch.nn.LSTM`.

        i, f, o = σ(V x_t + W h_{t-1} + b)     g = tanh(V_g x_t + W_g h_{t-1} + b_g)
        c_t = f ⊙ c_{t-1} + i ⊙ g              h_t = o ⊙ tanh c_t

    Args: as in `RNN`.

    >>> import timelocal as tl
    >>> tl.LSTM(2, 16, output_size=3).recurrent.weight_hh_l0.shape
    torch.Size([64, 16])
    """
    return from_cell(
        LSTMCell(), input_size, hidden_size, output_size,
        num_layers=num_layers, bias=bias, bidirectional=bidirectional, dropout=dropout,
        layer_norm=layer_norm, skip=skip, decorrelate=decorrelate, seed=seed, device=device, dtype=dtype,
    )  # fmt: skip


def black_box(
    cell: BlackBox,
    input_size: int,
    hidden_size: int,
    output_size: int,
    *,
    num_layers: int = 1,
    bias: bool = True,
    decorrelate: Decorrelation | float | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Network:
    """A network of layers that only run forward, with a linear readout.

    Args:
        cell: your `timelocal.BlackBox`.
        The rest: as in `RNN`.

    Raises:
        ArgumentError: as `RNN`, and for a cell that is not a `BlackBox`.

    >>> import torch, timelocal as tl
    >>> class Device(tl.BlackBox):
    ...     name = "device"
    ...     def scan(self, weights, inputs, initial, node_noise=None):
    ...         hidden, measured = [initial[0]], []
    ...         for drive in self.drive(weights, inputs, node_noise):
    ...             measured.append(drive + hidden[-1] @ weights.hh.t())
    ...             hidden.append(measured[-1].clamp(-1, 1))
    ...         return self.report(inputs, (torch.stack(hidden),), torch.stack(measured))
    >>> rule = tl.ANP(tl.black_box(Device(), 3, 8, output_size=2), seed=0)
    >>> rule(torch.randn(4, 7, 3), torch.tensor([0, 1, 1, 0])).backward()
    """
    if not isinstance(cell, BlackBox):
        remedy = "Subclass timelocal.BlackBox and give it a scan."
        raise_problems([Problem("cell", described(cell), "a BlackBox", remedy)])
    return from_cell(
        cell, input_size, hidden_size, output_size,
        num_layers=num_layers, bias=bias, decorrelate=decorrelate, seed=seed, device=device, dtype=dtype,
    )  # fmt: skip


def from_cell(
    cell: Cell,
    input_size: int,
    hidden_size: int,
    output_size: int,
    *,
    num_layers: int = 1,
    bias: bool = True,
    bidirectional: bool = False,
    dropout: float = 0.0,
    layer_norm: bool = False,
    skip: bool = False,
    decorrelate: Decorrelation | float | None = None,
    readout_hidden: int | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Network:
    """A network of any cell, including your own, with a linear readout or one with a hidden layer.

    Args:
        cell: a cell, such as your `timelocal.AutogradCell`; it defines the parameters of each layer and
            their initialisation.
        bias: False leaves out the cell's `biases`.
        decorrelate: as in `RNN`, for cells in which D h can replace h.
        readout_hidden: units in a hidden layer of the readout, W₂ relu(W₁ h + b₁) + b₂, which learns by its
            own exact gradient within the step; None for a linear readout. Without it, an LRU network is
            linear.
        The rest: as in `RNN`.

    Raises:
        ArgumentError: for a cell that is not one, or whose equations give other shapes than it declares; for
            sizes that are not positive integers and other invalid arguments.
        UnsupportedError: for decorrelation of a cell that declares it unsupported.

    >>> import torch, timelocal as tl
    >>> class Decay(tl.AutogradCell):
    ...     name, gate_names = "decay", ("a",)
    ...     def parameter_shapes(self, input_size, hidden_size):
    ...         return {"weight": (hidden_size, input_size), "rate": (hidden_size,)}
    ...     def nodes(self, weights, inputs, states):
    ...         return inputs @ weights.weight.t() - weights.rate * states[0]
    ...     def update(self, nodes, states):
    ...         return (states[0] + torch.tanh(nodes) / 2,)
    >>> tl.from_cell(Decay(), 3, 8, output_size=2).recurrent.rate_l0.shape
    torch.Size([8])
    """
    hidden = None if readout_hidden is None else whole_problem("readout_hidden", readout_hidden)
    raise_problems((*cell_problems(cell), whole_problem("output_size", output_size), hidden))
    recurrent = Recurrent(
        cell, input_size, hidden_size,
        num_layers=num_layers, bias=bias, bidirectional=bidirectional, dropout=dropout,
        layer_norm=layer_norm, skip=skip, decorrelate=decorrelate, seed=seed, device=device, dtype=dtype,
    )  # fmt: skip
    if isinstance(cell, AutogradCell):
        raise_problems(cell.step_problems(recurrent.weights(0, 0), input_size, hidden_size))
    sizes = [recurrent.features_size * recurrent.directions, int(output_size)]
    if readout_hidden is not None:
        sizes.insert(1, int(readout_hidden))
    generator = seeded_generator(seed, "readout")
    linear = [_linear(*pair, recurrent.like, generator) for pair in pairwise(sizes)]
    readout = linear[0] if len(linear) == 1 else nn.Sequential(linear[0], nn.ReLU(), linear[1])
    return Network(recurrent, readout)


def _linear(inputs: int, outputs: int, like: Tensor, generator: torch.Generator) -> nn.Linear:
    """A linear layer of U(±1/√inputs), drawn from the generator, in the type and on the device of `like`."""
    raise_problems([memory_problem("readout", inputs * outputs * like.element_size())])
    made = nn.utils.skip_init(nn.Linear, inputs, outputs, device=like.device, dtype=like.dtype)
    bound = 1 / math.sqrt(inputs)
    with torch.no_grad():
        for parameter in made.parameters():
            drawn = torch.empty(parameter.shape, dtype=parameter.dtype)
            parameter.copy_(drawn.uniform_(-bound, bound, generator=generator))
    return made


TORCH_CELLS: dict[type[nn.RNNBase], type[Cell]] = {
    nn.RNN: RNNCell,
    nn.GRU: GRUResetAfter,
    nn.LSTM: LSTMCell,
}

_OWN_CELL = """\
Write its step as a cell of its own, and copy its weights into the network's parameters:

    class {name}Cell(timelocal.AutogradCell):
        name, gate_names = "{lower}", ("a",)
        def parameter_shapes(self, input_size, hidden_size): ...  # {{"u": (hidden_size,), …}}
        def nodes(self, weights, inputs, states): ...  # pre-activations (n, hidden_size)
        def update(self, nodes, states): ...  # new states, a tuple of (n, hidden_size)

    network = timelocal.from_cell({name}Cell(), input_size, hidden_size, output_size)

Every rule trains it; timelocal.testing.check_cell checks it. If it only runs forward (hardware, a simulator),
subclass timelocal.BlackBox with a `scan` and use timelocal.black_box."""


def from_torch(
    recurrent: nn.RNNBase,
    readout: nn.Module,
    *,
    decorrelate: Decorrelation | float | None = None,
) -> Network:
    """A network that wraps modules you already have and shares their parameters.

    The tensors are the same: your optimizer, your `state_dict` and your checkpoints keep working.

    Args:
        recurrent: a `torch.nn.RNN` (tanh), `GRU` or `LSTM`; its `batch_first` is respected.
        readout: `nn.Linear`, or any module from (n, h·directions) to (n, o). It is applied to one step at
            a time; a nonlinear one is trained by ordinary autograd, never through time.
        decorrelate: as in `RNN`; the matrices D belong only to the network.

    Raises:
        UnsupportedError: for ReLU RNNs and `proj_size`.
        ArgumentError: for anything that is not such a module, or a readout of the wrong width.

    >>> import torch, timelocal as tl
    >>> gru, head = torch.nn.GRU(3, 8, batch_first=True), torch.nn.Linear(8, 2)
    >>> network = tl.from_torch(gru, head)
    >>> network.recurrent.weight_hh_l0 is gru.weight_hh_l0
    True
    """
    problems = []
    if type(recurrent) not in TORCH_CELLS:
        got = described(recurrent)
        problems.append(
            Problem("recurrent", got, "a torch.nn.RNN, GRU or LSTM", _way_in(recurrent))
        )
    if not isinstance(readout, nn.Module):
        got = described(readout)
        problems.append(Problem("readout", got, "a torch.nn.Module such as nn.Linear"))
    raise_problems(problems)
    if recurrent.proj_size:
        raise UnsupportedError(
            f"proj_size: got {recurrent.proj_size}, expected 0. Use an LSTM without projection and put "
            "the projection in the readout."
        )
    if isinstance(recurrent, nn.RNN) and recurrent.nonlinearity != "tanh":
        raise UnsupportedError(
            f"nonlinearity: got {recurrent.nonlinearity!r}, expected 'tanh'. Make the torch.nn.RNN with "
            "nonlinearity='tanh', or use a GRU or LSTM."
        )
    if not all(isinstance(w, nn.Parameter) for layer in recurrent.all_weights for w in layer):
        raise UnsupportedError(
            "recurrent: got weights computed from others (pruning, weight norm), expected plain "
            "parameters. Use torch.nn.utils.prune.remove, or remove_weight_norm, first."
        )
    named = dict(recurrent.named_parameters())
    if len(named) < sum(map(len, recurrent.all_weights)):
        raise UnsupportedError(
            "recurrent: got one tensor under several names, expected a separate tensor for each. Use a copy "
            "of it for the others."
        )
    stack = Recurrent(
        TORCH_CELLS[type(recurrent)](),
        recurrent.input_size,
        recurrent.hidden_size,
        num_layers=recurrent.num_layers,
        bias=recurrent.bias,
        bidirectional=recurrent.bidirectional,
        dropout=recurrent.dropout if recurrent.num_layers > 1 else 0.0,
        decorrelate=decorrelate,
        parameters=named,
    )
    network = Network(stack, readout, batch_first=recurrent.batch_first)
    assert network.output_size  # refuses a readout that does not fit
    network.training, stack.training = recurrent.training, recurrent.training
    return network


def _way_in(recurrent: object) -> str:
    """How something that is not one of torch.nn's recurrent modules becomes a network."""
    name = type(recurrent).__name__
    if isinstance(recurrent, nn.RNNCellBase):  # torch.nn's own single steps
        return f"Use torch.nn.{name.removesuffix('Cell')} with one layer, which has the same step."
    if not isinstance(recurrent, nn.Module):
        return "Pass the module itself."
    name = name.removesuffix("Cell")
    return _OWN_CELL.format(name=name, lower=name.lower())


def to_torch(network: Network) -> tuple[nn.RNNBase, nn.Module]:
    """The torch.nn module and readout that compute the same function and share the network's parameters.

    Raises:
        UnsupportedError: for cells that torch.nn does not have (leaky RNN, GRU with `reset_after=False`),
            and for networks that decorrelate.

    >>> import timelocal as tl
    >>> recurrent, readout = tl.to_torch(tl.GRU(3, 8, output_size=2))
    >>> recurrent
    GRU(3, 8, batch_first=True)
    """
    if not isinstance(network, Network):
        raise_problems([Problem("network", described(network), "a timelocal network")])
    stack, cell = network.recurrent, network.cell
    kinds = [kind for kind, own in TORCH_CELLS.items() if type(cell) is own]
    if not kinds or (isinstance(cell, RNNCell) and cell.tau != 1.0):
        raise UnsupportedError(
            f"to_torch: got {cell!r}, which torch.nn does not have; expected RNNCell(tau=1.0), "
            "GRUResetAfter() or LSTMCell(). Keep the timelocal network for inference."
        )
    if stack.layer_norm or stack.skip:
        raise UnsupportedError(
            "to_torch: got a network with layer_norm or skip between its layers, expected one without: no "
            "module of torch.nn has them. Use the timelocal network for inference."
        )
    if stack.decorrelate is not None:
        raise UnsupportedError(
            "to_torch: got a network that decorrelates, expected one that does not: torch.nn has no D "
            "between a state and its readers. Use the timelocal network for inference."
        )
    make: Any = kinds[0]
    with torch.device("meta"):
        module: nn.RNNBase = make(
            stack.input_size,
            stack.hidden_size,
            num_layers=stack.num_layers,
            bias=stack.bias,
            batch_first=network.batch_first,
            dropout=stack.dropout,
            bidirectional=stack.bidirectional,
        )
    for name, parameter in stack.named_parameters():
        setattr(module, name, parameter)
    module.training = stack.training
    return module, network.readout
