"""The configuration of one training run: checked as a whole, frozen, named by its hash."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from textwrap import indent
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails

from timelocal import data
from timelocal.arguments import placement_problems
from timelocal.cells import CELLS
from timelocal.data.reading import is_file, reading_of
from timelocal.errors import ArgumentError, Problem, TimelocalError, described, unknown_name
from timelocal.experiments.predictions import CLASS_METRICS, VALUE_METRICS
from timelocal.losses import LOSSES
from timelocal.model.build import (
    OPTIMIZERS,
    SCHEDULERS,
    cell_defaults,
    find_cell,
    find_rule,
    make_network,
    make_rule,
    rule_defaults,
)
from timelocal.network import Network
from timelocal.plugins import running
from timelocal.rules import RULES
from timelocal.rules.batch import STEPWISE
from timelocal.training.stream_checks import check_stream
from timelocal.typing import Place

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Option = None | bool | int | float | str | list[str]

DEFAULTS_VERSION = 2
"""Counts the changes of defaults, of fields and of rule options alike. It is part of every run's identity: a
default that is left out means something else after it has changed."""

_COMMON = {"loss", "at", "seed"}
"""Arguments of a rule that are fields of the configuration, not rule options."""


def default_task(dataset: str, reading: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The loss of a named data set, or a file, and the place of it, as arguments of `TrainConfig`.

    >>> default_task("ecg200"), default_task("copying")
    ({'loss': 'cross_entropy', 'at': 'last'}, {'loss': 'mse', 'at': 'every'})
    """
    with suppress(TimelocalError):  # a name that is wrong: the configuration tells
        card = data.card(dataset, reading)
        loss = "mse" if card.classes is None else "cross_entropy"
        return {"loss": loss, "at": "every" if card.stepwise else "last"}
    return {"loss": "cross_entropy", "at": "last"}


