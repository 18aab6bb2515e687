"""The fields in the files of a run, with the types that readers rely on. Other fields may be present."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from timelocal.training.history import epochs_from

Number = float | None
"""Null stands for a number that was not finite."""

Whole = Annotated[int, Field(ge=0, lt=2**63)]
Series = Annotated[list[list[Number]], Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class Config(_Part):
    dataset: str = ""
    cell: str = ""
    rule: str = ""
    loss: str = ""
    seed: Whole = 0
    hidden: Whole = 0
    batch: Whole = 0
    epochs: Whole = 0
    lr: float = 0.0
    rule_options: dict[str, Any] | None = None


class Environment(_Part):
    command: str | None = None
    recorded_command: str | None = None
    plugins: dict[str, dict[str, Any]] | None = None
    earlier_plugins: list[dict[str, dict[str, Any]]] | None = None


class History(_Part):
    epochs: list[Any] = []

    @model_validator(mode="after")
    def _of_numbers(self) -> History:
        epochs_from({"epochs": self.epochs})
        return self


class Result(_Part):
    last: dict[str, Number] | None = None
    best_validation: dict[str, Number] | None = None
    metrics: dict[str, Number] | None = None
    trivial: dict[str, Number] | None = None
    max_test_accuracy: Number = None
    seconds: Number = None


class Status(_Part):
    status: str
    message: str = ""


class Timing(_Part):
    seconds: list[Number] | None = None
    step_seconds: list[Number] | None = None
    step_seconds_median: Number = None


class Predictions(_Part):
    target: Series
    before: Series
    after: Series

    @model_validator(mode="after")
    def _alike(self) -> Predictions:
        series = (self.target, self.before, self.after)
        if (
            len({(len(one), *{len(row) for row in one}) for one in series}) > 1
            or not self.target[0]
        ):
            raise ValueError("target, before and after of different shapes")
        return self


PARTS: Mapping[str, type[_Part]] = {
    "config": Config,
    "environment": Environment,
    "history": History,
    "result": Result,
    "status": Status,
    "timing": Timing,
    "predictions": Predictions,
}
"""The files of a run folder, without the ending .json."""


def problem(name: str, value: object) -> str | None:
    """What is wrong with a part of a run, in words; None for nothing."""
    try:
        PARTS[name].model_validate(value)
    except ValidationError as error:
        return _told(error.errors()[0])
    return None


def _told(found: Mapping[str, Any]) -> str:
    place: Sequence[object] = found["loc"]
    where = ".".join(map(str, place)) + ": " if place else ""
    return where + str(found["msg"]).removeprefix("Value error, ")
