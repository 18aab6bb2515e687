"""Spiking cells under the rules that use derivatives: surrogates, held to autograd through the equations.

Equations and surrogates are written out again here, with one `autograd.Function`: nothing of the cells' own
derivatives is shared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

import timelocal as tl
from covering import covering
from oracles import TOLERANCE, close, still_stream
from timelocal.cells import LIFCell
from timelocal.rules import RULES
from timelocal.testing import Case
from timelocal.testing.cases import SPIKING, spiking_cases
from timelocal.testing.oracles import expected
from timelocal.typing import Gradients

BUMPS: dict[str, Callable[[Tensor], Tensor]] = {
    "triangular": lambda u: (1 - abs(u)).clamp(min=0),
    "sigmoid": lambda u: 4 * torch.exp(-4 * u) / (1 + torch.exp(-4 * u)) ** 2,
    "fast_sigmoid": lambda u: (1 + 10 * abs(u)) ** -2,
    "arctan": lambda u: 1 / (1 + (math.pi * u) ** 2),
}


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return torch.where(u > 0, 1.0, 0.0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *signal: Tensor) -> tuple[Tensor, None]:
        return signal[0] * ctx.saved_tensors[0], None


def run(
    network: tl.Network, inputs: Tensor, *, through_others: bool = True
) -> tuple[Tensor, Tensor]:
    """Spikes and features (b, t, h) of one layer, whose graph may leave out the paths between units."""
    own, cell = network.recurrent, network.cell
    assert isinstance(cell, LIFCell)
    weights = own.weight_hh_l0
    to_itself = torch.diag(torch.diagonal(weights))
    z = v = f = a = inputs.new_zeros(len(inputs), network.hidden_size)
    spikes, features = [], []
    for x in inputs.unbind(1):
        others = z if through_others else z.detach()
        recurrent = z @ to_itself.t() + others @ (weights - to_itself).t()
        reset = z.detach() if cell.detach_reset else z
        current = x @ own.weight_ih_l0.t() + recurrent + own.bias_ih_l0 + own.bias_hh_l0
        v = cell.membrane * v + current - cell.threshold * reset
        a = cell.adaptation_decay * a + z
        u = (v - cell.threshold - cell.adaptation * a) / cell.threshold
        slope = cell.dampening * BUMPS[cell.surrogate](cell.sharpness * u)
        z = Spike.apply(u, slope.detach())
        f = cell.readout_decay * f + (1 - cell.readout_decay) * z
        spikes.append(z)
        features.append(f)
    return torch.stack(spikes, 1), torch.stack(features, 1)


def by_autograd(
    network: tl.Network,
    inputs: Tensor,
    targets: Tensor,
    *,
    through_others: bool = True,
    matrix: Tensor | None = None,
) -> Gradients:
    """The gradient of the mean squared error at every step; of the surrogate Σ ⟨F e, f⟩, where F is given."""
    network.zero_grad()
    with torch.enable_grad():
        _, features = run(network, inputs, through_others=through_others)
        if matrix is None:
            (network.readout(features) - targets).square().mean().backward()
        else:
            outputs = network.readout(features.detach()).detach()
            errors = 2 * (outputs - targets) / targets.numel()
            ((errors @ matrix.t()) * features).sum().backward()
    return {
        name: own.grad.clone() for name, own in network.named_parameters() if own.grad is not None
    }


def setting(cell: str, **options: Any) -> tuple[tl.Network, Tensor, Tensor]:
    """A network of four units that fire and interact, and data."""
    make = {"lif": tl.LIF, "alif": tl.ALIF}[cell]
    network = make(3, 4, 2, dtype=torch.float64, seed=1, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    source = torch.Generator().manual_seed(2)
    inputs = torch.randn(5, 12, 3, generator=source, dtype=torch.float64)
    targets = torch.randn(5, 12, 2, generator=source, dtype=torch.float64)
    return network, inputs, targets


OPTIONS = [
    {},
    {"surrogate": "sigmoid", "dampening": 0.8},
    {"surrogate": "fast_sigmoid", "sharpness": 0.5},
    {"surrogate": "arctan", "dampening": 1.0, "sharpness": 2.0},
    {"detach_reset": False},
    {"readout_decay": 0.0, "threshold": 0.7, "membrane": 0.6},
]


@pytest.mark.parametrize(("cell", "options"), covering(product(SPIKING, OPTIONS)))
class TestOneLayer:
    def test_its_spikes_are_in_the_trajectory(self, cell: str, options: dict[str, Any]) -> None:
        network, inputs, _ = setting(cell, **options)
        own = network.scan(inputs).layers[0][0]
        spikes, features = run(network, inputs)
        assert own.hidden.unique().tolist() == [0, 1]
        close(own.hidden.transpose(0, 1), spikes.detach())
        close(own.features.transpose(0, 1), features.detach())

    @pytest.mark.parametrize("rule", [tl.BPTT, tl.RTRL])
    def test_bptt_and_rtrl_are_autograd_through_the_surrogate(
        self, cell: str, options: dict[str, Any], rule: type[tl.Rule]
    ) -> None:
        network, inputs, targets = setting(cell, **options)
        found = rule(network, loss="mse", at="every").estimate(inputs, targets).gradients
        close(found, by_autograd(network, inputs, targets))

    @pytest.mark.parametrize("rule", ["eprop", "snap1"])
    def test_traces_are_autograd_with_the_paths_through_other_units_stopped(
        self, cell: str, options: dict[str, Any], rule: str
    ) -> None:
        network, inputs, targets = setting(cell, **options)
        symmetric = {"feedback": "symmetric"} if rule == "eprop" else {}
        made = RULES[rule](network, loss="mse", at="every", **symmetric)
        found = made.estimate(inputs, targets).gradients
        close(found, by_autograd(network, inputs, targets, through_others=False))
        for name, wrong in by_autograd(network, inputs, targets).items():  # the control
            if "recurrent" in name:
                assert (found[name] - wrong).abs().max() > 1e4 * TOLERANCE

    def test_random_feedback_is_autograd_of_its_surrogate(
        self, cell: str, options: dict[str, Any]
    ) -> None:
        network, inputs, targets = setting(cell, **options)
        rule = tl.EProp(network, loss="mse", at="every", feedback="gaussian")
        found = rule.estimate(inputs, targets).gradients
        wanted = by_autograd(
            network, inputs, targets, through_others=False, matrix=rule.feedback_matrix()
        )
        close({name: own for name, own in found.items() if "recurrent" in name}, wanted)

    def test_traces_carried_forward_by_a_stream_add_up_to_the_same(
        self, cell: str, options: dict[str, Any]
    ) -> None:
        network, inputs, targets = setting(cell, **options)
        for rule in (
            tl.EProp(network, loss="mse", at="every"),
            tl.RTRL(network, loss="mse", at="every"),
            tl.DFA(network, loss="mse", at="every"),
        ):
            stream, steps = still_stream(rule, len(inputs)), inputs.shape[1]
            total: Gradients = {}
            for t in range(steps):
                step = stream.step(inputs[:, t], targets[:, t], gradients=True)
                for name, own in step.gradients.items():
                    total[name] = total.get(name, 0) + own / steps
            close(total, rule.estimate(inputs, targets).gradients)


def test_a_wrong_surrogate_is_seen() -> None:
    """What is compared reacts to each constant of the derivative."""
    network, inputs, targets = setting("alif")
    right = by_autograd(network, inputs, targets)
    for name, wrong in (
        ("dampening", 0.31), ("sharpness", 1.1), ("detach_reset", False), ("surrogate", "arctan"),
    ):  # fmt: skip
        other, _, _ = setting("alif", **{name: wrong})
        found = tl.BPTT(other, loss="mse", at="every").estimate(inputs, targets).gradients
        with pytest.raises(AssertionError):
            close(found, right)


DERIVED = ("bptt", "dfa", "eprop", "rflo", "rtrl", "snap1", "sparse-rtrl", "tbptt")
HELD = [
    (name, case)
    for name in DERIVED
    for case in spiking_cases()
    if RULES[name].spec.bidirectional or not case.bidirectional
]


def _places(name: str, case: Case) -> tuple[object, ...]:
    """Each rule and each cell in each kind of network and batch."""
    kind = str(case).removeprefix(case.cell)
    return (name, kind), (name, case.cell), (case.cell, kind)


def test_all_of_them_are_held_to_an_oracle() -> None:
    assert SPIKING == ("lif", "alif")
    assert len(HELD) == 90


@pytest.mark.parametrize(("name", "case"), covering(HELD, _places, ids="{}-{}".format))
def test_stacks_lengths_masks_and_decorrelation(name: str, case: Case) -> None:
    rule = RULES[name](case.network(), loss=case.loss, at=case.at)
    rule.network.eval()
    inputs, targets, lengths, mask = case.batch()
    found = rule.estimate(inputs, targets, lengths, mask=mask).gradients
    close(found, expected(rule, case))


@pytest.mark.parametrize("cell", SPIKING)
def test_adaptation_of_zero_is_none(cell: str) -> None:
    one, inputs, targets = setting("lif")
    other, _, _ = setting("alif", adaptation=0.0)
    other.load_state_dict(one.state_dict())
    for rule in (tl.BPTT, tl.EProp):
        first, second = (
            rule(net, loss="mse", at="every").estimate(inputs, targets).gradients
            for net in (one, other)
        )
        close(first, second)


# --- rates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", SPIKING)
@pytest.mark.parametrize("rule", ["bptt", "eprop", "dfa", "rtrl", "np", "wp"])
def test_a_target_rate_adds_its_local_gradient_to_any_rule(cell: str, rule: str) -> None:
    gradients = []
    for options in ({}, {"rate": 0.1, "rate_strength": 3.0}):
        network, inputs, targets = setting(cell, **options)
        estimate = RULES[rule](network, loss="mse", at="every", seed=5).estimate(inputs, targets)
        gradients.append(estimate.gradients)
    network.zero_grad()
    spikes, _ = run(network, inputs, through_others=False)
    penalty = 1.5 * (spikes.mean((0, 1)) - 0.1).square().sum()
    penalty.backward()
    close(estimate.diagnostics["activity_loss"], penalty.detach())
    for name, own in network.named_parameters():
        push = torch.zeros_like(own) if own.grad is None else own.grad
        close(gradients[1][name], gradients[0][name] + push)
    assert network.recurrent.weight_ih_l0.grad.abs().max() > 1e-3


def test_padding_fires_no_spike_that_counts() -> None:
    network, inputs, targets = setting("lif", rate=0.1)
    lengths = torch.tensor([12, 7, 5, 3, 1])
    padded = inputs.clone()
    for row, length in zip(padded, lengths, strict=True):
        row[length:] = 100
    rule = tl.BPTT(network, loss="mse", at="every")
    one, other = (rule.estimate(x, targets, lengths) for x in (inputs, padded))
    close(one.gradients, other.gradients)
    close(one.diagnostics, other.diagnostics)


@pytest.mark.parametrize("cell", SPIKING)
def test_the_rate_goes_to_its_target(cell: str) -> None:
    make = {"lif": tl.LIF, "alif": tl.ALIF}[cell]
    network = make(3, 20, 2, rate=0.05, rate_strength=1.0, seed=0)
    source = torch.Generator().manual_seed(0)
    inputs, targets = 2 * torch.randn(8, 50, 3, generator=source), torch.zeros(8, 50, 2)
    rule = tl.EProp(network, loss="mse", at="every")
    optimizer = torch.optim.Adam(rule.parameters(), lr=0.01)

    def rate() -> float:
        return float(network.scan(inputs).layers[0][0].hidden.mean())

    before = rate()
    for _ in range(60):
        optimizer.zero_grad()
        rule(inputs, targets).backward()
        optimizer.step()
    assert before > 0.1
    assert abs(rate() - 0.05) < 0.02


def test_a_stream_has_no_mean_rate() -> None:
    rule = tl.EProp(tl.LIF(3, 4, 2, rate=0.1))
    with pytest.raises(tl.UnsupportedError, match=r"rate=0.1.*Use whole sequences, or rate=None"):
        still_stream(rule, 1)


def test_a_frozen_recurrence_is_not_pushed() -> None:
    network, inputs, targets = setting("lif", rate=0.1)
    network.recurrent.requires_grad_(False)
    found = tl.BPTT(network, loss="mse", at="every").estimate(inputs, targets).gradients
    assert not found["recurrent.weight_ih_l0"].any()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"membrane": 1.0}, "membrane: got 1.0"),
        ({"threshold": 0}, "threshold: got 0"),
        ({"readout_decay": -0.1}, "readout_decay: got -0.1"),
        ({"surrogate": "arctang"}, "Did you mean 'arctan'"),
        ({"dampening": math.nan}, "dampening: got nan"),
        ({"sharpness": "steep"}, "sharpness: got 'steep'"),
        ({"detach_reset": 1}, "detach_reset: got 1"),
        ({"rate": 1.5}, r"rate: got 1.5, expected spikes per step, in \[0, 1\]"),
        ({"rate_strength": 0}, "rate_strength: got 0"),
        ({"adaptation": -1}, "adaptation: got -1"),
        ({"adaptation_decay": 1}, "adaptation_decay: got 1"),
    ],
)
def test_bad_constants_are_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(tl.ArgumentError, match=told):
        tl.ALIF(2, 3, 1, **options)
