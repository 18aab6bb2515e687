"""`timelocal export`: a trained model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from timelocal.cli.models import RUN

if TYPE_CHECKING:
    from timelocal.model import Model

_LARGEST = 1e-4


def export(
    run: Annotated[Path, typer.Argument(help=RUN)],
    onnx: Annotated[Path | None, typer.Option(help="Write an ONNX file.")] = None,
    torch: Annotated[
        Path | None, typer.Option(help="Write a folder with a Python file that needs only torch.")
    ] = None,
    cell: Annotated[str | None, typer.Option(help="The cell, if it is your own.")] = None,
    rule: Annotated[str | None, typer.Option(help="The rule, if it is your own.")] = None,
) -> None:
    """Export a model from inputs (batch, steps, features) and lengths (batch,) to probabilities or values.

    Standardisation and softmax are included. The written file is run and compared with the model.
    """
    from timelocal.cli.models import model_at
    from timelocal.cli.terminal import say
    from timelocal.errors import Problem, raise_problems
    from timelocal.model.exporting import write_torch
    from timelocal.model.onnx import write_onnx

    if onnx is None and torch is None:
        raise_problems([Problem("export", "no form", "--onnx FILE, --torch FOLDER, or both")])
    model = model_at(run, cell, rule)
    if torch is not None:
        write_torch(model, torch)
        say(f"{torch / 'model.py'}: {_compared(model, _from_folder(torch))}")
    if onnx is not None:
        write_onnx(model, onnx)
        made = _from_onnx(onnx)
        told = "not run: onnxruntime is not installed" if made is None else _compared(model, made)
        say(f"{onnx}: {told}")


def _compared(model: Model, other: Any) -> str:
    """The largest difference on random series of several lengths; a `RunError` beyond rounding."""
    import numpy as np
    import torch

    from timelocal.errors import RunError
    from timelocal.losses import BCE, CrossEntropy

    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(5, 11, model.network.input_size, generator=draw)
    if model.inputs_scale is not None:
        inputs = model.inputs_scale[0].cpu() + inputs * model.inputs_scale[1].cpu()
    inputs, lengths = inputs.to(model.network.recurrent.like.dtype), torch.tensor([11, 1, 5, 8, 2])
    shares = isinstance(model.loss, CrossEntropy | BCE)
    expected = (model.predict_proba if shares else model.predict)(inputs, lengths)
    found = other(inputs, lengths)
    if expected.ndim == 3:  # at every step: what is behind the end of a series counts nowhere
        valid = np.arange(inputs.shape[1]) < lengths.numpy()[:, None]
        found, expected = found[valid], expected[valid]
    scale = max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(found - expected).max()) / scale
    if not difference < _LARGEST:
        raise RunError(f"the export differs from the model by {difference:.2g}. Do not use it")
    return f"differs from the model by at most {difference:.1g}"


def _from_folder(folder: Path) -> Any:
    import importlib.util

    import torch

    spec = importlib.util.spec_from_file_location("exported_model", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.load()

    def run(inputs: Any, lengths: Any) -> Any:
        with torch.no_grad():
            return made(inputs, lengths).numpy()

    return run


def _from_onnx(file: Path) -> Any:
    from importlib.util import find_spec

    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def run(inputs: Any, lengths: Any) -> Any:
        return session.run(None, {"inputs": inputs.numpy(), "lengths": lengths.numpy()})[0]

    return run
