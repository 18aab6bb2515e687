"""The arguments, by name, of the native call that runs a stream with an update at every step.

Every step has four stages, which work on the tensors in place: forward (any built-in cell, several layers),
head (a readout, linear or with a hidden layer, and its loss), credit (the signals at the nodes) and
optimizer. The structures are those of `native/stream/call.h`; every field is eight bytes wide, and an address
of 0 means "none".
"""

from __future__ import annotations

import ctypes

import torch

from timelocal.kernels import native
from timelocal.kernels.named_call import agree, integers, numbers

CREDITS = ("feedback", "exact", "nodes", "activity", "weights")
"""The error through F or through the layers within the step; noise on nodes, its effect, noise on weights."""
TRACES = ("none", "leak", "diagonal")
LOSSES = ("mse", "cross_entropy", "bce")
OPTIMIZERS = ("sgd", "adam", "rmsprop", "none")
"""With "none", no weight is updated: the gradients of all steps are added to the tensors at `first`."""
KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
"""A layer's parameters, in the order of the calls."""
PLACES = {name: place for place, name in enumerate(KINDS)} | {
    "u": 1, "nu": 1, "bias": 2, "theta": 3
}  # fmt: skip
"""The place of a parameter in a layer's call; element-wise cells put others in the same four places."""
FIRST_UNITS = 4
"""The code of the first element-wise cell, as `native_elementwise` numbers them."""


class ParameterCall(ctypes.Structure):
    """A parameter and the optimizer's state for it. group: its number, −1 if the parameter is frozen."""

    _fields_ = integers("value first second step group")


class GroupCall(ctypes.Structure):
    """The options of one group of parameters; momentum is also Adam's β₁, decay is β₂ or RMSprop's α."""

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
"""The multiply-adds of a forward step from which on several threads are faster than one."""


def threads_for(parameters: int, rows: int) -> int:
    """The number of threads to use for a step of `rows` rows through `parameters` parameters."""
    return torch.get_num_threads() if parameters * rows > _WORTH_SHARING else 1


def stream(call: StreamCall) -> None:
    """Run and learn as the call says; the tensors at its addresses are changed in place.

    The run stops before a step whose loss or error is not finite; `call.steps` is then the number of steps
    completed.
    """
    native.extension().stream(ctypes.addressof(call))


if native.describe()["path"] == "native":
    _PARTS = (StreamCall, LayerCall, GroupCall, ParameterCall)
    agree("stream", _PARTS, native.extension().stream_sizes())
