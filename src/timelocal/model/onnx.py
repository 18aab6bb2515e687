"""A model as an ONNX graph: ONNX has the recurrent layers of torch.nn as operators, including lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from timelocal.errors import UnsupportedError
from timelocal.files import write_bytes
from timelocal.model.exporting import layers_of
from timelocal.model.model import Model
from timelocal.optional import require

_OPSET = 17
_ORDER: dict[type[nn.RNNBase], tuple[str, tuple[int, ...]]] = {
    nn.RNN: ("RNN", (0,)),
    nn.GRU: ("GRU", (1, 0, 2)),  # ONNX: z, r, n; torch: r, z, n
    nn.LSTM: ("LSTM", (0, 3, 1, 2)),  # ONNX: i, o, f, g; torch: i, f, g, o
}


def write_onnx(model: Model, file: Path) -> None:
    """Write a graph from `inputs` (b, t, i) and `lengths` (b,) int64 to `outputs`: what `to_torch` gives.

    Outputs at every step are (b, t, o); those after the end of a sequence are meaningless.

    Raises:
        UnsupportedError: for cells that torch.nn does not have, readouts of your own, and dtypes other than
            float32.
        MissingExtraError: the extra `onnx` is not installed.
    """
    require("onnx", extra="onnx", for_="timelocal export --onnx")
    write_bytes(file, _graph(model).SerializeToString())


def _graph(model: Model) -> Any:
    from onnx import TensorProto, checker, helper, numpy_helper

    plain: Any = model.to_torch()
    recurrent: nn.RNNBase = plain.recurrent
    dtype = str(model.network.recurrent.like.dtype)
    if dtype != "torch.float32":
        raise UnsupportedError(f"export to ONNX: got {dtype}, expected torch.float32. Use --torch")
    layers = layers_of(plain.readout)
    refused = {
        "the mean of the outputs of a readout with a hidden layer": plain.at == "mean"
        and len(layers) > 1,
        "the last of the outputs at every step, in both directions": plain.at == "end"
        and recurrent.bidirectional,
    }
    for got, is_so in refused.items():
        if is_so:
            raise UnsupportedError(f"export to ONNX: got {got}, expected --at last. Use --torch")
    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, values: NDArray[Any]) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(kind: str, inputs: list[str], outputs: list[str], **options: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, outputs, **options))
        return outputs[0]

    entering = "inputs"
    if plain.inputs_mean is not None:
        mean = constant("inputs_mean", plain.inputs_mean.numpy())
        centred = node("Sub", [entering, mean], ["centred"])
        deviation = constant("inputs_deviation", plain.inputs_deviation.numpy())
        entering = node("Div", [centred, deviation], ["scaled"])
    entering = node("Transpose", [entering], ["time_first"], perm=[1, 0, 2])
    lengths = node("Cast", ["lengths"], ["steps"], to=TensorProto.INT32)
    kind, order = _ORDER[type(recurrent)]
    directions = 2 if recurrent.bidirectional else 1
    hidden = recurrent.hidden_size
    flat = constant("flat", np.array([0, 0, directions * hidden], np.int64))
    last = ""
    for layer in range(recurrent.num_layers):
        names = [f"l{layer}{suffix}" for suffix in ("", "_reverse")[:directions]]
        weights = [
            constant(f"{what}_{layer}", _gates(recurrent, what, names, order))
            for what in ("weight_ih", "weight_hh")
        ]
        bias = ""
        if recurrent.bias:
            both = [_gates(recurrent, what, names, order) for what in ("bias_ih", "bias_hh")]
            bias = constant(f"bias_{layer}", np.concatenate(both, 1))
        options: dict[str, Any] = {"linear_before_reset": 1} if kind == "GRU" else {}
        if directions == 2:
            options["direction"] = "bidirectional"
        every, last = f"every_{layer}", f"last_{layer}"
        node(
            kind, [entering, *weights, bias, lengths], [every, last], hidden_size=hidden, **options
        )
        turned = node("Transpose", [every], [f"turned_{layer}"], perm=[0, 2, 1, 3])
        entering = node("Reshape", [turned, flat], [f"features_{layer}"])
    if plain.at == "mean":  # behind the end of a sequence ONNX's features are 0
        total = node(
            "ReduceSum", [entering, constant("time", np.array([0]))], ["total"], keepdims=0
        )
        column = node("Unsqueeze", ["lengths", constant("second", np.array([1]))], ["column"])
        entering = node(
            "Div", [total, node("Cast", [column], ["counts"], to=TensorProto.FLOAT)], ["features"]
        )
    elif plain.at != "every":
        turned = node("Transpose", [last], ["last"], perm=[1, 0, 2])
        joined = constant("joined", np.array([0, directions * hidden], np.int64))
        entering = node("Reshape", [turned, joined], ["features"])
    for place, own in enumerate(layers):
        if place:
            entering = node("Relu", [entering], [f"rectified_{place}"])
        matrix = constant(f"readout_weight_{place}", own.weight.detach().numpy().T)
        entering = node("MatMul", [entering, matrix], [f"weighted_{place}"])
        if own.bias is not None:
            bias = constant(f"readout_bias_{place}", own.bias.detach().numpy())
            entering = node("Add", [entering, bias], [f"read_{place}"])
    outputs = entering
    if plain.at == "every":
        outputs = node("Transpose", [outputs], ["batch_first"], perm=[1, 0, 2])
    if plain.activation == "softmax":
        outputs = node("Softmax", [outputs], ["outputs"], axis=-1)
    elif plain.activation == "sigmoid":
        outputs = node("Sigmoid", [outputs], ["outputs"])
    elif plain.outputs_mean is not None:
        scale = constant("outputs_deviation", plain.outputs_deviation.numpy())
        wide = node("Mul", [outputs, scale], ["wide"])
        mean = constant("outputs_mean", plain.outputs_mean.numpy())
        outputs = node("Add", [wide, mean], ["outputs"])
    else:
        outputs = node("Identity", [outputs], ["outputs"])
    width = model.network.output_size
    sizes: list[str | int | None] = ["batch", *(["steps"] if plain.at == "every" else []), width]
    float32, int64 = TensorProto.FLOAT, TensorProto.INT64
    graph = helper.make_graph(
        nodes,
        "timelocal",
        [
            helper.make_tensor_value_info(
                "inputs", float32, ["batch", "steps", recurrent.input_size]
            ),
            helper.make_tensor_value_info("lengths", int64, ["batch"]),
        ],
        [helper.make_tensor_value_info(outputs, float32, sizes)],
        constants,
    )
    made = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=8,
        producer_name="timelocal",
    )
    words = {"classes": model.classes, "features": model.features, "outputs": model.outputs}
    for name, value in words.items():
        if value is not None:
            entry = made.metadata_props.add()
            entry.key, entry.value = name, "\n".join(value)
    checker.check_model(made)
    return made


def _gates(
    recurrent: nn.RNNBase, what: str, names: list[str], order: tuple[int, ...]
) -> NDArray[np.float32]:
    """A parameter of every direction, its gates in the order of ONNX: (directions, gates · h, …)."""
    found = []
    for name in names:
        values: Tensor = getattr(recurrent, f"{what}_{name}").detach()
        gates = values.chunk(len(order))
        found.append(np.concatenate([gates[gate].numpy() for gate in order]))
    return np.stack(found)
