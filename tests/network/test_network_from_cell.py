"""Networks of any cell: parameters by the cell's own law, and every mistake told at the door."""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import timelocal as tl
from timelocal.cells import CELLS, BlackBox, CellWeights, ElementwiseCell, LIFCell, weights_type
from timelocal.seeding import generator

SIZES = (3, 6, 2)


class Cell(tl.AutogradCell):
    """h = tanh(u ⊙ h₋ + V x): the least that a cell is."""

    name, gate_names = "least", ("a",)

    def parameter_shapes(self, input_size, hidden_size):
        return {"v": (hidden_size, input_size), "u": (hidden_size,)}

    def nodes(self, weights, inputs, states):
        return inputs @ weights.v.t() + weights.u * states[0]

    def update(self, nodes, states):
        return (nodes.tanh(),)


# --- parameters --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [name for name, cell in CELLS.items() if not issubclass(cell, ElementwiseCell | LIFCell)],
)
@pytest.mark.parametrize("bias", [True, False])
def test_built_in_cells_have_torch_s_parameters_drawn_in_torch_s_order(
    name: str, bias: bool
) -> None:
    """As numbers were reported: one generator, U(−1/√H, 1/√H), parameter after parameter."""
    cell = CELLS[name]()
    network = tl.from_cell(cell, 3, 6, 2, num_layers=2, bias=bias, seed=11)
    nodes, source = 6 * len(cell.gate_names), generator(11, "recurrent")
    expected = {}
    for layer, entering in enumerate((3, 6)):
        shapes = {"weight_ih": (nodes, entering), "weight_hh": (nodes, 6)}
        if bias:
            shapes |= {"bias_ih": (nodes,), "bias_hh": (nodes,)}
        for kind, shape in shapes.items():
            bound = 1 / math.sqrt(6)
            expected[f"{kind}_l{layer}"] = torch.empty(shape).uniform_(
                -bound, bound, generator=source
            )
    found = network.recurrent.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_parameters_are_the_cell_s_own_in_every_layer_and_direction() -> None:
    network = tl.from_cell(Cell(), *SIZES, num_layers=2, bidirectional=True, dtype=torch.float64)
    shapes = {name: tuple(own.shape) for name, own in network.recurrent.named_parameters()}
    assert shapes == {
        "v_l0": (6, 3), "u_l0": (6,), "v_l0_reverse": (6, 3), "u_l0_reverse": (6,),
        "v_l1": (6, 12), "u_l1": (6,), "v_l1_reverse": (6, 12), "u_l1_reverse": (6,),
    }  # fmt: skip
    weights = network.recurrent.weights(1, 1)
    assert weights.u is network.recurrent.u_l1_reverse
    assert weights.decorrelation is None
    assert network.recurrent.parameter_kinds == ("v", "u")
    assert network.recurrent.like.dtype == torch.float64


def test_a_cell_may_draw_its_parameters_itself() -> None:
    class Ones(Cell):
        def initialise(self, name, parameter, hidden_size, generator):
            if name == "u":
                parameter.fill_(1)
            else:
                super().initialise(name, parameter, hidden_size, generator)

    one, other = tl.from_cell(Ones(), *SIZES, seed=4), tl.from_cell(Cell(), *SIZES, seed=4)
    assert (one.recurrent.u_l0 == 1).all()
    assert torch.equal(one.recurrent.v_l0, other.recurrent.v_l0)
    assert torch.equal(one.readout.weight, other.readout.weight)


