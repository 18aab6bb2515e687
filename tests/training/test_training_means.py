"""What `fit` reports of a part of the data is the mean over the whole part, whatever the batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import timelocal as tl
from timelocal.training.clipping import clip_gradient

STILL = 1e-12
"""A learning rate at which no loss moves."""


def data(at: str = "last") -> tuple[Tensor, Tensor]:
    """Sorted by class: no batch is like another. More than one batch of the evaluation."""
    draw = torch.Generator().manual_seed(0)
    y = torch.cat((torch.zeros(500), torch.ones(100))).long()
    x = torch.randn(600, 5, 2, generator=draw) + y[:, None, None]
    return x, y if at == "last" else y[:, None].expand(-1, 5).contiguous()


def rule_with(weights: list[float], at: str = "last") -> tl.Rule:
    loss = tl.losses.CrossEntropy(class_weights=torch.tensor(weights))
    return tl.TBPTT(tl.GRU(2, 8, 2), loss=loss, at=at)


def fitted(rule: tl.Rule, train: tuple, lr: float = STILL, **options: object) -> dict[str, float]:
    optimizer = torch.optim.SGD(rule.parameters(), lr=lr, momentum=0.9, weight_decay=0.1)
    options = {"epochs": 1, "batch_size": 50, "validation": train, "test": train} | options
    history = tl.fit(rule, optimizer, train, **options)
    assert history.status == "finished", history.message
    return history.last


@pytest.mark.parametrize("at", ["last", "every"])
@pytest.mark.parametrize("ragged", [False, True])
def test_losses_of_a_part_are_those_of_the_whole_part(at, ragged):
    x, y = data(at)
    lengths = torch.arange(600) % 5 + 1 if ragged else None
    rule = rule_with([1.0, 20.0], at)
    found = fitted(rule, (x, y, lengths))
    whole = rule.evaluate(x, y, lengths)
    for part in ("train", "validation", "test"):
        assert found[f"{part}_loss"] == pytest.approx(float(whole.loss), rel=1e-5)
        assert found[f"{part}_accuracy"] == pytest.approx(float(whole.accuracy), rel=1e-5)


def test_the_loss_is_torch_s():
    x, y = data()
    rule = rule_with([1.0, 20.0])
    found = fitted(rule, (x, y))["validation_loss"]
    weights = torch.tensor([1.0, 20.0])
    true = torch.nn.functional.cross_entropy(rule.outputs(x), y, weight=weights)
    assert found == pytest.approx(float(true), rel=1e-5)


@pytest.mark.parametrize("weights", [[1.0, 20.0], [0.0, 1.0]])
def test_losses_of_an_epoch_online_are_those_of_the_whole_part(weights):
    x, y = data("every")
    rule = rule_with(weights, "every")
    found = fitted(rule, (x, y), online=True)
    whole = float(rule.evaluate(x, y).loss)
    assert found["train_loss"] == pytest.approx(whole, rel=1e-5)
    assert found["validation_loss"] == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("name", ["dfa", "bptt", "np", "anp", "wp"])
def test_a_weight_of_0_ends_nothing(name):
    x, y = data()
    loss = tl.losses.CrossEntropy(class_weights=torch.tensor([0.0, 1.0]))
    rule = tl.RULES[name](tl.GRU(2, 8, 2), loss=loss)
    found = fitted(
        rule, (x, y), batch_size=5
    )  # batches of the first class alone, 256 at a time too
    whole = rule.evaluate(x, y)
    for part in ("train", "validation", "test"):
        assert found[f"{part}_loss"] == pytest.approx(float(whole.loss), rel=1e-4)


@pytest.mark.parametrize("online", [False, True])
def test_where_nothing_counts_no_weight_moves_whatever_the_optimizer(online):
    x, y = data("every")
    rule = rule_with([0.0, 1.0], "every")
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    mixed = (x[-10:], y[-10:])
    tl.fit(rule, optimizer, mixed, epochs=1, batch_size=10, online=online)
    moved = {name: own.clone() for name, own in rule.network.named_parameters()}
    for _ in range(2):
        stream = tl.Stream(rule, optimizer, 10)
        learned = stream.run(x[:10], y[:10])
        assert not learned.loss.any()
        assert float(stream.step(x[:10, 0], y[:10, 0]).loss) == 0
        for name, own in rule.network.named_parameters():
            assert torch.equal(own, moved[name])
        optimizer.register_step_post_hook(lambda *_: None)  # step by step, natively no longer


def test_batches_without_weight_leave_the_others_their_updates():
    """As training on the other batches alone."""
    x, y = data()
    given = {"batch_size": 1, "validation": None, "test": None}
    part = torch.cat((torch.arange(3), torch.arange(597, 600)))
    found = []
    for chosen in (part, part[3:]):
        rule = rule_with([0.0, 1.0])
        # the same place for all: the order of the batches is another
        fitted(rule, (x[chosen] * 0 + 1, y[chosen]), lr=0.1, **given)
        found.append(torch.cat([own.detach().flatten() for own in rule.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


def test_a_part_in_which_nothing_counts_is_told_before_the_first_epoch():
    x, y = data()
    rule = rule_with([0.0, 1.0])
    before = {name: own.clone() for name, own in rule.state_dict().items()}
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
    with pytest.raises(
        tl.ArgumentError, match="validation: class_weights: got no entry that counts"
    ):
        tl.fit(rule, optimizer, (x, y), (x[:50], y[:50]), epochs=1, batch_size=50)
    assert all(torch.equal(own, before[name]) for name, own in rule.state_dict().items())


def test_a_batch_of_the_user_s_own_in_which_nothing_counts_is_refused():
    x, y = data()
    rule = rule_with([0.0, 1.0])
    for call in (rule, rule.estimate, rule.evaluate):
        with pytest.raises(tl.ArgumentError, match="class_weights: got no entry that counts"):
            call(x[:5], y[:5])


def test_an_estimate_says_what_its_loss_is_a_mean_over():
    x, y = data()
    rule = rule_with([1.0, 20.0])
    mask = torch.ones(600)
    mask[:400] = 0.5
    for found in (rule.estimate(x, y, mask=mask), rule.evaluate(x, y, mask=mask)):
        assert found.count == 400
        assert found.weight == 200 + 100 + 20 * 100
    plain = tl.DFA(rule.network).estimate(x, y, mask=mask)
    assert plain.weight == plain.count == 400


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_gradient_whose_norm_is_beyond_float16_is_clipped(dtype):
    parameters = [torch.nn.Parameter(torch.zeros(100, 100, dtype=dtype)) for _ in range(2)]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1000.0)
    clip_gradient(parameters, 1.0)
    norm = torch.cat([p.grad.double().flatten() for p in parameters]).norm()
    assert float(norm) == pytest.approx(1.0, rel=0.01)


def test_fit_clips_such_a_gradient():
    rule = tl.DFA(tl.RNN(2, 64, 1, dtype=torch.float16), loss="mse")
    before = float(rule.network.readout.bias.detach())
    x, y = torch.ones(1, 3, 2).half(), torch.full((1, 1), 20000.0).half()
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
    history = tl.fit(rule, optimizer, (x, y), epochs=1, batch_size=1, clip=1.0)
    assert history.status == "finished", history.message
    moved = float(rule.network.readout.bias.detach()) - before
    assert 0.01 < moved < 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_counts_of_narrow_networks_are_right(dtype):
    """1,003 is no bfloat16, and 70,000 no float16."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(1003, 70, 2, generator=draw).to(dtype)
    y = torch.randint(3, (1003, 70), generator=draw)
    lengths = torch.full((1003,), 70)
    rule = tl.DFA(tl.RNN(2, 4, 3, dtype=dtype), at="every")
    found = fitted(rule, (x, y, lengths), batch_size=1003, test=None)
    whole = rule.evaluate(x, y)
    assert whole.count == 70_210
    for part in ("train", "validation"):
        assert found[f"{part}_loss"] == pytest.approx(float(whole.loss), rel=1e-4)
        assert found[f"{part}_accuracy"] == pytest.approx(float(whole.accuracy), rel=1e-4)


