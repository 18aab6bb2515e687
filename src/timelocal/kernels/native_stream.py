"""A stream that learns at every step, stage by stage, in native code: what one call is told, by name.

Four stages over the tensors themselves, in every step: forward (any built-in cell, layers), head (a readout,
linear or with a hidden layer, and its loss), credit (how the nodes hear of it) and optimizer. The structures
are those of `native/stream/call.h`; every field is eight bytes wide, and an address of 0 means "none".
"""

from __future__ import annotations

import ctypes

import torch

from timelocal.kernels import native
from timelocal.kernels.named_call import agree, integers, numbers

CREDITS = ("feedback", "exact", "nodes", "activity", "weights")
"""The error through F, or down through the layers within the step; noise on nodes, its effect, on weights."""
TRACES = ("none", "leak", "diagonal")
LOSSES = ("mse", "cross_entropy", "bce")
OPTIMIZERS = ("sgd", "adam", "rmsprop", "none")
"""With "none" nothing is learned: the gradients of all steps are added to what `first` points to."""
KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
"""A layer's parameters, in the order of the calls."""
PLACES = {name: place for place, name in enumerate(KINDS)} | {
    "u": 1, "nu": 1, "bias": 2, "theta": 3
}  # fmt: skip
"""Where in a layer's call a parameter stands; element-wise cells have others in the same four places."""
FIRST_UNITS = 4
"""The code of the first element-wise cell, as `native_elementwise` numbers them."""


class ParameterCall(ctypes.Structure):
    """A parameter and what the optimizer keeps of it. group: its number, −1 if it does not learn."""

    _fields_ = integers("value first second step group")


class GroupCall(ctypes.Structure):
    """The options of one group of parameters; momentum is β₁ of Adam, decay β₂, and RMSprop's α."""

    _fields_ = [
        *numbers("lr weight_decay momentum dampening decay epsilon"),
        *integers("nesterov"),
    ]


class LayerCall(ctypes.Structure):
    """One layer: its parameters by `KINDS`, its F (h, o) and D (h, h), and its traces by state and kind."""

    _fields_ = [
        ("parameters", ParameterCall * 4),
        *integers("feedback decorrelation"),
        ("traces", ctypes.c_int64 * 4 * 2),
        ("credits", ctypes.c_int64 * 4),
    ]


class StreamCall(ctypes.Structure):
    """Sizes, settings and addresses of a whole call."""

    _fields_ = [
        *integers("bytes threads steps batch inputs hidden outputs layers"),
        *integers("cell credit trace loss optimizer optimizer_decouples"),
        *integers(
            "directions antithetic orthogonal carries batch_reward layer_norms preserves_norm squash"
        ),
        *numbers("gain sigma credit_decay label_smoothing denominator clip decorrelation_lr"),
        ("key", ctypes.c_uint64),
        *integers("first_step x y mask class_weights states noisy_states"),
        ("readout", ParameterCall),
        ("readout_bias", ParameterCall),
        ("readout_credits", ctypes.c_int64 * 2),
        *integers("groups layer losses out peeks readout_hidden"),
        ("inner", ParameterCall),
        ("inner_bias", ParameterCall),
    ]


_WORTH_SHARING = 4e5
"""Multiply-adds of a step forward from which on threads do more than wait for each other."""


def threads_for(parameters: int, rows: int) -> int:
    """How many threads a step of so many rows through so many parameters is worth."""
    return torch.get_num_threads() if parameters * rows > _WORTH_SHARING else 1


def stream(call: StreamCall) -> None:
    """Run and learn as the call says; what it points to is changed in place.

    A step whose loss or error is not finite is not made, nor are those behind it: `call.steps` is then how
    many were.
    """
    native.extension().stream(ctypes.addressof(call))


if native.describe()["path"] == "native":
    _PARTS = (StreamCall, LayerCall, GroupCall, ParameterCall)
    agree("stream", _PARTS, native.extension().stream_sizes())