def test_biases_are_left_out_where_a_cell_names_them() -> None:
    class Biased(Cell):
        biases = ("b",)

        def parameter_shapes(self, i, h):
            return {"b": (h,), **super().parameter_shapes(i, h)}

        def nodes(self, weights, inputs, states):
            nodes = super().nodes(weights, inputs, states)
            return nodes if weights.b is None else nodes + weights.b

    assert list(tl.from_cell(Biased(), *SIZES).recurrent.state_dict()) == ["b_l0", "v_l0", "u_l0"]
    bare = tl.from_cell(Biased(), *SIZES, bias=False)
    assert list(bare.recurrent.state_dict()) == ["v_l0", "u_l0"]
    rule = tl.BPTT(bare)
    rule(torch.randn(4, 5, 3), torch.tensor([0, 1, 1, 0])).backward()
    assert all(parameter.grad is not None for parameter in bare.parameters())
    with pytest.raises(tl.ArgumentError, match=r"bias: got False.*least has no biases.*`biases`"):
        tl.from_cell(Cell(), *SIZES, bias=False)


def test_a_network_of_a_cell_is_copied_saved_and_loaded_as_any() -> None:
    network = tl.from_cell(Cell(), *SIZES, num_layers=2, decorrelate=0.1)
    inputs = torch.randn(4, 5, 3)
    copied = copy.deepcopy(network)
    other = tl.from_cell(Cell(), *SIZES, num_layers=2, decorrelate=0.1, seed=9)
    other.load_state_dict(network.state_dict())
    for twin in (copied, other):
        assert twin.recurrent.u_l0 is not network.recurrent.u_l0
        assert torch.equal(twin(inputs), network(inputs))


def test_weights_have_one_class_for_each_set_of_names() -> None:
    assert weights_type(("weight_ih", "weight_hh", "bias_ih", "bias_hh")) is CellWeights
    made = weights_type(("u", "v"))
    assert made is weights_type(("u", "v"))
    weights = made(u=torch.ones(2), v=torch.zeros(2), decorrelation=2 * torch.eye(2))
    assert torch.equal(weights.decorrelated(weights.u), torch.full((2,), 2.0))
    assert torch.equal(weights.carried_back(weights.u), torch.full((2,), 2.0))
    torch_s = CellWeights(*map(torch.tensor, (1, 2, 3, 4)))
    for short, name in zip(
        ("ih", "hh", "b_ih", "b_hh"), ("weight_ih", "weight_hh", "bias_ih", "bias_hh"), strict=True
    ):
        assert getattr(torch_s, name) is getattr(torch_s, short)


# --- the door ----------------------------------------------------------------------------------


def without(name: str) -> type[Cell]:
    """The cell with an attribute that is none."""
    return type("Wrong", (Cell,), {name: None})


