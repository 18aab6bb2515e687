"""The common part of commands that use a trained model: finding it, and reading more data for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from timelocal.errors import Problem, raise_problems

if TYPE_CHECKING:
    from timelocal.data.own_files import More
    from timelocal.model import Model

RUN = "Run folder, or a model.safetensors."


def model_at(run: Path, cell: str | None = None, rule: str | None = None) -> Model:
    """The model of a run folder or a file. `cell` and `rule` as module:name, if they are the user's own."""
    from timelocal.experiments.run import MODEL
    from timelocal.model import load
    from timelocal.model.build import find_cell, find_rule

    file = run / MODEL if run.is_dir() else run
    if run.is_dir() and not file.exists():
        inside = sorted(one.parent.name for one in run.glob(f"*/{MODEL}"))
        remedy = f"Give one of its runs: {', '.join(inside[:5])}" if inside else "Train first."
        raise_problems([Problem("run", str(run), f"a folder with {MODEL}", remedy)])
    return load(
        file,
        cell=None if cell is None else find_cell(cell)(),
        rule=None if rule is None else find_rule(rule),
    )


def more_for(model: Model, path: str, *, labelled: bool) -> More:
    """A file, read like the training data of the model."""
    from timelocal.data.own_files import read_more
    from timelocal.files import as_path

    width = model.network.input_size
    features = model.features
    if features is None:
        features = ("value",) if width == 1 else tuple(f"channel {n + 1}" for n in range(width))
    classes = None if model.classes is None else tuple(model.classes)
    return read_more(
        as_path(path),
        model.reading,
        tuple(features),
        classes,
        labelled=labelled,
        stepwise=bool(model.stepwise),
    )
