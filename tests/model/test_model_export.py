"""What leaves this package gives what the model gives, in a process that does not know the package."""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import timelocal as tl
from covering import covering
from timelocal.cli.app import app
from timelocal.errors import UnsupportedError
from timelocal.model.build import CELLS
from timelocal.model.exporting import write_torch
from timelocal.model.onnx import write_onnx

NETWORKS = {
    "rnn": lambda: tl.RNN(3, 5, 2, bias=False),
    "gru": lambda: tl.GRU(3, 5, 2, num_layers=2),
    "lstm": lambda: tl.LSTM(3, 5, 2, num_layers=2, bidirectional=True),
    "hidden readout": lambda: CELLS["gru"](3, 5, 2, readout_hidden=4),
    "adopted": lambda: tl.from_torch(nn.GRU(3, 5), nn.Linear(5, 2, bias=False)),
}


def model(name: str, loss: str = "cross_entropy", at: str = "last") -> tl.Model:
    scale = (torch.tensor([1.0, -1, 0]), torch.tensor([2.0, 1, 0.5]))
    outputs = (torch.ones(2), torch.full((2,), 3.0)) if loss == "mse" else None
    rule = tl.BPTT(NETWORKS[name](), loss=loss, at=at)
    return tl.Model(rule, inputs_scale=scale, outputs_scale=outputs)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(6, 9, 3, generator=draw), torch.tensor([9, 1, 4, 7, 2, 9])


def expected(made: tl.Model) -> np.ndarray:
    shares = made.loss.classifies
    return (made.predict_proba if shares else made.predict)(*batch())


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("name", NETWORKS)
def test_onnxruntime_gives_the_same(name, loss, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    made = model(name, loss)
    write_onnx(made, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    inputs, lengths = (one.numpy() for one in batch())
    (found,) = session.run(None, {"inputs": inputs, "lengths": lengths})
    np.testing.assert_allclose(found, expected(made), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize(
    ("name", "at"),
    [("gru", "every"), ("lstm", "every"), ("hidden readout", "every"), ("lstm", "mean")],
)
def test_onnxruntime_gives_the_same_at_other_places(name, at, loss, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    made = model(name, loss, at)
    write_onnx(made, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    inputs, lengths = (one.numpy() for one in batch())
    (found,) = session.run(None, {"inputs": inputs, "lengths": lengths})
    wanted = expected(made)
    if at == "every":
        valid = np.arange(inputs.shape[1]) < lengths[:, None]
        found, wanted = found[valid], wanted[valid]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("cell", "at"),
    covering(
        product(CELLS, ("last", "every", "mean")),
        lambda cell, at: (cell, (cell in ("rnn", "gru", "lstm"), at)),
    ),
)
def test_every_cell_is_exported_or_refused_by_name(cell, at, tmp_path):
    made = tl.Model(tl.DFA(CELLS[cell](3, 5, 2), at=at), classes=("a", "b"))
    tl.save(made, tmp_path / "m.safetensors")
    call = CliRunner().invoke(
        app, ["export", str(tmp_path / "m.safetensors"), "--torch", str(tmp_path / "alone")]
    )
    if cell in ("rnn", "gru", "lstm"):
        assert call.exit_code == 0, call.output
        assert "differs from the model by at most" in call.output
    else:
        assert call.exit_code != 0
        assert type(made.network.cell).__name__ in call.output
        assert not (tmp_path / "alone").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("gru", "last"),
        ("lstm", "last"),
        ("gru", "mean"),
        ("hidden readout", "last"),
        ("gru", "every"),
    ],
)
def test_a_folder_for_torch_alone_gives_the_same(name, at, tmp_path):
    made = model(name, at=at)
    write_torch(made, tmp_path)
    inputs, lengths = batch()
    np.savez(tmp_path / "batch.npz", inputs=inputs, lengths=lengths)
    script = (
        "import sys, numpy, torch; sys.modules['timelocal'] = None; import model\n"
        "given = {k: torch.tensor(v) for k, v in numpy.load('batch.npz').items()}\n"
        "numpy.save('found.npy', model.load()(**given).detach().numpy())"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    found, wanted = np.load(tmp_path / "found.npy"), expected(made)
    if at == "every":
        valid = np.arange(inputs.shape[1]) < lengths.numpy()[:, None]
        found, wanted = found[valid], wanted[valid]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_what_the_forms_do_not_have_is_told(tmp_path):
    pytest.importorskip("onnx")
    leaky = tl.Model(tl.BPTT(tl.RNN(3, 5, 2, tau=2.0)))
    for write in (write_onnx, write_torch):
        with pytest.raises(UnsupportedError, match="RNNCell"):
            write(leaky, tmp_path / "x")
    with pytest.raises(
        UnsupportedError, match="the mean of the outputs of a readout with a hidden layer"
    ):
        write_onnx(model("hidden readout", at="mean"), tmp_path / "x")
    assert not (tmp_path / "x").exists()
