"""`torch_online` behind the same interface, in native code."""

from __future__ import annotations

import torch
from torch import Tensor

from timelocal.kernels import native
from timelocal.kernels.torch_online import KINDS, OnlineSettings, OnlineState, OnlineWeights

_WORK_PER_CALL = 1e11
"""Floating-point operations, roughly: some hundred milliseconds, after which Ctrl-C is heard. Each call
copies the matrices to where it works and back, some milliseconds with a thousand units."""


def online(
    settings: OnlineSettings,
    weights: OnlineWeights,
    state: OnlineState,
    inputs: Tensor,
    targets: Tensor,
    first_step: int = 0,
) -> tuple[Tensor, Tensor]:
    """As `torch_online.online`, with every step in one native call, several calls if it takes long."""
    steps, batch, features = inputs.shape
    hidden, outputs = len(weights.hh), targets.shape[-1]
    inputs, targets = inputs.contiguous(), targets.contiguous()
    feedback = None if settings.feedback is None else settings.feedback.contiguous()
    biases = 0 if weights.b_ih is None else 1
    native.check(
        weights.hh,
        ("inputs", inputs, (steps, batch, features)),
        ("targets", targets, (steps, batch, outputs)),
        ("weight_ih", weights.ih, (hidden, features)),
        ("weight_hh", weights.hh, (hidden, hidden)),
        ("bias_ih", weights.b_ih, (hidden,)),
        ("bias_hh", weights.b_hh, (hidden,)),
        ("readout weight", weights.readout, (outputs, hidden)),
        ("readout bias", weights.readout_bias, (outputs,)),
        ("decorrelation", weights.decorrelation, (hidden, hidden)),
        ("feedback", feedback, (hidden, outputs)),
        ("hidden state", state.hidden, (batch, hidden)),
        ("noisy state", state.noisy, (batch, hidden)),
        ("trace", state.trace, (batch, hidden, hidden + features + biases)),
    )
    kept = [tensor if tensor is None else tensor.contiguous() for tensor in (*weights, *state)]
    losses, made = inputs.new_empty(steps), torch.empty_like(targets)
    copies = settings.directions * (2 if settings.antithetic else 1)
    work = 20 * batch * hidden * (hidden + features + 10 * copies) + 100 * hidden * hidden
    longest = max(1, int(_WORK_PER_CALL / work))
    for start in range(0, steps, longest):
        part = slice(start, start + longest)
        native.extension().online(
            inputs.element_size(), KINDS.index(settings.kind), torch.get_num_threads(),
            len(losses[part]), batch, features, hidden, outputs,
            settings.directions, settings.antithetic, settings.orthogonal, settings.batch_reward,
            settings.layer_norms, settings.preserve_norm, 1 / settings.tau, settings.lr,
            settings.decorrelation_lr, settings.sigma, settings.key & (2**64 - 1),
            first_step + start,
            *(native.address(tensor) for tensor in kept[:7]),
            inputs[part].data_ptr(), targets[part].data_ptr(), native.address(feedback),
            *(native.address(tensor) for tensor in kept[7:]),
            losses[part].data_ptr(), made[part].data_ptr(),
        )  # fmt: skip
    for own, used in zip((*weights, *state), kept, strict=True):
        if own is not None and used is not None and own is not used:
            own.copy_(used)
    return losses, made