def test_a_bfloat16_network_is_trained_with_a_folder_as_without(tmp_path):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(30, 4, 2, generator=draw).bfloat16()
    y = torch.randint(3, (30,), generator=draw)
    found = []
    for folder in (None, tmp_path):
        for epochs in (1, 2):  # the second goes on
            if folder is None or epochs == 1:
                rule = tl.DFA(tl.GRU(2, 4, 3, dtype=torch.bfloat16))
                optimizer = torch.optim.SGD(rule.parameters(), lr=0.1, momentum=0.9)
            history = tl.fit(rule, optimizer, (x, y), epochs=epochs, batch_size=4, folder=folder)
        found.append((history.epochs, rule.state_dict()))
    torch.testing.assert_close(*found, rtol=0, atol=0)
    other = (x + 1, y)
    with pytest.raises(tl.RunError):
        tl.fit(rule, optimizer, other, epochs=3, batch_size=4, folder=tmp_path)


def test_parts_of_bfloat16_are_compared_and_scaled():
    draw = torch.Generator().manual_seed(0)
    whole = tl.data.Sequences(torch.randn(30, 4, 2, generator=draw).bfloat16(), torch.zeros(30))
    parts = tl.data.split(whole, 0)
    assert set(parts.duplicates.values()) == {0}
    assert tl.data.Split(parts.train, parts.train, parts.test).duplicates["train/validation"] == 18
    scaled = tl.data.standardize(parts).train.inputs
    assert scaled.dtype == torch.bfloat16
    assert abs(float(scaled.float().mean())) < 0.01
