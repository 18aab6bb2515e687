"""The training loop: minibatches, a learning rule, any optimizer, a history."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from timelocal import fast, seeding
from timelocal.data import Sequences, minibatches
from timelocal.data.sources import Source
from timelocal.errors import DivergedError
from timelocal.fast.epoch import Estimator
from timelocal.files import as_path, exclusive, make_folder
from timelocal.inference import outside_inference_mode
from timelocal.network import Network, mean_decorrelation_loss
from timelocal.rules import (
    Estimate,
    Evaluation,
    Rule,
    arrange,
    evaluate_batch,
    update_locally,
)
from timelocal.rules.batch import at_every_step
from timelocal.training.callbacks import Callback, name_of, wants_to_stop
from timelocal.training.chance import may_draw
from timelocal.training.checks import check_batches, check_fit, check_online
from timelocal.training.clipping import clip_gradient
from timelocal.training.device import move, moved
from timelocal.training.history import History, Record, without_progress
from timelocal.training.metrics import Metric, number, scores
from timelocal.training.parts import as_sequences, asks_again, check_parts, entering, judged_at
from timelocal.training.progress import Show, no_bar, progress_bar
from timelocal.training.saver import Saver, run_settings
from timelocal.training.snapshot import (
    Live,
    Snapshot,
    go_on_from,
    is_finite,
    put_back,
    stateful,
    take,
)
from timelocal.training.stream import Stream

_EVALUATION_BATCH = 256
"""Sequences per batch in evaluation; more would only take memory."""


@outside_inference_mode
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
    scheduler: LRScheduler | None = None,
    patience: int | None = None,
    restore_best: bool | None = None,
    callbacks: Sequence[Callback] = (),
    drop_last: bool = False,
    metrics: Mapping[str, Metric] | None = None,
    device: str | torch.device | None = None,
) -> History:
    """Train the network of `rule` for `epochs` passes over `train`.

    Arguments:
        rule: the learning rule, for example `tl.DFA(network)`.
        optimizer: any `torch.optim` optimizer over `rule.parameters()`.
        train, validation, test: `Sequences`; `(inputs, targets[, lengths])`, tensors or arrays, or lists
            of series of unequal length; a torch `Dataset` of such items, or a `DataLoader`, which is read
            once. Inputs are (n, t, i), batch first even if the network is not, and targets as the loss
            requires. `validation` selects the best epoch; `test` is only measured. If a rule uses one target
            per sequence at every step, both are measured at each sequence's last step.
        epochs: passes over `train` in total, including those of an earlier, interrupted call.
        batch_size: sequences per update; the last batch of an epoch may be smaller.
        seed: of the order of the minibatches, and of draws from torch's own generators by modules of the
            network (a `torch.nn.Dropout` in a readout). Those of epoch e are derived from (`seed`, e).
        clip: the largest norm of the whole gradient of an update; None does not clip.
        online: update at every step of the sequences instead of after each batch, by a `Stream`; the states
            of a batch start at zero. For rules that learn online, losses at every step and
            sequences of equal length.
        folder: where checkpoints go. If it holds a checkpoint of the same run, training resumes from there
            and ends in the same bits as if it had never stopped.
        progress: draw a progress bar on the error stream.
        watch: called after every epoch; the numbers it returns, by name, are added to the record. It must
            not change rule or network.
        scheduler: one of `torch.optim.lr_scheduler` over the same optimizer. It steps once per epoch;
        `ReduceLROnPlateau` with the validation loss (the training loss without a validation part).
        patience: how many epochs may pass without a lower validation loss before the run stops.
        restore_best: restore the network after the best epoch (`History.best`), not the last one; None does
        so if `patience` is given. `History.restored` says which epoch it is. A resumed run still continues
        from its last epoch.
        callbacks: called after every epoch with its number and its record, such as
            `timelocal.training.TensorBoard(folder)`. One that returns True stops the run. The state of
            callbacks with `state_dict` and `load_state_dict` is saved and restored with the run's.
        drop_last: leave out the last batch of an epoch if it is smaller than the others.
        metrics: functions of (outputs (n, o), targets (n, …)) by name, each returning a number. They are
        called after every epoch on all valid entries of the validation and test parts.
        device: move the data, the rule with its network, and the optimizer's state there first; None leaves
            everything where it is.

    `epochs` and `patience` may change when a run in `folder` is resumed; any other change makes it a
    different run.

    Torch's own generators belong to the whole process. If the network, the loss, the rule or the optimizer
    may draw from them, fits in several threads take turns, epoch by epoch. CPU draws by Python code of a
    readout (its `torch.nn.Dropout`) are isolated from all other threads; other draws are not isolated from
    threads that draw outside `fit`.

    Returns the `History`. Its `status` is `"diverged"` if the loss or the weights stopped being finite;
    network, rule, optimizer and scheduler are then as after the last good epoch. If a run ended before
    `epochs`, its `message` says why.

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
        rule,
        optimizer,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        clip=clip,
        online=online,
        progress=progress,
        watch=watch,
        scheduler=scheduler,
        patience=patience,
        restore_best=restore_best,
        callbacks=callbacks,
        metrics=metrics,
        device=device,
        validated=validation is not None,
        tested=test is not None,
    )
    epochs, batch_size, seed = int(epochs), int(batch_size), int(seed)
    clip = None if clip is None else float(clip)
    network = rule.network
    place = next(network.parameters()).device
    named = {"train": train, "validation": validation, "test": test}
    parts = as_sequences(named, network)
    if device is not None:
        parts = moved(parts, place)  # for the checks; later they move with the network
    if online:
        check_online(rule, parts["train"])
    check_parts(rule, parts)
    check_batches(rule, parts, batch_size, _EVALUATION_BATCH, drop_last=drop_last, online=online)
    live, metrics = Live(rule, optimizer, scheduler, stateful(callbacks)), metrics or {}
    home = None if folder is None else make_folder(as_path(folder))
    with exclusive(home / ".fit.lock") if home else nullcontext():
        saver = home and Saver(
            home,
            run_settings(
                live,
                parts,
                metrics,
                batch_size=batch_size,
                seed=seed,
                clip=clip,
                online=online,
                drop_last=drop_last,
            ),
        )
        state, history = take(live), History()
        if saver and (saved := saver.load()):
            go_on_from(saved[0], live, home)
            state, history = saved
            state = take(live, state.stopped)  # an older checkpoint lacks some of the state
        if device is not None:
            place = torch.empty(0, device=device).device
            move(live, place)
            parts = moved(parts, place)
        count = len(parts["train"])
        history.steps_per_epoch = count // batch_size if drop_last else -(-count // batch_size)
        done, learn = len(history.epochs), fast.repeated_estimate(rule)
        chance = bool(watch or callbacks or metrics) or may_draw(live)
        bar = progress_bar(epochs, done, history.steps_per_epoch) if progress else no_bar()
        try:
            with bar as show:
                for epoch in range(done + 1, epochs + 1):
                    history.message = _reason_to_stop(state, history, patience)
                    if history.message:
                        break
                    order = seeding.generator(seed, "batches", epoch)
                    batches = islice(
                        minibatches(parts["train"], batch_size, order), history.steps_per_epoch
                    )
                    with (
                        seeding.everywhere(seed, "modules", epoch, device=place)
                        if chance
                        else nullcontext()
                    ):
                        if online:
                            learned, spent = _stream(rule, optimizer, batches, epoch, clip, show)
                        else:
                            learned, spent = _learn(
                                rule, learn, optimizer, batches, epoch, clip, show
                            )
                        record: Record = {"epoch": epoch, **learned}
                        if not is_finite(network.state_dict()):
                            raise DivergedError(f"a weight is not finite after epoch {epoch}")
                        for name in [name for name in parts if name != "train"]:
                            record |= _measure(rule, parts[name], name, epoch, metrics)
                        if scheduler is not None:
                            record["lr"] = number("lr", optimizer.param_groups[0]["lr"])
                            _step(scheduler, record)
                        if watch is not None:
                            found = (watch() or {}).items()
                            record |= {name: number(f"watch: {name!r}", n) for name, n in found}
                        stopping = [one for one in callbacks if wants_to_stop(one, epoch, record)]
                    stopped = ", ".join(map(name_of, stopping))
                    state = take(live, stopped and f"{stopped} stopped the run after epoch {epoch}")
                    history.epochs.append(record)
                    history.seconds.append(sum(seconds for seconds, _ in spent))
                    history.step_seconds.append(median(seconds / steps for seconds, steps in spent))
                    if history.best is record:
                        history.best_weights = state.network()
                    if saver:
                        saver.offer(state, history)
            history.status = "finished"
        except DivergedError as reason:
            history.status, history.message = "diverged", str(reason)
            put_back(state, live)
        if saver:
            saver.save(state, history)
        if restore_best or (restore_best is None and patience is not None):
            _restore_best(network, history)
        return history


