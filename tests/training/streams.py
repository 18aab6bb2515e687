"""What the tests of streams have in common: rules that learn online, data, and all that a stream moves."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

import timelocal as tl
from timelocal import fast, kernels

RULES = {
    "tbptt": tl.TBPTT,
    "tbptt-3": partial(tl.TBPTT, k=3),
    "rtrl": tl.RTRL,
    "uoro": tl.UORO,
    "snap1": tl.SnAp1,
    "sparse-rtrl": partial(tl.SparseRTRL, k=2),
    "dfa": tl.DFA,
    "dfa-parameter": partial(tl.DFA, feedback_per="parameter"),
    "dfa-slope": partial(tl.DFA, slope="cos"),
    "rflo": tl.RFLO,
    "eprop": tl.EProp,
    "np": partial(tl.NP, sigma=0.1),
    "np-many": partial(tl.NP, sigma=0.1, directions=2, antithetic=True, credit="trace(0.8)"),
    "np-one-step": partial(tl.NP, sigma=0.1, carry=False),
    "anp": partial(tl.ANP, sigma=0.1),
    "wp": partial(tl.WP, sigma=0.1, directions=2),
    "np-authors-code": partial(tl.NPAuthorsCode, sigma=0.1),
    "anp-authors-code": partial(tl.ANPAuthorsCode, sigma=0.1),
    "wp-authors-code": partial(tl.WPAuthorsCode, sigma=0.1),
}
PATHS = [
    pytest.param(
        "native", marks=pytest.mark.skipif(kernels.describe()["path"] != "native", reason="none")
    ),
    "loop",
]
ADAM = partial(torch.optim.Adam, lr=0.01)
INPUTS, HIDDEN, OUTPUTS, BATCH = 3, 7, 2, 3


def take_path(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams run native code, or Python's loop over steps."""
    if path == "loop":
        for name in ("run", "step", "peek"):
            monkeypatch.setattr(fast.NativeStream, name, lambda *_: None)


def a_stream(
    rule: str = "dfa",
    cell=tl.GRU,
    optimizer=ADAM,
    batch_size: int = BATCH,
    loss="mse",
    seed: int = 1,
    **options,
) -> tl.Stream:
    network = cell(INPUTS, HIDDEN, OUTPUTS, seed=seed).double()
    made = RULES[rule](network, loss=loss)
    return tl.Stream(made, optimizer(made.parameters()), batch_size, **options)


def steps(count: int, batch_size: int = BATCH, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs (t, b, i) and targets (t, b, o)."""
    draw = torch.Generator().manual_seed(seed)
    shape = (count, batch_size)
    return tuple(
        torch.randn(*shape, n, generator=draw, dtype=torch.float64) for n in (INPUTS, OUTPUTS)
    )


def moved(stream: tl.Stream) -> dict[str, Tensor]:
    """Copies of all that a stream moves: the rule's parameters and buffers, moments, states and traces."""
    found = {f"rule.{name}": one for name, one in stream.rule.state_dict().items()}
    found |= {f"stream.{name}": one for name, one in stream.state_dict().items()}
    for index, state in stream.optimizer.state_dict()["state"].items():
        found |= {f"optimizer.{index}.{name}": one for name, one in state.items()}
    return {name: one.clone() for name, one in found.items() if isinstance(one, Tensor)}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """The same bits."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
