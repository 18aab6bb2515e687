"""A stream and its optimizer in one native call, where it can be: plain SGD on a tanh network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim import optimizer as optim

from timelocal import kernels
from timelocal.cells import RNNCell
from timelocal.kernels import OnlineWeights
from timelocal.losses import MSE
from timelocal.network import Network
from timelocal.rules.batch import arrange

if TYPE_CHECKING:
    from timelocal.rules.rule import Rule
    from timelocal.rules.session import Session

_PLAIN = {"momentum": 0, "weight_decay": 0, "dampening": 0, "nesterov": False, "maximize": False}


@torch.no_grad()
def run_fused(
    session: Session, inputs: Tensor, targets: Tensor, optimizer: Optimizer
) -> Tensor | None:
    """Losses (t,) of a chunk with an update at every step, or None where it needs the loop.

    Weights, memory and the count of steps are left as the loop leaves them, up to rounding; gradients
    are not kept.
    """
    rule = session.rule
    lr = _learning_rate(optimizer, rule.network)
    if lr is None or not _runs_native(rule):
        return None
    found = rule.fused(session.memory)
    if found is None:
        return None
    settings, state = found
    batch = arrange(rule.network, rule.loss, "every", inputs, targets)
    cell = rule.network.cell
    assert isinstance(cell, RNNCell)
    x, law = batch.inputs, rule.network.recurrent.decorrelate
    if x.shape[1] != session.batch_size:
        return None  # the loop says what is wrong
    settings = settings._replace(
        lr=lr * settings.lr,
        tau=cell.tau,
        key=session.key,
        decorrelation_lr=0.0 if law is None else law.lr,
        preserve_norm=law is not None and law.norm == "preserve",
    )
    y = batch.targets.unflatten(0, x.shape[:2])
    optimizer.zero_grad()
    optimizer._opt_called = True  # type: ignore[attr-defined]  # what a learning-rate scheduler asks for
    losses, _ = kernels.online(settings, _weights(rule.network), state, x, y, session.steps)
    rule.after_fused(session.memory, state)
    session.steps += len(x)
    return losses


def _weights(network: Network) -> OnlineWeights:
    own, readout = network.recurrent.weights(0, 0), network.readout
    assert isinstance(readout, nn.Linear)
    return OnlineWeights(
        own.ih, own.hh, own.b_ih, own.b_hh, readout.weight, readout.bias, own.decorrelation
    )


def _runs_native(rule: Rule) -> bool:
    """One tanh layer that learns the squared error on the processor."""
    network = rule.network
    weight = network.recurrent.weights(0, 0).hh
    learns = network.recurrent.decorrelate is None or network.training
    return (
        kernels.serves(weight.dtype, weight.device)
        and type(network.cell) is RNNCell
        and (network.num_layers, network.directions) == (1, 1)
        and type(network.readout) is nn.Linear
        and type(rule.loss) is MSE
        and "spec" in vars(type(rule))  # not a variation on a rule that inherits what it declares
        and learns
    )


def _learning_rate(optimizer: Optimizer, network: Network) -> float | None:
    """The one of plain SGD over all parameters of the network, each of which learns."""
    if type(optimizer) is not SGD or _hooked(optimizer):
        return None
    groups, own = optimizer.param_groups, list(network.parameters())
    rates = {float(group["lr"]) for group in groups}
    given = {id(parameter) for group in groups for parameter in group["params"]}
    plain = all(group[name] == value for group in groups for name, value in _PLAIN.items())
    whole = given == {id(parameter) for parameter in own}
    if plain and whole and len(rates) == 1 and all(p.requires_grad for p in own):
        return rates.pop()
    return None


def _hooked(optimizer: Optimizer) -> bool:
    """Whether something of the user's is called at every step."""
    kinds = ("pre", "post")
    own = any(getattr(optimizer, f"_optimizer_step_{kind}_hooks", ()) for kind in kinds)
    return own or any(getattr(optim, f"_global_optimizer_{kind}_hooks", ()) for kind in kinds)
