"""A chunk of a stream of one tanh layer with plain SGD: the fastest call of all.

It supports the squared error and, for rules without noise, the cross-entropy.

`NATIVE` is the table of rules; a rule whose exact type is not in it uses the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from timelocal import kernels
from timelocal.cells import RNNCell
from timelocal.fast.optimizers import count_an_update, held_parameters, is_hooked
from timelocal.feedback import FIXED
from timelocal.kernels import OnlineSettings, OnlineState, OnlineWeights
from timelocal.losses import MSE, CrossEntropy, Loss
from timelocal.network import Network
from timelocal.rules import (
    ANP,
    DFA,
    NP,
    RFLO,
    TBPTT,
    WP,
    ANPAuthorsCode,
    NPAuthorsCode,
    Rule,
    WPAuthorsCode,
)
from timelocal.rules.eligibility import trace_name
from timelocal.rules.feedback_rule import FeedbackRule
from timelocal.rules.perturbation import NodeRule
from timelocal.rules.perturbation_authors_code import at_rest
from timelocal.rules.states import unpacked
from timelocal.typing import Memory


class Native(NamedTuple):
    """A rule in the kernel's terms: its settings, its state, and a function that copies results back."""

    settings: OnlineSettings
    state: OnlineState
    put_back: Callable[[], None] = lambda: None


def _tbptt(rule: TBPTT, memory: Memory) -> Native | None:
    if rule.k > 1:
        return None
    return Native(OnlineSettings("bp1"), OnlineState(memory["states"].flatten(0, 3)))


def _feedback(rule: FeedbackRule, memory: Memory) -> Native | None:
    """DFA and RFLO: the leak's trace, or none where nothing leaks."""
    cell = rule.network.cell
    followed = rule.trace == "leak" or not (cell.leaks or rule.carries_traces)
    fixed = rule.feedback in FIXED and rule.feedback_per == "layer"
    if not (followed and fixed and rule.normalize is rule.slope is None):
        return None
    settings = OnlineSettings("rflo", feedback=rule.feedback_matrix(0))
    hidden = memory["states"].flatten(0, 3)
    if not rule.carries_traces:
        return Native(settings, OnlineState(hidden))
    # one tensor for all traces, the bias as one more column
    kinds = ["weight_hh", "weight_ih"] + ["bias_ih"] * rule.network.recurrent.bias
    names = [trace_name("h", kind, 0) for kind in kinds]
    parts = [_columns(memory[name]) for name in names]
    trace = torch.cat(parts, -1)

    def put_back() -> None:
        widths = [part.shape[-1] for part in parts]
        for name, columns in zip(names, trace.split(widths, -1), strict=True):
            memory[name].copy_(columns.view_as(memory[name]))
        if rule.network.recurrent.bias:  # both biases have the same trace
            memory[trace_name("h", "bias_hh", 0)].copy_(memory[names[-1]])

    return Native(settings, OnlineState(hidden, None, trace), put_back)


def _columns(trace: Tensor) -> Tensor:
    """A trace as (b, h, …); the trace of a bias is one column."""
    return trace if trace.dim() == 3 else trace[..., None]


def _nodes(kind: str, rule: NodeRule, memory: Memory, lr: float = 1.0) -> Native | None:
    """A rule that is the kernel's `kind`, with the learning rate times `lr`."""
    shares = rule.reward == "batch" and len(memory["states"]) > 1
    several = rule.carry and rule.copies > 1
    if rule.baseline_decay is not None or rule.decay != 0 or several or (shares and not rule.carry):
        return None
    settings = OnlineSettings(
        kind,
        lr,
        sigma=rule.sigma,
        directions=rule.directions,
        antithetic=rule.antithetic,
        orthogonal=rule.noise == "orthogonal",
        batch_reward=rule.reward == "batch" and rule.carry,
    )
    return Native(settings, OnlineState(*memory["states"].flatten(1, 3).unbind(1)))


def _anp(rule: ANP, memory: Memory) -> Native | None:
    native = _nodes("anp", rule, memory) if rule.clean else None
    if native is None:
        return None
    settings = native.settings._replace(layer_norms=rule.norm == "layer")
    return native._replace(settings=settings)


def _weights(rule: WP, memory: Memory, lr: float = 1.0) -> Native | None:
    if rule.copies > 1 or rule.noise != "gaussian":
        return None
    states = (memory[name].flatten(0, 3) for name in ("clean", "noisy"))
    return Native(OnlineSettings("wp", lr, sigma=rule.sigma), OnlineState(*states))


