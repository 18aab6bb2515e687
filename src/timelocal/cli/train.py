"""`timelocal train`: one configuration, one run folder per seed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from timelocal.cli.options import (
    OWN,
    DataDir,
    Features,
    Horizon,
    Label,
    Missing,
    Out,
    Series,
    Target,
    Task,
    Time,
    Window,
    reading_options,
)


def train(
    dataset: Annotated[str, typer.Option(help=f"Data set: {OWN}; or a file.")] = "digits-rows",
    cell: Annotated[str, typer.Option(help=f"Recurrent cell: {OWN}.")] = "gru",
    rule: Annotated[str, typer.Option(help=f"Learning rule: {OWN}.")] = "dfa",
    at: Annotated[
        str | None,
        typer.Option(
            help="Where the loss is taken: last, every, ramp or mean; by default, what suits the data."
        ),
    ] = None,
    cell_option: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=VALUE, an argument of the cell, such as r_min=0.9; can be repeated."
        ),
    ] = None,
    hidden: Annotated[int, typer.Option(help="Units per layer.")] = 128,
    readout_hidden: Annotated[
        int | None,
        typer.Option(help="Units in a hidden layer of the readout; by default it is linear."),
    ] = None,
    layers: Annotated[int, typer.Option(help="Recurrent layers.")] = 1,
    layer_norm: Annotated[
        bool, typer.Option("--layer-norm", help="Normalise the input of each layer but the first.")
    ] = False,
    skip: Annotated[
        bool, typer.Option("--skip", help="Add a skip connection around each layer but the first.")
    ] = False,
    optimizer: Annotated[str, typer.Option(help="See `timelocal list`.")] = "adam",
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 1e-3,
    recurrent_lr: Annotated[
        float | None, typer.Option(help="Learning rate of the recurrence, if it has its own.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Sequences per update.")] = 32,
    epochs: Annotated[int, typer.Option(help="Passes over the training part.")] = 20,
    seeds: Annotated[str, typer.Option(help="How many (5), or which (0,3,7).")] = "1",
    workers: Annotated[
        int, typer.Option(min=1, help="Runs at a time, each in its own process.")
    ] = 1,
    threads: Annotated[int, typer.Option(help="Number of torch threads.")] = 1,
    feedback: Annotated[
        str | None, typer.Option(help="Kind of feedback matrix, for rules that have one.")
    ] = None,
    feedback_per: Annotated[
        str | None, typer.Option(help="What has its own feedback matrix.")
    ] = None,
    normalize: Annotated[
        str | None, typer.Option(help="Normalisation of the update, such as frobenius.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=VALUE, any other argument of the rule, such as sigma=0.01; can be repeated."
        ),
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Update at every step of the sequences.")
    ] = False,
    tau: Annotated[
        float | None, typer.Option(help="Time constant of a leaky RNN, in steps.")
    ] = None,
    clip: Annotated[float | None, typer.Option(help="Largest norm of the gradient.")] = None,
    stratified: Annotated[
        bool, typer.Option("--stratified", help="Same share of classes in all three parts.")
    ] = False,
    standardize: Annotated[
        bool | None,
        typer.Option(
            help="Zero mean, unit variance on the training part; by default for own files.",
            show_default=False,
        ),
    ] = None,
    decorrelate: Annotated[
        float | None, typer.Option(help="Decorrelate the hidden units, with this learning rate.")
    ] = None,
    decorrelate_norm: Annotated[
        str | None, typer.Option(help="preserve: keep the norms of the rows of D.")
    ] = None,
    alignment: Annotated[
        bool, typer.Option("--alignment", help="Compare with BPTT's gradient after every epoch.")
    ] = False,
    frozen: Annotated[
        bool,
        typer.Option(
            "--frozen",
            help="Train only the readout, on a randomly initialised and frozen recurrence.",
        ),
    ] = False,
    loss: Annotated[
        str | None,
        typer.Option(help="Own file of values: mse, quantile or gaussian.", show_default="mse"),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="Stop after this many epochs without a lower validation loss."),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Learning rate over the epochs: cosine, plateau or step.")
    ] = None,
    class_weight: Annotated[
        str | None, typer.Option(help="balanced: all classes get the same total weight.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="Measured in addition: balanced_accuracy, macro_f1; mae, rmse, r2."),
    ] = None,
    device: Annotated[str, typer.Option(help="A torch device, such as cuda.")] = "cpu",
    test: Annotated[
        str | None, typer.Option(help="Own file: a second file, used as the test part.")
    ] = None,
    series: Series = None,
    time: Time = None,
    label: Label = None,
    features: Features = None,
    target: Target = None,
    horizon: Horizon = 1,
    window: Window = None,
    missing: Missing = "refuse",
    task: Task = None,
    data_dir: DataDir = None,
    out: Out = Path("runs"),
) -> None:
    """Train one network per seed. A finished run is not repeated; a stopped one is resumed.

    The data set can be your own file or folder; `timelocal data show FILE` shows how it is read.
    """
    from timelocal.cli.rule_options import decorrelated, rule_options
    from timelocal.cli.seeds import parse_seeds
    from timelocal.cli.summary import do_runs, print_summary
    from timelocal.data.reading import is_file
    from timelocal.errors import TimelocalError
    from timelocal.experiments.config import TrainConfig, default_task
    from timelocal.model.build import cell_defaults, rule_defaults

    rule, decorrelate = decorrelated(rule, decorrelate)
    defaults: dict[str, object] = {}
    with suppress(TimelocalError):  # for an unknown rule the configuration raises the error
        defaults = rule_defaults(rule)
    options = rule_options(
        option or [], defaults, feedback=feedback, feedback_per=feedback_per, normalize=normalize
    )
    own: dict[str, object] = {}
    with suppress(TimelocalError):  # a cell that is none, likewise
        own = cell_defaults(cell)
    of_cell = rule_options(cell_option or [], own)
    reading = reading_options(series, time, label, features, target, horizon, window, missing, task)
    if standardize is None:
        standardize = is_file(dataset)
    given = {name: one for name, one in (("at", at), ("loss", loss)) if one is not None}
    configs = [
        TrainConfig(
            dataset=dataset,
            reading=reading,
            **default_task(dataset, reading) | given,
            cell=cell,
            cell_options=of_cell,
            rule=rule,
            rule_options=options,
            hidden=hidden,
            readout_hidden=readout_hidden,
            layers=layers,
            layer_norm=layer_norm,
            skip=skip,
            optimizer=optimizer,
            lr=lr,
            batch=batch,
            epochs=epochs,
            clip=clip,
            recurrent_lr=recurrent_lr,
            seed=seed,
            threads=threads,
            stratified=stratified,
            standardize=standardize,
            decorrelate=decorrelate,
            decorrelate_norm=decorrelate_norm,
            online=online,
            tau=tau,
            alignment=alignment,
            frozen=frozen,
            test=test,
            patience=patience,
            class_weight=class_weight,
            metric=metric,
            scheduler=scheduler,
            device=device,
        )
        for seed in parse_seeds(seeds)
    ]
    print_summary(do_runs(configs, out, data_dir, workers))
