"""A model: what is saved comes back to the bit, in one file that imports nothing, and predicts in words."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

import timelocal as tl
from timelocal.cells import CELLS
from timelocal.errors import ArgumentError, DataError, UnsupportedError
from timelocal.files import tensors_sha256
from timelocal.model.build import make_network, rule_defaults
from timelocal.rules import RULES


def data(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(7, 9, 3, generator=draw), torch.randint(1, 10, (7,), generator=draw)


# of every rule an option away from its default, where it has one
OPTIONS = {
    "tbptt": {"k": 3},
    "uoro": {"directions": 2},
    "dfa": {"feedback": "sign", "trace": "leak", "normalize": "frobenius"},
    "dfa-authors-code": {"quirks": ("frobenius",)},
    "rflo": {"feedback": "kolen_pollack", "feedback_lr": 0.5},
    "eprop": {"feedback": "uniform"},
    "wm": {"feedback_lr": 0.1, "feedback_decay": 0.5},
    "np": {"sigma": 0.02, "credit": "to_go"},
    "anp": {"sigma": 0.03, "clean": False},
    "wp": {"redraw": "sequence"},
}


@pytest.mark.parametrize("name", RULES)
def test_the_rule_comes_back_with_its_options_and_draws_on(name, tmp_path):
    options = OPTIONS.get(name, {})
    network = tl.GRU(3, 5, output_size=2, reset_after=not name.startswith("dfa-"), seed=3)
    rule = RULES[name](network, seed=5, **options)
    inputs, lengths = data()
    lengths = None if name == "dfa-authors-code" else lengths
    targets = torch.tensor([0, 1, 1, 0, 1, 0, 0])
    rule(inputs, targets, lengths)  # so that chance, and a learned feedback, are under way
    tl.save(rule, tmp_path / "m.safetensors")
    back = tl.load(tmp_path / "m.safetensors").rule
    assert type(back) is type(rule)
    for option in rule_defaults(name):
        if option != "loss" and hasattr(rule, option):
            assert getattr(back, option) == getattr(rule, option), option
    expected, found = (one.estimate(inputs, targets, lengths) for one in (rule, back))
    torch.testing.assert_close(found.gradients, expected.gradients, rtol=0, atol=0)
    torch.testing.assert_close(found.outputs, expected.outputs, rtol=0, atol=0)


NETWORKS = {
    "leaky": lambda: tl.RNN(3, 5, 2, tau=2.5, num_layers=2, decorrelate=tl.Decorrelation(0.1, "preserve")),
    "bidirectional": lambda: tl.LSTM(3, 5, 2, bidirectional=True, bias=False),
    "hidden layer": lambda: tl.from_cell(CELLS["lru"](), 3, 5, 2, readout_hidden=4),
    "lif": lambda: tl.LIF(3, 5, 2, membrane=0.7, surrogate="arctan", rate=0.1),
    "alif": lambda: tl.ALIF(3, 5, 2, adaptation=0.3, num_layers=2),
    "float64": lambda: tl.GRU(3, 5, 2, reset_after=False, dtype=torch.float64),
    "time first": lambda: tl.from_torch(nn.GRU(3, 5), nn.Linear(5, 2, bias=False)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_comes_back_whatever_it_was_made_with(name, tmp_path):
    network = NETWORKS[name]()
    rule = tl.BPTT(network, loss="mse")
    tl.save(rule, tmp_path / "m.safetensors")
    back = tl.load(tmp_path / "m.safetensors")
    assert repr(back.network) == repr(network)
    inputs, lengths = data()
    np.testing.assert_array_equal(
        back.predict(inputs, lengths), tl.Model(rule).predict(inputs, lengths)
    )


def model(**words: object) -> tl.Model:
    rule = tl.DFA(tl.GRU(3, 5, output_size=2), loss=words.pop("loss", "cross_entropy"))
    return tl.Model(rule, **words)


def test_words_and_scales(tmp_path):
    mean, deviation = torch.tensor([1.0, -2.0, 0.0]), torch.tensor([2.0, 1.0, 0.5])
    words = {
        "classes": ("kalt", "warm ☀"),
        "features": ("a", "b", "c"),
        "inputs_scale": (mean, deviation),
        "reading": {"series": "id", "missing": "hold"},
    }
    made = model(**words)
    tl.save(made, tmp_path / "m.safetensors")
    back = tl.load(tmp_path / "m.safetensors")
    inputs, lengths = data()
    raw = made.rule.outputs((inputs - mean) / deviation, lengths)
    expected = np.array(words["classes"])[raw.argmax(-1)]
    np.testing.assert_array_equal(back.predict(inputs, lengths), expected)
    np.testing.assert_allclose(back.predict_proba(inputs, lengths), raw.softmax(-1), rtol=1e-6)
    assert (back.classes, back.features) == (words["classes"], words["features"])
    assert back.reading == words["reading"]
    ragged = [row[:n].numpy() for row, n in zip(inputs, lengths, strict=True)]
    np.testing.assert_array_equal(back.predict(ragged), expected)


def test_values_in_their_own_units():
    mean, deviation = torch.tensor([10.0, 0.0]), torch.tensor([3.0, 1.0])
    made = model(loss="mse", outputs_scale=(mean, deviation))
    inputs, _ = data()
    np.testing.assert_allclose(made.predict(inputs), mean + deviation * made.rule.outputs(inputs))
    with pytest.raises(UnsupportedError, match="predict"):
        made.predict_proba(inputs)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("at", ["every", "ramp"])
def test_of_one_label_asked_at_every_step_the_last_valid_one_counts(
    at, bidirectional, batch_first, tmp_path
):
    gru = nn.GRU(3, 5, bidirectional=bidirectional, batch_first=batch_first)
    network = tl.from_torch(gru, nn.Linear(10 if bidirectional else 5, 2))
    rule = tl.BPTT(network, at=at)
    made = tl.Model(rule, classes=("down", "up"), stepwise=False)
    inputs, lengths = data()
    entering = inputs if batch_first else inputs.transpose(0, 1)
    every = rule.outputs(entering, lengths)
    every = every if batch_first else every.transpose(0, 1)
    last = torch.stack([row[n - 1] for row, n in zip(every, lengths, strict=True)])
    tl.save(made, tmp_path / "m.safetensors")
    for one in (made, tl.load(tmp_path / "m.safetensors")):
        np.testing.assert_allclose(one.predict_proba(inputs, lengths), last.softmax(-1), rtol=1e-6)
        assert one.predict(inputs, lengths).shape == (7,)
        np.testing.assert_allclose(
            one.predict_proba(inputs), every_last(rule, inputs, batch_first), rtol=1e-6
        )
    alone = made.to_torch()(inputs, lengths).detach()
    np.testing.assert_allclose(alone, last.softmax(-1), rtol=1e-5)
    stepwise = tl.Model(rule)  # as the rule's loss is
    assert stepwise.predict_proba(inputs, lengths).shape == (7, 9, 2)
    with pytest.raises(ArgumentError, match="stepwise: got True, expected False"):
        tl.Model(tl.BPTT(network), stepwise=True)


def every_last(rule: tl.Rule, inputs: torch.Tensor, batch_first: bool) -> torch.Tensor:
    if batch_first:
        return rule.outputs(inputs)[:, -1].softmax(-1)
    return rule.outputs(inputs.transpose(0, 1))[-1].softmax(-1)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "bce"])
def test_plain_torch_gives_the_same(loss, bidirectional):
    network = tl.LSTM(3, 5, output_size=2, num_layers=2, bidirectional=bidirectional)
    scale = (torch.tensor([1.0, 2, 3]), torch.tensor([0.5, 1, 2]))
    outputs = {"outputs_scale": (torch.ones(2), torch.full((2,), 5.0))} if loss == "mse" else {}
    made = tl.Model(tl.BPTT(network, loss=loss), inputs_scale=scale, **outputs)
    inputs, lengths = data()
    plain = made.to_torch()
    assert not any(type(m).__module__.startswith("timelocal.network") for m in plain.modules())
    expected = (made.predict if loss == "mse" else made.predict_proba)(inputs, lengths)
    with torch.no_grad():
        np.testing.assert_allclose(plain(inputs, lengths), expected, rtol=1e-5, atol=1e-6)


class Mine(tl.DFA):
    """A rule from elsewhere."""


def squared(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs - targets).square().sum(-1)


def test_what_is_not_of_this_package_is_asked_for_and_not_imported(tmp_path):
    file = tmp_path / "m.safetensors"
    head = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))
    rule = Mine(
        tl.from_torch(nn.GRU(3, 5, batch_first=True), head), loss=squared, feedback="ternary"
    )
    tl.save(rule, file)
    with pytest.raises(ArgumentError, match=r"(?s)3 problems.*rule=MyRule.*loss=.*readout="):
        tl.load(file)
    fresh = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))
    back = tl.load(file, rule=Mine, loss=squared, readout=fresh)
    inputs, _ = data()
    np.testing.assert_array_equal(back.predict(inputs), rule.outputs(inputs))
    assert type(back.rule) is Mine
    assert back.rule.feedback == "ternary"


def test_every_flipped_byte_is_noticed(tmp_path):
    file = tmp_path / "m.safetensors"
    tl.save(model(classes=("a", "b")), file)
    data = file.read_bytes()
    draw = np.random.default_rng(0)
    for place in [*draw.integers(0, len(data), 60).tolist(), len(data) - 1]:
        changed = bytearray(data)
        changed[place] ^= 1 << int(draw.integers(8))
        file.write_bytes(changed)
        with pytest.raises(DataError, match=r"m\.safetensors"):
            tl.load(file)
    for text in (b"", data[:100], b"\0" * 16):
        file.write_bytes(text)
        with pytest.raises(DataError):
            tl.load(file)
    with pytest.raises(DataError, match="no such file"):
        tl.load(tmp_path / "nowhere")


def test_a_model_is_the_same_bytes_each_time(tmp_path):
    """What safetensors writes differs from one call to the next by the order of its metadata."""
    rule, files = tl.DFA(tl.GRU(1, 4, 2)), set()
    for _ in range(20):
        tl.save(rule, tmp_path / "model")
        files.add((tmp_path / "model").read_bytes())
    assert len(files) == 1


def test_the_metadata_tells_the_digest_of_the_tensors(tmp_path):

    file = tmp_path / "m.safetensors"
    tl.save(model(), file)
    with safe_open(file, "pt") as found:
        metadata = found.metadata()
    assert metadata["sha256"] == tensors_sha256(load_file(file))
    assert json.loads(metadata["timelocal"])["network"]["cell"] == "gru"


@pytest.mark.parametrize(
    "words",
    [
        {"classes": ("a",)},
        {"features": "abc"},
        {"inputs_scale": (torch.zeros(3), torch.zeros(3))},
        {"outputs_scale": (torch.zeros(3), torch.ones(3))},
    ],
)
def test_names_and_scales_that_do_not_fit_are_told(words):
    with pytest.raises(ArgumentError, match=next(iter(words))):
        model(**words)


def test_inputs_of_other_features_are_told():
    with pytest.raises(ArgumentError, match=r"inputs: got shape \(2, 3, 4\).*a, b, c"):
        model(features=("a", "b", "c")).predict(torch.zeros(2, 3, 4))


def test_every_built_in_cell_is_saved(tmp_path):
    for name, cell in CELLS.items():
        rule = tl.NP(make_network(cell, 3, 4, 2))
        tl.save(rule, tmp_path / name)
        assert type(tl.load(tmp_path / name).network.cell) is cell


def test_the_old_name_of_a_rules_outputs_warns():
    rule = tl.DFA(tl.GRU(3, 5, output_size=2))
    inputs, lengths = data()
    with pytest.warns(DeprecationWarning, match=r"DFA\.predict is now rule\.outputs"):
        old = rule.predict(inputs, lengths)
    assert torch.equal(old, rule.outputs(inputs, lengths))
