"""Perturbations of whole sequences in one native call: what it is told, by name.

Clean and noisy runs side by side, noise made where it is used, and the gradients of all steps as one
product. The structures are those of `native/perturbed.h`; every field is eight bytes wide, and an address
of 0 means "none".
"""

from __future__ import annotations

import ctypes

from timelocal.kernels import native
from timelocal.kernels.native_stream import StreamCall


def _integers(names: str) -> list[tuple[str, type]]:
    return [(name, ctypes.c_int64) for name in names.split()]


class PerturbedParameter(ctypes.Structure):
    """Addresses of a parameter and of its gradient."""

    _fields_ = _integers("value gradient")


class PerturbedCall(ctypes.Structure):
    """Sizes, settings and addresses of a whole call.

    weights: of the entries. h0, c0: initial states (l, b, h), or none; h, c: those after each sequence's
    last step. parameters: of `PerturbedParameter`, four a layer, then the readout's two. losses (n,) and
    out (n, o) are the clean run's.
    """

    _fields_ = [
        *_integers("bytes threads steps batch inputs hidden outputs layers"),
        *_integers("cell credit loss at_last"),
        *_integers("directions antithetic batch_reward layer_norms credit_is_global"),
        *((name, ctypes.c_double) for name in ("gain", "sigma", "credit_decay")),
        *((name, ctypes.c_double) for name in ("label_smoothing", "denominator")),
        ("key", ctypes.c_uint64),
        *_integers("x y weights lengths class_weights h0 c0 h c parameters losses out"),
    ]


NoisyCall = StreamCall | PerturbedCall
"""Whatever is told by the same names how noise is made and credited."""


def perturbed(call: PerturbedCall) -> None:
    """Run and credit as the call says; gradients, losses, outputs and states go where it points."""
    native.extension().perturbed(ctypes.addressof(call))


def _check_sizes() -> None:
    ours = tuple(map(ctypes.sizeof, (PerturbedCall, PerturbedParameter)))
    theirs = native.extension().perturbed_sizes()
    if ours != theirs:
        raise ImportError(
            f"perturbed calls have {ours} bytes here and {theirs} in the kernels: build them anew"
        )


if native.describe()["path"] == "native":
    _check_sizes()
