"""What a user may get wrong with tensors and names: got, expected, what to do, all at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.rnn import pack_padded_sequence

import timelocal as tl
from covering import covering
from timelocal.errors import ArgumentError, UnsupportedError
from timelocal.seeding import derive_seed

X, Y = torch.zeros(4, 5, 3), torch.tensor([0, 1, 1, 0])
EVERY = torch.zeros(4, 5, dtype=torch.long)
NET = tl.GRU(3, 8, output_size=2)


def raises(
    function: Callable[[], object], *told: str, kind: type[Exception] = ArgumentError
) -> None:
    """The call fails with every one of these told."""
    with pytest.raises(kind) as caught:
        function()
    for words in told:
        assert words in str(caught.value)


def estimate(
    inputs: object = X,
    targets: object = Y,
    lengths: object = None,
    *,
    at: str = "last",
    loss: object = "cross_entropy",
    mask: object = None,
    network: tl.Network = NET,
) -> tl.Estimate:
    return tl.DFA(network, at=at, loss=loss).estimate(inputs, targets, lengths, mask=mask)


def bad_value(value: float) -> Tensor:
    inputs = X.clone()
    inputs[1, 2, 0] = value
    return inputs


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ([[1.0]], "inputs: got a list, expected a tensor of shape (batch, time, input)"),
        (X[0], "inputs: got shape (5, 3)"),
        (X[0], "Add an axis of length 1 for a single sequence"),
        (X[None], "inputs: got shape (1, 4, 5, 3)"),
        (torch.zeros(4, 5, 7), "inputs: got shape (4, 5, 7)"),
        (torch.zeros(0, 5, 3), "an empty batch"),
        (torch.zeros(4, 0, 3), "T = 0"),
        (X.double(), "inputs: got torch.float64, expected torch.float32"),
        (X.long(), "inputs: got torch.int64, expected torch.float32"),
        (X.to("meta"), "inputs: got device meta, expected cpu"),
        (bad_value(float("nan")), "NaN or infinite values"),
        (bad_value(float("inf")), "NaN or infinite values"),
        (bad_value(-float("inf")), "NaN or infinite values"),
    ],
)
def test_inputs(inputs: object, told: str) -> None:
    raises(lambda: estimate(inputs), told)
    raises(lambda: tl.BPTT(NET)(inputs, Y), told)
    raises(lambda: tl.BPTT(NET).evaluate(inputs, Y), told)
    raises(lambda: NET.scan(inputs), told)
    raises(lambda: NET(inputs), told)


def test_large_values_whose_sum_overflows_are_finite() -> None:
    assert estimate(torch.full((4, 5, 3), 3e38)).loss.isfinite()


def test_time_first_says_time_first() -> None:
    network = tl.from_torch(nn.GRU(3, 8), nn.Linear(8, 2))
    raises(lambda: network.scan(torch.zeros(5, 4)), "(time, batch, input)")
    raises(lambda: network.scan(torch.zeros(0, 4, 3)), "T = 0")
    raises(lambda: network.scan(torch.zeros(5, 0, 3)), "an empty batch")


@pytest.mark.parametrize(
    ("lengths", "told"),
    [
        ([1, 2, 3, 4], "lengths: got a list, expected a tensor of 4 integers between 1 and 5"),
        (torch.tensor([1, 2, 3]), "lengths: got shape (3,)"),
        (torch.tensor([[1, 2, 3, 4]]), "lengths: got shape (1, 4)"),
        (torch.tensor([1.0, 2.0, 3.0, 4.0]), "torch.float32"),
        (torch.tensor([True] * 4), "torch.bool"),
        (torch.tensor([0, 2, 3, 4]), "lengths: got values between 0 and 4"),
        (torch.tensor([1, 2, 3, 6]), "lengths: got values between 1 and 6"),
        (torch.tensor([-1, 2, 3, 4]), "lengths: got values between -1 and 4"),
    ],
)
def test_lengths(lengths: object, told: str) -> None:
    raises(lambda: estimate(lengths=lengths), told)
    raises(lambda: NET.scan(X, lengths), told)
    raises(lambda: NET(X, lengths), told)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_lengths_of_any_integer_type(dtype: torch.dtype) -> None:
    inputs = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([1, 2, 3, 5])
    expected = estimate(inputs, lengths=lengths)
    found = estimate(inputs, lengths=lengths.to(dtype))
    torch.testing.assert_close(found.gradients, expected.gradients, rtol=0, atol=0)


def test_lengths_beside_a_packed_sequence() -> None:
    lengths = torch.tensor([5, 3, 2, 1])
    packed = pack_padded_sequence(X, lengths, batch_first=True)
    raises(lambda: estimate(packed, Y, lengths), "A PackedSequence has its own lengths")
    raises(lambda: NET(packed), "got a PackedSequence", "pad_packed_sequence")


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        ([0, 1, 1, 0], "targets: got a list"),
        (Y.float(), "targets: got torch.float32, expected class indices, torch.int64"),
        (Y.float(), "use loss='mse'"),
        (Y.int(), "Use targets.long()"),
        (Y[:3], "targets: got shape (3,), expected shape (4,)"),
        (EVERY, "targets: got shape (4, 5), expected shape (4,)"),
        (Y + 1, "targets: got labels between 1 and 2, expected labels between 0 and 1"),
        (Y - 1, "targets: got labels between -1 and 0"),
        (Y.to("meta"), "targets: got device meta, expected cpu"),
    ],
)
def test_class_targets(targets: object, told: str) -> None:
    raises(lambda: estimate(targets=targets), told)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_targets_of_a_function_are_finite_where_they_count(value: float) -> None:
    targets = torch.zeros(4, 2)
    targets[1] = value
    loss = tl.losses.Custom(lambda y, t: (y - t).square().mean(-1))
    raises(
        lambda: estimate(targets=targets, loss=loss), "targets: got NaN or infinite values", "mask"
    )
    raises(lambda: tl.BPTT(NET, loss=loss).evaluate(X, targets), "NaN or infinite values")
    found = estimate(targets=targets, loss=loss, mask=torch.tensor([1, 0, 1, 1]))
    assert found.loss.isfinite()
    assert all(own.isfinite().all() for own in found.gradients.values())


@pytest.mark.parametrize("loss", ["mse", "bce"])
@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (Y, "targets: got torch.int64, expected torch.float32"),
        (torch.zeros(4, 2).double(), "targets: got torch.float64"),
        (torch.zeros(4), "targets: got shape (4,), expected shape (4, 2)"),
        (torch.full((4, 2), float("nan")), "NaN or infinite"),
    ],
)
def test_real_targets(loss: str, targets: Tensor, told: str) -> None:
    raises(lambda: estimate(targets=targets, loss=loss), told)


def test_targets_of_bce_are_probabilities() -> None:
    raises(lambda: estimate(targets=torch.full((4, 2), 1.5), loss="bce"), "probabilities in [0, 1]")


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        ([True] * 4, "mask: got a list"),
        (torch.ones(3), "mask: got shape (3,), expected a tensor of shape (4,)"),
        (torch.ones(4, 5), "mask: got shape (4, 5)"),
        (torch.tensor([1.0, -1.0, 1.0, 1.0]), "negative or non-finite weights"),
        (torch.tensor([1.0, float("nan"), 1.0, 1.0]), "negative or non-finite weights"),
        (torch.zeros(4), "mask: got no entry that counts"),
        (torch.zeros(4, dtype=torch.bool), "mask: got no entry that counts"),
        (torch.ones(4, device="meta"), "mask: got device meta, expected cpu"),
    ],
)
def test_masks(mask: object, told: str) -> None:
    raises(lambda: estimate(mask=mask), told)


def test_nothing_that_counts_by_its_class() -> None:
    loss = tl.losses.CrossEntropy(class_weights=torch.tensor([0.0, 1.0]))
    raises(lambda: estimate(targets=Y * 0, loss=loss), "class_weights: got no entry that counts")


def test_several_problems_in_one_message() -> None:
    raises(
        lambda: estimate(X.double(), Y + 5, torch.tensor([0, 1, 2, 9]), mask=torch.ones(7)),
        "3 problems",
        "inputs: got torch.float64",
        "lengths: got values between 0 and 9",
        "mask: got shape (7,)",
    )
    raises(
        lambda: estimate(X.double().to("meta"), Y + 5),
        "inputs: got torch.float64",
        "inputs: got device meta",
        "targets: got device cpu",
    )
    raises(lambda: estimate(X.double(), Y + 5), "2 problems", "labels between 5 and 6")


def test_padding_is_no_problem_of_its_own() -> None:
    """While something else is wrong it is not known which labels count: none is complained about."""
    targets = EVERY.clone()
    targets[:, 1:] = -100
    with pytest.raises(ArgumentError) as caught:
        estimate(X.double(), targets, torch.ones(4, dtype=torch.long), at="every")
    assert "labels" not in str(caught.value)


def test_unknown_names_are_told_together_with_the_nearest() -> None:
    raises(
        lambda: tl.DFA(NET, loss="crossentropy", at="lst", feedback="gausian", feedback_per="layr"),
        "4 problems",
        "Did you mean 'cross_entropy'?",
        "Did you mean 'last'?",
        "Did you mean 'gaussian'?",
        "Did you mean 'layer'?",
    )
    raises(lambda: tl.DFA(NET, normalize="l2"), "normalize: got 'l2', expected None or 'frobenius'")
    raises(lambda: tl.DFA(NET, loss=3), "loss: got 3")
    raises(lambda: tl.DFA(nn.GRU(3, 8)), "network: got a GRU", "timelocal.from_torch")
    network = tl.GRU(3, 8, output_size=2, reset_after=False)
    raises(
        lambda: tl.DFAAuthorsCode(network, quirks=["shifted_states", "frobenus"]),
        "2 problems",
        "Did you mean 'shifted-states'?",
        "Did you mean 'frobenius'?",
    )


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: tl.RNN(0, 8, 2), "input_size: got 0, expected an integer of at least 1"),
        (lambda: tl.RNN(3, -1, 2), "hidden_size: got -1"),
        (lambda: tl.RNN(3, 8.0, 2), "hidden_size: got 8.0"),
        (lambda: tl.RNN(3, 8, 0), "output_size: got 0"),
        (lambda: tl.RNN(3, True, 2), "hidden_size: got True"),
        (lambda: tl.RNN(3, 8, 2, num_layers=0), "num_layers: got 0"),
        (lambda: tl.RNN(3, 8, 2, dropout=0.5), "dropout: got 0.5, expected 0 when num_layers is 1"),
        (lambda: tl.RNN(3, 8, 2, num_layers=2, dropout=1.0), "dropout: got 1.0"),
        (lambda: tl.RNN(3, 8, 2, num_layers=2, dropout="much"), "dropout: got 'much'"),
        (lambda: tl.RNN(3, 8, 2, tau=0.5), "tau: got 0.5, expected a number of at least 1"),
        (lambda: tl.RNN(3, 8, 2, tau=float("nan")), "tau: got nan"),
        (lambda: tl.RNN(3, 8, 2, seed=None), "seed: got None, expected a non-negative integer"),
        (lambda: tl.DFA(NET, seed=-1), "seed: got -1"),
        (lambda: derive_seed(0.5, "x"), "seed: got 0.5"),
        (lambda: tl.losses.CrossEntropy(label_smoothing=2), "label_smoothing: got 2"),
        (lambda: tl.losses.CrossEntropy(class_weights=["a"]), "class_weights: got text"),
        (lambda: tl.losses.CrossEntropy(class_weights=-torch.ones(2)), "negative or non-finite"),
        (
            lambda: estimate(loss=tl.losses.CrossEntropy(class_weights=torch.ones(3))),
            "class_weights: got shape (3,), expected shape (2,)",
        ),
        (lambda: estimate(loss=lambda y, _: y.mean()), "loss function: got shape ()"),
        (lambda: estimate(loss=lambda y, _: y), "one loss per entry"),
    ],
)
def test_hyperparameters(make: Callable[[], object], told: str) -> None:
    raises(make, told)


def nested(values: Tensor) -> Tensor:
    with warnings.catch_warnings():  # torch calls it a prototype
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([*values])


@pytest.mark.parametrize(
    ("dtype", "name", "at"),
    covering(
        product(
            (torch.int8, torch.uint8, torch.int16, torch.int32),
            sorted(tl.RULES.keys() - {"dfa-authors-code"}),
            ("last", "every"),
        ),
        lambda dtype, name, at: (dtype, (name, at)),
    ),
)
def test_every_rule_takes_lengths_of_any_integer_type(
    dtype: torch.dtype, name: str, at: str
) -> None:
    rule = tl.RULES[name]
    lengths = torch.tensor([5, 2, 1, 3])
    targets = Y if at == "last" else EVERY
    network = tl.RNN(3, 4, 2)
    wanted = rule(network, at=at).estimate(X, targets, lengths)
    found = rule(network, at=at).estimate(X, targets, lengths.to(dtype))
    assert torch.equal(found.loss, wanted.loss)
    assert all(torch.equal(found.gradients[n], own) for n, own in wanted.gradients.items())


SPECIAL = {
    "sparse": lambda x: x.to_sparse(),
    "nested, strided": lambda x: nested(x),
    "nested": lambda x: torch.nested.nested_tensor([*x], layout=torch.jagged),
    "complex": lambda x: x.to(torch.complex64),
    "uint16": lambda x: x.to(torch.uint16),
}


@pytest.mark.parametrize("form", SPECIAL)
@pytest.mark.parametrize("name", ["inputs", "targets", "lengths", "mask"])
def test_tensors_that_are_no_plain_numbers(form: str, name: str) -> None:
    given = {
        "inputs": X,
        "targets": EVERY,
        "lengths": torch.full((4,), 5),
        "mask": torch.ones(4, 5),
    }
    given[name] = SPECIAL[form](X if "nested" in form else given[name])
    raises(lambda: estimate(**given, at="every"), f"{name}: got")


def test_inputs_that_are_no_real_numbers_need_not_make_such_a_network() -> None:
    with pytest.raises(ArgumentError) as caught:
        estimate(X.to(torch.uint8))
    assert str(caught.value) == (
        "inputs: got torch.uint8, expected torch.float32. Use inputs.to(torch.float32)."
    )


def test_a_network_without_memory_is_told() -> None:
    network = tl.GRU(3, 8, 2).to("meta")
    rule = tl.BPTT(network)
    mask = torch.ones(4, device="meta")
    raises(
        lambda: rule.estimate(X.to("meta"), Y.to("meta"), mask=mask),
        *(f"{name}: got a meta tensor" for name in ("inputs", "targets", "mask")),
    )


@pytest.mark.parametrize(
    ("estimate", "told"),
    [
        (None, "estimate: got None, expected an Estimate"),
        (tl.BPTT(tl.GRU(3, 8, 2).double()).estimate(X.double(), Y), "torch.float64 on cpu"),
        (tl.BPTT(tl.GRU(3, 7, 2)).estimate(X, Y), "(21, 3) torch.float32"),
        (tl.BPTT(tl.GRU(3, 8, 2, num_layers=2)).estimate(X, Y), "the names of this network"),
    ],
)
def test_an_estimate_of_another_network_is_told_and_none_of_it_taken(
    estimate: tl.Estimate, told: str
) -> None:
    rule = tl.BPTT(tl.GRU(3, 8, 2))
    raises(lambda: rule.accumulate(estimate), told)
    assert all(parameter.grad is None for parameter in rule.parameters())


def widened(readout: nn.Linear) -> nn.Linear:
    readout.weight = nn.Parameter(torch.zeros(5, 8))
    return readout


@pytest.mark.parametrize(
    ("replaced", "told"),
    [
        (nn.Linear(7, 2), "readout: got one from (n, 7)"),
        (nn.Linear(8, 2).double(), "torch.float64"),
        (widened(nn.Linear(8, 2)), "to (n, 5) and a bias of 2"),
        (nn.Sequential(nn.Linear(7, 2)), "readout: got mat1 and mat2"),
        (nn.Flatten(0), "readout: got (16,)"),
        (None, "readout: got None"),
    ],
)
@pytest.mark.parametrize("rule", [tl.BPTT, tl.DFA, tl.NP, tl.UORO])
def test_a_readout_that_no_longer_fits(rule: type[tl.Rule], replaced: nn.Module, told: str) -> None:
    made = rule(tl.GRU(3, 8, 2))
    made.network.readout = replaced
    for call in (made.estimate, made.evaluate, made, made.check):
        raises(lambda call=call: call(X, Y), told)
    raises(lambda: made.outputs(X), told)


@pytest.mark.parametrize("rule", [tl.NP, tl.ANP, tl.WP])
def test_a_readout_that_is_no_longer_linear(rule: Callable[..., tl.Rule]) -> None:
    made = rule(tl.GRU(3, 8, 2))
    made.network.readout = nn.Sequential(nn.Linear(8, 2))
    raises(lambda: made.estimate(X, Y), "got a Sequential readout", kind=UnsupportedError)


def test_feedback_that_follows_a_readout_that_is_no_longer_linear() -> None:
    made = tl.DFA(tl.GRU(3, 8, 2), feedback="symmetric")
    made.network.readout = nn.Sequential(nn.Linear(8, 2))
    raises(lambda: made.estimate(X, Y), "got a Sequential readout", kind=UnsupportedError)


def test_numbers_are_numpys_too() -> None:
    import numpy as np

    assert tl.RNN(2, 4, 3, tau=np.float32(2)).cell.tau == 2.0
    assert tl.LIF(2, 4, 3, membrane=np.float32(0.5), threshold=1).cell.membrane == 0.5
    assert tl.GRU(2, 4, 3, num_layers=np.int64(2), dropout=np.float32(0.5)).num_layers == 2
    assert type(tl.TBPTT(NET, np.int64(3)).k) is int
    assert type(tl.NP(NET, sigma=np.float32(0.5), directions=np.uint8(2)).sigma) is float
    assert tl.NP(NET, seed=np.int64(3)).seed == 3
    assert tl.DFA(NET, feedback_lr=np.float32(0.5)).feedback_lr == 0.5
    assert tl.Decorrelation(np.float32(0.5)).lr == 0.5
    weights = tl.losses.CrossEntropy(class_weights=np.array([1, 2], ">i4")).class_weights
    assert weights is not None
    assert weights.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: tl.RNN(3, 8, 2, num_layers=10**30), "num_layers: got an integer of more than 15"),
        (lambda: tl.RNN(3, 10**30, 2), "hidden_size: got an integer"),
        (lambda: tl.RNN(3, 2**31 - 1, 2), "network: got sizes that take"),
        (lambda: tl.RNN(3, 8, 2**31 - 1, dtype=torch.float64), "readout: got sizes that take"),
        (lambda: tl.RNN(3, 8, 2, device="gpu"), "device: got 'gpu'"),
        (lambda: tl.RNN(3, 8, 2, dtype=torch.int64), "dtype: got torch.int64"),
        (lambda: tl.RNN(3, 8, 2, bias="no"), "bias: got 'no', expected True or False"),
        (lambda: tl.GRU(3, 8, 2, reset_after=None), "reset_after: got None"),
        (lambda: tl.to_torch(nn.GRU(2, 3)), "network: got a GRU"),
        (lambda: tl.NP(NET, directions=10**30), "directions: got an integer"),
        (lambda: tl.DFAAuthorsCode(tl.RNN(3, 8, 2), quirks=3), "quirks: got 3"),
        (lambda: tl.decorrelation_loss([1.0]), "features: got a list"),
        (lambda: tl.data.copying_sequences(10**30), "count: got an integer"),
        (lambda: tl.data.copying_sequences(2**31 - 1, 2**20), "sizes that take"),
        (lambda: tl.data.mackey_glass_streams(2**30), "sizes that take"),
        (lambda: tl.Stream(None, None), "rule: got None, expected a learning rule"),
        (lambda: tl.data.load(["iris"]), "dataset: got a list"),
        (lambda: tl.data.load("digits-rows", 3), "data_dir: got 3"),
    ],
)
def test_sizes_and_options_that_nothing_could_do(make: Callable[[], object], told: str) -> None:
    raises(make, told)


def test_sizes_from_numpy_are_integers_too() -> None:
    import numpy as np

    assert tl.GRU(np.int64(3), np.int32(8), output_size=np.int64(2)).hidden_size == 8


def test_sizes_are_told_together() -> None:
    raises(lambda: tl.RNN(0, -1, 2, num_layers=0), "3 problems", "input_size", "num_layers")


# --- adopting torch's modules -------------------------------------------------------------------


class Headless(nn.Module):
    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return features, features


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: tl.from_torch(nn.Linear(3, 8), nn.Linear(8, 2)), "recurrent: got a Linear"),
        (lambda: tl.from_torch(nn.GRUCell(3, 8), nn.Linear(8, 2)), "recurrent: got a GRUCell"),
        (lambda: tl.from_torch(nn.Linear(3, 8), None), "readout: got None"),
        (lambda: tl.from_torch(nn.GRU(3, 8), nn.Linear(7, 2)), "a module from (n, 8)"),
        (lambda: tl.from_torch(nn.GRU(3, 8, bidirectional=True), nn.Linear(8, 2)), "(n, 16)"),
        (lambda: tl.from_torch(nn.GRU(3, 8), nn.Sequential(nn.Linear(7, 2))), "(n, 8)"),
        (lambda: tl.from_torch(nn.GRU(3, 8), nn.Linear(8, 2).double()), "torch.float32"),
        (lambda: tl.from_torch(nn.GRU(3, 8), Headless()), "readout: got <class 'tuple'>"),
        (lambda: tl.from_torch(nn.GRU(3, 8), nn.Flatten(0)), "readout: got (16,)"),
    ],
)
def test_adoption(make: Callable[[], object], told: str) -> None:
    raises(make, told)


def pruned() -> nn.GRU:
    gru = nn.GRU(3, 8)
    prune.l1_unstructured(gru, "weight_hh_l0", 0.5)
    return gru


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: tl.from_torch(nn.LSTM(3, 8, proj_size=4), nn.Linear(4, 2)), "proj_size: got 4"),
        (
            lambda: tl.from_torch(nn.RNN(3, 8, nonlinearity="relu"), nn.Linear(8, 2)),
            "nonlinearity: got 'relu'",
        ),
        (lambda: tl.from_torch(pruned(), nn.Linear(8, 2)), "pruning"),
        (lambda: tl.to_torch(tl.GRU(3, 8, 2, reset_after=False)), "GRUResetBefore()"),
        (lambda: tl.to_torch(tl.RNN(3, 8, 2, tau=2)), "RNNCell(tau=2.0)"),
        (lambda: tl.DFA(tl.RNN(3, 8, 2, num_layers=2), feedback="symmetric"), "2 layers"),
        (
            lambda: tl.DFA(tl.RNN(3, 8, 2), feedback="sign", feedback_per="parameter"),
            "feedback_per='parameter'",
        ),
        (
            lambda: tl.DFA(
                tl.from_torch(nn.GRU(3, 8), nn.Sequential(nn.Linear(8, 2))), feedback="symmetric"
            ),
            "a Sequential readout",
        ),
        (lambda: tl.DFAAuthorsCode(NET), "reset_after=False"),
        (lambda: tl.DFAAuthorsCode(tl.RNN(3, 8, 2, num_layers=2)), "one layer"),
    ],
)
def test_what_cannot_be_done_names_what_can(make: Callable[[], object], told: str) -> None:
    raises(make, told, kind=UnsupportedError)
    with pytest.raises(UnsupportedError, match=r"Use |Make |Keep "):
        make()


# --- states and places ---------------------------------------------------------------------------


def test_initial_states() -> None:
    lstm = tl.LSTM(3, 8, output_size=2, num_layers=2)
    right = torch.zeros(2, 4, 8)
    lstm.scan(X, initial=(right, right))
    for wrong in (
        right,
        (right,),
        (right, right[:1]),
        (right, right[:, :1]),
        (right, right.double()),
        "zeros",
    ):
        raises(lambda wrong=wrong: lstm.scan(X, initial=wrong), "initial: got", "final_states")


def test_a_rule_left_behind_by_its_network() -> None:
    network = tl.GRU(3, 8, output_size=2)
    rule = tl.DFA(network)
    network.double()
    told = "rule: got feedback_l0 in torch.float32 on cpu, expected torch.float64"
    raises(lambda: rule(X.double(), Y), told, "rule.to(...) moves both")
    assert (
        rule.evaluate(X.double(), Y).loss.dtype == torch.float64
    )  # which needs nothing of the rule's
    rule.to("cpu", torch.float64)
    assert rule(X.double(), Y).dtype == torch.float64


def test_a_chunk_of_a_stream_is_checked_before_its_first_step() -> None:
    network = tl.RNN(3, 8, output_size=2)
    rule = tl.NP(network, loss="mse", at="every")
    optimizer = torch.optim.Adam(rule.parameters())  # step by step, not in one native call
    stream = tl.Stream(rule, optimizer, batch_size=4)
    before = {name: p.clone() for name, p in network.named_parameters()}
    x = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0))
    raises(lambda: stream.run(x, torch.zeros(4, 5, 2)), "targets", "(4, 5, 2)")
    assert stream.steps == 0
    assert all(torch.equal(p, before[name]) for name, p in network.named_parameters())


def test_nothing_is_written_when_something_is_wrong() -> None:
    network = tl.GRU(3, 8, output_size=2, num_layers=2, dropout=0.5)
    rule = tl.DFA(network)
    before = rule.get_extra_state().clone()
    raises(lambda: rule(X, Y + 7), "labels")
    assert torch.equal(rule.get_extra_state(), before)
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("rule", [tl.NP, tl.ANP, tl.WP, tl.DFA, tl.BPTT])
@pytest.mark.parametrize("cell", [tl.RNN, tl.GRU, tl.LSTM])
@pytest.mark.parametrize("shape", [(2, 2), (2, 8), (7, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_that_were_replaced_are_never_read_past_their_end(
    rule: type[tl.Rule],
    cell: Callable[..., tl.Network],
    shape: tuple[int, int],
    dtype: torch.dtype,
) -> None:
    made = rule(cell(3, 8, 2))
    made.network.recurrent.weight_hh_l0 = nn.Parameter(torch.zeros(*shape, dtype=dtype))
    with pytest.raises((ArgumentError, RuntimeError)):
        made.estimate(X, Y)
