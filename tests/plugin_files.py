"""Plug-ins as files in a folder of a test: modules, and what pip leaves of an installed package."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

RULE = '''\
"""A rule of one layer."""
import timelocal as tl
from timelocal.network import at_last_valid
from timelocal.rules import readout_signal


class Rule(tl.Rule):
    spec = tl.RuleSpec(
        name="mine", summary="within its own step", estimates="exact", target="tbptt1", online=False,
        autograd_free=True, weight_transport=True, references=("A. Stranger. My rule. 2026.",),
    )

    def recurrent_gradients(self, forward):
        net, run = self.network, forward.trajectory
        if net.num_layers > 1 or not net.cell.features_are_hidden:
            raise tl.UnsupportedError("mine: got several layers or features. Use TBPTT(k=1).")
        ((layer,),) = run.layers
        signal = readout_signal(net, forward)
        if self.at == "last":
            signal = at_last_valid(signal, len(layer.hidden), run.lengths)
        jacobian = net.cell.local_jacobian(layer)
        delta = net.cell.node_signal(net.recurrent.weights(0, 0), jacobian, signal.view_as(layer.hidden))
        return net.parameter_gradients(run, [[delta]])
'''
"""20 lines, its imports among them."""

CELL = '''\
import timelocal as tl
import torch


class Cell(tl.AutogradCell):
    """h = (1 − s) ⊙ h + s ⊙ tanh(V x + W h + b), s = σ(k): a time constant learned for each unit."""

    name, gate_names, biases = "own-tau", ("a", "s"), ("bias",)

    def parameter_shapes(self, input_size, hidden_size):
        shapes = {"weight_ih": (hidden_size, input_size), "weight_hh": (hidden_size, hidden_size)}
        return shapes | {"bias": (hidden_size,), "pace": (hidden_size,)}

    def nodes(self, weights, inputs, states):
        a = inputs @ weights.weight_ih.t() + states[0] @ weights.weight_hh.t()
        a = a if weights.bias is None else a + weights.bias
        return torch.cat((a, weights.pace.expand_as(a)), -1)

    def update(self, nodes, states):
        a, s = nodes.chunk(2, -1)
        return (torch.lerp(states[0], a.tanh(), s.sigmoid()),)
'''
"""15 lines, its imports among them."""

DATA = '''\
import torch
from timelocal.data import Card, Dataset


def pulses():
    """Which came first?"""
    first = torch.arange(200) % 2
    inputs = torch.nn.functional.one_hot(first, 2).float()[:, None].repeat(1, 6, 1)
    card = Card("pulses", "which came first", (200, 6, 2), ("left", "right"), None, "made here", (), "free")
    return Dataset("pulses", inputs, first, card)
'''


def module(folder: Path, name: str, *texts: str) -> Path:
    """A file `name.py` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text("\n\n".join(texts), encoding="utf-8")
    return path


def package(folder: Path, name: str, **groups: dict[str, str]) -> None:
    """An installed package as pip leaves it, with entry points such as rules={"name": "module:object"}."""
    info = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    lines = []
    for group, points in groups.items():
        lines += [f"[timelocal.{group}]", *(f"{key} = {value}" for key, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@contextmanager
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in a folder that is not on the path; what is imported from it is forgotten in the end."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", os.getcwd())])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    for name, one in list(sys.modules.items()):
        if str(getattr(one, "__file__", None) or "").startswith(f"{folder}{os.sep}"):
            del sys.modules[name]
