"""A rule is a loss module: whatever torch hangs on a loss works, and what it cannot do it refuses by name."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import timelocal as tl
from oracles import close, exactly

TASK = {"loss": "mse", "at": "every"}


def batch(seed: int = 0, count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 6, 3, generator=draw, dtype=torch.float64)
    return inputs, torch.randn(count, 6, 2, generator=draw, dtype=torch.float64)


def network(**options: object) -> tl.Network:
    return tl.GRU(3, 7, 2, **options).double()


def gradients(module: nn.Module) -> dict[str, torch.Tensor | None]:
    return {name: parameter.grad for name, parameter in module.named_parameters()}


def test_backward_hands_out_the_estimate_times_what_comes_in() -> None:
    rule, (x, y) = tl.DFA(network(), **TASK).double(), batch()
    wanted = rule.estimate(x, y).gradients
    (3 * rule(x, y) + 1).backward()
    exactly(gradients(rule.network), {name: 3 * gradient for name, gradient in wanted.items()})
    rule(x, y).backward()  # accumulates
    close(gradients(rule.network), {name: 4 * gradient for name, gradient in wanted.items()})


def test_parameter_hooks_are_called_and_frozen_parameters_get_nothing() -> None:
    rule, (x, y) = tl.BPTT(network(), **TASK), batch()
    frozen = rule.network.readout.weight.requires_grad_(False)
    seen = []
    rule.network.readout.bias.register_hook(lambda gradient: seen.append(gradient) or 0 * gradient)
    rule(x, y).backward()
    assert len(seen) == 1
    assert frozen.grad is None
    assert not rule.network.readout.bias.grad.any()


def test_without_grad_it_is_the_loss_and_nothing_else() -> None:
    rule = tl.DFA(network(decorrelate=0.1), feedback="kolen_pollack", **TASK).double()
    x, y = batch()
    before = copy.deepcopy(rule.state_dict())
    with torch.no_grad():
        loss = rule(x, y)
    assert not loss.requires_grad
    exactly(loss, rule.evaluate(x, y).loss)
    exactly(rule.state_dict(), before)


def test_eval_reaches_the_network_and_rests_what_learns_by_itself() -> None:
    rule = tl.DFA(network(decorrelate=0.1), feedback="kolen_pollack", **TASK).double().eval()
    assert not rule.network.training
    before = copy.deepcopy(rule.state_dict())
    rule(*batch()).backward()
    exactly(rule.state_dict(), before)
    rule.train()
    rule(*batch()).backward()
    after = rule.state_dict()
    assert not torch.equal(after["feedback_l0"], before["feedback_l0"])
    key = "network.recurrent.decorrelation_l0"
    assert not torch.equal(after[key], before[key])


def test_a_local_law_takes_its_own_step_whatever_the_loss_is_multiplied_by() -> None:
    one, other = (
        tl.DFA(network(decorrelate=0.1), feedback="kolen_pollack", **TASK).double()
        for _ in range(2)
    )
    one(*batch()).backward()
    (65536 * other(*batch())).backward()
    exactly(other.state_dict(), one.state_dict())


def test_a_local_law_never_steps_on_what_is_not_finite() -> None:
    rule = tl.DFA(
        network(decorrelate=0.1), feedback="kolen_pollack",
        loss=lambda y, t: (y - t).square().sum(-1) * torch.inf, at="every",
    ).double()  # fmt: skip
    before = rule.feedback_l0.clone()
    rule(*batch())
    exactly(rule.feedback_l0, before)


@pytest.mark.parametrize("scale", [2.0**16, 2.0**-3])
def test_grad_scaler_scales_and_unscales(scale: float) -> None:
    rule, (x, y) = tl.DFA(tl.GRU(3, 7, 2), **TASK), batch()
    x, y = x.float(), y.float()
    wanted = rule.estimate(x, y).gradients
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
    scaler.scale(rule(x, y)).backward()
    scaler.unscale_(optimizer)
    torch.testing.assert_close(gradients(rule.network), wanted)
    scaler.step(optimizer)


def test_autocast_in_front_and_around() -> None:
    encoder, rule = nn.Linear(4, 3), tl.BPTT(tl.GRU(3, 7, 2), **TASK)
    x, y = torch.randn(5, 6, 4), batch()[1].float()
    with torch.autocast("cpu", torch.bfloat16):
        entering = encoder(x)
        assert entering.dtype == torch.bfloat16
        loss = rule(entering, y)
    loss.backward()
    assert encoder.weight.grad.isfinite().all()
    assert encoder.weight.grad.any()


def _inference_rules() -> list[tl.Rule]:
    readout = nn.Sequential(nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, 2))
    adopted = tl.from_torch(nn.GRU(3, 7, batch_first=True), readout)
    learned = {"decorrelate": 0.1}
    return [
        tl.BPTT(adopted, **TASK),
        tl.DFA(tl.RNN(3, 7, 2, **learned), feedback="kolen_pollack", **TASK),
        tl.DFA(tl.GRU(3, 7, 2), loss=lambda y, t: (y - t).square().mean(-1), at="every"),
        tl.RFLO(tl.RNN(3, 7, 2, tau=2.0), **TASK),
        tl.NP(tl.LSTM(3, 7, 2), **TASK),
        tl.UORO(tl.GRU(3, 7, 2), **TASK),
        tl.WeightMirror(tl.GRU(3, 7, 2), **TASK),
    ]


@pytest.mark.parametrize("number", range(7))
def test_inference_mode_leaves_nothing_that_is_bad_outside(number: int) -> None:
    rule, (x, y) = _inference_rules()[number], batch()
    x, y = x.float(), y.float()
    optimizer = torch.optim.Adam(rule.parameters())
    with torch.inference_mode():
        loss = rule(x, y)
        assert not loss.requires_grad
        assert float(rule.evaluate(x, y).loss) == pytest.approx(float(loss))
        assert all(parameter.grad is None for parameter in rule.parameters())
        rule.accumulate(rule.estimate(x, y))
        tl.fit(rule, optimizer, (x, y), (x, y), epochs=1, batch_size=3)
    rule(x, y).backward()
    optimizer.step()
    rule.accumulate(rule.estimate(x, y))
    tl.fit(rule, optimizer, (x, y), (x, y), epochs=1, batch_size=3)
    if not rule.spec.online or not isinstance(rule.network.readout, nn.Linear):
        return
    with torch.inference_mode():
        stream = tl.Stream(rule, optimizer, 5)
        stream.run(x, y)
        stream.step(x[:, 0], y[:, 0])
        stream.reset()
    stream.run(x, y)
    stream.step(x[:, 0], y[:, 0])
    stream.reset(torch.tensor([0]))
    with torch.inference_mode():
        stream.load_state_dict(stream.state_dict())
    stream.reset()


def reference(modules: nn.Module, x: torch.Tensor, y: torch.Tensor, **options: object) -> None:
    """Autograd through torch.nn, all the way."""
    gru, head = modules
    nn.functional.mse_loss(head(gru(x, *options.values())[0]), y).backward()


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
def test_bptt_trains_an_encoder_and_initial_states_as_autograd_does(options: dict) -> None:
    net, (_, y) = network(**options), batch()
    encoder, raw = nn.Linear(4, 3).double(), torch.randn(5, 6, 4, dtype=torch.float64)
    rows = net.num_layers * net.directions
    start = torch.randn(rows, 5, 7, dtype=torch.float64, requires_grad=True)
    tl.BPTT(net, **TASK)(encoder(raw), y, initial=start).backward()
    found = encoder.weight.grad.clone(), start.grad.clone()
    encoder.zero_grad()
    start.grad = None
    reference(tl.to_torch(net), encoder(raw), y, initial=start)
    close(found, (encoder.weight.grad, start.grad))


def test_bptt_trains_the_initial_states_of_an_lstm() -> None:
    net, (x, y) = tl.LSTM(3, 7, 2).double(), batch()
    states = [torch.randn(1, 5, 7, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    tl.BPTT(net, **TASK)(x, y, initial=tuple(states)).backward()
    found = [state.grad.clone() for state in states]
    for state in states:
        state.grad = None
    lstm, head = tl.to_torch(net)
    nn.functional.mse_loss(head(lstm(x, tuple(states))[0]), y).backward()
    close(found, [state.grad for state in states])


def test_unequal_lengths_give_padding_no_gradient() -> None:
    net, (x, y) = network(bidirectional=True), batch()
    lengths = torch.tensor([6, 2, 4, 1, 6])
    x.requires_grad_()
    tl.BPTT(net, **TASK)(x, y, lengths).backward()
    found = x.grad.clone()
    x.grad = None
    gru, head = tl.to_torch(net)
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    outputs = nn.utils.rnn.pad_packed_sequence(gru(packed)[0], batch_first=True)[0]
    valid = torch.arange(6) < lengths[:, None]
    nn.functional.mse_loss(head(outputs)[valid], y[valid]).backward()
    close(found, x.grad)
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    x.grad = None
    tl.BPTT(net, **TASK)(packed, y).backward()
    close(found, x.grad)


@pytest.mark.parametrize("at", ["last", "every"])
@pytest.mark.parametrize("lengths", [None, torch.tensor([6, 2, 4, 1, 6])])
def test_a_long_window_of_tbptt_gives_inputs_the_gradient_of_bptt(at, lengths) -> None:
    net, (x, y) = network(), batch()
    y = y if at == "every" else y[:, 0]
    found = []
    for rule in (tl.BPTT(net, loss="mse", at=at), tl.TBPTT(net, 6, loss="mse", at=at)):
        entering = x.clone().requires_grad_()
        rule(entering, y, lengths).backward()
        found.append(entering.grad)
    close(*found)


@pytest.mark.parametrize("trace", ["none", "leak", "diagonal"])
@pytest.mark.parametrize("at", ["last", "every"])
def test_dfa_gives_inputs_what_its_node_signals_say(trace: str, at: str) -> None:
    """Vᵀδ: with biases as probes of δ, Σ over inputs of what enters a row is Vᵀ (gradient of the bias)."""
    net, (x, y) = network(), batch(count=1)
    y = y if at == "every" else y[:, 0]
    rule = tl.DFA(net, loss="mse", at=at, trace=trace).double()
    x.requires_grad_()
    rule(x, y).backward()
    bias = net.recurrent.bias_ih_l0.grad  # Σ_t δ_t
    close(x.grad.sum((0, 1)), net.recurrent.weight_ih_l0.detach().t() @ bias)
    assert x.grad.abs().sum(-1).ne(0).all()


@pytest.mark.parametrize("name", ["rtrl", "np", "anp", "wp", "dfa-authors-code"])
def test_rules_without_a_gradient_for_inputs_refuse_them_by_name(name: str) -> None:
    net = tl.RNN(3, 7, 2).double()
    rule, (x, y) = tl.RULES[name](net, loss="mse").double(), batch()
    with pytest.raises(tl.UnsupportedError, match=rf"inputs: .*{name}.*detach"):
        rule(x.requires_grad_(), y[:, 0])
    start = torch.zeros(1, 5, 7, dtype=torch.float64, requires_grad=True)
    with pytest.raises(tl.UnsupportedError, match="initial"):
        tl.DFA(net, loss="mse").double()(x.detach(), y[:, 0], initial=start)
    with torch.no_grad():  # nothing is trained: nothing is passed over
        rule(x, y[:, 0])


def test_an_old_loop_without_backward_is_told_once() -> None:
    rule, (x, y) = tl.DFA(network(), **TASK).double(), batch()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(5):
            loss = rule(x, y)
        del loss
    assert len(caught) == 1
    assert "loss.backward()" in str(caught[0].message)
    assert caught[0].filename == __file__


def test_sums_of_losses_evaluation_and_plain_loops_are_not_told_anything() -> None:
    rule, (x, y) = tl.DFA(network(), **TASK).double(), batch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            (rule(x, y) + rule(x, y)).backward()
            sum(rule(x[i : i + 1], y[i : i + 1]) for i in range(5)).backward()
        rule.eval()
        for _ in range(3):
            rule(x, y)


def test_it_is_differentiable_once() -> None:
    rule, (x, y) = tl.BPTT(network(), **TASK), batch()
    weight = rule.network.readout.weight
    (gradient,) = torch.autograd.grad(rule(x, y), weight, create_graph=True)
    with pytest.raises(RuntimeError, match=r"once_differentiable|does not require grad"):
        gradient.sum().backward()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # the compiler's own
def test_a_compiler_breaks_its_graph_or_is_refused_by_name() -> None:
    rule, (x, y) = tl.DFA(network(), **TASK).double(), batch()
    compiled = torch.compile(lambda x, y: 2 * rule(x, y), backend="eager")
    exactly(compiled(x, y).detach(), 2 * rule.evaluate(x, y).loss)
    whole = torch.compile(lambda x, y: 2 * rule(x, y), backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="a timelocal rule runs outside"):
        whole(x, y)


@pytest.mark.parametrize("name", list(tl.RULES))
def test_a_copy_and_one_sent_to_another_process_train_independently(name: str) -> None:
    options = {"loss": "mse"} if name == "dfa-authors-code" else TASK
    rule = tl.RULES[name](tl.RNN(3, 7, 2).double(), **options).double()
    x, y = batch()
    y = y if rule.at == "every" else y[:, 0]
    rule(x, y).backward()
    copied, sent = copy.deepcopy(rule), pickle.loads(pickle.dumps(rule))
    wanted = rule.estimate(x, y).gradients
    exactly(sent.estimate(x, y).gradients, wanted)
    before = copy.deepcopy(rule.state_dict())
    copied(x, y).backward()
    torch.optim.SGD(copied.parameters(), lr=1.0).step()
    exactly(rule.state_dict(), before)
    assert not torch.equal(copied.network.readout.weight, rule.network.readout.weight)


def test_predict_is_what_evaluate_puts_out() -> None:
    x, y = batch()
    lengths = torch.tensor([6, 2, 4, 1, 6])
    for at in ("last", "every"):
        rule = tl.DFA(network(num_layers=2, dropout=0.5), loss="mse", at=at).double()
        targets = y if at == "every" else y[:, 0]
        close(rule.outputs(x, lengths), rule.evaluate(x, targets, lengths).outputs)
    with pytest.raises(tl.ArgumentError, match="inputs"):
        rule.outputs(x[..., :2])


def test_every_rule_has_the_same_defaults() -> None:
    for name, rule in tl.RULES.items():
        made = rule(tl.RNN(3, 7, 2))
        assert (type(made.loss), made.at) == (tl.losses.CrossEntropy, "last"), name
