"""How close a rule's gradient is to that of BPTT: angle, signs and size, parameter by parameter."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import torch
from torch import Tensor

from timelocal.data import Sequences
from timelocal.data.sequences import sequences_problem
from timelocal.errors import raise_problems
from timelocal.network import Network, evaluation_mode
from timelocal.rules import BPTT, Rule
from timelocal.training.parts import entering
from timelocal.training.stream_checks import rule_problem


class Alignment(NamedTuple):
    """An estimate g compared with BPTT's gradient b.

    ⟨g, b⟩ / ‖g‖‖b‖, the fraction of entries with the same sign where b is not zero, and ‖g‖ / ‖b‖. All are 0
    if b is zero; the cosine also if g is.
    """

    cosine: float
    sign_agreement: float
    norm_ratio: float


HEADLINE = "recurrent"
"""The name of all recurrent parameters taken as one vector."""


@torch.no_grad()
def alignment(
    rule: Rule, inputs: Tensor, targets: Tensor, lengths: Tensor | None = None
) -> dict[str, Alignment]:
    """Compare a rule's estimate for one batch with the gradient of BPTT, on the network in evaluation mode.

        cosine = ⟨g, b⟩ / ‖g‖‖b‖,    norm ratio = ‖g‖ / ‖b‖

    Both see the network without dropout, since different masks would make it two networks. Nothing is
    changed, including the rule's generator, so watching a training run leaves it bit for bit the same. A
    rule that draws noise is measured by one draw.

    Args:
        rule: any rule on a network that BPTT can train.
        inputs, targets, lengths: a batch, as for `rule.estimate`.

    Returns:
        An `Alignment` for all `"recurrent"` parameters as one vector, the headline; one for each layer,
        `"recurrent.l0"` …; and one for each parameter, by `network.named_parameters()` names. There is none
        for the whole network: most rules train a linear readout by its exact gradient, which would hide a
        rule that does not train the recurrent part.

    Raises:
        ArgumentError: an invalid batch, or a network without a gradient (a black box).

    >>> import torch, timelocal as tl
    >>> rule = tl.BPTT(tl.RNN(3, 8, 2))
    >>> found = alignment(rule, torch.randn(4, 5, 3), torch.tensor([0, 1, 0, 1]))
    >>> round(found["recurrent"].cosine, 6), round(found["recurrent"].norm_ratio, 6)
    (1.0, 1.0)

    Source: the angle of feedback alignment, T. P. Lillicrap et al., Random synaptic feedback weights support
    error backpropagation for deep learning, Nature Communications 7:13276, 2016.
    """
    raise_problems([rule_problem(rule)])
    before = rule.get_extra_state()
    try:
        with evaluation_mode(rule.network):
            exact = BPTT(rule.network, loss=rule.loss, at=rule.at).estimate(
                inputs, targets, lengths
            )
            found = rule.estimate(inputs, targets, lengths).gradients
    finally:
        rule.set_extra_state(before)
    pairs = {
        name: (found.get(name, torch.zeros_like(true)).flatten().double(), true.flatten().double())
        for name, true in exact.gradients.items()
    }
    groups = {name: [name] for name in pairs}
    layers = _layers(rule.network, pairs)
    groups |= {HEADLINE: [name for names in layers.values() for name in names], **layers}
    compared = {}
    for group, names in groups.items():
        ours, true = zip(*(pairs[name] for name in names), strict=True)
        compared[group] = _compare(torch.cat(ours), torch.cat(true))
    return compared


def _layers(network: Network, known: Collection[str]) -> dict[str, list[str]]:
    """The names of each layer's parameters, both directions together."""
    recurrent = network.recurrent
    return {
        f"{HEADLINE}.l{layer}": [
            f"recurrent.{name}"
            for direction in range(recurrent.directions)
            for name in recurrent.parameter_names(layer, direction)
            if f"recurrent.{name}" in known
        ]
        for layer in range(recurrent.num_layers)
    }


def watch(rule: Rule, part: Sequences) -> Callable[[], dict[str, float]]:
    """A function for a training run to record after every epoch: the alignment on `part`, as flat numbers.

    Raises:
        ArgumentError: immediately, for a network that BPTT cannot train, or an invalid rule or part.
    """
    raise_problems([rule_problem(rule), sequences_problem("part", part)])
    BPTT(rule.network, loss=rule.loss, at=rule.at)

    def measure() -> dict[str, float]:
        compared = alignment(rule, *entering(rule, part))
        return {
            f"alignment.{name}.{field}": value
            for name, one in compared.items()
            for field, value in one._asdict().items()
        }

    return measure


def _compare(ours: Tensor, true: Tensor) -> Alignment:
    size, length = float(true.norm()), float(ours.norm())
    if size == 0:
        return Alignment(0.0, 0.0, 0.0)
    counted = true != 0
    agree = float((ours.sign() == true.sign())[counted].double().mean())
    cosine = float(ours @ true) / (length * size) if length else 0.0
    return Alignment(cosine, agree, length / size)
