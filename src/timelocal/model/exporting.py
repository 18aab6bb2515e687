"""Export to plain torch: the weights, and a Python file that reads them."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save
from torch import nn

from timelocal.errors import UnsupportedError
from timelocal.files import make_folder, read_bytes, write_bytes, write_text
from timelocal.model import plain
from timelocal.model.model import Model
from timelocal.network import as_mlp, is_linear

_LOAD = '''

def load() -> Plain:
    """The model, with the weights beside this file.

    classes: {classes}
    features: {features}
    outputs: {outputs}
    """
    from pathlib import Path

    from safetensors.torch import load_file

    recurrent = nn.{kind}(
        {input_size}, {hidden_size}, num_layers={num_layers}, bias={bias}, batch_first={batch_first},
        bidirectional={bidirectional},
    )
    readout = {readout}
    scales = {{name: (torch.zeros(size), torch.ones(size)) for name, size in {scales}.items()}}
    model = Plain(
        recurrent, readout, at={at!r}, activation={activation!r},
        inputs_scale=scales.get("inputs"), outputs_scale=scales.get("outputs"),
    ).to({dtype})
    model.load_state_dict(load_file(Path(__file__).with_name("{weights}")))
    return model.eval()
'''


def layers_of(readout: nn.Module) -> tuple[nn.Linear, ...]:
    """The linear layers of a readout, with a ReLU between two.

    Raises:
        UnsupportedError: for any other readout.
    """
    if is_linear(readout):
        assert isinstance(readout, nn.Linear)
        return (readout,)
    layers = as_mlp(readout)
    if layers is None:
        got = f"a readout {type(readout).__name__} of your own"
        raise UnsupportedError(
            f"export: got {got}, expected one that is linear or has a ReLU layer"
        )
    return layers


def write_torch(model: Model, folder: Path) -> None:
    """Write `model.py` and `weights.safetensors`, which need only torch and safetensors, into a folder.

    `import model; model.load()` then returns what `Model.to_torch` returns.

    Raises:
        UnsupportedError: for cells that torch.nn does not have, and readouts of your own.
    """
    made = model.to_torch()
    assert isinstance(made, plain.Plain)
    layers = layers_of(made.readout)
    readout = ", nn.ReLU(), ".join(
        f"nn.Linear({one.in_features}, {one.out_features}, bias={one.bias is not None})"
        for one in layers
    )
    recurrent = made.recurrent
    sizes = {
        name: len(mean)
        for name, mean in (("inputs", made.inputs_mean), ("outputs", made.outputs_mean))
        if mean is not None
    }
    text = _LOAD.format(
        classes=model.classes,
        features=model.features,
        outputs=model.outputs,
        kind=type(recurrent).__name__,
        input_size=recurrent.input_size,
        hidden_size=recurrent.hidden_size,
        num_layers=recurrent.num_layers,
        bias=recurrent.bias,
        batch_first=recurrent.batch_first,
        bidirectional=recurrent.bidirectional,
        readout=readout if len(layers) == 1 else f"nn.Sequential({readout})",
        scales=sizes,
        at=made.at,
        activation=made.activation,
        dtype=model.network.recurrent.like.dtype,
        weights="weights.safetensors",
    )
    make_folder(folder)
    tensors = {name: one.detach().cpu().contiguous() for name, one in made.state_dict().items()}
    write_bytes(folder / "weights.safetensors", save(tensors))
    write_text(folder / "model.py", read_bytes(Path(plain.__file__)).decode() + text)
