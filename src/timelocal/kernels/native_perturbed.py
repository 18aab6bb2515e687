"""The arguments, by name, of the native call that runs perturbation rules on whole sequences.

The call runs clean and noisy copies side by side, generates noise where it is used, and computes the
gradients of all steps as one product. The structures are those of `native/perturbed.h`; every field is eight
bytes wide, and an address of 0 means "none".
"""

from __future__ import annotations

import ctypes

from timelocal.kernels import native
from timelocal.kernels.named_call import agree, integers, numbers
from timelocal.kernels.native_stream import StreamCall


class PerturbedParameter(ctypes.Structure):
    """Addresses of a parameter and of its gradient."""

    _fields_ = integers("value gradient")


class PerturbedCall(ctypes.Structure):
    """Sizes, settings and addresses of a whole call.

    weights: of the entries. h0, c0: initial states (l, b, h), or none; h, c: the states after each sequence's
    last step. parameters: an array of `PerturbedParameter`, four per layer, then the readout's two. losses
    (n,) and out (n, o) are those of the clean run.
    """

    _fields_ = [
        *integers("bytes threads steps batch inputs hidden outputs layers"),
        *integers("cell credit loss at_last"),
        *integers("directions antithetic batch_reward layer_norms credit_is_global"),
        *numbers("gain sigma credit_decay label_smoothing denominator"),
        ("key", ctypes.c_uint64),
        *integers("x y weights lengths class_weights h0 c0 h c parameters losses out"),
    ]


NoisyCall = StreamCall | PerturbedCall
"""The calls whose fields for noise and credit have the same names."""


def perturbed(call: PerturbedCall) -> None:
    """Run and credit as the call says; gradients, losses, outputs and states are written to its addresses."""
    native.extension().perturbed(ctypes.addressof(call))


if native.describe()["path"] == "native":
    agree("perturbed", (PerturbedCall, PerturbedParameter), native.extension().perturbed_sizes())
