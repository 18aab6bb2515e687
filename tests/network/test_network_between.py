"""Layer normalisation and skip between the layers of a stack: under every rule, against autograd."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import timelocal as tl
from covering import covering
from oracles import close, exactly, still_stream
from timelocal.network.between import normalised, through_norm
from timelocal.rules import RULES
from timelocal.testing import Case, reference
from timelocal.testing.cases import stacked_cases
from timelocal.testing.oracles import expected
from timelocal.testing.setting import batch_of
from timelocal.typing import Gradients

DERIVED = ("bptt", "dfa", "eprop", "fa", "rflo", "rtrl", "snap1", "sparse-rtrl", "tbptt")
BOTH = {"num_layers": 3, "layer_norm": True, "skip": True}


def test_the_jacobian_of_the_norm_is_autograd_s_and_symmetric() -> None:
    values = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    signal = torch.randn(5, 7, dtype=torch.float64)
    made = F.layer_norm(values, (7,))
    exactly(normalised(values), made)
    (wanted,) = torch.autograd.grad(made, values, signal)
    close(through_norm(values.detach(), signal), wanted)
    _, moved = torch.autograd.functional.jvp(lambda v: F.layer_norm(v, (7,)), values, signal)
    close(through_norm(values.detach(), signal), moved)


class Stack(torch.nn.Module):
    """Three GRUs of torch.nn with the paths between them, written with torch alone."""

    def __init__(self, network: tl.Network) -> None:
        super().__init__()
        sizes = [network.input_size, network.hidden_size, network.hidden_size]
        self.layers = torch.nn.ModuleList(
            torch.nn.GRU(size, network.hidden_size, batch_first=True) for size in sizes
        ).double()
        for layer, own in enumerate(self.layers):
            for name, parameter in own.named_parameters():
                parameter.data.copy_(
                    network.recurrent.get_parameter(name.replace("l0", f"l{layer}"))
                )
        self.norm, self.skip = network.recurrent.layer_norm, network.recurrent.skip

    def forward(self, inputs: Tensor) -> Tensor:
        left: Tensor | None = None
        for own in self.layers:
            entering = inputs if left is None else left
            if left is not None and self.norm:
                entering = F.layer_norm(left, left.shape[-1:])
            features = own(entering)[0]
            left = left + features if left is not None and self.skip else features
        assert left is not None
        return left


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_bptt_is_autograd_through_modules_of_torch(norm: bool, skip: bool) -> None:
    network = tl.GRU(3, 5, 2, num_layers=3, layer_norm=norm, skip=skip, seed=1, dtype=torch.float64)
    stack = Stack(network)
    inputs = torch.randn(4, 6, 3, dtype=torch.float64)
    targets = torch.randint(2, (4, 6))
    network.readout.weight.grad = None
    found = tl.BPTT(network, at="every").estimate(inputs, targets).gradients
    outputs = network.readout(stack(inputs))
    close(network(inputs), outputs.detach())
    close(network.features(inputs), stack(inputs)[:, -1].detach())
    F.cross_entropy(outputs.flatten(0, 1), targets.flatten()).backward()
    for layer, own in enumerate(stack.layers):
        for name, parameter in own.named_parameters():
            close(found[f"recurrent.{name.replace('l0', f'l{layer}')}"], parameter.grad)
    close(found["readout.weight"], network.readout.weight.grad)


HELD = [
    (name, case)
    for name in DERIVED
    for case in stacked_cases()
    if RULES[name].spec.bidirectional or not case.bidirectional
    if name != "sparse-rtrl"
    or not (case.cell == "indrnn" and case.decorrelate)  # W says whom to follow
]


def _places(name: str, case: Case) -> tuple[object, ...]:
    """Each rule and each cell in each kind of stack."""
    stack = (case.layer_norm, case.skip, case.at)
    return (name, stack), (case.cell, stack)


@pytest.mark.parametrize(("name", "case"), covering(HELD, _places, ids="{}-{}".format))
def test_every_rule_is_what_it_declares(name: str, case: Case) -> None:
    rule = RULES[name](case.network(), loss=case.loss, at=case.at)
    inputs, targets, lengths, mask = case.batch()
    wanted = expected(rule, case)
    close(rule.estimate(inputs, targets, lengths, mask=mask).gradients, wanted)
    without = RULES[name](
        Case(**{**vars(case), "layer_norm": False, "skip": False}).network(),
        loss=case.loss,
        at=case.at,
    )
    other = without.estimate(inputs, targets, lengths, mask=mask).gradients
    assert any((other[key] - own).abs().max() > 1e-4 for key, own in wanted.items())


def test_all_of_them_are_held_to_an_oracle() -> None:
    assert len({case.cell for _, case in HELD}) == 12
    assert len(HELD) == 395


@pytest.mark.parametrize("name", [*DERIVED, "np", "anp", "uoro"])
@pytest.mark.parametrize("cell", ["lstm", "lru"])
def test_a_stream_is_the_sequence(name: str, cell: str) -> None:
    """What the steps of a stream add up to; of noisy rules, that they run and are finite."""
    if not RULES[name].spec.online:
        pytest.skip("not online")
    case = Case(cell, layers=3, layer_norm=True, skip=True, at="every", steps=6)
    rule = RULES[name](case.network(), loss=case.loss, at="every")
    inputs, targets, _, _ = case.batch()
    stream, total = still_stream(rule, case.sequences), Gradients()
    for t in range(case.steps):
        step = stream.step(inputs[:, t], targets[:, t], gradients=True)
        for key, own in step.gradients.items():
            total[key] = total.get(key, 0) + own / case.steps
    if rule.spec.draws:
        assert all(own.isfinite().all() for own in total.values())
        return
    close(total, rule.estimate(inputs, targets).gradients)


@pytest.mark.parametrize("name", ["np", "uoro"])
def test_noise_has_the_right_mean(name: str) -> None:
    """The mean of many draws points along the gradient that the rule declares to estimate."""
    case = Case("rnn", layers=2, layer_norm=True, skip=True, at="every", steps=3, sequences=2)
    network = case.network()
    options = {} if name == "uoro" else {"sigma": 1e-4, "credit": "to_go"}
    rule = RULES[name](network, loss=case.loss, at="every", directions=4000, seed=3, **options)
    inputs, targets, _, _ = case.batch()
    found = rule.estimate(inputs, targets).gradients
    wanted = reference.bptt(network, *batch_of(rule, case))[1]
    flat = partial(lambda parts: torch.cat([own.flatten() for own in parts.values()]))
    one, other = flat({key: found[key] for key in wanted}), flat(wanted)
    assert torch.cosine_similarity(one, other, 0) > 0.97
    assert abs(float((one @ other) / (other @ other)) - 1) < 0.1


def test_inputs_and_initial_states_get_their_gradients() -> None:
    network = tl.LSTM(3, 5, 2, seed=1, dtype=torch.float64, **BOTH)
    inputs = torch.randn(4, 6, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(2, (4,))
    tl.BPTT(network)(inputs, targets).backward()
    moved = torch.randn_like(inputs)

    def loss(size: float) -> Tensor:
        with torch.no_grad():
            return tl.BPTT(network)(inputs + size * moved, targets)

    slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
    torch.testing.assert_close((inputs.grad * moved).sum(), slope, rtol=1e-7, atol=1e-9)


def test_padding_changes_nothing() -> None:
    network = tl.GRU(3, 5, 2, bidirectional=True, seed=1, dtype=torch.float64, **BOTH)
    inputs, lengths = torch.randn(4, 6, 3, dtype=torch.float64), torch.tensor([6, 4, 2, 1])
    together = network.features(inputs, lengths)
    for row, length in enumerate(lengths):
        alone = network.features(inputs[row : row + 1, :length])
        close(together[row : row + 1], alone)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"layer_norm": True}, "layer_norm: got True, expected False when num_layers is 1"),
        ({"skip": True}, "skip: got True, expected False when num_layers is 1"),
        ({"layer_norm": 1, "num_layers": 2}, "layer_norm: got 1"),
    ],
)
def test_bad_arguments_are_told(options: dict[str, object], told: str) -> None:
    with pytest.raises(tl.ArgumentError, match=told):
        tl.GRU(3, 5, 2, **options)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(tl.UnsupportedError, match=r"skip.*Use skip=False, or decorrelate=None"):
        tl.GRU(3, 5, 2, num_layers=2, skip=True, decorrelate=0.1)
    with pytest.raises(tl.UnsupportedError, match="layer_norm or skip"):
        tl.to_torch(tl.GRU(3, 5, 2, **BOTH))


def test_a_model_and_a_configuration_keep_them(tmp_path) -> None:
    from timelocal.experiments.command import command_of
    from timelocal.experiments.config import TrainConfig

    rule = tl.DFA(tl.MinGRU(3, 5, 2, **BOTH))
    tl.save(rule, tmp_path / "m")
    back = tl.load(tmp_path / "m").network
    assert repr(back) == repr(rule.network)
    inputs = torch.randn(2, 4, 3)
    exactly(back(inputs), rule.network(inputs))
    config = TrainConfig(layers=2, layer_norm=True, skip=True)
    assert "--layer-norm --skip" in command_of(config)
    assert TrainConfig(layers=2).chosen() == {"layers": 2}
    for wrong in ({"layer_norm": True}, {"layers": 2, "skip": True, "decorrelate": 0.1}):
        with pytest.raises(tl.ArgumentError):
            TrainConfig(**wrong)
