"""A one-layer tanh network that learns at every step of a stream, in native code.

One step, with h* = D h, for each sample b of the batch:

    a = V x + W h*₋ + b_ih + b_hh       h = (1 − 1/τ) h₋ + (1/τ) tanh a       β = U h* + c
    ℓ_b = mean_o (β − y)²               or, for rules without noise, the cross-entropy; the loss is the mean

then W ← W − lr·dW with dW = Σ_b δ_b ⊗ h*₋ (V with x, the biases with 1), U with the readout's signal and
h*, and D ← D − ε ⟨h* h*ᵀ − diag(h*²)⟩_b D. All updates of a step use the weights from before the step.
"""

from __future__ import annotations

import ctypes
import math
from typing import NamedTuple

import torch
from torch import Tensor

from timelocal.kernels import native
from timelocal.kernels.named_call import agree, integers, numbers
from timelocal.kernels.native_stream import LOSSES

KINDS = ("bp1", "rflo", "np", "anp", "wp", "anp-authors-code")
"""One-step backpropagation, RFLO, and perturbation of nodes, of activity and of weights."""


class OnlineWeights(NamedTuple):
    """The weights that learn, each updated in place.

    ih (h, i), hh (h, h), b_ih and b_hh (h,) or both None; readout U (o, h) and readout_bias c (o,) or
    None; decorrelation D (h, h) or None.
    """

    ih: Tensor
    hh: Tensor
    b_ih: Tensor | None
    b_hh: Tensor | None
    readout: Tensor
    readout_bias: Tensor | None
    decorrelation: Tensor | None = None

    def trained(self) -> dict[str, Tensor]:
        """The optimizer's parameters, in the order of `network.named_parameters()`."""
        named = zip(self._fields[:6], self[:6], strict=True)
        return {name: weight for name, weight in named if weight is not None}


class OnlineState(NamedTuple):
    """The state of a stream, each tensor updated in place.

    hidden (b, h); noisy (b, h), the state of the noisy pass, for wp, and for np and anp with one noisy
    pass that carries its own state; None if noise lasts one step. trace (b, h, h + i + 1), for rflo with
    τ > 1: the eligibility of each weight, hh, ih and the bias side by side (no last column without a bias).
    """

    hidden: Tensor
    noisy: Tensor | None = None
    trace: Tensor | None = None


class OnlineSettings(NamedTuple):
    """The settings, which are the same at every step.

    kind: one of `KINDS`. preserve_norm: each row of D keeps its norm. sigma: the noise's standard deviation;
    key: the seed of its stream. directions: the number of noise directions of np and anp; antithetic: −ξ with
    each ξ; orthogonal: as in `kernels.orthogonal`. Only a single noisy pass can carry its own state.
    batch_reward: each sample is credited with the change of the batch's mean loss; for a noisy pass that
    carries its state. layer_norms: anp divides by the norms of the hidden nodes and of the outputs
    separately.
    feedback: F (h, o) of rflo. loss: "mse", or "cross_entropy" for bp1 and rflo, then with label_smoothing.
    """

    kind: str
    lr: float = 1.0
    tau: float = 1.0
    sigma: float = 1e-3
    key: int = 0
    decorrelation_lr: float = 0.0
    preserve_norm: bool = False
    feedback: Tensor | None = None
    directions: int = 1
    antithetic: bool = False
    orthogonal: bool = False
    batch_reward: bool = False
    layer_norms: bool = False
    loss: str = "mse"
    label_smoothing: float = 0.0


class OnlineCall(ctypes.Structure):
    """Sizes, settings and addresses of a whole call, as in `native/online/call.h`."""

    _fields_ = [
        *integers("bytes kind threads steps batch inputs hidden outputs"),
        *integers("directions antithetic orthogonal batch_reward layer_norms preserve loss"),
        *numbers("gain lr decorrelation_lr sigma label_smoothing"),
        ("key", ctypes.c_uint64),
        *integers("first_step ih hh b_ih b_hh readout readout_bias decorrelation"),
        *integers("x y feedback hidden_state noisy trace losses out class_weights"),
    ]


