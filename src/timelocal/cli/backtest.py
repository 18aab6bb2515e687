"""`timelocal backtest`: how good forecasts would have been, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from timelocal.cli.options import OWN, Features, Horizon, Missing, Series, Time, Window

if TYPE_CHECKING:
    from timelocal.experiments.backtest import Scores


def backtest(
    file: Annotated[str, typer.Argument(help="A file with one or more long series.")],
    target: Annotated[str, typer.Option(help="The column to forecast.")],
    series: Series = None,
    time: Time = None,
    features: Features = None,
    horizon: Horizon = 1,
    window: Window = None,
    missing: Missing = "refuse",
    blocks: Annotated[int, typer.Option(help="Number of blocks, of equal duration.")] = 5,
    season: Annotated[
        int | None,
        typer.Option(help="Length of a season in steps, for the seasonal naive forecast."),
    ] = None,
    cell: Annotated[str, typer.Option(help=f"Recurrent cell: {OWN}.")] = "gru",
    rule: Annotated[str, typer.Option(help=f"Learning rule: {OWN}.")] = "dfa",
    hidden: Annotated[int, typer.Option(help="Units per layer.")] = 128,
    optimizer: Annotated[str, typer.Option(help="See `timelocal list`.")] = "adam",
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 1e-3,
    batch: Annotated[int, typer.Option(help="Windows per update.")] = 32,
    epochs: Annotated[int, typer.Option(help="Passes over the windows before a block.")] = 20,
    patience: Annotated[
        int | None,
        typer.Option(help="Stop after this many epochs without a lower validation loss."),
    ] = None,
    loss: Annotated[str, typer.Option(help="mse, quantile or gaussian.")] = "mse",
    seed: Annotated[int, typer.Option(help="Seed of the weights, feedback, noise and order.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Forecast the second half of a series in blocks, each by a model trained on everything before it.

    Compared with the model are the mean, the last value, a ridge regression on the window, the value one
    season earlier, and exponential smoothing if statsforecast is installed.
    """
    from dataclasses import asdict

    from timelocal.cli.options import reading_options
    from timelocal.cli.terminal import say, show
    from timelocal.experiments.backtest import backtest as do_backtest
    from timelocal.experiments.config import TrainConfig, default_task
    from timelocal.files import to_json

    reading = reading_options(series, time, None, features, target, horizon, window, missing, None)
    config = TrainConfig(
        dataset=file,
        reading=reading,
        **default_task(file, reading) | {"loss": loss},
        cell=cell,
        rule=rule,
        hidden=hidden,
        optimizer=optimizer,
        lr=lr,
        batch=batch,
        epochs=epochs,
        patience=patience,
        seed=seed,
        standardize=True,
    )
    found, whole = do_backtest(config, blocks, season)
    if as_json:
        say(to_json({"blocks": [asdict(block) for block in found], "whole": whole}, indent=1))
        return
    for number, block in enumerate(found, 1):
        title = (
            f"block {number} of {len(found)}: trained on {block.trained:,} windows, "
            f"tested on {block.tested:,}, best epoch {block.epochs}"
        )
        _show(block.scores, title)
    show("")
    _show(whole, "all blocks")


def _show(scores: Scores, title: str) -> None:
    from timelocal.cli.terminal import show
    from timelocal.cli.terminal import table as listing

    columns = list(scores["model"])
    made = listing("forecast", *(name.replace("_", " ") for name in columns), title=title)
    for name, own in scores.items():
        told = (own.get(column) for column in columns)
        made.add_row(name, *("–" if one is None else f"{one:.4g}" for one in told))
    show(made)
