"""float16 and bfloat16: what is summed, counted and drawn is float32's; autocast and GradScaler, any rule."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import timelocal as tl
from covering import covering
from timelocal.rules import estimate_batch, make_batch
from timelocal.rules.feedback_rule import unit_norm

NARROW = [torch.float16, torch.bfloat16]
SIZES = {"dfa-authors-code": {"reset_after": False}}


def made(name: str, dtype: torch.dtype = torch.float32, **options: object) -> tl.Rule:
    network = tl.GRU(2, 8, 3, seed=1, dtype=dtype, **SIZES.get(name, {}))
    at = "last" if name == "dfa-authors-code" else "every"
    return tl.RULES[name](network, at=at, seed=3, **options)


def batch(name: str) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 5, 2, generator=draw), torch.randint(3, (6, 5), generator=draw)
    return x, y[:, 0] if name == "dfa-authors-code" else y


def twin(rule: tl.Rule, name: str, **options: object) -> tl.Rule:
    """The same rule, weights and feedback in float32."""
    other = made(name, **options)
    state = {k: v.float() if v.is_floating_point() else v for k, v in rule.state_dict().items()}
    other.load_state_dict(state)
    return other


@pytest.mark.parametrize(("name", "dtype"), covering(product(tl.RULES, NARROW)))
def test_estimates_are_those_of_float32_up_to_the_rounding_of_the_type(name, dtype):
    options = {"sigma": 0.1} if tl.RULES[name].spec.derivative_free else {}
    rule = made(name, dtype, **options)
    x, y = batch(name)
    true = twin(rule, name, **options).estimate(x.to(dtype).float(), y)
    found = rule.estimate(x.to(dtype), y)
    assert found.loss.dtype == torch.float32
    assert_close(found.loss, true.loss, rtol=0.02, atol=0)
    assert_close(found.accuracy, true.accuracy)
    for key, own in found.gradients.items():
        assert own.dtype == dtype
        difference = (own.float() - true.gradients[key]).norm()
        assert float(difference) < 0.35 * float(true.gradients[key].norm()), key


@pytest.mark.parametrize("name", [n for n, rule in tl.RULES.items() if rule.spec.online])
@pytest.mark.parametrize("dtype", NARROW)
def test_a_stream_keeps_the_types_of_what_it_carries(name, dtype):
    rule = made(name, dtype)
    x, y = batch(name)
    stream = tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=0.01), 6)
    kept = {key: own.dtype for key, own in stream.memory.items()}
    losses = stream.run(x.to(dtype), y).loss
    assert losses.dtype == torch.float32
    assert losses.isfinite().all()
    assert {key: own.dtype for key, own in stream.memory.items()} == kept
    stream.load_state_dict(stream.state_dict())


@pytest.mark.parametrize("name", ["np", "anp"])
def test_traces_of_noise_are_summed_in_float32(name):
    rule = made(name, torch.float16, credit="trace(0.9)", sigma=0.1)
    stream = tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=0.01), 6)
    x, y = batch(name)
    stream.run(x.half(), y)
    traces = [own for key, own in stream.memory.items() if key.startswith("trace_")]
    assert {own.dtype for own in traces} == {torch.float32}


@pytest.mark.parametrize(  # thousands of entries: float16 ends at 65,504
    ("sequences", "dtype"), covering(product((40, 62, 70), NARROW))
)
def test_lengths_that_say_what_none_says_change_nothing_however_many_entries(dtype, sequences):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(sequences, 1000, 2, generator=draw).to(dtype)
    y = torch.randint(3, (sequences, 1000), generator=draw)
    rule = tl.DFA(tl.RNN(2, 4, 3, dtype=dtype), at="every")
    plain, told = rule.estimate(x, y), rule.estimate(x, y, torch.full((sequences,), 1000))
    masked = rule.evaluate(x, y, mask=torch.ones(sequences, 1000))
    assert plain.count == told.count == masked.count == sequences * 1000
    assert_close(told.loss, plain.loss, rtol=1e-5, atol=0)
    assert_close(masked.loss, plain.loss, rtol=1e-5, atol=0)
    assert_close(told.accuracy, plain.accuracy, rtol=1e-5, atol=0)
    outputs = plain.outputs.flatten(0, 1).double()
    true = torch.nn.functional.cross_entropy(outputs, y.flatten())
    assert_close(plain.loss.double(), true, rtol=1e-5, atol=0)
    assert_close(told.gradients, plain.gradients, rtol=0.05, atol=1e-4)


def test_squares_beyond_float16_are_summed():
    rule = tl.BPTT(tl.RNN(2, 4, 1, dtype=torch.float16), loss="mse")
    found = rule.estimate(torch.zeros(4, 3, 2).half(), torch.full((4, 1), 1000.0).half())
    assert float(found.loss) == pytest.approx(1e6, rel=0.01)
    assert found.gradients["readout.bias"].isfinite().all()


def test_weights_of_classes_are_summed_in_float32():
    loss = tl.losses.CrossEntropy(class_weights=torch.tensor([1.0, 1000.0, 1.0]))
    rule = tl.BPTT(tl.RNN(2, 4, 3, dtype=torch.float16), loss=loss)
    x, y = torch.zeros(100, 3, 2).half(), torch.ones(100).long()
    found = rule.estimate(x, y)
    assert found.weight == 100_000
    assert found.count == 100
    unweighted = tl.BPTT(rule.network).estimate(x, y)
    assert_close(found.loss, unweighted.loss, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("name", "sigma"), [("anp", 1e-4), ("anp-authors-code", 1e-4), ("np", 1e-5)]
)
def test_a_change_too_small_for_float16_s_squares_is_normalised(name, sigma):
    """‖δα‖² is far below the least float16, N / ‖δα‖² and ξ / σ above the largest."""
    rule = made(name, torch.float16, sigma=sigma, loss="mse")
    x, _ = batch(name)
    wide = made(name, sigma=sigma, loss="mse")
    for one in (rule, wide):
        with torch.no_grad():
            for parameter in one.network.parameters():
                parameter.zero_()  # noise on zeros is not rounded away
    y = torch.ones(6, 5, 3)
    found, true = rule.estimate(x.half(), y.half()), wide.estimate(x, y)
    for key in ("readout.bias", "recurrent.bias_ih_l0"):
        own, right = found.gradients[key].float(), true.gradients[key]
        assert float((own - right).norm()) <= 0.3 * float(right.norm()), key
    assert found.gradients["readout.bias"].any()


@pytest.mark.parametrize("feedback", ["gaussian", "kolen_pollack"])
def test_norms_and_local_laws_are_float32_s(feedback):
    """D's law sums h*², the frobenius norm is that of all entries: both beyond float16 here."""
    network = tl.RNN(2, 64, 3, dtype=torch.float16, decorrelate=1e-3)
    rule = tl.DFA(network, at="every", feedback=feedback, loss="mse")
    wide = tl.DFA(tl.RNN(2, 64, 3, decorrelate=1e-3), at="every", feedback=feedback, loss="mse")
    wide.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in rule.state_dict().items()}
    )
    x, y = torch.full((8, 9000, 2), 50.0), torch.zeros(8, 9000, 3)
    found, true = rule.estimate(x.half(), y.half()), wide.estimate(x, y)
    for name, own in found.local_updates.items():
        assert_close(own.float(), true.local_updates[name], rtol=0.05, atol=1e-4)
    decorrelation = float(true.diagnostics["decorrelation_loss"])
    assert float(found.diagnostics["decorrelation_loss"]) == pytest.approx(
        decorrelation, rel=0.05, abs=1e-6
    )


