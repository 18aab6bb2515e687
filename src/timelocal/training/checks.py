"""The checks on the arguments of `fit`."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from timelocal.arguments import (
    flag_problem,
    is_flag,
    is_whole,
    seed_problem,
    whole_problem,
)
from timelocal.data import Sequences
from timelocal.errors import Problem, UnsupportedError, described, raise_problems, warn
from timelocal.fast.optimizers import held_parameters
from timelocal.network import Network
from timelocal.rules import Rule
from timelocal.training.clipping import clip_problem
from timelocal.training.device import device_problem
from timelocal.training.parts import judged_at
from timelocal.training.stream_checks import check_stream, optimizer_problem, rule_problem


def check_fit(
    rule: Rule,
    optimizer: Optimizer,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    clip: float | None,
    online: bool,
    progress: bool,
    watch: object,
    scheduler: object,
    patience: object,
    restore_best: object,
    callbacks: object,
    metrics: object,
    device: object,
    validated: bool,
    tested: bool,
) -> None:
    """Raise an `ArgumentError` that lists all problems."""
    problems: list[Problem | None] = []
    problems.append(rule_problem(rule))
    if isinstance(rule, Rule) and isinstance(optimizer, Optimizer):
        problems += _check_optimizer(rule, optimizer)
    elif not isinstance(optimizer, Optimizer):
        problems.append(Problem("optimizer", described(optimizer), "an optimizer of torch.optim"))
    problems += [
        flag_problem("online", online),
        flag_problem("progress", progress),
        None
        if watch is None or callable(watch)
        else Problem("watch", described(watch), "a function or None"),
        whole_problem("epochs", epochs),
        whole_problem("batch_size", batch_size),
        seed_problem(seed),
    ]
    problems += [
        clip_problem(clip),
        _scheduler_problem(scheduler, optimizer, epochs),
        _patience_problem(patience, validated),
        *_callback_problems(callbacks),
        *_metric_problems(metrics, validated or tested),
        None if device is None else device_problem(device),
    ]
    if restore_best is not None and not is_flag(restore_best):
        problems.append(Problem("restore_best", described(restore_best), "True, False or None"))
    elif restore_best and not validated:
        remedy = (
            "The best epoch is chosen on the validation part: give one, or leave restore_best out."
        )
        problems.append(Problem("restore_best", "no validation part", "one", remedy))
    raise_problems(problems)
    _warn_of_left_out(rule.network, optimizer)


def _scheduler_problem(scheduler: object, optimizer: object, epochs: object) -> Problem | None:
    if scheduler is None:
        return None
    if not isinstance(scheduler, LRScheduler):
        got, expected = f"a {type(scheduler).__name__}", "one of torch.optim.lr_scheduler, or None"
        return Problem("scheduler", got, expected)
    if scheduler.optimizer is not optimizer:
        remedy = "Create it from the optimizer given to fit."
        return Problem("scheduler", "one for another optimizer", "one of the same", remedy)
    if isinstance(scheduler, OneCycleLR) and is_whole(epochs):
        steps = scheduler.total_steps
        if not is_whole(epochs, most=steps):
            remedy = "It steps once per epoch: create it with total_steps=epochs."
            return Problem("scheduler", f"one of {steps} steps", f"{epochs}, one per epoch", remedy)
    return None


def _patience_problem(patience: object, validated: bool) -> Problem | None:
    if patience is None:
        return None
    if not is_whole(patience):
        return Problem(
            "patience", described(patience), "a whole number of epochs, 1 or more, or None"
        )
    if not validated:
        remedy = (
            "It waits for a lower validation loss: give a validation part, or leave patience out."
        )
        return Problem("patience", "no validation part", "one", remedy)
    return None


def _callback_problems(callbacks: object) -> list[Problem]:
    if not isinstance(callbacks, list | tuple):
        got = f"a {type(callbacks).__name__}"
        return [Problem("callbacks", got, "a list of functions of (epoch, metrics)")]
    return [
        Problem(f"callbacks[{place}]", f"a {type(one).__name__}", "a function of (epoch, metrics)")
        for place, one in enumerate(callbacks)
        if not callable(one)
    ]


def _metric_problems(metrics: object, measured: bool) -> list[Problem]:
    if metrics is None:
        return []
    expected = "functions of (outputs, targets) by name, such as {'error': function}"
    if not isinstance(metrics, Mapping):
        return [Problem("metrics", f"a {type(metrics).__name__}", expected)]
    problems = []
    for name, metric in metrics.items():
        if not isinstance(name, str) or not name or not callable(metric):
            problems.append(Problem("metrics", f"{name!r}: a {type(metric).__name__}", expected))
        elif name in {"loss", "accuracy"}:
            remedy = "The loss and the accuracy are measured anyway."
            problems.append(Problem("metrics", repr(name), "another name", remedy))
    if metrics and not measured:
        remedy = "They are measured on these parts: give one, or leave metrics out."
        problems.append(Problem("metrics", "no validation and no test part", "one of them", remedy))
    return problems


def check_batches(
    rule: Rule,
    parts: Mapping[str, Sequences],
    batch_size: int,
    evaluation_batch: int,
    *,
    drop_last: bool,
    online: bool,
) -> None:
    """Raise an `ArgumentError` if an epoch has no batch, or a batch that is too small for the readout.

    Batch normalisation cannot handle a single row; whether one will occur is known beforehand.
    """
    count = len(parts["train"])
    raise_problems([flag_problem("drop_last", drop_last)])
    if drop_last and count < batch_size:
        remedy = "Choose a smaller batch_size, or drop_last=False."
        got = f"{count} sequences and drop_last=True"
        raise_problems([Problem("train", got, f"batch_size={batch_size} or more", remedy)])
    problems = []
    for name, part in parts.items():
        training = name == "train"
        size = batch_size if training else evaluation_batch
        last = size if (training and drop_last) else len(part) % size or min(size, len(part))
        at_last = (rule.at if training else judged_at(rule, part)) == "last"
        steps = 1 if at_last or online else _fewest_steps(part)
        if last * steps > 1:
            continue
        error = _of_one_row(rule.network, training)
        if error is not None:
            remedy = (
                "Leave the last batch out with drop_last=True, or choose another batch_size."
                if training
                else "Leave a sequence out, or let the normalisation keep running statistics."
            )
            got = f"a last batch of one sequence, which the readout cannot take ({error})"
            problems.append(Problem(name, got, "two or more", remedy))
    raise_problems(problems)


def _fewest_steps(part: Sequences) -> int:
    return part.inputs.shape[1] if part.lengths is None else int(part.lengths.min())


def _of_one_row(network: Network, training: bool) -> Exception | None:
    """What a copy of the readout raises for a single row; None if it takes it, or cannot be copied."""
    if isinstance(network.readout, nn.Linear):
        return None
    try:
        readout = copy.deepcopy(network.readout)
    except Exception:
        return None
    if not training:
        readout.eval()
    row = network.recurrent.like.new_zeros(1, network.features_size * network.directions)
    devices = [row.device] if row.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        try:
            readout(row)
        except Exception as error:
            return error
    return None


def check_online(rule: Rule, train: Sequences) -> None:
    """A stream needs an online rule, and sequences of equal length.

    Raises `UnsupportedError` or `ArgumentError`.
    """
    check_stream(rule)
    rule.begin(1)  # a rule's own refusals
    if rule.at != "every":
        raise UnsupportedError(
            f"online: got at={rule.at!r}, expected 'every': an update at every step needs a target at every "
            "step. Use at='every', or online=False."
        )
    if train.lengths is not None:
        remedy = "Leave lengths out, or train on whole sequences (online=False)."
        raise_problems([Problem("train", "sequences of unequal length", "equal lengths", remedy)])


def _warn_of_left_out(network: Network, optimizer: Optimizer) -> None:
    held = held_parameters(optimizer)
    left_out = [
        name
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and id(parameter) not in held
    ]
    if left_out:
        shown = ", ".join(left_out[:4]) + (f" and {len(left_out) - 4} more" * (len(left_out) > 4))
        warn(
            f"optimizer: lacks {shown}, which will not be trained. Build it from rule.parameters(), or "
            "freeze them by requires_grad_(False)."
        )


def _check_optimizer(rule: Rule, optimizer: Optimizer) -> list[Problem | None]:
    problems = [optimizer_problem(rule.network, optimizer)]
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        problems.append(
            Problem(
                "optimizer",
                type(optimizer).__name__,
                "one whose step() needs no closure",
                "Use one such as torch.optim.Adam",
            )
        )
    return problems
