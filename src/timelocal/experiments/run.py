"""One run: a configuration in, a run folder out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from timelocal.analysis.alignment import watch
from timelocal.data import Dataset, Split
from timelocal.data.sequences import valid
from timelocal.errors import RunError
from timelocal.experiments.command import known_command
from timelocal.experiments.config import TrainConfig
from timelocal.experiments.environment import environment
from timelocal.experiments.explosion import explosion
from timelocal.experiments.floors import floor_metrics, floors
from timelocal.experiments.folder import already_done, set_status
from timelocal.experiments.origins import ChangedPluginWarning, changes, foreign, origins
from timelocal.experiments.predictions import (
    measured,
    metric_of,
    predicted,
    shown,
)
from timelocal.experiments.preparing import Prepared, class_weights, prepared
from timelocal.files import as_path, exclusive, is_there, make_folder, read_object, write_json
from timelocal.losses import LOSSES
from timelocal.model import Model, save
from timelocal.model.build import (
    OPTIMIZERS,
    find_cell,
    make_network,
    make_rule,
    make_scheduler,
)
from timelocal.network import Decorrelation, Network
from timelocal.rules import Rule
from timelocal.rules.batch import STEPWISE
from timelocal.training import History, fit

MODEL = "model.safetensors"
"""The file of a run folder that `timelocal.load` reads."""


def run(
    config: TrainConfig, out: str | Path, data_dir: str | Path | None = None, progress: bool = False
) -> Path:
    """Do the run `config` in its own folder under `out`; return that folder.

    A run that is there already is not done again, an interrupted one goes on. The data are loaded
    and everything is built before the folder is touched, so a mistake leaves no trace. A later
    error is recorded in `status.json` and raised.

    Sets the number of torch's threads to `config.threads`, on which the last bits depend, and
    flushes subnormal numbers to zero.

    Warns (`ChangedPluginWarning`) if the run is there, finished or not, and the source of its rule, cell or
    data set, which are not of this package, has changed since.

    Raises `DataError` if the data cannot be had and `RunError` if the folder cannot be written, or if the run
    is there but its files are not those of then.
    """
    folder, earlier = arrive(config, out)
    if earlier is None:
        return folder
    ready = prepared(config, data_dir)
    dataset, split, card = ready.dataset, ready.split, ready.dataset.card
    network = build_network(config, dataset)
    rule = build_rule(config, network, dataset, split)
    optimizer = build_optimizer(config, network)
    scheduler = make_scheduler(config.scheduler, optimizer, config.epochs)
    target = config.reading.get("target")
    target = None if target is None else str(target)
    trivial = floors(ready, network, rule.loss, target)
    metrics, trivial_metric = None, None
    if config.metric is not None:
        trivial_metric = floor_metrics(config.metric, ready, network, target)
        metrics = {config.metric: metric_of(config.metric, rule.loss, ready.outputs_scale)}
    stepwise = card.classes is None and card.stepwise
    one = split.test[torch.tensor([0])]
    before = predicted(rule, one)[0] if stepwise else None
    first = torch.arange(min(config.batch, len(split.train)))
    watched = watch(rule, split.train[first]) if config.alignment else None

    with recording(config, folder, earlier) as ours:
        if not ours:
            return folder
        history = _fit(
            config,
            rule,
            optimizer,
            split,
            test=split.test,
            folder=folder,
            progress=progress,
            watch=watched,
            scheduler=scheduler,
            metrics=metrics,
        )
        result = _result(config, history, trivial)
        if trivial_metric is not None:
            result["trivial_metric"] = trivial_metric
        if card.classes is None:
            after = predicted(rule, split.test)
            test = ready.raw.test
            own = ready.in_own_units(after)
            result["metrics"] = measured(
                valid(own, test.lengths), valid(test.targets, test.lengths)
            )
            if before is not None:
                curves = shown(one.targets[0], before, after[0])
                write_json(folder / "predictions.json", curves)
        save(_model(config, rule, ready), folder / MODEL)
        write_json(folder / "result.json", result)
        exploded = explosion(history.epochs, config.loss, trivial)
        if exploded and history.status == "finished":
            set_status(folder, "diverged", exploded)
        else:
            set_status(folder, history.status, history.message)
    return folder


def arrive(config: TrainConfig, out: str | Path) -> tuple[Path, dict[str, Any] | None]:
    """The folder of a run, and what `recording` adds to its environment; None if the run is done already.

    Sets the number of torch's threads, and flushes subnormal numbers, if there is something to do. Warns as
    `run` does.
    """
    folder = as_path(out, "out") / config.folder_name()
    earlier = _warn_of_changes(config, folder)
    if already_done(config, folder):
        return folder, None
    torch.set_num_threads(config.threads)
    torch.set_flush_denormal(True)
    return folder, earlier


@contextmanager
def recording(config: TrainConfig, folder: Path, earlier: Mapping[str, Any]) -> Iterator[bool]:
    """Write down that a run has begun, or goes on, and if an error ends it; nobody else does it meanwhile.

    False if another process did it while the data were loaded here.
    """
    with exclusive(make_folder(folder) / ".lock"):
        if already_done(config, folder):
            yield False
            return
        set_status(folder, "running", files=())  # what was known of its files holds no longer
        write_json(folder / "config.json", config.model_dump(mode="json"))
        found = {**environment(known_command(config), origins(config)), **earlier}
        write_json(folder / "environment.json", found)
        set_status(folder, "running", files=("config.json", "environment.json"))
        try:
            yield True
        except Exception as error:
            with suppress(RunError):  # the disk that failed the run may fail its obituary too
                set_status(folder, "failed", f"{type(error).__name__}: {error}")
            raise


def build_network(config: TrainConfig, dataset: Dataset) -> Network:
    """The network of `config`, with the inputs and outputs that the data have."""
    classes = dataset.card.classes
    outputs = dataset.targets.shape[-1] if classes is None else len(classes)
    outputs *= LOSSES[config.loss]().outputs_per_target
    features = dataset.inputs.shape[-1]
    decorrelate = None
    if config.decorrelate is not None:
        decorrelate = Decorrelation(config.decorrelate, config.decorrelate_norm)
    leaky = {} if config.tau is None else {"tau": config.tau}
    network = make_network(
        find_cell(config.cell),
        features,
        config.hidden,
        outputs,
        num_layers=config.layers,
        layer_norm=config.layer_norm,
        skip=config.skip,
        decorrelate=decorrelate,
        readout_hidden=config.readout_hidden,
        seed=config.seed,
        **leaky,
        **config.cell_options,
    )
    network.recurrent.requires_grad_(not config.frozen)
    return network


def build_optimizer(config: TrainConfig, network: Network) -> Optimizer:
    """The optimizer of `config`, with a group of its own for a recurrence that has its own rate."""
    make = OPTIMIZERS[config.optimizer]
    if config.recurrent_lr is None:
        return make(network.parameters(), lr=config.lr)
    recurrent = {"params": list(network.recurrent.parameters()), "lr": config.recurrent_lr}
    return make([recurrent, {"params": list(network.readout.parameters())}], lr=config.lr)


def trained(
    config: TrainConfig, dataset: Dataset, split: Split, *, tested: bool = False
) -> tuple[Rule, History]:
    """A network trained by `config` without a folder, as it was after its best epoch, on the CPU.

    tested: whether the test part is measured after every epoch.
    """
    network = build_network(config, dataset)
    rule = build_rule(config, network, dataset, split)
    optimizer = build_optimizer(config, network)
    history = _fit(
        config,
        rule,
        optimizer,
        split,
        test=split.test if tested else None,
        scheduler=make_scheduler(config.scheduler, optimizer, config.epochs),
        restore_best=True,
    )
    return rule, history


def build_rule(config: TrainConfig, network: Network, dataset: Dataset, split: Split) -> Rule:
    """The rule of `config`, whose loss may weigh the classes by their counts in the training part."""
    loss = class_weights(config, split.train, len(dataset.card.classes or ()))
    return make_rule(config.rule, network, loss, config.at, config.seed, config.rule_options)


def _fit(
    config: TrainConfig, rule: Rule, optimizer: Optimizer, split: Split, **others: Any
) -> History:
    """`fit` with the settings of `config`, on its device; afterwards the rule is on the CPU."""
    history = fit(
        rule,
        optimizer,
        split.train,
        split.validation,
        epochs=config.epochs,
        batch_size=config.batch,
        seed=config.seed,
        clip=config.clip,
        online=config.online,
        patience=config.patience,
        device=None if config.device == "cpu" else config.device,
        **others,
    )
    rule.to("cpu")
    return history


def _warn_of_changes(config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Warn if the run in `folder` began with another source of a plug-in.

    Returns:
        For its `environment.json`: the `earlier_plugins`, oldest first, if it goes on from what they did.
    """
    path = folder / "environment.json"
    if not foreign(config.model_dump()) or not is_there(path):
        return {}
    before = read_object(path)
    told = changes(config, before)
    for text in told:
        warnings.warn(text, ChangedPluginWarning, stacklevel=4)
    found = before.get("earlier_plugins")
    earlier = list(found) if isinstance(found, list) else []
    if told:
        earlier.append(before["plugins"])
    goes_on = is_there(folder / "checkpoint" / "checkpoint.json")
    return {"earlier_plugins": earlier} if earlier and goes_on else {}


