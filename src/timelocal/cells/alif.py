"""Leaky integrate-and-fire neurons whose threshold adapts: each spike raises it (Bellec et al. 2018).

    as cells/lif.py, with     z_t = 1 if v_t > θ + β a_t else 0     a_t = ρ a_{t-1} + z_{t-1}
    and                       ∂z_t/∂a_t ≈ −β ψ_t

States: (z, v, f, a). A slow ρ gives the neuron a memory of seconds with a membrane of milliseconds.
"""

from __future__ import annotations

import math

from timelocal.arguments import as_real
from timelocal.cells.lif import LIFCell, fraction_problem
from timelocal.errors import Problem, described, raise_problems


class ALIFCell(LIFCell):
    """A layer of leaky integrate-and-fire neurons with adaptive thresholds.

    adaptation, adaptation_decay: β, at least 0, and ρ, in [0, 1). The rest: as in `LIFCell`.
    """

    name = "alif"
    label = "ALIF"
    state_names = (*LIFCell.state_names, "a")

    def __init__(
        self,
        membrane: float = 0.9,
        threshold: float = 1.0,
        adaptation: float = 0.2,
        adaptation_decay: float = 0.98,
        readout_decay: float = 0.8,
        surrogate: str = "triangular",
        dampening: float = 0.3,
        sharpness: float = 1.0,
        detach_reset: bool = True,
        rate: float | None = None,
        rate_strength: float = 1.0,
    ) -> None:
        raise_problems(
            [
                None
                if 0 <= as_real(adaptation) < math.inf
                else Problem("adaptation", described(adaptation), "a number of at least 0"),
                fraction_problem("adaptation_decay", adaptation_decay),
            ]
        )
        self.adaptation = as_real(adaptation)
        self.adaptation_decay = as_real(adaptation_decay)
        super().__init__(
            membrane,
            threshold,
            readout_decay,
            surrogate,
            dampening,
            sharpness,
            detach_reset,
            rate,
            rate_strength,
        )
