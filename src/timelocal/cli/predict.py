"""`timelocal predict`: the predictions of a trained model for new data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from timelocal.cli.models import RUN


def predict(
    run: Annotated[Path, typer.Argument(help=RUN)],
    data: Annotated[
        str, typer.Argument(help="File or folder, in the format of the training data.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A .csv file to write; by default, print to the screen."),
    ] = None,
    cell: Annotated[str | None, typer.Option(help="The cell, if it is your own.")] = None,
    rule: Annotated[str | None, typer.Option(help="The rule, if it is your own.")] = None,
) -> None:
    """Predict: one row per series with its class and probabilities, or its values; or one row per step.

    Labels are not needed. For forecasts, these are the values that follow the last step of a series.
    """
    import csv
    import io

    import numpy as np

    from timelocal.cli.models import model_at, more_for
    from timelocal.cli.terminal import say
    from timelocal.files import write_text
    from timelocal.losses import Gaussian, Quantile

    model = model_at(run, cell, rule)
    more = more_for(model, data, labelled=False)
    predictions = model.predict(more.inputs, more.lengths)
    columns: list[tuple[str, str, Any]]
    if model.classes is not None:
        shares = model.predict_proba(more.inputs, more.lengths)
        columns = [("class", "", predictions)]
        columns += [
            (f"p({name})", ".6g", shares[..., place]) for place, name in enumerate(model.classes)
        ]
    else:
        outputs = model.outputs or tuple(f"output {n + 1}" for n in range(predictions.shape[-1]))
        if isinstance(model.loss, Quantile | Gaussian):
            levels = model.loss.levels if isinstance(model.loss, Quantile) else (0.1, 0.9)
            quantiles = model.predict_quantiles(more.inputs, more.lengths, levels)
            flat = quantiles.reshape(*quantiles.shape[:-2], -1)
            predictions = np.concatenate([predictions, flat], -1)
            of_levels = tuple(f"{name} q{level:g}" for name in outputs for level in levels)
            outputs = (*outputs, *of_levels)
        columns = [(name, ".9g", predictions[..., place]) for place, name in enumerate(outputs)]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    stepwise = columns[0][2].ndim == 2
    rows.writerow(["series", *(["step"] if stepwise else []), *(name for name, *_ in columns)])
    for place, name in enumerate(more.names):
        own = [(form, values[place]) for _, form, values in columns]
        if not stepwise:
            rows.writerow([name, *(format(value, form) for form, value in own)])
            continue
        for step in range(int(more.steps[place]) + 1):
            rows.writerow([name, step, *(format(values[step], form) for form, values in own)])
    if out is None:
        say(text.getvalue(), nl=False)
    else:
        write_text(out, text.getvalue())
        say(f"{len(more.names):,} series in {out}", err=True)