def _reason_to_stop(state: Snapshot, history: History, patience: int | None) -> str:
    """Why there is no further epoch, or an empty text."""
    if patience is not None and without_progress(history.epochs) >= patience:
        plural = "" if patience == 1 else "s"
        return f"no lower validation loss for {patience} epoch{plural}"
    return state.stopped


def _step(scheduler: LRScheduler, record: Record) -> None:
    """Let the scheduler make its step after an epoch."""
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(record.get("validation_loss", record["train_loss"]))
    else:
        scheduler.step()


def _restore_best(network: Network, history: History) -> None:
    """The network as it was after the best epoch, if there was one."""
    if history.best is not None and history.best_weights is not None:
        network.load_state_dict(history.best_weights)
        history.restored = int(history.best["epoch"])


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
    optimizer.zero_grad()  # for frozen parameters: those of the others are replaced at every update
    for batch in batches:
        start = time.perf_counter()
        estimate = learn(*entering(rule, batch))
        mean.add(estimate)
        if estimate.local_updates:
            update_locally(rule, estimate)
        if estimate.weight:  # without a target that counts, no optimizer may change a weight
            for name, parameter in trained:  # no copies: nothing else holds this estimate
                gradient = estimate.gradients.get(name)
                if parameter.grad is not gradient:
                    parameter.grad = gradient
            if clip is not None:
                clip_gradient(rule.network.parameters(), clip)
            optimizer.step()
        spent.append((time.perf_counter() - start, 1))
        show(epoch, mean.loss, mean.accuracy)
    return mean.record(), spent