def _weights_as_in_the_authors_code(rule: WPAuthorsCode, memory: Memory) -> Native | None:
    """The loop runs its first step, in which the recurrent weights have no noise."""
    if at_rest(unpacked(memory["noisy"])):
        return None
    return _weights(rule, memory, rule.sigma)


NATIVE: dict[type[Rule], Callable[[Any, Memory], Native | None]] = {
    TBPTT: _tbptt,
    DFA: _feedback,
    RFLO: _feedback,
    NP: lambda rule, memory: _nodes("np", rule, memory),
    ANP: _anp,
    WP: _weights,
    NPAuthorsCode: lambda rule, memory: _nodes("np", rule, memory, rule.sigma),
    ANPAuthorsCode: lambda rule, memory: _nodes("anp-authors-code", rule, memory),
    WPAuthorsCode: _weights_as_in_the_authors_code,
}
"""By exact type: a subclass of a rule may compute something else."""


@torch.no_grad()
def run_tanh_layer(
    rule: Rule,
    optimizer: Optimizer,
    memory: Memory,
    inputs: Tensor,
    targets: Tensor,
    key: int,
    first_step: int,
) -> tuple[Tensor, Tensor] | None:
    """Losses (t,) and outputs (t, b, o) of inputs (t, b, i) and targets (t, b, o) or (t, b).

    Returns None if the kernel does not support this stream.

    Weights and memory end as the loop would leave them, up to rounding; gradients are not kept.
    """
    lr = _learning_rate(optimizer, rule.network)
    prepare = NATIVE.get(type(rule))
    if lr is None or prepare is None or not _is_served(rule):
        return None
    native = prepare(rule, memory)
    if native is None or not _knows(rule.loss, rule):
        return None
    cell, law = rule.network.cell, rule.network.recurrent.decorrelate
    assert isinstance(cell, RNNCell)
    settings = native.settings._replace(
        lr=lr * native.settings.lr,
        tau=cell.tau,
        key=key,
        decorrelation_lr=0.0 if law is None else law.lr,
        preserve_norm=law is not None and law.norm == "preserve",
    )
    if isinstance(rule.loss, CrossEntropy):
        settings = settings._replace(
            loss="cross_entropy", label_smoothing=rule.loss.label_smoothing
        )
    count_an_update(optimizer, rule.network.parameters())
    weights = _online_weights(rule.network)
    found = kernels.online(settings, weights, native.state, inputs, targets, first_step)
    native.put_back()
    return found


def _online_weights(network: Network) -> OnlineWeights:
    own, readout = network.recurrent.weights(0, 0), network.readout
    assert isinstance(readout, nn.Linear)
    return OnlineWeights(
        own.ih, own.hh, own.b_ih, own.b_hh, readout.weight, readout.bias, own.decorrelation
    )


def _is_served(rule: Rule) -> bool:
    """Whether the network is one tanh layer on the CPU."""
    network = rule.network
    weight = network.recurrent.like
    law = network.recurrent.decorrelate
    return (
        kernels.serves(weight.dtype, weight.device)
        and type(network.cell) is RNNCell
        and (network.num_layers, network.directions) == (1, 1)
        and type(network.readout) is nn.Linear
        and (law is None or (network.training and not law.sync))
    )


def _knows(loss: Loss, rule: Rule) -> bool:
    """Whether the kernel computes this loss for this rule."""
    if type(loss) is CrossEntropy:
        return loss.class_weights is None and not rule.spec.draws
    return type(loss) is MSE


def _learning_rate(optimizer: Optimizer, network: Network) -> float | None:
    """The learning rate of plain SGD over all parameters, none of them frozen; None for other optimizers."""
    if type(optimizer) is not SGD or is_hooked(optimizer):
        return None
    plain = SGD([torch.zeros(())], lr=0.0).defaults
    groups, own = optimizer.param_groups, list(network.parameters())
    rates = {float(group["lr"]) for group in groups}
    decisive = ("momentum", "weight_decay", "dampening", "nesterov", "maximize")
    is_plain = all(group[name] == plain[name] for group in groups for name in decisive)
    whole = held_parameters(optimizer) == {id(parameter) for parameter in own}
    if is_plain and whole and len(rates) == 1 and all(p.requires_grad for p in own):
        return rates.pop()
    return None
