"""A rule's declaration, its estimate for a batch, and the forward pass from which it is computed."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from timelocal.network import Trajectory
from timelocal.rules.batch import Batch
from timelocal.typing import Gradients, States


@dataclass(frozen=True)
class RuleSpec:
    """What a rule declares about itself; `timelocal.testing.check_rule` measures everything but the texts.

    The class declares what holds for the default options. An instance whose options change this has its own
    `spec`.

    >>> import timelocal as tl
    >>> tl.NP.spec.target, tl.NP(tl.RNN(3, 8, output_size=2), credit="to_go").spec.target
    ('tbptt1', 'bptt')
    """

    name: str
    """The name on the command line and in configs."""
    summary: str
    """One line for a table."""
    estimates: Literal["exact", "unbiased", "biased"]
    target: Literal["bptt", "tbptt1", "oracle"]
    """What its estimates equal, exactly or on average: the gradient through all of time, that of each step's
    loss through that step alone, or the output of an oracle supplied with the rule."""
    online: bool
    """Whether it can update at every step of a stream, in memory that does not grow."""
    autograd_free: bool
    """Whether it trains a cell whose backward raises."""
    weight_transport: bool
    """Whether the credit of a hidden unit reads a weight between two other units, or a readout weight."""
    bidirectional: bool = False
    """Whether it supports bidirectional networks on whole sequences."""
    derivative_free: bool = False
    """Whether it trains a layer that only runs forward."""
    draws: bool = False
    """Whether estimates are random: each draws its own noise."""
    clean: bool = True
    """Whether the loss and the outputs of an estimate are those of a run without noise."""
    variance: Literal["bounded", "1/sigma^2"] = "bounded"
    """The variance of a rule's draws as the `sigma` of its noise goes to 0: bounded if runs of one batch are
    compared, growing if a run is compared with earlier losses."""
    references: tuple[str, ...] = ()
    """Bibliography lines."""


@dataclass(frozen=True)
class Estimate:
    """A rule's estimate for one batch.

    loss: scalar, the mean over entries. gradients: by `network.named_parameters()` names.
    outputs: (b, o) at "last" and "mean", else (b, t, o). accuracy: scalar, None for regression.
    count: how many entries the means are over (their total weight). weight: the denominator of the mean
    loss, the count unless the loss weights classes.
    final_states: the states after the last valid step, to be passed as `initial` of the next call.
    local_updates: what buffers with their own learning rule gain, by `rule.named_buffers()` names, such as
    "feedback_l0" or "network.recurrent.decorrelation_l0". Optimizers do not see these.
    diagnostics: scalars worth a curve: the "decorrelation_loss" of a network that decorrelates, the mean
    over its layers and directions; the "activity_loss" of cells with a penalty on their activity, the sum.
    entering: gradients at the network's inputs, if the batch asked for them: "inputs" (t, b, i)
    and "initial" (states, l·directions, b, h).

    >>> import torch, timelocal as tl
    >>> rule = tl.BPTT(tl.GRU(3, 8, output_size=2))
    >>> estimate = rule.estimate(torch.zeros(4, 7, 3), torch.tensor([0, 1, 1, 0]))
    >>> estimate.outputs.shape, estimate.gradients["recurrent.weight_hh_l0"].shape
    (torch.Size([4, 2]), torch.Size([24, 8]))
    """

    loss: Tensor
    gradients: Gradients
    outputs: Tensor
    accuracy: Tensor | None
    count: float
    weight: float
    final_states: States
    local_updates: dict[str, Tensor] = field(default_factory=dict)
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    entering: dict[str, Tensor] = field(default_factory=dict)

    @property
    def steps(self) -> dict[str, Tensor]:
        """The name of `local_updates` in the previous release."""
        warnings.warn(
            "Estimate.steps is now Estimate.local_updates. The old name will be removed in the next release.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.local_updates


@dataclass(frozen=True)
class Evaluation:
    """The network's results on one batch: as in `Estimate`, without gradients.

    >>> import torch, timelocal as tl
    >>> rule = tl.DFA(tl.GRU(3, 8, output_size=2), seed=0)
    >>> rule.evaluate(torch.zeros(4, 7, 3), torch.tensor([0, 1, 1, 0])).count
    4.0
    """

    loss: Tensor
    outputs: Tensor
    accuracy: Tensor | None
    count: float
    weight: float
    final_states: States


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """A batch, its trajectory, the readout's outputs, and the output error, one row per entry.

    features (n, h·directions) and outputs (n, o), as `read` returned them; errors e = ∂L/∂outputs
    (n, o) of the mean loss L; accuracy, None for regression;
    n = b for the loss at the "last" step, else t·b (time first).
    readout_gradients: by the readout's own names, if a kernel computed them with the rest.
    """

    batch: Batch
    trajectory: Trajectory
    features: Tensor
    outputs: Tensor
    errors: Tensor
    loss: Tensor
    accuracy: Tensor | None
    readout_gradients: Gradients | None = None
