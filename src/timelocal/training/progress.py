"""The progress bar: loss, accuracy, speed, remaining time. It is drawn on the error stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from timelocal.optional import require


class Show(Protocol):
    """Called after each step with the running loss and, in classification, accuracy."""

    def __call__(self, epoch: int, loss: float, accuracy: float | None) -> None: ...


@contextmanager
def progress_bar(epochs: int, done: int, steps_per_epoch: int) -> Iterator[Show]:
    """A bar over all steps of a run, of which `done` epochs are already finished."""
    require("rich", extra="cli", for_="fit(progress=True)")
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
        BarColumn(),
        TextColumn("{task.fields[values]}"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(
            "",
            total=epochs * steps_per_epoch,
            completed=done * steps_per_epoch,
            epoch=done,
            epochs=epochs,
            values="",
            speed="",
        )

        def show(epoch: int, loss: float, accuracy: float | None) -> None:
            values = f"loss {loss:.4f}" + ("" if accuracy is None else f"  accuracy {accuracy:.3f}")
            speed = bar.tasks[0].speed
            bar.update(
                task,
                advance=1,
                epoch=epoch,
                values=values,
                speed=f"{speed:.0f} steps/s" if speed else "",
            )

        yield show


@contextmanager
def no_bar() -> Iterator[Show]:
    """The bar of a quiet run."""
    yield lambda epoch, loss, accuracy: None
