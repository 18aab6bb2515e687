"""Settings drawn by hypothesis, and the oracles they are held to: torch.nn itself, or the textbook."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import timelocal as tl
from timelocal.losses import Custom, Loss, resolve
from timelocal.testing import CELLS, Case, reference

TOLERANCE = 1e-10
close = partial(torch.testing.assert_close, rtol=TOLERANCE, atol=TOLERANCE)
exactly = partial(torch.testing.assert_close, rtol=0, atol=0)

TORCH_CELLS = ("rnn", "gru", "lstm")
NETWORKS = {
    "rnn": tl.RNN,
    "leaky": partial(tl.RNN, tau=3.0),
    "gru": tl.GRU,
    "gru-reset-before": partial(tl.GRU, reset_after=False),
    "lstm": tl.LSTM,
}
"""Networks of every cell that the native kernels know, but for sizes."""
CLASS_WEIGHTS = torch.tensor([0.5, 2.0, 1.25], dtype=torch.float64)


def quartic(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss that nobody has a closed form for."""
    return ((outputs - targets) ** 4).sum(-1)


LOSSES: dict[str, Loss] = {
    "cross_entropy": resolve("cross_entropy"),
    "weighted": tl.losses.CrossEntropy(label_smoothing=0.2, class_weights=CLASS_WEIGHTS),
    "mse": resolve("mse"),
    "bce": resolve("bce"),
    "custom": Custom(quartic),
}


def torch_losses(name: str, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Losses (n,) and the weights by which torch's mean divides (n,), written with torch alone."""
    ones = outputs.new_ones(len(outputs))
    match name:
        case "cross_entropy":
            return F.cross_entropy(outputs, targets, reduction="none"), ones
        case "weighted":
            options = {"weight": CLASS_WEIGHTS, "label_smoothing": 0.2, "reduction": "none"}
            return F.cross_entropy(outputs, targets, **options), CLASS_WEIGHTS[targets]
        case "mse":
            return F.mse_loss(outputs, targets, reduction="none").mean(-1), ones
        case "bce":
            values = F.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
            return values.mean(-1), ones
        case _:
            return quartic(outputs, targets), ones


@dataclass(frozen=True)
class Setting:
    """A case of the grid with lengths and a loss of its own."""

    case: Case
    loss_name: str = "cross_entropy"
    lengths: tuple[int, ...] | None = None

    @property
    def loss(self) -> Loss:
        return LOSSES[self.loss_name]

    def network(self) -> tl.Network:
        return self.case.network()

    def rule(self, kind: type[tl.Rule], network: tl.Network, **options: object) -> tl.Rule:
        return kind(network, loss=self.loss, at=self.case.at, **options)

    def batch(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """inputs, targets, lengths, mask; padding is NaN, targets there are nonsense."""
        real = self.loss_name in ("mse", "bce", "custom")
        named = replace(self.case, loss="mse" if real else "cross_entropy")
        inputs, targets, _, mask = named.batch()
        if self.lengths is None:
            return inputs, targets, None, mask
        lengths = torch.tensor(self.lengths)
        padding = torch.arange(self.case.steps) >= lengths[:, None]
        padding = padding if self.case.batch_first else padding.t()
        inputs[padding] = float("nan")
        if self.case.at == "every":
            targets[padding] = float("nan") if real else -100
        return inputs, targets, lengths, mask

    def valid(self) -> Tensor:
        """(b, t), True where a step is not padding."""
        lengths = torch.tensor(self.lengths or (self.case.steps,) * self.case.sequences)
        return torch.arange(self.case.steps) < lengths[:, None]


@st.composite
def settings_drawn(
    draw: st.DrawFn,
    cells: tuple[str, ...] = CELLS,
    losses: tuple[str, ...] = tuple(LOSSES),
    max_layers: int = 3,
    max_steps: int = 6,
    max_sequences: int = 4,
    decorrelate: bool = True,
) -> Setting:
    case = Case(
        cell=draw(st.sampled_from(cells)),
        layers=draw(st.integers(1, max_layers)),
        bidirectional=draw(st.booleans()),
        bias=draw(st.booleans()),
        decorrelate=decorrelate and draw(st.booleans()),
        readout=draw(st.sampled_from(("linear", "mlp"))),
        at=draw(st.sampled_from(("last", "every"))),
        sequences=draw(st.integers(1, max_sequences)),
        steps=draw(st.integers(1, max_steps)),
        mask=draw(st.booleans()),
        batch_first=draw(st.booleans()),
        seed=draw(st.integers(0, 999)),
    )
    lengths = None
    if draw(st.booleans()):
        steps = st.integers(1, case.steps)
        lengths = tuple(draw(st.lists(steps, min_size=case.sequences, max_size=case.sequences)))
    return Setting(case, draw(st.sampled_from(losses)), lengths)


def still_stream(rule: tl.Rule, batch_size: int) -> tl.Stream:
    """A stream in which no weight moves."""
    return tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=0.0), batch_size)


