"""The training loop: minibatches, a learning rule, any optimizer, a history."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.optim import Optimizer

from timelocal import fast, seeding
from timelocal.arguments import as_path
from timelocal.data import Sequences, minibatches
from timelocal.data.sources import Source
from timelocal.fast.epoch import Estimator
from timelocal.files import exclusive, make_folder
from timelocal.network import mean_decorrelation_loss
from timelocal.rules import Estimate, Evaluation, Rule, update_locally
from timelocal.training.checks import check_fit, check_online
from timelocal.training.history import History, Record
from timelocal.training.parts import as_sequences, check_parts, entering
from timelocal.training.progress import Show, no_bar, progress_bar
from timelocal.training.saver import Saver, run_settings
from timelocal.training.snapshot import is_finite, put_back, take
from timelocal.training.stream import Stream

_EVALUATION_BATCH = 256
"""Sequences at a time in evaluation: more would only cost memory."""


class _DivergedError(Exception):
    """The loss or the weights are no longer finite."""


def fit(
    rule: Rule,
    optimizer: Optimizer,
    train: Source,
    validation: Source | None = None,
    *,
    test: Source | None = None,
    epochs: int,
    batch_size: int,
    seed: int = 0,
    clip: float | None = None,
    online: bool = False,
    folder: str | Path | None = None,
    progress: bool = False,
    watch: Callable[[], Mapping[str, float]] | None = None,
) -> History:
    """Train the network of `rule` for `epochs` passes over `train`.

    Arguments:
        rule: what fills the gradients, for example `tl.DFA(network)`.
        optimizer: any `torch.optim` optimizer over `rule.parameters()`.
        train, validation, test: `Sequences`; `(inputs, targets[, lengths])`, tensors or arrays, or lists
            of series of unequal length; a torch `Dataset` of such items, or a `DataLoader`, which is read
            once. Inputs (n, t, i), batch first whatever the network takes, and targets as the loss
            wants them. `validation` selects the best epoch; `test` is only measured.
        epochs: passes over `train` in all, those of an earlier, interrupted call included.
        batch_size: sequences per step; the last batch of an epoch may be smaller.
        seed: of the order of the minibatches, and of what modules of the network draw from torch's own
            generators (a `torch.nn.Dropout` in a readout). Those of epoch e are derived from (`seed`, e).
        clip: the largest norm of the whole gradient; None does not clip.
        online: update at every step of the sequences instead of after each batch, by a `Stream`; the
            states of a batch begin at zero. For rules that learn online, losses at every step and
            sequences of equal length.
        folder: where checkpoints go. If it holds the checkpoint of the same run, training goes on
            from there, and ends in the same bits as if it had never stopped.
        progress: draw a progress bar on the error stream.
        watch: called after every epoch; the numbers it returns, by names of their own, join its record. It
            must leave rule and network as they are.

    Returns the `History`. Its `status` is `"diverged"` if the loss or the weights stopped being
    finite; network, rule and optimizer are then as after the last good epoch.

    Raises `ArgumentError` for wrong arguments and `RunError` if `folder` cannot be used.

    >>> import torch, timelocal as tl
    >>> inputs = torch.randn(20, 5, 3, generator=torch.Generator().manual_seed(0))
    >>> targets = (inputs[:, -1, 0] > 0).long()
    >>> rule = tl.DFA(tl.RNN(3, 16, 2))
    >>> optimizer = torch.optim.Adam(rule.parameters(), lr=0.01)
    >>> history = tl.fit(rule, optimizer, (inputs, targets), epochs=20, batch_size=10)
    >>> history.epochs[-1]["train_loss"] < history.epochs[0]["train_loss"]
    True
    """
    check_fit(
        rule, optimizer, epochs=epochs, batch_size=batch_size, seed=seed, clip=clip, online=online,
        progress=progress, watch=watch,
    )  # fmt: skip
    epochs, batch_size, seed = int(epochs), int(batch_size), int(seed)
    clip = None if clip is None else float(clip)
    network = rule.network
    place = next(network.parameters()).device
    named = {"train": train, "validation": validation, "test": test}
    parts = as_sequences(named, network)
    if online:
        check_online(rule, parts["train"])
    check_parts(rule, parts)
    home = None if folder is None else make_folder(as_path("folder", folder))
    with exclusive(home / ".fit.lock") if home else nullcontext():
        saver = home and Saver(
            home, run_settings(rule, optimizer, parts, batch_size, seed, clip, online)
        )
        state, history = take(rule, optimizer), History()
        if saver and (saved := saver.load()):
            state, history = saved
            put_back(state, rule, optimizer)
        history.steps_per_epoch = -(-len(parts["train"]) // batch_size)
        done, learn = len(history.epochs), fast.repeated_estimate(rule)
        bar = progress_bar(epochs, done, history.steps_per_epoch) if progress else no_bar()
        try:
            with bar as show:
                for epoch in range(done + 1, epochs + 1):
                    order = seeding.generator(seed, "batches", epoch)
                    batches = minibatches(parts["train"], batch_size, order)
                    with seeding.everywhere(seed, "modules", epoch, device=place):
                        if online:
                            learned, spent = _stream(rule, optimizer, batches, epoch, show)
                        else:
                            learned, spent = _learn(
                                rule, learn, optimizer, batches, epoch, clip, show
                            )
                        record: Record = {"epoch": epoch, **learned}
                        if not is_finite(network.state_dict()):
                            raise _DivergedError(f"a weight is not finite after epoch {epoch}")
                        for name in [name for name in parts if name != "train"]:
                            record |= _measure(rule, parts[name], name, epoch)
                        if watch is not None:
                            record |= watch() or {}
                    state = take(rule, optimizer)
                    history.epochs.append(record)
                    history.seconds.append(sum(seconds for seconds, _ in spent))
                    history.step_seconds.append(median(seconds / steps for seconds, steps in spent))
                    if history.best is record:
                        history.best_weights = state.network()
                    if saver:
                        saver.offer(state, history)
            history.status = "finished"
        except _DivergedError as reason:
            history.status, history.message = "diverged", str(reason)
            put_back(state, rule, optimizer)
        if saver:
            saver.save(state, history)
        return history


def _learn(
    rule: Rule,
    learn: Estimator,
    optimizer: Optimizer,
    batches: Iterable[Sequences],
    epoch: int,
    clip: float | None,
    show: Show,
) -> tuple[Record, list[tuple[float, int]]]:
    """One epoch of updates: its mean loss and accuracy; the seconds and the updates of every batch."""
    mean = _Mean("train", epoch)
    spent = []
    trained = [(name, p) for name, p in rule.network.named_parameters() if p.requires_grad]
    optimizer.zero_grad()  # of what is frozen, too: the others are set anew at every step
    for batch in batches:
        start = time.perf_counter()
        estimate = learn(*entering(rule, batch))
        mean.add(estimate)
        for name, parameter in trained:  # nobody else keeps this estimate: no copies
            gradient = estimate.gradients.get(name)
            if parameter.grad is not gradient:
                parameter.grad = gradient
        if estimate.local_updates:
            update_locally(rule, estimate)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(rule.network.parameters(), clip)
        optimizer.step()
        spent.append((time.perf_counter() - start, 1))
        show(epoch, mean.loss, mean.accuracy)
    return mean.record(), spent


def _stream(
    rule: Rule, optimizer: Optimizer, batches: Iterable[Sequences], epoch: int, show: Show
) -> tuple[Record, list[tuple[float, int]]]:
    """One epoch with an update at every step: its mean loss; the seconds and the updates of every batch."""
    mean = _Mean("train", epoch)
    spent = []
    for batch in batches:
        inputs, targets, _ = entering(rule, batch)
        start = time.perf_counter()
        losses = Stream(rule, optimizer, len(batch)).run(inputs, targets).loss
        spent.append((time.perf_counter() - start, len(losses)))
        mean.add_losses(losses, len(batch))
        show(epoch, mean.loss, None)
    record = mean.record()
    if rule.network.recurrent.decorrelate is not None:
        features = rule.network.scan(inputs).valid_features()
        record["decorrelation_loss"] = float(mean_decorrelation_loss(features))
    return record, spent


def _measure(rule: Rule, part: Sequences, name: str, epoch: int) -> Record:
    """Mean loss and accuracy on a part of the data; nothing is changed."""
    mean = _Mean(name, epoch)
    for batch in minibatches(part, _EVALUATION_BATCH):
        mean.add(rule.evaluate(*entering(rule, batch)))
    return mean.record()


class _Mean:
    """Loss, accuracy and diagnostics averaged over batches, each weighted by its valid entries."""

    def __init__(self, part: str, epoch: int) -> None:
        self.part, self.epoch = part, epoch
        self.count = self.loss_sum = self.accuracy_sum = 0.0
        self.scored = False
        self.diagnostics: dict[str, float] = {}

    def add(self, batch: Estimate | Evaluation) -> None:
        loss = float(batch.loss)
        if not math.isfinite(loss):
            raise _DivergedError(f"the {self.part} loss is {loss} in epoch {self.epoch}")
        self.count += batch.count
        self.loss_sum += loss * batch.count
        if batch.accuracy is not None:
            self.scored = True
            self.accuracy_sum += float(batch.accuracy) * batch.count
        for name, value in batch.diagnostics.items() if isinstance(batch, Estimate) else ():
            before = self.diagnostics.get(name, 0.0)
            self.diagnostics[name] = before + float(value) * batch.count

    def add_losses(self, losses: Tensor, sequences: int) -> None:
        """The mean losses (t,) of the steps of a stream."""
        if not bool(losses.isfinite().all()):
            step = int((~losses.isfinite()).nonzero()[0])
            raise _DivergedError(
                f"the {self.part} loss is {float(losses[step])} in epoch {self.epoch}, step {step + 1}"
            )
        self.count += sequences * len(losses)
        self.loss_sum += float(losses.double().sum()) * sequences

    @property
    def loss(self) -> float:
        return self.loss_sum / self.count

    @property
    def accuracy(self) -> float | None:
        return self.accuracy_sum / self.count if self.scored else None

    def record(self) -> Record:
        accuracy = self.accuracy
        record: Record = {f"{self.part}_loss": self.loss}
        if accuracy is not None:
            record[f"{self.part}_accuracy"] = accuracy
        return record | {name: total / self.count for name, total in self.diagnostics.items()}
