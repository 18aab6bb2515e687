"""A one-layer tanh network that learns at every step of a stream, in plain torch, step by step.

This defines what the native path must equal. One step, with h* = D h, for each sample b of the batch:

    a = V x + W h*₋ + b_ih + b_hh       h = (1 − 1/τ) h₋ + (1/τ) tanh a       β = U h* + c
    ℓ_b = mean_o (β − y)²               the loss is the mean of ℓ_b

then W ← W − lr·dW with dW = Σ_b δ_b ⊗ h*₋ (V with x, the biases with 1), U with the readout's signal and
h*, and D ← D − ε ⟨h* h*ᵀ − diag(h*²)⟩_b D. Every update of a step is made from the weights before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from timelocal.kernels.native_online import OnlineSettings, OnlineState, OnlineWeights
from timelocal.kernels.noise import normal
from timelocal.kernels.orthogonal import orthogonal


class _Step(NamedTuple):
    """What a step has left: all that a rule may look at. pre (b, h) is h*₋, features (b, h) h*."""

    number: int
    inputs: Tensor
    targets: Tensor
    pre: Tensor
    activity: Tensor
    active: Tensor
    features: Tensor
    outputs: Tensor


def online(
    settings: OnlineSettings,
    weights: OnlineWeights,
    state: OnlineState,
    inputs: Tensor,
    targets: Tensor,
    first_step: int = 0,
) -> tuple[Tensor, Tensor]:
    """Run and learn over inputs (t, b, i) and targets (t, b, o).

    first_step: the number of the first step, of which noise is a function: a stream in chunks goes the
    same way as one in one call. Weights and state are changed in place.
    Returns losses (t,) before each update and outputs (t, b, o).
    """
    losses, outputs = inputs.new_empty(len(inputs)), torch.empty_like(targets)
    learn = _RULES[settings.kind]
    for t, (x, y) in enumerate(zip(inputs.unbind(0), targets.unbind(0), strict=True)):
        pre = _decorrelated(weights, state.hidden)
        activity, active, hidden = _cell(settings, weights, x, pre, state.hidden)
        features = _decorrelated(weights, hidden)
        outputs[t] = _affine(weights.readout, weights.readout_bias, features)
        step = _Step(first_step + t, x, y, pre, activity, active, features, outputs[t])
        losses[t] = (step.outputs - y).square().mean()
        learn(settings, weights, state, step)
        state.hidden.copy_(hidden)
        if weights.decorrelation is not None:
            _decorrelate(settings, weights.decorrelation, features)
    return losses, outputs


def _affine(weight: Tensor, bias: Tensor | None, entering: Tensor) -> Tensor:
    return torch.nn.functional.linear(entering, weight, bias)


def _decorrelated(weights: OnlineWeights, hidden: Tensor) -> Tensor:
    return hidden if weights.decorrelation is None else hidden @ weights.decorrelation.T


def _cell(
    settings: OnlineSettings, weights: OnlineWeights, x: Tensor, pre: Tensor, hidden: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """a, tanh a and the next h, each (b, h)."""
    activity = _affine(weights.hh, weights.b_hh, pre) + _affine(weights.ih, weights.b_ih, x)
    active = activity.tanh()
    if settings.tau == 1:
        return activity, active, active
    return activity, active, torch.lerp(hidden, active, 1 / settings.tau)


def _decorrelate(settings: OnlineSettings, matrix: Tensor, features: Tensor) -> None:
    """D ← D − ε ⟨h* h*ᵀ − diag(h*²)⟩ D, without the (h, h) product: features.T @ (features @ D)."""
    rate = settings.decorrelation_lr
    before = matrix.norm(dim=1, keepdim=True) if settings.preserve_norm else None
    carried = features @ matrix
    matrix.mul_(features.square().mean(0).mul_(rate).add_(1).unsqueeze(1))
    matrix.addmm_(features.T, carried, alpha=-rate / len(features))
    if before is not None:
        after = matrix.norm(dim=1, keepdim=True)
        matrix.mul_(torch.where(after > 0, before / after, 1))


# --- the rules: each changes the weights by its step, from values made before any of them changes -----


def _descend(
    settings: OnlineSettings, weights: OnlineWeights, step: _Step, deltas: Tensor, readout: Tensor
) -> None:
    """The step that signals at the nodes make: deltas (b, h) and readout (b, o)."""
    rate = -settings.lr
    weights.ih.addmm_(deltas.T, step.inputs, alpha=rate)
    weights.hh.addmm_(deltas.T, step.pre, alpha=rate)
    if weights.b_ih is not None and weights.b_hh is not None:
        change = deltas.sum(0)
        weights.b_ih.add_(change, alpha=rate)
        weights.b_hh.add_(change, alpha=rate)
    _descend_readout(settings, weights, step, readout)


def _descend_readout(
    settings: OnlineSettings, weights: OnlineWeights, step: _Step, signal: Tensor
) -> None:
    weights.readout.addmm_(signal.T, step.features, alpha=-settings.lr)
    if weights.readout_bias is not None:
        weights.readout_bias.sub_(signal.sum(0), alpha=settings.lr)


def _errors(step: _Step) -> Tensor:
    """e (b, o)."""
    return (step.outputs - step.targets).mul_(2 / step.outputs.numel())


def _slope(settings: OnlineSettings, step: _Step) -> Tensor:
    """∂h/∂a (b, h)."""
    return (1 - step.active.square()).div_(settings.tau)


def _bp1(settings: OnlineSettings, weights: OnlineWeights, state: OnlineState, step: _Step) -> None:
    errors = _errors(step)
    signal = errors @ weights.readout
    if weights.decorrelation is not None:
        signal = signal @ weights.decorrelation
    _descend(settings, weights, step, signal * _slope(settings, step), errors)


def _rflo(
    settings: OnlineSettings, weights: OnlineWeights, state: OnlineState, step: _Step
) -> None:
    assert settings.feedback is not None
    errors, slope = _errors(step), _slope(settings, step)
    signal = errors @ settings.feedback.T
    if state.trace is None:
        _descend(settings, weights, step, signal * slope, errors)
        return
    biases = [bias for bias in (weights.b_ih, weights.b_hh) if bias is not None]
    ones = [torch.ones_like(slope[:, :1])] if biases else []
    entering = torch.cat((step.pre, step.inputs, *ones), 1)
    state.trace.mul_(1 - 1 / settings.tau).addcmul_(slope.unsqueeze(2), entering.unsqueeze(1))
    gradient = torch.einsum("bh,bhi->hi", signal, state.trace)
    hidden, inputs = weights.hh.shape[1], weights.ih.shape[1]
    weights.hh.sub_(gradient[:, :hidden], alpha=settings.lr)
    weights.ih.sub_(gradient[:, hidden : hidden + inputs], alpha=settings.lr)
    for bias in biases:
        bias.sub_(gradient[:, -1], alpha=settings.lr)
    _descend_readout(settings, weights, step, errors)


def _np(settings: OnlineSettings, weights: OnlineWeights, state: OnlineState, step: _Step) -> None:
    noises = _node_noise(settings, step)
    _, outputs = _noisy_pass(settings, weights, state, step, noises)
    change = (_credit(settings, step, outputs) / settings.sigma).unsqueeze(-1)
    _descend(settings, weights, step, (change * noises[0]).mean(0), (change * noises[1]).mean(0))


def _anp(settings: OnlineSettings, weights: OnlineWeights, state: OnlineState, step: _Step) -> None:
    noises = _node_noise(settings, step)
    activity, outputs = _noisy_pass(settings, weights, state, step, noises)
    moved, read = activity - step.activity, outputs - step.outputs
    sizes = [moved.square().sum(-1), read.square().sum(-1)]
    counts = [moved.shape[-1], read.shape[-1]]
    if not settings.layer_norms:
        sizes, counts = [sizes[0] + sizes[1]] * 2, [sum(counts)] * 2
    credit = _credit(settings, step, outputs)
    signals = (
        _shared(count * credit, size) * change
        for size, count, change in zip(sizes, counts, (moved, read), strict=True)
    )
    _descend(settings, weights, step, *(signal.mean(0) for signal in signals))


def _anp_authors_code(
    settings: OnlineSettings, weights: OnlineWeights, state: OnlineState, step: _Step
) -> None:
    """Norms over the batch of the layer and of the readout, each by itself; √N, which counts the inputs."""
    activity, outputs = _noisy_pass(settings, weights, state, step, _node_noise(settings, step))
    moved, read = activity[0] - step.activity, outputs[0] - step.outputs
    count = step.inputs.shape[-1] + moved.shape[-1] + read.shape[-1]
    credit = _credit(settings, step, outputs)[0] * (count**0.5 / len(moved))
    signals = (_shared(credit, change.square().sum()) * change for change in (moved, read))
    _descend(settings, weights, step, *signals)


def _shared(credit: Tensor, size: Tensor) -> Tensor:
    """Credit (…, b) over the squared size of what moved, (…, b, 1); nothing where nothing has."""
    return torch.where(size > 0, credit / size, 0).unsqueeze(-1)


def _wp(settings: OnlineSettings, weights: OnlineWeights, state: OnlineState, step: _Step) -> None:
    trained = weights.trained()
    noises = {
        name: normal(
            settings.key, step.number, 1, place, weight.shape, weight.dtype, weight.device
        )[0]
        for place, (name, weight) in enumerate(trained.items())
    }
    shaken = weights._replace(
        **{name: weight.add(noises[name], alpha=settings.sigma) for name, weight in trained.items()}
    )
    _, outputs = _noisy_pass(settings, shaken, state, step, None)
    change = _credit(settings, step, outputs).sum().mul_(-settings.lr / settings.sigma)
    for name, weight in trained.items():
        weight.addcmul_(noises[name], change)


def _node_noise(settings: OnlineSettings, step: _Step) -> tuple[Tensor, Tensor]:
    """ξ (m, b, h) and ν (m, b, o)."""

    hidden = step.activity.shape[-1]
    nodes = hidden + step.outputs.shape[-1]

    def drawn(place: int, like: Tensor) -> Tensor:
        batch, own = like.shape
        at = (settings.key, step.number, 1, place, (settings.directions, batch, own))
        kind = (like.dtype, like.device)
        if settings.orthogonal:
            noise = orthogonal(*at, place * hidden, nodes, *kind)[0]
        else:
            noise = normal(*at, *kind)[0]
        return torch.cat((noise, -noise)) if settings.antithetic else noise

    return drawn(0, step.activity), drawn(1, step.outputs)


def _noisy_pass(
    settings: OnlineSettings,
    weights: OnlineWeights,
    state: OnlineState,
    step: _Step,
    noises: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """Pre-activations (m, b, h) and outputs (m, b, o) under noise, from the noisy pass's own state.

    If it has none, from the clean one; without noises (weights carry them), one pass.
    """
    if state.noisy is None:
        activity, before = step.activity, state.hidden
    else:
        before = state.noisy
        activity = _affine(weights.hh, weights.b_hh, _decorrelated(weights, before))
        activity += _affine(weights.ih, weights.b_ih, step.inputs)
    if noises is not None:
        activity = activity + settings.sigma * noises[0]
    hidden = torch.lerp(before, activity.tanh(), 1 / settings.tau)
    outputs = _affine(weights.readout, weights.readout_bias, _decorrelated(weights, hidden))
    if noises is not None:
        outputs = outputs + settings.sigma * noises[1]
    if state.noisy is not None:
        state.noisy.copy_(hidden.view_as(state.noisy))
    return activity, outputs


def _credit(settings: OnlineSettings, step: _Step, noisy: Tensor) -> Tensor:
    """c (…, b): how much the loss changed, each sample's share of the mean, or all of it for each."""
    change = (noisy - step.targets).square_() - (step.outputs - step.targets).square_()
    share = change.mean(-1).div_(change.shape[-2])
    return share.sum(-1, keepdim=True).expand(share.shape) if settings.batch_reward else share


_RULES: dict[str, Callable[[OnlineSettings, OnlineWeights, OnlineState, _Step], None]] = {
    "bp1": _bp1,
    "rflo": _rflo,
    "np": _np,
    "anp": _anp,
    "wp": _wp,
    "anp-authors-code": _anp_authors_code,
}
