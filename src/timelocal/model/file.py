"""A model in one safetensors file: its tensors, and the rest as JSON in the metadata. Nothing is pickled."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from safetensors.torch import save as bytes_of
from torch import Tensor, nn

from timelocal.cells import Cell
from timelocal.errors import DataError, Problem, TimelocalError, described, raise_problems
from timelocal.files import (
    as_path,
    parse_json,
    read_bytes,
    sha256,
    tensors_sha256,
    to_json,
    write_bytes,
)
from timelocal.losses import Loss
from timelocal.model.model import Model
from timelocal.model.recipe import Parts, made_from, recipe_of
from timelocal.rules import Rule
from timelocal.rules.slopes import Slope
from timelocal.typing import LossFunction

FORMAT = 1
_RECIPE, _RECIPE_SHA256, _TENSORS_SHA256 = "timelocal", "timelocal_sha256", "sha256"
_SCALES = ("inputs_scale", "outputs_scale")
_WORDS = ("classes", "features", "outputs")


def save(model: Model | Rule, path: str | os.PathLike[str]) -> None:
    """Write a model to one safetensors file, completely or not at all.

    It holds the network, the rule with its options and state, names, scales and how data are read. Cells,
    rules and losses from outside this package, and nonlinear readouts, are stored only by name: `load` asks
    for them.

    Args:
        model: a `Model`, or a rule.
        path: the file; its folder must exist.

    Raises:
        ArgumentError: for anything that is not a model, and options that are not numbers or texts.
        RunError: for a file that cannot be written.

    >>> import pathlib, tempfile, timelocal as tl
    >>> file = pathlib.Path(tempfile.mkdtemp(), "model.safetensors")
    >>> tl.save(tl.Model(tl.DFA(tl.GRU(1, 8, output_size=2)), classes=("down", "up")), file)
    >>> tl.load(file).classes
    ('down', 'up')
    """
    made = Model(model) if isinstance(model, Rule) else model
    if not isinstance(made, Model):
        raise_problems([Problem("model", described(model), "a tl.Model, or a rule")])
    recipe: dict[str, Any] = {"format": FORMAT, **recipe_of(made.rule)}
    recipe |= {name: getattr(made, name) for name in _WORDS}
    recipe["reading"] = dict(made.reading)
    recipe["stepwise"] = made.stepwise
    tensors = {name: tensor.detach().cpu() for name, tensor in made.rule.state_dict().items()}
    for name in _SCALES:
        scale = getattr(made, name)
        if scale is not None:
            tensors |= {f"{name}.mean": scale[0].cpu(), f"{name}.deviation": scale[1].cpu()}
    tensors = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    text = to_json(recipe)
    metadata = {
        _RECIPE: text,
        _RECIPE_SHA256: sha256(text.encode()),
        _TENSORS_SHA256: tensors_sha256(tensors),
    }
    write_bytes(as_path(path, "path"), _in_order(bytes_of(tensors, metadata)))


def load(
    path: str | os.PathLike[str],
    *,
    cell: Cell | None = None,
    rule: type[Rule] | None = None,
    readout: nn.Module | None = None,
    loss: Loss | LossFunction | None = None,
    slope: Slope | None = None,
) -> Model:
    """Load a model file written by `save`, on the CPU. Nothing named in the file is imported or run.

    Args:
        path: the file.
        cell, rule, readout, loss, slope: your own objects that the model was made with, if any.

    Raises:
        DataError: for a file that is missing, damaged, or not a model.
        ArgumentError: for a model with your own cell, rule, readout, loss or slope that is not given.

    >>> import pathlib, tempfile, torch, timelocal as tl
    >>> file = pathlib.Path(tempfile.mkdtemp(), "model.safetensors")
    >>> tl.save(tl.DFA(tl.GRU(1, 8, output_size=2), seed=0), file)
    >>> tl.load(file).predict(torch.zeros(3, 5, 1)).shape
    (3,)
    """
    file = as_path(path, "path")
    if not file.is_file():
        raise DataError(f"{file}: got no such file, expected a model written by tl.save")
    data = read_bytes(file)
    recipe, tensors = _checked(file, data)
    parts = Parts(cell, rule, readout, loss, slope)
    try:
        made = made_from(recipe, parts)
        scales = {
            name: (tensors.pop(f"{name}.mean"), tensors.pop(f"{name}.deviation"))
            for name in _SCALES
            if f"{name}.mean" in tensors
        }
        made.load_state_dict(tensors)
        words = {name: recipe[name] for name in _WORDS}
        own = {"reading": recipe["reading"], "stepwise": recipe.get("stepwise")}
        return Model(made, **words, **own, **scales)  # type: ignore[arg-type]
    except TimelocalError:
        raise
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise DataError(f"{file}: the parts of this model do not fit together: {error}") from error


def _in_order(data: bytes) -> bytes:
    """The same safetensors file with its metadata by name: as written, their order changes by chance."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _checked(file: Path, data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The content of the file, if it is unchanged since it was written."""
    try:
        tensors = {name: tensor.clone() for name, tensor in tensors_from(data).items()}
        metadata = _metadata(data)
    except (SafetensorError, LookupError, ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{file}: got an invalid safetensors file ({error}). Save it again"
        ) from None
    if _RECIPE not in metadata:
        raise DataError(f"{file}: got tensors without a model, expected a file written by tl.save")
    text = metadata[_RECIPE]
    if sha256(text.encode()) != metadata.get(_RECIPE_SHA256) or tensors_sha256(
        tensors
    ) != metadata.get(_TENSORS_SHA256):
        raise DataError(
            f"{file}: its sha256 does not match its content. It is damaged: save it again"
        )
    recipe = parse_json(text.encode())
    if recipe.get("format") != FORMAT:
        raise DataError(
            f"{file}: got format {recipe.get('format')!r}, expected {FORMAT}. Update timelocal"
        )
    return recipe, tensors


def _metadata(data: bytes) -> Mapping[str, str]:
    length = int.from_bytes(data[:8], "little")
    found = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    return {str(name): str(value) for name, value in found.items()}