def test_a_norm_beyond_float16_divides():
    found = unit_norm(torch.full((100, 100), 1000.0).half())
    assert_close(found.float(), torch.full((100, 100), 0.01), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("name", "dtype"), covering(product(tl.RULES, NARROW)))
def test_autocast_and_a_scaler_change_nothing_of_any_rule(name, dtype):
    x, y = batch(name)
    plain, scaled = made(name), made(name)
    plain(x, y).backward()
    optimizer = torch.optim.SGD(scaled.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    with torch.autocast("cpu", dtype):
        loss = scaled(x, y)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    for name_, parameter in plain.network.named_parameters():
        own = scaled.network.get_parameter(name_)
        assert own.grad.dtype == torch.float32
        assert_close(own.grad, parameter.grad, rtol=1e-5, atol=1e-7)
    scaler.step(optimizer)
    for name_, parameter in plain.network.named_parameters():
        moved = parameter - 0.1 * parameter.grad
        assert_close(scaled.network.get_parameter(name_), moved, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", tl.RULES)
def test_autocast_around_all_else_changes_nothing(name):
    x, y = batch(name)
    found = []
    for enabled in (False, True):
        rule = made(name)
        optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            numbers = [rule.estimate(x, y).loss, rule.evaluate(x, y).loss, rule.outputs(x)]
            if rule.spec.online:
                stream = tl.Stream(rule, optimizer, 6)
                numbers += [*stream.step(x[:, 0], y[:, 0]), *stream.run(x, y)]
            history = tl.fit(rule, optimizer, (x, y), (x, y), epochs=1, batch_size=4)
            record = history.epochs[0]
            numbers += [torch.tensor(record["train_loss"]), torch.tensor(record["validation_loss"])]
        found.append(numbers)
    assert_close(*found, rtol=0, atol=0)


def test_a_scale_beyond_float16_reaches_a_float16_network():
    rule = tl.BPTT(tl.RNN(2, 4, 3, dtype=torch.float16))
    draw = torch.Generator().manual_seed(
        0
    )  # others may have gradients that leave float16 with this scale
    x, y = torch.randn(4, 3, 2, generator=draw).half(), torch.randint(3, (4,), generator=draw)
    true = rule.estimate(x, y).gradients
    (rule(x, y) * 2.0**17).backward()
    for name, parameter in rule.network.named_parameters():
        assert_close(parameter.grad.float(), true[name].float() * 2.0**17, rtol=1e-3, atol=1e-6)


def test_custom_losses_see_float32():
    seen = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append((outputs.dtype, targets.dtype))
        return (outputs - targets).abs().mean(-1)

    rule = tl.BPTT(tl.RNN(2, 4, 3, dtype=torch.bfloat16), loss=loss)
    x, y = torch.randn(4, 3, 2).bfloat16(), torch.randn(4, 3).bfloat16()
    found = estimate_batch(rule, make_batch(rule.network, rule.loss, "last", x, y))
    assert set(seen) == {(torch.float32, torch.float32)}
    assert {own.dtype for own in found.gradients.values()} == {torch.bfloat16}