def with_shapes(shapes: object) -> type[Cell]:
    return type("Wrong", (Cell,), {"parameter_shapes": lambda self, i, h: shapes})


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        (Cell, r"cell: got the class Cell, expected a cell: Cell\(\)"),
        (nn.GRU(3, 6), r"cell: got a GRU, expected a timelocal cell\. Subclass timelocal.AutogradCell"),
        (without("name")(), "without a name"),
        (without("gate_names")(), r"Wrong.gate_names: got None, expected a tuple of names"),
        (without("state_names")(), r"Wrong.state_names: got None"),
        (with_shapes([("u", 3)])(), r"Wrong.parameter_shapes: got \[\('u', 3\)\], expected a dict"),
        (with_shapes({"u": 3})(), r"Wrong.parameter_shapes: u: got 3, expected a tuple of sizes"),
        (with_shapes({"lambda": (3,)})(), r"a parameter 'lambda', expected a valid attribute name"),
        (with_shapes({"decorrelation": (3,)})(), r"a parameter 'decorrelation'"),
        (type("Wrong", (Cell,), {"biases": ("b",)})(), r"Wrong.biases: got \['b'\], expected some of v, u"),
        (
            type("Wrong", (Cell,), {"nodes": lambda self, w, x, s: x})(),
            r"nodes of least: got \(2, 3\), expected a tensor \(2, 6\), 1 gates of 6 units",
        ),
        (
            type("Wrong", (Cell,), {"nodes": lambda self, w, x, s: w.typo})(),
            r"nodes of least: got .*no attribute 'typo'",
        ),
        (
            type("Wrong", (Cell,), {"update": lambda self, a, s: a.tanh()})(),
            r"update of least: got \(2, 6\), expected a tuple of 1, \(h\), each \(2, 6\)",
        ),
        (
            type("Wrong", (Cell,), {"update": lambda self, a, s: (a, a)})(),
            r"update of least: got \(\(2, 6\), \(2, 6\)\), expected a tuple of 1",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_wrong_with_a_cell_is_told_where_a_network_is_made(cell: object, told: str) -> None:
    with pytest.raises(tl.ArgumentError, match=told):
        tl.from_cell(cell, *SIZES)  # type: ignore[arg-type]


def test_sizes_are_checked_as_everywhere() -> None:
    with pytest.raises(tl.ArgumentError, match="hidden_size"):
        tl.from_cell(Cell(), 3, 0, 2)
    with pytest.raises(tl.ArgumentError, match="output_size"):
        tl.from_cell(Cell(), 3, 6, 0)


def test_constants_of_cells_are_checked_by_the_cells() -> None:
    with pytest.raises(tl.ArgumentError, match=r"tau: got 0.5, expected a number of at least 1"):
        CELLS["rnn"](0.5)  # type: ignore[call-arg]
    with pytest.raises(tl.ArgumentError, match=r"2 problems(.|\n)*membrane(.|\n)*threshold"):
        CELLS["lif"](membrane=1.5, threshold=0)  # type: ignore[call-arg]


# --- modules that are not torch.nn's own -------------------------------------------------------


def test_an_unknown_module_is_told_the_class_to_write() -> None:
    class MinimalUnit(nn.Module): ...

    with pytest.raises(tl.ArgumentError) as raised:
        tl.from_torch(MinimalUnit(), nn.Linear(6, 2))  # type: ignore[arg-type]
    text = str(raised.value)
    assert "got a MinimalUnit, expected a torch.nn.RNN, GRU or LSTM" in text
    assert "class MinimalUnitCell(timelocal.AutogradCell):" in text
    assert "timelocal.from_cell(MinimalUnitCell(), input_size, hidden_size, output_size)" in text
    assert "timelocal.testing.check_cell" in text
    assert "timelocal.BlackBox" in text
    start = text.index("class MinimalUnitCell")
    names: dict[str, type[tl.AutogradCell]] = {}
    lines = text[start : text.index("network = ")].replace("\n    ", "\n")
    exec(f"import timelocal\n{lines}", names)  # what it says is Python, and a whole cell
    assert issubclass(names["MinimalUnitCell"], tl.AutogradCell)
    assert not names["MinimalUnitCell"].__abstractmethods__


@pytest.mark.parametrize("cell", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_a_single_step_of_torch_is_told_the_layer(cell: type[nn.RNNCellBase]) -> None:
    name = cell.__name__
    with pytest.raises(
        tl.ArgumentError, match=rf"got a {name}.*torch.nn.{name[:-4]} with one layer"
    ):
        tl.from_torch(cell(3, 6), nn.Linear(6, 2))  # type: ignore[arg-type]


def test_a_subclass_of_a_torch_module_is_not_taken_for_it() -> None:
    class Mine(nn.GRU): ...

    with pytest.raises(tl.ArgumentError, match="class MineCell"):
        tl.from_torch(Mine(3, 6), nn.Linear(6, 2))


def test_to_torch_refuses_cells_that_torch_has_not() -> None:
    with pytest.raises(tl.UnsupportedError, match=r"which torch\.nn does not have"):
        tl.to_torch(tl.from_cell(Cell(), *SIZES))


# --- native kernels ----------------------------------------------------------------------------


def test_kernels_serve_built_in_cells_by_their_exact_type() -> None:
    from timelocal.kernels import native

    class Mine(CELLS["gru"]): ...  # type: ignore[misc]

    others = BlackBox | ElementwiseCell | LIFCell
    built_in = {n for n, c in CELLS.items() if not issubclass(c, others)}
    assert built_in == {cell.name for cell in native._CODES}
    assert not native.handles(Mine(), torch.zeros(1))
    one, other = tl.from_cell(Mine(), *SIZES), tl.GRU(*SIZES)
    inputs = torch.randn(4, 5, 3)
    torch.testing.assert_close(one(inputs), other(inputs))


# --- one registry ------------------------------------------------------------------------------

_LINE = """
import timelocal as tl
from timelocal.cells import CELLS

class Least(tl.AutogradCell):
    name, gate_names, label = "least", ("a",), "Least"
    def parameter_shapes(self, i, h):
        return {"v": (h, i), "u": (h,)}
    def nodes(self, weights, inputs, states):
        return inputs @ weights.v.t() + weights.u * states[0]
    def update(self, nodes, states):
        return (nodes.tanh(),)

CELLS[Least.name] = Least

import sys
from timelocal.cli import main
from timelocal.report.style import cell_label
from timelocal.testing import CELLS as CASES, Case, check_case, ContractReport

assert cell_label("least") == "Least"
assert "least" in CASES and "least" in str(Case("least").network().cell.name)
sys.argv = ["timelocal", *sys.argv[1:]]
main()
"""


@pytest.mark.slow
def test_a_line_in_the_registry_reaches_the_command_line_and_the_cases(tmp_path: Path) -> None:
    arguments = [
        "train", "--dataset", "digits-rows", "--cell", "least", "--rule", "eprop", "--hidden", "8",
        "--epochs", "1", "--out", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", _LINE, *arguments],
        capture_output=True, text=True, timeout=300, env=os.environ, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert next(tmp_path.glob("digits-rows-least-eprop-s0-*/result.json")).exists()


# --- a readout with a hidden layer -------------------------------------------------------------


def test_a_readout_with_a_hidden_layer_learns_as_under_autograd():
    network = tl.from_cell(CELLS["gru"](), *SIZES, readout_hidden=5, seed=1, dtype=torch.float64)
    inputs = torch.randn(4, 7, SIZES[0], generator=generator(0, "x"), dtype=torch.float64)
    targets = torch.randn(4, SIZES[2], generator=generator(0, "y"), dtype=torch.float64)
    found = tl.BPTT(network, loss="mse", at="mean").estimate(inputs, targets).gradients
    gru, readout = tl.to_torch(network)
    (readout(gru(inputs)[0]).mean(1) - targets).square().mean().backward()
    for name, parameter in gru.named_parameters():
        torch.testing.assert_close(found[f"recurrent.{name}"], parameter.grad)
    for name, parameter in readout.named_parameters():
        torch.testing.assert_close(found[f"readout.{name}"], parameter.grad)


def test_a_hidden_layer_of_the_readout_reads_the_features_and_is_drawn_from_the_seed():
    one, same, other = (
        tl.from_cell(CELLS["lru"](), *SIZES, readout_hidden=50, seed=seed).readout
        for seed in (1, 1, 2)
    )
    first, _, last = one
    assert (first.in_features, first.out_features) == (2 * SIZES[1], 50)
    assert (last.in_features, last.out_features) == (50, SIZES[2])
    for layer in (first, last):
        largest = layer.weight.abs().max() * math.sqrt(layer.in_features)
        assert 0.9 < largest <= 1
    assert torch.equal(first.weight, same[0].weight)
    assert not torch.equal(first.weight, other[0].weight)


@pytest.mark.parametrize("size", [0, -1, 2.5, "5"])
def test_sizes_of_a_readout_that_are_none_are_told(size):
    with pytest.raises(tl.ArgumentError, match="readout_hidden"):
        tl.from_cell(CELLS["gru"](), *SIZES, readout_hidden=size)