def _model(config: TrainConfig, rule: Rule, ready: Prepared) -> Model:
    """The rule, with the names and units of inputs and outputs from the data."""
    card = ready.dataset.card
    return Model(
        rule,
        classes=card.classes,
        features=card.features or None,
        outputs=card.outputs or None,
        inputs_scale=ready.inputs_scale,
        outputs_scale=ready.outputs_scale,
        reading=config.reading,
        stepwise=bool(card.stepwise) and config.at in STEPWISE,
    )


def _result(config: TrainConfig, history: History, trivial: dict[str, float]) -> dict[str, object]:
    """What one run found. `max_test_accuracy` chooses by the test part, as some papers do."""
    test: tuple[str, ...] = ("epoch", "test_loss", "test_accuracy")
    chosen = (*test, "validation_loss", "validation_accuracy")
    if config.metric is not None:
        test = (*test, f"test_{config.metric}")
        chosen = (*chosen, f"test_{config.metric}", f"validation_{config.metric}")
    last, best = history.last or {}, history.best or {}
    accuracies = [record["test_accuracy"] for record in history.epochs if "test_accuracy" in record]
    return {
        "seed": config.seed,
        "epochs": len(history.epochs),
        "last": {key: last[key] for key in test if key in last},
        "best_validation": {key: best[key] for key in chosen if key in best},
        "max_test_accuracy": max(accuracies, default=None),
        "seconds": sum(history.seconds),
        "trivial": trivial,
        **({} if history.restored is None else {"restored": history.restored}),
    }
