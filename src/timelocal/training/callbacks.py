"""Callbacks that observe a run and may stop it: functions of an epoch's number and its record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from timelocal.files import as_path
from timelocal.optional import require

Callback: TypeAlias = Callable[[int, Mapping[str, float]], object]
"""(epoch, its `Record`) -> True to stop after this epoch, anything else to continue.

A callback with `state_dict()` and `load_state_dict(state)` is saved and restored with the run."""


def wants_to_stop(callback: Callback, epoch: int, metrics: Mapping[str, float]) -> bool:
    """Call it; whether it said True."""
    said = callback(epoch, dict(metrics))
    return isinstance(said, bool | np.bool_) and bool(said)


def name_of(callback: object) -> str:
    """A callback's name in a message."""
    return getattr(callback, "__qualname__", type(callback).__qualname__)


class TensorBoard:
    """A callback that writes every recorded number to a TensorBoard folder, one curve per name.

    Args:
        folder: where its event files go; a resumed run continues its curves there.

    Raises:
        MissingExtraError: the extra `tensorboard` is not installed.
        ArgumentError: if it is not a path.

    Use it as `fit(..., callbacks=[TensorBoard("runs/1")])` and view with `tensorboard --logdir runs`.
    """

    def __init__(self, folder: str | Path) -> None:
        require("tensorboard", extra="tensorboard", for_="TensorBoard")
        self.folder = as_path(folder)
        self._writer: Any = None

    def __call__(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write one epoch, to the disk at once."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # points of an earlier run from here on are not shown: it was cut off before it could save them
            self._writer = SummaryWriter(str(self.folder), purge_step=epoch)
        for name, value in metrics.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file; a later epoch opens a new one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