# --- torch.nn as the oracle -----------------------------------------------------------------


@dataclass(frozen=True)
class TorchRun:
    outputs: Tensor  # (b, t, h·d) or (t, b, h·d), zero at padding
    h_n: Tensor  # (l·d, b, h)
    c_n: Tensor | None


def torch_run(network: tl.Network, inputs: Tensor, lengths: Tensor | None) -> TorchRun:
    """The network's own parameters in torch.nn, over packed sequences where they are unequal."""
    module, _ = tl.to_torch(network)
    assert type(module) in (nn.RNN, nn.GRU, nn.LSTM)
    if lengths is None:
        outputs, states = module(inputs)
    else:
        first = network.batch_first
        packed = pack_padded_sequence(
            inputs.nan_to_num(), lengths, batch_first=first, enforce_sorted=False
        )
        packed_outputs, states = module(packed)
        outputs, _ = pad_packed_sequence(
            packed_outputs, batch_first=first, total_length=inputs.shape[1 if first else 0]
        )
    h_n, c_n = states if isinstance(states, tuple) else (states, None)
    return TorchRun(outputs, h_n, c_n)


def torch_bptt(setting: Setting, network: tl.Network) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and its gradients by autograd through torch.nn."""
    network = copy.deepcopy(network)
    inputs, targets, lengths, mask = setting.batch()
    with torch.enable_grad():
        ran = torch_run(network, inputs, lengths)
        seen = ran.outputs
        if setting.case.at == "last":
            seen = torch.cat(tuple(ran.h_n[-network.directions :]), -1)
        weights = seen.new_ones(seen.shape[:-1]) if mask is None else mask
        if setting.case.at == "every":
            valid = setting.valid()
            weights = weights * (valid if network.batch_first else valid.t())
        counted = weights.flatten() > 0
        rows = network.readout(seen).flatten(0, -2)[counted]
        weights = weights.flatten()[counted]
        targets = targets.flatten(0, int(setting.case.at == "every"))[counted]
        values, divides = torch_losses(setting.loss_name, rows, targets)
        loss = (values * weights).sum() / (divides * weights).sum()
        loss.backward()
    return loss.detach(), {name: p.grad for name, p in network.named_parameters()}


# --- what must hold, as functions that raise ---------------------------------------------------


def assert_bptt_exact(setting: Setting) -> None:
    """BPTT = autograd: through torch.nn where it has the network, through the textbook where not."""
    network = setting.network()
    batch = setting.batch()
    found = setting.rule(tl.BPTT, network).estimate(*batch[:3], mask=batch[3])
    if setting.case.cell in TORCH_CELLS and not setting.case.decorrelate:
        loss, gradients = torch_bptt(setting, network)
    else:
        loss, gradients = reference.bptt(network, setting.loss, setting.case.at, *batch)
    close(found.loss, loss)
    close(found.gradients, gradients)


def assert_dfa_is_its_surrogate(setting: Setting, **options: object) -> None:
    """DFA = autograd of Σ_t ⟨stop(F e_t), h_t(θ; stop(h_{t-1}))⟩."""
    network = setting.network()
    batch = setting.batch()
    rule = setting.rule(tl.DFA, network, **options)
    found = rule.estimate(*batch[:3], mask=batch[3])
    wanted = reference.dfa(network, rule.feedback_matrix, setting.loss, setting.case.at, *batch)
    close(found.gradients, wanted)


def assert_dfa_per_parameter_is_its_surrogate(setting: Setting) -> None:
    """The same with its own F for each gate's block of each parameter, one surrogate per F."""
    network = setting.network()
    batch = setting.batch()
    rule = setting.rule(tl.DFA, network, feedback_per="parameter")
    found = rule.estimate(*batch[:3], mask=batch[3]).gradients
    compared = 0
    gates = len(network.cell.gate_names)
    for kind in network.recurrent.parameter_kinds:
        for gate in range(gates):

            def feedback(layer: int, direction: int, kind: str = kind, gate: int = gate) -> Tensor:
                return rule.feedback_matrix(layer, direction, kind)[gate]

            wanted = reference.dfa(network, feedback, setting.loss, setting.case.at, *batch)
            for name in found:
                if name.startswith(f"recurrent.{kind}_l"):
                    close(found[name].chunk(gates)[gate], wanted[name].chunk(gates)[gate])
                    compared += 1
                elif name.startswith("readout"):
                    close(found[name], wanted[name])
    assert compared == gates * len(list(network.recurrent.parameters()))