def _stream(
    rule: Rule,
    optimizer: Optimizer,
    batches: Iterable[Sequences],
    epoch: int,
    clip: float | None,
    show: Show,
) -> tuple[Record, list[tuple[float, int]]]:
    """One epoch with an update at every step: its mean loss; the seconds and the updates of every batch."""
    mean = _Mean("train", epoch)
    spent = []
    for batch in batches:
        inputs, targets, _ = entering(rule, batch)
        if asks_again(rule, batch):
            targets = at_every_step(rule.network, targets, batch.inputs.shape[1])
        start = time.perf_counter()
        stream = Stream(rule, optimizer, len(batch), clip=clip)
        try:
            losses = stream.run(inputs, targets).loss
        except DivergedError as error:
            where = f"in epoch {epoch}, step {stream.steps + 1}"
            raise DivergedError(f"the train loss or its gradient is not finite {where}") from error
        spent.append((time.perf_counter() - start, len(losses)))
        mean.add_losses(losses, len(batch), _step_weights(rule, targets))
        show(epoch, mean.loss, None)
    record = mean.record()
    if rule.network.recurrent.decorrelate is not None:
        features = rule.network.scan(inputs).valid_features()
        record["decorrelation_loss"] = float(mean_decorrelation_loss(features))
    return record, spent


def _step_weights(rule: Rule, targets: Tensor) -> Tensor | None:
    """The weight of each step's loss (t,), by the classes of its targets; None if all are the same."""
    by_class = rule.loss.entry_weights(targets.flatten(0, 1))
    if by_class is None:
        return None
    return by_class.unflatten(0, targets.shape[:2]).sum(0 if rule.network.batch_first else 1)


def _measure(
    rule: Rule, part: Sequences, name: str, epoch: int, metrics: Mapping[str, Metric]
) -> Record:
    """Mean loss, accuracy and metrics of a part of the data; nothing is changed."""
    mean, outputs = _Mean(name, epoch), []
    for batch in minibatches(part, _EVALUATION_BATCH):
        place = judged_at(rule, batch)
        entries = arrange(rule.network, rule.loss, place, *entering(rule, batch))
        evaluation = evaluate_batch(rule, entries)
        mean.add(evaluation)
        if metrics:
            outputs.append(evaluation.outputs)
    record = mean.record()
    if metrics:
        found = scores(metrics, rule, part, outputs)
        record |= {f"{name}_{metric}": value for metric, value in found.items()}
    return record


class _Mean:
    """Means over batches: the loss weighted as it is in each batch, the rest by valid entries."""

    def __init__(self, part: str, epoch: int) -> None:
        self.part, self.epoch = part, epoch
        self.count = self.weight = self.loss_sum = self.accuracy_sum = 0.0
        self.scored = False
        self.diagnostics: dict[str, float] = {}

    def add(self, batch: Estimate | Evaluation) -> None:
        loss = float(batch.loss)
        if not math.isfinite(loss):
            raise DivergedError(f"the {self.part} loss is {loss} in epoch {self.epoch}")
        self.count += batch.count
        self.weight += batch.weight
        self.loss_sum += loss * batch.weight
        if batch.accuracy is not None:
            self.scored = True
            self.accuracy_sum += float(batch.accuracy) * batch.count
        for name, value in batch.diagnostics.items() if isinstance(batch, Estimate) else ():
            before = self.diagnostics.get(name, 0.0)
            self.diagnostics[name] = before + float(value) * batch.count

    def add_losses(self, losses: Tensor, sequences: int, weights: Tensor | None) -> None:
        """Add the mean losses (t,) of a stream's steps; without weights, each counts by its sequences."""
        self.count += sequences * len(losses)
        if weights is None:
            self.weight += sequences * len(losses)
            self.loss_sum += float(losses.double().sum()) * sequences
        else:
            self.weight += float(weights.double().sum())
            self.loss_sum += float(losses.double() @ weights.to(losses.device).double())

    @property
    def loss(self) -> float:
        return self.loss_sum / (self.weight or 1.0)

    @property
    def accuracy(self) -> float | None:
        return self.accuracy_sum / self.count if self.scored else None

    def record(self) -> Record:
        accuracy = self.accuracy
        record: Record = {f"{self.part}_loss": self.loss}
        if accuracy is not None:
            record[f"{self.part}_accuracy"] = accuracy
        return record | {name: total / self.count for name, total in self.diagnostics.items()}
