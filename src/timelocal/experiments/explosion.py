"""Runs that leave all reason without leaving the numbers: finite, and yet diverged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

EXPLODED = 1000.0
"""The factor by which a training loss must end above its start, or above the floor, to count as exploded."""


def explosion(
    epochs: Sequence[Mapping[str, float]], loss: str, trivial: Mapping[str, float]
) -> str | None:
    """The problem with the training losses of a run, None if they stayed within bounds.

    loss: the name of the loss; of "mse" the worst trivial predictor is a measure besides, for a first epoch
    has room to explode in.

    >>> explosion([{"train_loss": 0.1}, {"train_loss": 2e12}], "mse", {"persistence": 0.2})
    'the training loss ended at 2e+12, 2e+13 times the bound it should stay below'
    >>> explosion([{"train_loss": 0.1}, {"train_loss": 0.3}], "mse", {"persistence": 0.2})
    """
    losses = [epoch["train_loss"] for epoch in epochs if "train_loss" in epoch]
    known = losses[:1] + ([max(trivial.values())] if loss == "mse" and trivial else [])
    above = min((one for one in known if one > 0), default=0.0)
    if not above or not losses[-1:] or not losses[-1] > EXPLODED * above:
        return None
    return (
        f"the training loss ended at {losses[-1]:.1g}, {losses[-1] / above:.1g} times the bound it should "
        "stay below"
    )
