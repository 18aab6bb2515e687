"""Networks are plain modules over the user's own tensors: optimizers, checkpoints and wrappers go on."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import timelocal as tl
from oracles import TORCH_CELLS, close, exactly
from timelocal.testing import CELLS, Case

KINDS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
X = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 1, 0])


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)  # the users' own modules draw from the global generator


class Classifier(nn.Module):
    """A model that somebody already had."""

    def __init__(self, kind: type[nn.RNNBase] = nn.GRU, **options: object) -> None:
        super().__init__()
        self.body = kind(3, 8, **options)
        self.head = nn.Linear(8 * (2 if self.body.bidirectional else 1), 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.body(inputs)[0])


@pytest.mark.parametrize("kind", KINDS.values())
def test_the_very_same_parameters(kind: type[nn.RNNBase]) -> None:
    model = Classifier(kind, num_layers=2, bidirectional=True, batch_first=True)
    network = tl.from_torch(model.body, model.head)
    mine = {id(p) for p in model.parameters()}
    assert {id(p) for p in network.parameters()} == mine
    assert network.readout is model.head
    close(network(X), model(X).detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS.values())
@pytest.mark.parametrize("rule", [tl.BPTT, tl.DFA])
def test_the_users_optimizer_steps_what_the_rule_filled(
    kind: type[nn.RNNBase], rule: type[tl.Rule]
) -> None:
    model = Classifier(kind, num_layers=2, batch_first=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    local = rule(tl.from_torch(model.body, model.head))
    first = local(X, Y)
    first.backward()
    before = copy.deepcopy(model.state_dict())
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name]), name
    for _ in range(40):
        optimizer.zero_grad()
        local(X, Y).backward()
        optimizer.step()
    found = local.evaluate(X, Y)
    assert found.loss < 0.9 * first
    close(found.outputs, model(X)[:, -1].detach(), rtol=1e-5, atol=1e-5)


def test_frozen_parameters_stay_without_gradients() -> None:
    model = Classifier()
    model.body.weight_hh_l0.requires_grad_(False)
    head = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    head[0].requires_grad_(False)
    network = tl.from_torch(model.body, head)
    tl.BPTT(network)(X.transpose(0, 1), Y).backward()
    filled = {name for name, p in network.named_parameters() if p.grad is not None}
    assert filled == {name for name, p in network.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("cell", TORCH_CELLS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_state_dicts_move_both_ways(
    cell: str, layers: int, bidirectional: bool, bias: bool
) -> None:
    case = Case(cell, layers=layers, bidirectional=bidirectional, bias=bias)
    ours = case.network()
    options = {"num_layers": layers, "bidirectional": bidirectional, "bias": bias}
    theirs = KINDS[cell](case.INPUTS, case.HIDDEN, **options, batch_first=True).double()
    assert list(ours.recurrent.state_dict()) == list(theirs.state_dict())
    inputs = case.batch()[0]
    theirs.load_state_dict(ours.recurrent.state_dict(), strict=True)
    close(theirs(inputs)[0].detach(), ours.scan(inputs).outputs.transpose(0, 1))
    other = KINDS[cell](case.INPUTS, case.HIDDEN, **options, batch_first=True).double()
    ours.recurrent.load_state_dict(other.state_dict(), strict=True)
    close(other(inputs)[0].detach(), ours.scan(inputs).outputs.transpose(0, 1))


@pytest.mark.parametrize("cell", TORCH_CELLS)
def test_to_torch_and_back_share_parameters(cell: str) -> None:
    case = Case(cell, layers=2, bidirectional=True, dropout=0.25)
    network = case.network()
    module, readout = tl.to_torch(network)
    assert type(module) is KINDS[cell]
    assert (module.dropout, module.batch_first, readout) == (0.25, True, network.readout)
    back = tl.from_torch(module, readout)
    for name, parameter in network.named_parameters():
        assert back.get_parameter(name) is parameter
    with torch.no_grad():
        network.recurrent.weight_hh_l1 *= 0.5
    module.eval()
    inputs = case.batch()[0]
    close(module(inputs)[0].detach(), network.scan(inputs).outputs.transpose(0, 1))


def test_batch_first_is_the_sources() -> None:
    model = Classifier(batch_first=False)
    network = tl.from_torch(model.body, model.head)
    time_first = X.transpose(0, 1)
    targets = torch.arange(20).reshape(5, 4) % 2
    assert network(time_first).shape == (5, 4, 2)
    found = tl.BPTT(network, at="every").estimate(time_first, targets)
    assert found.outputs.shape == (5, 4, 2)
    model.body.batch_first = True
    again = tl.from_torch(model.body, model.head)
    same = tl.BPTT(again, at="every").estimate(X, targets.t())
    exactly(found.gradients, same.gradients)
    exactly(found.outputs, same.outputs.transpose(0, 1))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("at", ["last", "every"])
@pytest.mark.parametrize("lengths", [(5, 4, 2, 1), (1, 5, 3, 5)])
def test_packed_sequences(batch_first: bool, at: str, lengths: tuple[int, ...]) -> None:
    model = Classifier(nn.LSTM, batch_first=batch_first, bidirectional=True)
    network = tl.from_torch(model.body, model.head)
    inputs = X if batch_first else X.transpose(0, 1)
    targets = Y if at == "last" else torch.zeros(inputs.shape[:2], dtype=torch.long)
    packed = pack_padded_sequence(
        inputs, torch.tensor(lengths), batch_first=batch_first, enforce_sorted=False
    )
    for kind in (tl.BPTT, tl.DFA):
        rule = kind(network, at=at)
        padded = rule.estimate(inputs, targets, torch.tensor(lengths))
        exactly(rule.estimate(packed, targets).gradients, padded.gradients)
        exactly(rule.evaluate(packed, targets).loss, padded.loss)


def test_initial_states_are_given_and_returned() -> None:
    """A sequence in two halves, the second started where the first ended, is the sequence."""
    for cell in CELLS:
        network = Case(cell, layers=2).network()
        inputs = Case(cell).batch()[0]
        whole = network.scan(inputs)
        first = network.scan(inputs[:, :2])
        second = network.scan(inputs[:, 2:], initial=first.final_states())
        close(torch.cat((first.outputs, second.outputs)), whole.outputs)
        close(second.final_states(), whole.final_states())


@pytest.mark.parametrize("kind", [torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM])
def test_states_have_torchs_form(kind: type[torch.nn.RNNBase]) -> None:
    """h_n (and c_n) as torch returns them enter a rule, and come out of it."""
    module = kind(2, 4, num_layers=2, bidirectional=True, batch_first=True).double()
    network = tl.from_torch(module, torch.nn.Linear(8, 3).double())
    inputs, targets, *_ = Case("rnn").batch()
    _, before = module(inputs)
    outputs, after = module(inputs, before)
    found = tl.BPTT(network, at="every").estimate(
        inputs, targets[:, None].expand(inputs.shape[:2]), initial=before
    )
    close(found.outputs, network.readout(outputs).detach())
    close(found.final_states, after)


def test_a_batch_may_be_split_in_time_with_states_carried() -> None:
    network = Case("lstm", layers=2).network()
    inputs, targets, *_ = Case("lstm", at="every").batch()
    rule = tl.DFA(network, at="every")
    whole = rule.estimate(inputs, targets)
    first = rule.estimate(inputs[:, :2], targets[:, :2])
    second = rule.estimate(inputs[:, 2:], targets[:, 2:], initial=first.final_states)
    shares = (first.count / whole.count, second.count / whole.count)
    close(  # DFA has no path through time: the two halves' gradients add up
        {n: shares[0] * first.gradients[n] + shares[1] * g for n, g in second.gradients.items()},
        whole.gradients,
    )


def test_tied_weights_are_refused() -> None:
    rnn = torch.nn.RNN(4, 4)
    readout = torch.nn.Linear(4, 4)
    readout.weight = rnn.weight_hh_l0
    with pytest.raises(tl.UnsupportedError, match=r"weight_hh_l0.*Use a copy"):
        tl.from_torch(rnn, readout)


def test_weights_tied_inside_the_stack_are_refused() -> None:
    gru, deep = torch.nn.GRU(2, 4), torch.nn.RNN(4, 4, num_layers=2)
    gru.bias_hh_l0 = gru.bias_ih_l0
    deep.weight_hh_l1 = deep.weight_hh_l0
    for recurrent in (gru, deep):
        with pytest.raises(
            tl.UnsupportedError, match=r"one tensor under several names.*Use a copy"
        ):
            tl.from_torch(recurrent, torch.nn.Linear(4, 3))


def test_a_module_in_eval_mode_stays_in_it() -> None:
    gru = torch.nn.GRU(2, 4, num_layers=2, dropout=0.5).eval()
    network = tl.from_torch(gru, torch.nn.Linear(4, 3))
    assert not network.training
    assert not network.recurrent.training


def test_padding_never_enters_a_readout_that_is_not_linear() -> None:
    class Normalised(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(4, 3).double()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x / x.norm(dim=-1, keepdim=True))  # NaN at a row of zeros

    case = Case("gru", at="every", unequal=True)
    network = case.network()
    network.readout = Normalised()
    inputs, targets, lengths, _ = case.batch()
    for kind in (tl.BPTT, tl.DFA):
        found = kind(network, at="every").estimate(inputs, targets, lengths)
        assert all(gradient.isfinite().all() for gradient in found.gradients.values())
        assert found.loss.isfinite()


def test_autocast_does_not_reach_inside_a_rule() -> None:
    network = tl.GRU(2, 4, output_size=3)
    inputs, targets = torch.randn(5, 6, 2), torch.zeros(5, dtype=torch.long)
    for kind in (tl.BPTT, tl.DFA):
        plain = kind(network).estimate(inputs, targets)
        with torch.autocast("cpu"):
            cast = kind(network).estimate(inputs, targets)
        exactly(cast.gradients, plain.gradients)


@pytest.mark.parametrize("cell", CELLS)
def test_copies_saves_and_moves(cell: str) -> None:
    network = Case(cell, layers=2, bidirectional=True, readout="mlp").network()
    inputs = Case(cell).batch()[0]
    expected = network(inputs)
    twin = copy.deepcopy(network)
    exactly(twin(inputs), expected)
    assert not {id(p) for p in twin.parameters()} & {id(p) for p in network.parameters()}
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    other = Case(cell, layers=2, bidirectional=True, readout="mlp", seed=9).network()
    assert not torch.equal(other(inputs), expected)
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    exactly(other(inputs), expected)
    single = twin.to(torch.float32)
    assert {p.dtype for p in single.parameters()} == {torch.float32}
    close(single(inputs.float()).double(), expected, rtol=1e-4, atol=1e-4)
    assert not network.eval().training
    assert network.train().recurrent.training


def test_a_rules_state_saves_as_weights_only() -> None:
    network = tl.GRU(3, 8, output_size=2, num_layers=2, dropout=0.5)
    rule = tl.DFA(network, seed=1)
    rule.estimate(X, Y)
    file = io.BytesIO()
    torch.save(rule.state_dict(), file)
    file.seek(0)
    other = tl.DFA(network, seed=2)
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    exactly(other.estimate(X, Y).gradients, rule.estimate(X, Y).gradients)


def test_moving_the_network_moves_the_users_module() -> None:
    model = Classifier(batch_first=True)
    network = tl.from_torch(model.body, model.head)
    rule = tl.DFA(network)
    network.to(torch.float64)
    rule.to(torch.float64)
    rule(X.double(), Y).backward()
    assert model.body.weight_hh_l0.grad.dtype == torch.float64
    close(network(X.double()), model(X.double()).detach())


@pytest.mark.parametrize("cell", CELLS)
def test_inference_is_exported(cell: str) -> None:
    case = Case(cell, layers=2, bidirectional=True, readout="mlp", steps=2)
    network, inputs = case.network().eval(), case.batch()[0]
    program = torch.export.export(network, (inputs,))
    close(program.module()(inputs + 1), network(inputs + 1))


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's own
def test_an_exported_program_decomposes() -> None:
    case = Case("gru", steps=2)
    network, inputs = case.network().eval(), case.batch()[0]
    program = torch.export.export(network, (inputs,)).run_decompositions()
    close(program.module()(inputs + 1).detach(), network(inputs + 1))


def test_inference_on_unequal_lengths_is_exported() -> None:
    case = Case("lstm", bidirectional=True, steps=3)
    network, inputs = case.network().eval(), case.batch()[0]
    program = torch.export.export(network, (inputs, torch.tensor([3, 2, 1])))
    lengths = torch.tensor([1, 3, 2])
    close(program.module()(inputs, lengths), network(inputs, lengths))


@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="torch is built without gloo",
)
def test_a_ddp_wrapper_goes_on_working(tmp_path: Path) -> None:
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = Classifier(batch_first=True)
        wrapped = nn.parallel.DistributedDataParallel(model)
        optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
        rule = tl.BPTT(tl.from_torch(model.body, model.head))
        rule(X, Y).backward()
        ours = {name: p.grad.clone() for name, p in model.named_parameters()}
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(wrapped(X)[:, -1], Y).backward()
        close(ours, {name: p.grad for name, p in model.named_parameters()}, rtol=1e-4, atol=1e-6)
        optimizer.zero_grad()
        loss = rule(X, Y)
        loss.backward()
        optimizer.step()
        assert torch.nn.functional.cross_entropy(wrapped(X)[:, -1], Y) < loss
    finally:
        torch.distributed.destroy_process_group()


# --- readouts of every sort ---------------------------------------------------------------------


class Squashed(nn.Linear):
    """A Linear that is not linear."""

    def forward(self, features: Tensor) -> Tensor:
        return 3 * torch.tanh(super().forward(features))


READOUTS = {
    "linear": lambda: nn.Linear(8, 2),
    "no bias": lambda: nn.Linear(8, 2, bias=False),
    "subclass": lambda: Squashed(8, 2),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 2)),
    "layer norm": lambda: nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 2)),
    "frozen": lambda: nn.Linear(8, 2).requires_grad_(False),
}


@pytest.mark.parametrize("kind", READOUTS)
def test_any_readout_is_trained_as_autograd_would(kind: str) -> None:
    model = Classifier(batch_first=True)
    model.head = READOUTS[kind]()
    network = tl.from_torch(model.body, model.head).double()
    found = tl.BPTT(network).estimate(X.double(), Y)
    tl.BPTT(network)(X.double(), Y).backward()
    filled = {name: p.grad for name, p in model.named_parameters()}
    assert not found.outputs.requires_grad
    model.zero_grad()
    torch.nn.functional.cross_entropy(model(X.double())[:, -1], Y).backward()
    close(filled, {name: p.grad for name, p in model.named_parameters()})


def test_a_readout_with_dropout_is_asked_once() -> None:
    """The error and the gradient are those of one and the same mask."""
    head = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    model = Classifier(batch_first=True)
    network = tl.from_torch(model.body, head).double()
    with torch.random.fork_rng():
        found = tl.BPTT(network).estimate(X.double(), Y)
    outputs = head(model.body(X.double())[0][:, -1])
    loss = torch.nn.functional.cross_entropy(outputs, Y)
    close(found.loss, loss.detach())
    close(found.gradients["readout.0.weight"], torch.autograd.grad(loss, head[0].weight)[0])


def test_evaluation_leaves_dropout_and_batch_norm_of_the_readout_alone() -> None:
    head = nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    head[1].eval()  # a part in a mode of its own
    network = tl.from_torch(nn.GRU(3, 8, batch_first=True), head)
    rule = tl.DFA(network)
    before = copy.deepcopy(network.state_dict())
    modes = [part.training for part in network.modules()]
    torch_state = torch.get_rng_state()
    exactly(rule.evaluate(X, Y).loss, rule.evaluate(X, Y).loss)
    exactly(network.state_dict(), before)
    assert [part.training for part in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), torch_state)
    rule.estimate(X, Y)
    assert int(head[0].num_batches_tracked) == 1


# --- estimates and `.grad` ----------------------------------------------------------------------


def test_gradients_accumulate_as_backward_would_and_the_estimate_stays() -> None:
    network = tl.GRU(3, 8, output_size=2)
    rule = tl.DFA(network)
    estimate = rule.estimate(X, Y)
    kept = copy.deepcopy(estimate.gradients)
    for _ in range(3):
        rule.accumulate(estimate)
    for name, parameter in network.named_parameters():
        close(parameter.grad, 3 * kept[name], rtol=1e-6, atol=1e-6)
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1e-3)
    network.zero_grad(set_to_none=False)
    exactly(estimate.gradients, kept)


@pytest.mark.parametrize("recurrent", [True, False])
@pytest.mark.parametrize("readout", [True, False])
def test_every_part_keeps_its_mode_there_and_back(recurrent: bool, readout: bool) -> None:
    body = nn.GRU(3, 8, num_layers=2, dropout=0.5, batch_first=True).train(recurrent)
    head = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 2)).train(readout)
    head[1].train(not readout)
    network = tl.from_torch(body, head)
    module, back = tl.to_torch(network)
    assert network.recurrent.training is module.training is body.training is recurrent
    assert back is head
    assert [part.training for part in head] == [readout, not readout, readout]


@pytest.mark.parametrize("make", [tl.RNN, tl.GRU, tl.LSTM])
def test_a_network_in_eval_mode_becomes_modules_that_compute_the_same(make: Callable) -> None:
    network = make(3, 8, 2, num_layers=2, dropout=0.5).eval()
    module, readout = tl.to_torch(network)
    assert not module.training
    close(readout(module(X)[0]).detach(), network(X), rtol=1e-5, atol=1e-6)
    assert tl.to_torch(network.train())[0].training
