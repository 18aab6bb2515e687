"""What a message advises is what mends the call: followed, the call works."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import timelocal as tl
from timelocal.errors import ArgumentError

X, LABELS = torch.randn(12, 5, 2), torch.arange(12) % 3
SHARES = nn.functional.one_hot(LABELS, 3)


def rule(outputs: int = 3, **options: Any) -> tl.Rule:
    return tl.BPTT(tl.GRU(2, 4, outputs), **options)


def adopted(*layers: nn.Module, batch_first: bool = True) -> tl.Network:
    recurrent = nn.GRU(2, 4, batch_first=batch_first)
    return tl.from_torch(recurrent, nn.Sequential(nn.Linear(4, 3), *layers))


TARGETS: dict[str, tuple[dict[str, Any], torch.Tensor, str]] = {
    "of one-hot rows": ({}, SHARES, "targets.argmax(-1)"),
    "of probabilities": ({}, (SHARES + 0.5) / 2.5, "targets.argmax(-1)"),
    "with an axis too many": ({}, LABELS[:, None], "targets.squeeze(-1)"),
    "of 32 bits": ({}, LABELS.int(), "targets.long()"),
    "from 1": ({}, LABELS + 1, "targets - 1"),
    "of one output": ({"outputs": 1, "loss": "mse"}, LABELS.float(), "targets.unsqueeze(-1)"),
    "of one output at every step": (
        {"outputs": 1, "loss": "mse", "at": "every"},
        torch.randn(12, 5),
        "targets.unsqueeze(-1)",
    ),
    "of 64 bits": (
        {"outputs": 1, "loss": "mse"},
        LABELS.double()[:, None],
        "targets.to(torch.float32)",
    ),
    "yes and no": (
        {"outputs": 1, "loss": "bce"},
        LABELS > 0,
        "targets.to(torch.float32).unsqueeze(-1)",
    ),
}


@pytest.mark.parametrize("name", TARGETS)
def test_targets_mended_as_advised_are_taken(name: str) -> None:
    options, targets, advice = TARGETS[name]
    made = rule(**options)
    with pytest.raises(ArgumentError) as raised:
        made(X, targets)
    assert f"Use {advice}." in str(raised.value)
    mended = eval(advice, {"targets": targets, "torch": torch})
    assert made(X, mended).isfinite()


@pytest.mark.parametrize(
    ("options", "targets", "advice", "instead"),
    [
        ({"loss": "mse"}, LABELS, "loss='cross_entropy'", {"loss": "cross_entropy"}),
        ({"loss": "mse"}, LABELS.float(), "loss='cross_entropy'", None),
        ({"loss": "bce"}, LABELS, "loss='cross_entropy'", {"loss": "cross_entropy"}),
        ({}, LABELS[:, None].expand(12, 5), "at='every'", {"at": "every"}),
        ({"outputs": 1}, LABELS % 2, "Give the readout 2 outputs", {"outputs": 2}),
        ({}, LABELS * 2, "an output for each class, 5 or more", {"outputs": 5}),
        ({"loss": "mse"}, torch.randn(12, 5, 3), "at='every'", {"loss": "mse", "at": "every"}),
    ],
)
def test_a_rule_made_as_advised_takes_the_targets(
    options: dict[str, Any], targets: torch.Tensor, advice: str, instead: dict[str, Any] | None
) -> None:
    with pytest.raises(ArgumentError) as raised:
        rule(**options)(X, targets)
    assert advice in str(raised.value)
    if instead is not None:
        assert rule(**instead)(X, targets).isfinite()


def test_torchs_label_of_nothing_is_a_mask_here() -> None:
    targets = torch.where(LABELS == 2, -100, LABELS)
    with pytest.raises(ArgumentError, match="mask=targets != -100"):
        rule()(X, targets)
    assert rule()(X, targets, mask=targets != -100).isfinite()


@pytest.mark.parametrize("name", ["anp", "np", "wp", "dfa", "rflo"])
def test_labels_are_told_by_every_rule(name: str) -> None:
    made = tl.RULES[name](tl.RNN(2, 4, 3), loss="mse", at="last")
    with pytest.raises(ArgumentError, match="For class labels use loss='cross_entropy'"):
        made(X, LABELS)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64])
def test_integers_are_to_be_converted_and_not_the_network(dtype: torch.dtype) -> None:
    with pytest.raises(ArgumentError) as raised:
        rule()((10 * X.abs()).to(dtype), LABELS)
    assert str(raised.value).endswith("Use inputs.to(torch.float32).")


@pytest.mark.parametrize(
    ("inputs", "size", "advice"),
    [
        (X.transpose(1, 2), 2, "inputs.transpose(1, 2)"),
        (X[0], 2, "inputs.unsqueeze(0)"),
        (X[..., 0], 1, "inputs.unsqueeze(-1)"),
        (list(X), 2, "torch.stack(inputs)"),
    ],
)
def test_inputs_mended_as_advised_are_taken(inputs: Any, size: int, advice: str) -> None:
    network = tl.GRU(size, 4, 3)
    with pytest.raises(ArgumentError) as raised:
        network(inputs)
    assert advice in str(raised.value)
    assert network(eval(advice, {"inputs": inputs, "torch": torch})).shape[-1] == 3


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("lengths", [None, torch.full((12,), 5)])
@pytest.mark.parametrize("at", ["last", "every"])
def test_axes_the_other_way_round_are_told(
    batch_first: bool, lengths: torch.Tensor | None, at: Any
) -> None:
    made = tl.BPTT(adopted(batch_first=batch_first), at=at)
    right = X if batch_first else X.transpose(0, 1)
    targets = LABELS if at == "last" else LABELS[:, None].expand(12, 5)
    targets = targets if batch_first or at == "last" else targets.t()
    assert made.estimate(right, targets, lengths).loss.isfinite()
    with pytest.raises(ArgumentError) as raised:
        made.estimate(right.transpose(0, 1), targets, lengths)
    told = str(raised.value)
    assert "If so, use inputs.transpose(0, 1)" in told
    assert ("batch_first=True" in told) == (not batch_first)


def test_nothing_is_said_of_axes_where_another_thing_is_wrong() -> None:
    square = X[:5]
    for inputs, targets in ((X, LABELS[:7]), (X[:, :, :1], LABELS), (square, LABELS[:5] + 7)):
        with pytest.raises(ArgumentError) as raised:
            rule()(inputs, targets)
        assert "transpose(0, 1)" not in str(raised.value)


def test_a_part_of_the_data_with_time_first_is_told() -> None:
    with pytest.raises(ArgumentError, match=r"use inputs\.transpose\(0, 1\)"):
        tl.data.Sequences(X.transpose(0, 1), LABELS)


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (nn.CrossEntropyLoss(), "Did you mean 'cross_entropy'?"),
        (nn.MSELoss(), "Did you mean 'mse'?"),
        (nn.L1Loss(), "reduction='none'"),
        (nn.CrossEntropyLoss, "CrossEntropyLoss()"),
        (tl.losses.CrossEntropy, "CrossEntropy()"),
    ],
)
def test_losses_that_are_none_are_told_when_the_rule_is_made(loss: Any, told: str) -> None:
    with pytest.raises(ArgumentError) as raised:
        rule(loss=loss)
    assert told in str(raised.value)


def test_torchs_losses_without_reduction_are_taken() -> None:
    own, torchs = rule(), rule(loss=nn.CrossEntropyLoss(reduction="none"))
    torch.testing.assert_close(own(X, LABELS), torchs(X, LABELS))


@pytest.mark.parametrize(
    ("layer", "loss"),
    [
        (nn.Softmax(-1), "cross_entropy"),
        (nn.LogSoftmax(-1), "cross_entropy"),
        (nn.Sequential(nn.Sequential(nn.Sigmoid())), "cross_entropy"),
        (nn.Sigmoid(), "bce"),
        (nn.LogSoftmax(-1), tl.losses.CrossEntropy(label_smoothing=0.1)),
    ],
)
def test_a_softmax_before_a_loss_that_has_one_is_told_once(layer: nn.Module, loss: Any) -> None:
    network = adopted(layer)
    with pytest.warns(UserWarning, match=r"readout: ends in a .*Leave the") as told:
        made = tl.BPTT(network, loss=loss)
    assert [one.filename for one in told] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        targets = LABELS if made.loss.classifies else SHARES.float()
        assert made(X, targets).isfinite()


@pytest.mark.parametrize(
    ("layers", "loss"),
    [
        ((nn.Softmax(-1),), "mse"),
        ((nn.Sigmoid(), nn.Linear(3, 3)), "cross_entropy"),
        ((nn.ReLU(),), "cross_entropy"),
        ((nn.LogSoftmax(-1),), nn.NLLLoss(reduction="none")),
        ((), "bce"),
    ],
)
def test_other_readouts_are_taken_without_a_word(layers: tuple[nn.Module, ...], loss: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tl.BPTT(adopted(*layers), loss=loss)


def fitted(choose: Callable[[tl.Network], list[nn.Parameter]]) -> list[str]:
    made = rule()
    optimizer = torch.optim.SGD(choose(made.network), lr=0.1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        tl.fit(made, optimizer, (X, LABELS), epochs=1, batch_size=4)
    assert all(one.filename == __file__ for one in told)
    return [str(one.message) for one in told]


def test_what_the_optimizer_lacks_is_told() -> None:
    assert fitted(lambda network: list(network.parameters())) == []
    (told,) = fitted(lambda network: list(network.recurrent.parameters()))
    assert "lacks readout.weight, readout.bias, which will not be trained" in told
    (told,) = fitted(lambda network: list(network.readout.parameters()))
    assert "lacks weight_ih_l0" in told or "lacks recurrent.weight_ih_l0" in told

    def frozen(network: tl.Network) -> list[nn.Parameter]:
        network.readout.requires_grad_(False)
        return list(network.recurrent.parameters())

    assert fitted(frozen) == []
