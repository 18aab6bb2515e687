"""What a rule declares of itself, what it says about a batch, and what it makes that from."""

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
    """What a rule declares of itself; `timelocal.testing.check_rule` measures all of it but the texts.

    The class declares what holds for default options. An instance whose options change that has a `spec` of
    its own: `NP(network, credit="to_go").spec.target` is "bptt".
    """

    name: str
    """On the command line and in configs."""
    summary: str
    """One line for a table."""
    estimates: Literal["exact", "unbiased", "biased"]
    target: Literal["bptt", "tbptt1", "oracle"]
    """What its estimates are, or have as their mean: the gradient through all of time, the gradient of each
    step's loss through that step alone, or what an oracle computes that comes with the rule."""
    online: bool
    """Whether it can update at every step of a stream, in memory that does not grow."""
    autograd_free: bool
    """Whether it trains a cell whose backward raises."""
    weight_transport: bool
    """Whether the credit of a hidden unit reads a weight between two other units, or the readout's."""
    bidirectional: bool = False
    """Whether it takes networks that run both ways, on whole sequences."""
    derivative_free: bool = False
    """Whether it trains a layer that only runs forward."""
    draws: bool = False
    """Whether an estimate is a draw: noise of its own, another one each time."""
    clean: bool = True
    """Whether the loss and the outputs of an estimate are those of a run without noise."""
    variance: Literal["bounded", "1/sigma^2"] = "bounded"
    """What becomes of the variance of a rule's draws as the `sigma` of its noise goes to 0: it stays bounded
    where runs of one batch are compared, and grows where a run is compared with losses of before."""
    references: tuple[str, ...] = ()
    """Bibliography lines."""


@dataclass(frozen=True)
class Estimate:
    """What a rule says about one batch.

    loss: scalar, the mean over entries. gradients: by `network.named_parameters()` names.
    outputs: (b, o) at "last" and "mean", else (b, t, o). accuracy: scalar, None for regression.
    count: how many entries the means are over (their total weight). weight: what the loss is a mean over,
    the count unless the loss weighs classes.
    final_states: the states after the last valid step, the `initial` of a next call.
    local_updates: what a law of their own adds to buffers, by `rule.named_buffers()` names, such as
    "feedback_l0" or "network.recurrent.decorrelation_l0". Optimizers know nothing of these.
    diagnostics: scalars worth a curve: the "decorrelation_loss" of a network that decorrelates, the mean
    over its layers and directions; the "activity_loss" of cells with a penalty on their activity, the sum.
    entering: gradients of what entered the network, as far as the batch asked for them: "inputs" (t, b, i)
    and "initial" (states, l·directions, b, h).
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
        """The name of `local_updates` in the release before."""
        warnings.warn(
            "Estimate.steps is now Estimate.local_updates. The old name goes in the next release.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.local_updates


@dataclass(frozen=True)
class Evaluation:
    """What the network does on one batch: as in `Estimate`, without gradients."""

    loss: Tensor
    outputs: Tensor
    accuracy: Tensor | None
    count: float
    weight: float
    final_states: States


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """A batch, its trajectory, what the readout made of it, and the output error, one row per entry.

    features (n, h·directions) and outputs (n, o), as `read` returned them; errors e = ∂L/∂outputs
    (n, o) of the mean loss L; accuracy, None for regression;
    n = b for the loss at the "last" step, else t·b (time first).
    readout_gradients: by the readout's own names, where a kernel computed them with the rest.
    """

    batch: Batch
    trajectory: Trajectory
    features: Tensor
    outputs: Tensor
    errors: Tensor
    loss: Tensor
    accuracy: Tensor | None
    readout_gradients: Gradients | None = None
