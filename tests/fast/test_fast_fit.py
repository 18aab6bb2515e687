"""What a loop asks a rule for: the estimates of `estimate`, each good until the next one."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch.testing import assert_close

import timelocal as tl
from timelocal import kernels
from timelocal.fast import repeated_estimate

NETWORKS = {"rnn": tl.RNN, "gru": tl.GRU, "lstm": tl.LSTM}


def make(name="gru", *, rule=tl.DFA, **options):
    torch.manual_seed(0)
    return rule(NETWORKS[name](2, 7, 3), **options)


def batch(seed, count=4, steps=6, loss="cross_entropy"):
    draw = torch.Generator().manual_seed(seed)
    targets = torch.randint(3, (count,), generator=draw)
    if loss == "mse":
        targets = torch.randn(count, 3, generator=draw)
    return torch.randn(count, steps, 2, generator=draw), targets


def assert_same(found, wanted):
    for field in fields(wanted):
        assert_close(getattr(found, field.name), getattr(wanted, field.name), rtol=0, atol=0)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_estimate_is_that_of_the_rule(name, loss):
    rule = make(name, loss=loss)
    learn = repeated_estimate(rule)
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
    for step, count in enumerate([4, 4, 2, 4]):  # the weights move, and one batch is smaller
        inputs, targets = batch(step, count, loss=loss)
        found = learn(inputs, targets, None)
        assert_same(found, rule.estimate(inputs, targets))
        for key, parameter in rule.network.named_parameters():
            parameter.grad = found.gradients[key]
        optimizer.step()


def test_batches_with_time_first_and_lengths_are_served():
    rule = tl.DFA(tl.from_torch(torch.nn.GRU(2, 7), torch.nn.Linear(7, 3)))
    learn = repeated_estimate(rule)
    for step in range(3):
        inputs, targets = batch(step)
        inputs, lengths = inputs.transpose(0, 1), torch.tensor([6, 2, 1, 5]) if step == 1 else None
        assert_same(learn(inputs, targets, lengths), rule.estimate(inputs, targets, lengths))


def test_weights_that_are_put_elsewhere_are_found():
    rule = make()
    learn = repeated_estimate(rule)
    inputs, targets = batch(0)
    learn(inputs, targets, None)
    for parameter in rule.network.parameters():
        parameter.data = 2 * parameter.data
    assert_same(learn(inputs, targets, None), rule.estimate(inputs, targets))


@pytest.mark.parametrize(
    "options", [{"normalize": "frobenius"}, {"feedback": "symmetric"}, {"feedback": "kolen_pollack"},
                {"trace": "diagonal"}, {"feedback_per": "parameter"}]
)  # fmt: skip
def test_rules_that_make_more_of_it_are_served(options):
    rule = make(**options)
    learn = repeated_estimate(rule)
    for step in range(2):
        inputs, targets = batch(step)
        assert_same(learn(inputs, targets, None), rule.estimate(inputs, targets))


class Doubled(tl.DFA):
    def compute(self, batch):
        forward, gradients = super().compute(batch)
        return forward, {name: 2 * gradient for name, gradient in gradients.items()}


class Told(tl.DFA):
    def local_updates(self, forward):
        return {"feedback_l0": torch.ones_like(self.feedback_l0)}


@pytest.mark.parametrize("rule", [Doubled, Told])
def test_what_a_subclass_changes_is_not_passed_over(rule):
    changed, inputs_and_targets = make(rule=rule), batch(0)
    for _ in range(2):
        found = repeated_estimate(changed)(*inputs_and_targets, None)
        assert_same(found, changed.estimate(*inputs_and_targets))


def test_one_native_call_goes_on_in_the_same_tensors():
    if kernels.describe()["path"] != "native":
        pytest.skip("no native kernel is active")
    learn = repeated_estimate(make())
    first = learn(*batch(0), None)
    kept = first.gradients["readout.weight"].clone()
    second = learn(*batch(1), None)
    assert second is first
    assert not torch.equal(second.gradients["readout.weight"], kept)


def test_a_repeated_estimate_does_not_join_a_graph():
    learn, (inputs, targets) = repeated_estimate(make()), batch(0)
    for _ in range(2):
        found = learn(inputs.requires_grad_(), targets, None)
        assert not found.loss.requires_grad
        assert not any(gradient.requires_grad for gradient in found.gradients.values())


def _assign(rule: tl.Rule) -> None:
    rule.network.load_state_dict(tl.GRU(2, 8, 3, seed=5).state_dict(), assign=True)


def _one_parameter(rule: tl.Rule) -> None:
    rule.network.recurrent.weight_hh_l0 = torch.nn.Parameter(torch.ones(24, 8))


def _readout(rule: tl.Rule) -> None:
    rule.network.readout = torch.nn.Linear(8, 3)


def _readout_bias(rule: tl.Rule) -> None:
    rule.network.readout.bias = torch.nn.Parameter(torch.ones(3))


def _recurrent(rule: tl.Rule) -> None:
    rule.network.recurrent = tl.GRU(2, 8, 3, seed=5).recurrent


def _feedback(rule: tl.Rule) -> None:
    rule.feedback_l0 = torch.ones(8, 3)


def _network(rule: tl.Rule) -> None:
    rule.network = tl.GRU(2, 8, 3, seed=5)


@pytest.mark.parametrize(
    "change", [_assign, _one_parameter, _readout, _readout_bias, _recurrent, _feedback, _network]
)
def test_what_is_put_in_the_place_of_a_tensor_or_a_module_is_followed(change):
    rule = tl.DFA(tl.GRU(2, 8, 3))
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(10, 5, 2, generator=draw), torch.randint(3, (10,), generator=draw)
    learn = repeated_estimate(rule)
    learn(x, y, None)
    change(rule)
    found, true = learn(x, y, None), rule.estimate(x, y)
    assert_close(found.loss, true.loss)
    assert_close(found.gradients, true.gradients)
