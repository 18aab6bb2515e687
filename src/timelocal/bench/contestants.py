"""The timed calls: each goes from a batch to gradients (or to states, for the forward scan)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from timelocal.bench.shapes import Shape
from timelocal.network import GRU, LSTM, RNN, Network, to_torch
from timelocal.rules import BPTT, DFA
from timelocal.seeding import generator

Call = Callable[[], object]

MAKERS: dict[str, Callable[..., Network]] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}


def contestants(shape: Shape, cell: str) -> dict[str, Call]:
    """Calls by name, all on the same weights and the same batch.

    scan: our forward pass; dfa, bptt: `rule.estimate`, including its argument checks; torch: torch.nn's
    module with autograd; jax: `lax.scan` under jit, if JAX is installed.
    """
    network = MAKERS[cell](shape.inputs, shape.hidden, shape.outputs)
    draw = generator(0, "bench")
    inputs = torch.randn(shape.batch, shape.steps, shape.inputs, generator=draw)
    targets = torch.randint(shape.outputs, (shape.batch,), generator=draw)
    time_first = network.time_first(inputs)
    dfa, bptt = DFA(network), BPTT(network)
    found: dict[str, Call] = {
        "scan": lambda: network.unroll(time_first),
        "dfa": lambda: dfa.estimate(inputs, targets),
        "bptt": lambda: bptt.estimate(inputs, targets),
        "torch": torch_bptt(network, inputs, targets),
    }
    jax = jax_bptt(cell, network, inputs, targets)
    return found if jax is None else {**found, "jax": jax}


def torch_bptt(network: Network, inputs: Tensor, targets: Tensor) -> Call:
    """The call of a torch.nn user: forward, loss, `backward()`; targets (b,), or (b, t) at every step."""
    recurrent, readout = to_torch(network)
    parameters = (*recurrent.parameters(), *readout.parameters())

    def call() -> None:
        for parameter in parameters:
            parameter.grad = None
        outputs, _ = recurrent(inputs)
        seen = outputs[:, -1] if targets.dim() == 1 else outputs.flatten(0, 1)
        F.cross_entropy(readout(seen), targets.flatten()).backward()

    return call


def jax_bptt(cell: str, network: Network, inputs: Tensor, targets: Tensor) -> Call | None:
    """The same in JAX, or None if JAX is not installed."""
    try:
        from timelocal.bench.jax_bptt import make
    except ImportError:
        return None
    return make(cell, network, inputs, targets)