class TrainConfig(BaseModel):
    """All that decides the result of one run (one seed).

    `dataset`, `cell` and `rule` are names: built in, of an installed package, or `module:name`
    (`timelocal.plugins`); names they stay, in records and on the way to other processes.
    `rule_options` are the further arguments of the rule's constructor (`feedback`, `normalize`, …),
    completed by their defaults; `cell_options` those of the cell's that are not at their defaults (`r_min`,
    `update`, …). `frozen` lets the readout alone learn; `recurrent_lr` is a learning rate of the
    recurrence's own, `lr` then that of the readout. `decorrelate` is the learning rate of the matrices D,
    None for a network without them, and `decorrelate_norm` their `Decorrelation.norm`. `online` updates at
    every step. `readout_hidden` gives the readout a hidden layer of so many units, `layer_norm` and `skip`
    are of the path between the layers, and `tau` makes the tanh RNN a leaky one. `alignment` compares the
    rule's gradient with BPTT's after every epoch.
    `dataset` may be a file of one's own: then `reading` are the arguments of `timelocal.data.read`, and
    `test` a file whose sequences make up the test part. `patience` epochs without a lower validation loss
    end the run with the weights of the best epoch. `metric` is measured besides, in the units of the data.
    Raises `ArgumentError` that lists every problem at once.

    >>> config = TrainConfig(dataset="digits-rows", cell="gru", rule="dfa", epochs=3)
    >>> config.lr
    0.001
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)

    reading: dict[str, Option] = Field(default_factory=dict)
    dataset: str = "digits-rows"
    cell: str = "gru"
    cell_options: dict[str, Option] = Field(default_factory=dict, validate_default=True)
    hidden: Annotated[int, Field(ge=1, le=10**6)] = 128
    layers: Annotated[int, Field(ge=1, le=1000)] = 1
    readout_hidden: Annotated[int, Field(ge=1, le=10**6)] | None = None
    layer_norm: bool = False
    skip: bool = False
    rule: str = "dfa"
    loss: str = "cross_entropy"
    at: str = "last"
    rule_options: dict[str, Option] = Field(default_factory=dict, validate_default=True)
    optimizer: str = "adam"
    lr: Positive = 1e-3
    recurrent_lr: Positive | None = None
    batch: Count = 32
    epochs: Count = 20
    clip: Positive | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    stratified: bool = False
    standardize: bool = False
    decorrelate: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    decorrelate_norm: Literal["preserve"] | None = None
    online: bool = False
    tau: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    alignment: bool = False
    frozen: bool = False
    test: str | None = None
    patience: Count | None = None
    class_weight: Literal["balanced"] | None = None
    metric: str | None = None
    scheduler: str | None = None
    device: str = "cpu"

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            found = dict.fromkeys(text for item in error.errors() for text in _texts(item))
        else:
            return
        raise ArgumentError(_listed(list(found)))

    @field_validator("dataset", "cell", "rule", "loss", "at", "optimizer")
    @classmethod
    def _known(cls, value: str, info: ValidationInfo) -> str:
        name = str(info.field_name)
        find: dict[str, Callable[[str], object]] = {
            "dataset": lambda name: data.card(name, info.data.get("reading")),
            "cell": find_cell,
            "rule": find_rule,
        }
        if name == "dataset" and "reading" not in info.data:
            return value  # what is wrong with the reading is reported already
        if name in find:
            try:
                find[name](value)
            except TimelocalError as error:
                raise _RefusedError([error]) from error
            return value
        known: dict[str, Iterable[str]] = {
            "loss": LOSSES,
            "at": get_args(Place),
            "optimizer": OPTIMIZERS,
        }
        problem = unknown_name(name, value, known[name])
        if problem is not None:
            raise _RefusedError([problem])
        return value

    @field_validator("loss", "at")
    @classmethod
    def _fits_the_data(cls, value: str, info: ValidationInfo) -> str:
        """Classes have a label of the sequence, the other data sets a value at every step."""
        if "dataset" not in info.data:
            return value  # reported already
        dataset, name = info.data["dataset"], str(info.field_name)
        task = default_task(dataset, info.data.get("reading"))
        expected = [task[name]]
        if name == "loss" and task["loss"] == "mse" and is_file(dataset):
            expected += ["quantile", "gaussian"]
        if name == "loss" and data.card(dataset, info.data.get("reading")).one_hot:
            expected.append("bce")
        if name == "at":  # one label may be asked anywhere, values at every step only there
            expected = list(get_args(Place) if task["at"] == "last" else STEPWISE)
        if value not in expected:
            told = " or ".join(map(repr, expected))
            problem = Problem(name, repr(value), f"{told} for the data set {dataset!r}")
            raise _RefusedError([problem])
        return value

    @field_validator("reading")
    @classmethod
    def _reads(cls, reading: dict[str, Option]) -> dict[str, Option]:
        try:
            reading_of(reading)
        except TimelocalError as error:
            raise _RefusedError([error]) from error
        return reading

    @field_validator("test")
    @classmethod
    def _more_of_a_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        dataset = info.data.get("dataset")
        if value is not None and dataset is not None and not is_file(dataset):
            problem = Problem(
                "test", repr(value), f"None for {dataset!r}, which comes with a test part"
            )
            raise _RefusedError([problem])
        return value

    @field_validator("class_weight", "metric")
    @classmethod
    def _fits_the_targets(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Weights of classes, and measures of classes or of values, where there are some."""
        if value is None or "dataset" not in info.data:
            return value
        dataset, name = info.data["dataset"], str(info.field_name)
        classifies = data.card(dataset, info.data.get("reading")).classes is not None
        if name == "class_weight":
            known: Iterable[str] = ("balanced",) if classifies else ()
        else:
            known = CLASS_METRICS if classifies else VALUE_METRICS
        problem = unknown_name(name, value, known)
        if problem is not None:
            kind = "classes" if classifies else "values"
            raise _RefusedError([replace(problem, expected=f"{problem.expected}, of {kind}")])
        return value

    @field_validator("scheduler")
    @classmethod
    def _schedule(cls, value: str | None) -> str | None:
        problem = None if value is None else unknown_name("scheduler", value, SCHEDULERS)
        if problem is not None:
            raise _RefusedError([problem])
        return value

    @field_validator("device")
    @classmethod
    def _a_device(cls, value: str) -> str:
        problems = placement_problems(value, None)
        if problems:
            raise _RefusedError(problems)
        return value

    @field_validator("cell_options")
    @classmethod
    def _of_the_cell(cls, options: dict[str, Option], info: ValidationInfo) -> dict[str, Option]:
        """Let the cell itself judge its options; only those that are not at their defaults stay."""
        if "cell" not in info.data or not options:
            return options
        cell = info.data["cell"]
        defaults = {k: v for k, v in cell_defaults(cell).items() if (cell, k) != ("rnn", "tau")}
        own = _known_options(f"cell {cell!r}", options, defaults)
        try:
            with running("cell", cell, CELLS):
                find_cell(cell)(**own)
        except TimelocalError as error:
            raise _RefusedError([error]) from error
        return _differing(own, defaults)

    @field_validator("layer_norm", "skip")
    @classmethod
    def _between_layers(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("layers") == 1:
            remedy = "It acts between layers: use more layers, or leave it out."
            raise _RefusedError(
                [Problem(str(info.field_name), True, "False for one layer", remedy)]
            )
        return value

    @field_validator("decorrelate")
    @classmethod
    def _without_skip(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("skip"):
            expected = "None with skip: a sum of decorrelated layers is not decorrelated"
            raise _RefusedError([Problem("decorrelate", value, expected)])
        return value

    @field_validator("decorrelate_norm")
    @classmethod
    def _norm_of_something(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("decorrelate", 0.0) is None:
            remedy = "Also give decorrelate, the learning rate of D."
            raise _RefusedError([Problem("decorrelate_norm", repr(value), "None", remedy)])
        return value

    @field_validator("tau")
    @classmethod
    def _leaky(cls, value: float | None, info: ValidationInfo) -> float | None:
        cell = info.data.get("cell", "rnn")
        if value is not None and cell != "rnn":
            problem = Problem(
                "tau", value, f"None for cell {cell!r}", "Only the RNN is leaky: leave it out."
            )
            raise _RefusedError([problem])
        return value

    @field_validator("online")
    @classmethod
    def _streams(cls, value: bool, info: ValidationInfo) -> bool:
        """Let the rule itself say whether it learns online, on a network of few units."""
        needed = {"dataset", "cell", "layers", "rule", "loss", "at", "rule_options"}
        if not value or not needed <= info.data.keys():
            return value
        problems: list[TimelocalError] = []
        if info.data["at"] != "every":
            stepwise = [one for one in data.names() if default_task(one)["at"] == "every"]
            problem = Problem(
                "online",
                f"True for the data set {info.data['dataset']!r}",
                "False: it has one label per sequence, and an update at every step needs a target at "
                "every step",
                "Leave it out, ask for the label at every step by at='every', or choose a data set with "
                f"values at every step, such as {stepwise[0]!r}.",
            )
            raise _RefusedError([problem])
        try:
            _judge(info.data, info.data["rule_options"], online=True)
        except TimelocalError as error:
            problems.append(error)
        if problems:
            raise _RefusedError(problems)
        return value

    @field_validator("rule_options")
    @classmethod
    def _options(cls, options: dict[str, Option], info: ValidationInfo) -> dict[str, Option]:
        """Let the rule itself judge its options, on a network of few units."""
        if not {"cell", "layers", "rule", "loss", "at"} <= info.data.keys():
            return options  # reported already; nothing to judge by
        rule = info.data["rule"]
        try:
            defaults = {k: v for k, v in rule_defaults(rule).items() if k not in _COMMON}
        except TimelocalError as error:
            raise _RefusedError([error]) from error
        own = _known_options(f"rule {rule!r}", options, defaults)
        try:
            _judge(info.data, options, online=False)
        except TimelocalError as error:
            raise _RefusedError([error]) from error
        lists = {k: list(v) for k, v in defaults.items() if isinstance(v, tuple)}
        return {**defaults, **lists, **own}

    def chosen(self) -> dict[str, Any]:
        """The fields and the rule options that are not at their defaults.

        >>> TrainConfig(epochs=3, rule_options={"trace": "leak", "feedback": "gaussian"}).chosen()
        {'rule_options': {'trace': 'leak'}, 'epochs': 3}
        """
        values = self.model_dump(mode="json")
        values["rule_options"] = _differing(values["rule_options"], rule_defaults(self.rule))
        fields = type(self).model_fields.items()
        defaults = {name: one.get_default(call_default_factory=True) for name, one in fields}
        return _differing(values, defaults)

    def canonical(self) -> str:
        """What was chosen as JSON, with sorted keys and no spaces: equal runs, equal text.

        Defaults are left out, so that an option which comes later renames no run from before it.
        """
        return json.dumps(self.chosen(), sort_keys=True, separators=(",", ":"))

    def sha256(self) -> str:
        """The identity of the run: the sha256 of `DEFAULTS_VERSION` and of what was chosen."""
        return hashlib.sha256(f"{DEFAULTS_VERSION} {self.canonical()}".encode()).hexdigest()

    def folder_name(self) -> str:
        """The name of the run's folder; it says so where the recurrence is frozen.

        What no file's name should hold is a dot in it; the hash, of the names as they are, keeps it unique.

        >>> TrainConfig(rule="timelocal.rules:BPTT").folder_name()
        'digits-rows-gru-timelocal.rules.BPTT-s0-77ee16c3'
        """
        names = (
            re.sub(r"[^\w.-]", ".", name)[-60:] for name in (self.dataset, self.cell, self.rule)
        )
        told = "-frozen" if self.frozen else ""
        return f"{'-'.join(names)}{told}-s{self.seed}-{self.sha256()[:8]}"


class _Kind(TrainConfig):
    """What has the settings of a training run and `measures` something else with them."""

    measures: str

    def chosen(self) -> dict[str, Any]:
        """As of a training run, with `measures`, which says that it is none."""
        return {"measures": self.measures, **super().chosen()}


class CostConfig(_Kind):
    """As a training run; what is measured is one batch presented `repeats` times, after one that warms up."""

    measures: Literal["cost"] = "cost"
    repeats: int = 5

    @field_validator("device")
    @classmethod
    def _on_the_processor(cls, value: str) -> str:
        if value != "cpu":
            problem = Problem(
                "device", repr(value), "'cpu': the memory measured is the process's own"
            )
            raise _RefusedError([problem])
        return value


class ForecastConfig(_Kind):
    """As a training run, of `members` networks whose forecasts are averaged (`experiments.forecast`).

    The networks of seed s start from the seeds s·members, …, s·members + members − 1. If `judged` is given,
    this number of outputs is forecast, the first ones; the others are only learned beside them.
    """

    measures: Literal["forecast"] = "forecast"
    members: Count = 5
    judged: Count | None = None


KINDS: dict[str | None, type[TrainConfig]] = {
    None: TrainConfig,
    "cost": CostConfig,
    "forecast": ForecastConfig,
}
"""The kind of a configuration by what it `measures`."""


_ACCEPTED: set[tuple[object, ...]] = set()
"""What built-in rules have accepted on built-in cells. Asking them takes nearly all of the time of making a
configuration, and the thousands of all experiments differ in a few hundred such questions."""


def _judge(fields: Mapping[str, Any], options: Mapping[str, Option], online: bool) -> None:
    """Let the rule itself judge its options, and perhaps begin a stream, on a network of few units."""
    cell, rule, loss, at = (fields[name] for name in ("cell", "rule", "loss", "at"))
    names = ("layers", "layer_norm", "skip", "readout_hidden", "cell_options")
    settings = {name: fields.get(name) for name in names}
    # as text: 1, 1.0 and True are equal, but a rule may take only one of them
    told = json.dumps([loss, at, settings, options, online])
    asked = (CELLS.get(cell), RULES.get(rule), told)
    if asked in _ACCEPTED:
        return
    made = make_rule(rule, _small_network(fields), loss, at, 0, options)
    if online:
        check_stream(made)
        made.begin(1)
    if None not in asked:
        _ACCEPTED.add(asked)


def _small_network(fields: Mapping[str, Any]) -> Network:
    """A network to judge a rule by: of two units, or as many as asked for with a cell from elsewhere."""
    cell = fields["cell"]
    hidden = 2 if cell in CELLS else fields.get("hidden", 2)
    with running("cell", cell, CELLS):
        own = fields.get("cell_options", {})
        readout = None if fields.get("readout_hidden") is None else 2
        return make_network(
            find_cell(cell),
            2,
            hidden,
            2,
            num_layers=fields["layers"],
            layer_norm=fields.get("layer_norm", False),
            skip=fields.get("skip", False),
            readout_hidden=readout,
            **own,
        )


def _known_options(
    owner: str, options: Mapping[str, Option], defaults: Mapping[str, Any]
) -> dict[str, Option]:
    """Options that there are, whole numbers as floats where the default is one: 1 and 1.0 are one choice."""
    problems = [
        problem
        for name in options
        if (problem := unknown_name(f"option of {owner}", name, defaults))
    ]
    if problems:
        raise _RefusedError(problems)
    return {
        name: float(value) if type(value) is int and isinstance(defaults[name], float) else value
        for name, value in options.items()
    }


def _differing(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The values whose JSON is not that of their default."""
    return {
        name: value
        for name, value in values.items()
        if name not in defaults
        or (value is not defaults[name] and json.dumps(value) != json.dumps(defaults[name]))
    }


class _RefusedError(ValueError):
    """Carries our own problems through pydantic, which collects those of all fields."""

    def __init__(self, problems: list[Problem] | list[TimelocalError]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


def _texts(item: ErrorDetails) -> list[str]:
    """One of pydantic's findings in this package's words."""
    name = str(item["loc"][0])
    if item["type"] == "extra_forbidden":
        return [str(unknown_name("configuration field", name, TrainConfig.model_fields))]
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, _RefusedError):
        return [str(problem) for problem in cause.problems]
    if name in ("rule_options", "cell_options") and len(item["loc"]) > 1:
        # each member of a union has its own finding
        remedy = "Give a number, a string, a list of strings, True, False or None."
        return [f"{name}: {item['loc'][1]}: got a value of the wrong type. {remedy}"]
    expected = item["msg"].removeprefix("Input should be ")
    return [str(Problem(name, described(item["input"]), expected))]


def _listed(texts: list[str]) -> str:
    """One message; as a list if there are several."""
    if len(texts) == 1:
        return texts[0]
    lines = (indent(text, "    ").strip() for text in texts)
    return f"{len(texts)} problems:\n" + "\n".join(f"  - {line}" for line in lines)