_KEPT = (
    *("ih", "hh", "b_ih", "b_hh", "readout", "readout_bias", "decorrelation"),
    *("hidden_state", "noisy", "trace"),
)
"""The names of the call's fields for weights and state, in their order."""
_WORK_PER_CALL = 1e11
"""Approximate floating-point operations per call: some hundred milliseconds, after which Ctrl-C is handled.
Each call copies the matrices to its working memory and back, some milliseconds with a thousand units."""


def online(
    settings: OnlineSettings,
    weights: OnlineWeights,
    state: OnlineState,
    inputs: Tensor,
    targets: Tensor,
    first_step: int = 0,
) -> tuple[Tensor, Tensor]:
    """Run and learn over inputs (t, b, i) and targets (t, b, o), or (t, b) classes, descending at every step.

    first_step: the number of the first step. Noise is a function of step numbers, so a stream in chunks gives
    the same result as one call. Weights and state are changed in place. All steps run in one native call, or
    in several if they take long.
    Returns losses (t,) before each update and outputs (t, b, o). The run stops before a step whose loss, or a
    weight after it, would not be finite: results then have fewer steps, and weights and state belong to the
    last completed one.
    """
    steps, batch, features = inputs.shape
    hidden, outputs = len(weights.hh), len(weights.readout)
    by_class = settings.loss == "cross_entropy"
    inputs, targets = inputs.contiguous(), targets.contiguous()
    feedback = None if settings.feedback is None else settings.feedback.contiguous()
    biases = 0 if weights.b_ih is None else 1
    native.check(
        weights.hh,
        ("inputs", inputs, (steps, batch, features)),
        ("targets", None if by_class else targets, (steps, batch, outputs)),
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
    losses, made = inputs.new_empty(steps), inputs.new_empty(steps, batch, outputs)
    copies = settings.directions * (2 if settings.antithetic else 1)
    work = 20 * batch * hidden * (hidden + features + 10 * copies) + 100 * hidden * hidden
    longest, start, end = max(1, int(_WORK_PER_CALL / work)), 0, steps
    call = OnlineCall(
        bytes=inputs.element_size(), kind=KINDS.index(settings.kind),
        threads=torch.get_num_threads(), batch=batch, inputs=features, hidden=hidden,
        outputs=outputs, directions=settings.directions, antithetic=settings.antithetic,
        orthogonal=settings.orthogonal, batch_reward=settings.batch_reward,
        layer_norms=settings.layer_norms, preserve=settings.preserve_norm,
        loss=LOSSES.index(settings.loss), label_smoothing=settings.label_smoothing,
        gain=1 / settings.tau, lr=settings.lr, decorrelation_lr=settings.decorrelation_lr,
        sigma=settings.sigma, key=settings.key & (2**64 - 1), feedback=native.address(feedback),
        **{
            name: native.address(tensor)
            for name, tensor in zip(_KEPT, kept, strict=True)
        },
    )  # fmt: skip
    while start < end:
        part = slice(start, min(start + longest, end))
        call.steps, call.first_step = part.stop - part.start, first_step + start
        call.x, call.y = inputs[part].data_ptr(), targets[part].data_ptr()
        call.losses, call.out = losses[part].data_ptr(), made[part].data_ptr()
        native.extension().online(ctypes.addressof(call))
        if math.isfinite(losses[part.stop - 1]):
            start = part.stop
        else:  # nothing was written: run again, up to the step that would not be finite
            end = start + int(losses[part].isfinite().logical_not().nonzero()[0])
    for own, used in zip((*weights, *state), kept, strict=True):
        if own is not None and used is not None and own is not used:
            own.copy_(used)
    return losses[:end], made[:end]


if native.describe()["path"] == "native":
    agree("online", [OnlineCall], [native.extension().online_size()])
