"""The checks on the arguments of `fit`."""

from __future__ import annotations

import inspect
import math

from torch.optim import Optimizer

from timelocal.arguments import as_real, flag_problem, is_flag, seed_problem, whole_problem
from timelocal.data import Sequences
from timelocal.errors import Problem, UnsupportedError, described, raise_problems
from timelocal.rules import Rule
from timelocal.training.stream import check_stream, optimizer_problem, rule_problem


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
) -> None:
    """Raise an `ArgumentError` that lists all that is wrong."""
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
    if clip is not None and not 0 < as_real(clip) < math.inf:
        problems.append(Problem("clip", described(clip), "a positive finite number, or None"))
    elif is_flag(online) and online and clip is not None:
        remedy = "Clipping is for whole batches: leave it out."
        problems.append(Problem("clip", described(clip), "None with online=True", remedy))
    raise_problems(problems)


def check_online(rule: Rule, train: Sequences) -> None:
    """A stream needs a rule that streams, and sequences that go side by side to the end.

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
