"""The readout: from the recurrent stack's features to the outputs, one step at a time.

A plain `nn.Linear` is handled in closed form, any other module by ordinary autograd on its own input, in
which every step is a row of one batch: never through time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from timelocal.arguments import is_plain
from timelocal.errors import ArgumentError, Problem, described
from timelocal.network.hooks import has_forward_hooks
from timelocal.seeding import own_draws
from timelocal.typing import Gradients


def is_linear(readout: nn.Module) -> bool:
    """Whether the readout is W h + b and nothing else: no subclass, no reparametrisation, no hook."""
    return (
        type(readout) is nn.Linear
        and isinstance(readout.weight, nn.Parameter)  # not one that is computed from others
        and not has_forward_hooks(readout)
        and next(readout.children(), None) is None
    )


def as_mlp(readout: nn.Module) -> tuple[nn.Linear, nn.Linear] | None:
    """The two linear layers of W₂ relu(W₁ h + b₁) + b₂, as `from_cell` makes it; None for anything else."""
    if type(readout) is not nn.Sequential or len(readout) != 3 or has_forward_hooks(readout):
        return None
    first, between, last = readout
    if type(between) is not nn.ReLU or has_forward_hooks(between):
        return None
    if not (isinstance(first, nn.Linear) and isinstance(last, nn.Linear)):
        return None
    plain = is_linear(first) and is_linear(last)
    return None if not plain or first.bias is None or last.bias is None else (first, last)


def output_size(readout: object, features: int, like: Tensor) -> int:
    """O of a readout of (n, features), dtype and device as `like`; a nonlinear readout is called once.

    Raises:
        ArgumentError: for a readout that cannot read such features.
    """
    cause: Exception | None = None
    if not isinstance(readout, nn.Module):
        got = described(readout)
    elif is_linear(readout):
        weight: Tensor = readout.weight  # type: ignore[assignment]
        bias: Tensor | None = readout.bias  # type: ignore[assignment]
        fits = weight.shape[1] == features and (bias is None or bias.shape[0] == weight.shape[0])
        if fits and weight.dtype == like.dtype and weight.device == like.device:
            return weight.shape[0]
        biases = "" if bias is None else f" and a bias of {len(bias)}"
        got = (
            f"one from (n, {weight.shape[1]}) to (n, {len(weight)}){biases} in {weight.dtype} on "
            f"{weight.device}"
        )
    else:
        try:
            with torch.no_grad(), evaluation_mode(readout):
                # two rows: batch normalisation may refuse a single one
                outputs = readout(like.new_zeros(2, features))
            got = f"{tuple(outputs.shape)}" if is_plain(outputs) else repr(type(outputs))
            if is_plain(outputs) and outputs.dim() == 2 and len(outputs) == 2:
                return outputs.shape[1]
        except Exception as error:  # whatever a module of the user's raises
            got, cause = str(error), error
    expected = (
        f"a module from (n, {features}), features × directions, in {like.dtype} on {like.device} "
        "to (n, outputs)"
    )
    raise ArgumentError(str(Problem("readout", got, expected))) from cause


def read(
    readout: nn.Module, features: Tensor, valid: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The features (n, h) as they enter, and the outputs (n, o).

    Unless the readout is linear, they carry the autograd graph of this one call, for `readout_gradients`: a
    random readout (dropout) is called only once. It sees only `valid` rows (n,), since padding may be
    meaningless to it. Its outputs at padding are zero.
    """
    if is_linear(readout):
        return features, readout(features)
    with torch.enable_grad():
        entered = features.detach().requires_grad_()
        asked = entered if valid is None else entered[valid]
        with own_draws():
            outputs: Tensor = readout(asked)
        if valid is not None:
            padded = outputs.new_zeros(len(features), outputs.shape[1])
            outputs = padded.index_put((valid,), outputs)
        return entered, outputs


def readout_gradients(
    readout: nn.Module, features: Tensor, outputs: Tensor, error: Tensor
) -> Gradients:
    """Gradients of the readout's parameters, by its own names for them.

    features (n, h) and outputs (n, o) as `read` returned them, error e = ∂L/∂outputs (n, o).
    """
    if is_linear(readout):
        found = {"weight": error.t() @ features}
        if readout.bias is not None:
            found["bias"] = error.sum(0)
        return found
    trained = {name: p for name, p in readout.named_parameters() if p.requires_grad}
    if not trained:
        return {}
    gradients = torch.autograd.grad(
        outputs, tuple(trained.values()), error, materialize_grads=True, retain_graph=True
    )
    # each its own: autograd may give two parameters one tensor, or one that repeats itself
    return {name: gradient.clone() for name, gradient in zip(trained, gradients, strict=True)}


def readout_signal(readout: nn.Module, features: Tensor, outputs: Tensor, error: Tensor) -> Tensor:
    """∂L/∂features (n, h), for rules that carry the error back through the readout."""
    if is_linear(readout):
        return error @ readout.weight  # type: ignore[operator]
    (signal,) = torch.autograd.grad(
        outputs, features, error, materialize_grads=True, retain_graph=True
    )
    return signal


@contextmanager
def as_if_unread(readout: nn.Module) -> Iterator[None]:
    """Restores what a readout draws and updates while it reads, such as running means."""
    if is_linear(readout):
        yield
        return
    kept = [(buffer, buffer.clone()) for buffer in readout.buffers()]
    devices = [p.device for p in readout.parameters() if p.is_cuda][:1]
    with torch.random.fork_rng(devices):
        yield
    for buffer, before in kept:
        buffer.copy_(before)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """The module in eval mode temporarily; every part of it then returns to its previous mode."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
