"""What a stream requires of its rule and its optimizer."""

from __future__ import annotations

from torch.optim import Optimizer

from timelocal.distributed import ranks
from timelocal.errors import Problem, UnsupportedError, described
from timelocal.fast.optimizers import held_parameters
from timelocal.network import Network
from timelocal.rules import Rule


def check_stream(rule: Rule) -> None:
    """Raise an `UnsupportedError` for a rule or a network that cannot learn from a stream."""
    if not rule.spec.online:
        raise UnsupportedError(
            f"stream: got the rule {rule.spec.name!r}, expected one that learns online. Use TBPTT, "
            "DFA, RFLO, e-prop or a perturbation rule."
        )
    if rule.network.directions > 1:
        raise UnsupportedError(
            "stream: got a bidirectional network, expected one direction: the backward one starts at the end "
            "of the sequence. Use whole sequences."
        )
    if rule.network.cell.penalised:
        raise UnsupportedError(
            f"stream: got {rule.network.cell!r}, expected a cell without a penalty on its activity: a step "
            "has no mean over time. Use whole sequences, or rate=None."
        )


def check_late(rule: Rule, max_delay: int) -> None:
    """Raise an `UnsupportedError` for late targets with buffers that have their own learning rule."""
    if max_delay and rule.learns_locally:
        raise UnsupportedError(
            f"max_delay: got {max_delay} with the rule {rule.spec.name!r}, in which D, a feedback or a mean "
            "of losses is updated at every step by its own rule, expected 0: such updates cannot be made "
            "late. Use max_delay=0, or no decorrelate, a fixed feedback and no baseline_decay."
        )


def check_ranks(sync: bool | None) -> None:
    """Raise an `UnsupportedError` in a process group, unless `sync` is False."""
    if ranks() > 1 and (sync is None or sync):
        raise UnsupportedError(
            f"stream: got a process group of {ranks()} ranks, expected one process: a stream updates weights "
            "at every step, bypassing DDP, and the ranks would drift apart. Use rule(inputs, targets) under "
            "DDP, or sync=False for a separate stream on every rank."
        )


def rule_problem(rule: object) -> Problem | None:
    """A problem unless `rule` is a learning rule."""
    if isinstance(rule, Rule):
        return None
    return Problem("rule", described(rule), "a learning rule such as tl.DFA(network)")


def optimizer_problem(network: Network, optimizer: object) -> Problem | None:
    """A problem if the optimizer holds no parameter of the network: it would train nothing."""
    if not isinstance(optimizer, Optimizer):
        return Problem("optimizer", described(optimizer), "an optimizer of torch.optim")
    held = held_parameters(optimizer)
    if any(id(parameter) in held for parameter in network.parameters()):
        return None
    got = "none of the parameters of the rule's network"
    remedy = "Build it from `rule.parameters()`"
    return Problem("optimizer", got, "some of them", remedy)
