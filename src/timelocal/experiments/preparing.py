"""The data of a run as its network sees them, and as they were."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from timelocal import data
from timelocal.data import Dataset, Sequences, Split
from timelocal.data.own_files import read_more
from timelocal.data.reading import is_file
from timelocal.data.sequences import PARTS, valid
from timelocal.experiments.config import TrainConfig
from timelocal.files import as_path
from timelocal.losses import CrossEntropy, Loss
from timelocal.model.model import Scale, in_own_units


@dataclass(frozen=True, eq=False)
class Prepared:
    """A data set, its parts in their own units, and as they enter the network, with the scales between."""

    dataset: Dataset
    raw: Split
    split: Split
    inputs_scale: Scale | None
    outputs_scale: Scale | None

    def in_own_units(self, outputs: Tensor) -> Tensor:
        """Outputs (…, o) of the network in the units of the targets."""
        return in_own_units(outputs, self.outputs_scale)


def prepared(config: TrainConfig, data_dir: str | Path | None) -> Prepared:
    """Load, cut and scale the data of a run.

    Of a file of one's own `standardize` scales values to predict too.

    Raises `DataError` if the data cannot be had.
    """
    dataset = data.load(config.dataset, data_dir, reading=config.reading)
    return scaled(config, dataset, _parts(config, dataset))


def scaled(config: TrainConfig, dataset: Dataset, raw: Split) -> Prepared:
    """The parts of a data set as a run sees them."""
    if not config.standardize:
        return Prepared(dataset, raw, raw, None, None)
    split = data.standardize(raw)
    inputs_scale = data.moments(raw.train)
    if dataset.card.classes is not None or not is_file(config.dataset):
        return Prepared(dataset, raw, split, inputs_scale, None)
    mean, deviation = data.moments(_targets_as_inputs(raw.train))
    parts = (
        replace(part, targets=(part.targets - mean) / deviation)
        for part in (getattr(split, name) for name in PARTS)
    )
    return Prepared(dataset, raw, Split(*parts), inputs_scale, (mean, deviation))


def class_weights(config: TrainConfig, train: Sequences, classes: int) -> str | Loss:
    """The loss of a run: by name, or with weights that make all classes count the same.

    The weight of class c is N / (C N_c), as scikit-learn's "balanced"; 0 of one that is not in training.
    """
    if config.class_weight is None:
        return config.loss
    targets = valid(train.targets, train.lengths).flatten()
    counts = torch.bincount(targets, minlength=classes).double()
    weights = len(targets) / (classes * counts)
    return CrossEntropy(class_weights=torch.where(counts > 0, weights, 0.0).float())


def _parts(config: TrainConfig, dataset: Dataset) -> Split:
    if config.test is None:
        return data.split(dataset, config.seed, stratified=config.stratified)
    card = dataset.card
    more = read_more(
        as_path(config.test, "test"),
        config.reading,
        card.features,
        card.classes,
        labelled=True,
        stepwise=bool(card.stepwise),
    )
    assert more.targets is not None
    test = Sequences(more.inputs, more.targets, more.lengths)
    if card.parts is not None:  # by time: what came last validates
        whole = Sequences(dataset.inputs, dataset.targets, dataset.lengths)
        end = card.parts[0]
        return Split(whole.between(0, end), whole.between(end + card.between, len(whole)), test)
    cut = data.split(dataset, config.seed, (0.8, 0.2, 0.0), stratified=config.stratified)
    return Split(cut.train, cut.validation, test)


def _targets_as_inputs(part: Sequences) -> Sequences:
    """Values to predict in the place of inputs, so that `moments` reads them: (n, o) as (n, 1, o)."""
    if part.targets.dim() == 3:
        return Sequences(part.targets, part.targets, part.lengths)
    return Sequences(part.targets.unsqueeze(1), part.targets)
