"""A rule on a case: how it is made, its estimate, and the arguments for an oracle."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from contextlib import suppress
from functools import partialmethod
from typing import Any

from torch import Tensor

from timelocal.errors import UnsupportedError
from timelocal.losses import Loss
from timelocal.network import Network
from timelocal.rules import Estimate, Rule
from timelocal.rules.perturbation import draw_key
from timelocal.testing.cases import Case
from timelocal.typing import Place

RuleFactory = type[Rule]
DropoutMasks = tuple[Tensor | None, ...]
Arguments = tuple[Loss, Place, Tensor, Tensor, Tensor | None, Tensor | None, DropoutMasks]
"""loss, at, inputs, targets, lengths, mask, dropout masks: in the order that `reference` asks for."""


def make(rule: RuleFactory, network: Network, case: Case, **options: Any) -> Rule:
    """The rule for a case."""
    return rule(network, loss=case.loss, at=case.at, **options)


def takes(rule: RuleFactory, option: str) -> bool:
    """Whether a rule's constructor has an argument of this name."""
    return option in inspect.signature(rule).parameters


def configured(rule: RuleFactory, options: Mapping[str, Any]) -> RuleFactory:
    """The rule with other defaults, as a class; its spec is the one that an instance with them declares."""
    if not options:
        return rule
    body: dict[str, Any] = {
        "__init__": partialmethod(rule.__init__, **options), "__module__": rule.__module__
    }  # fmt: skip
    with suppress(UnsupportedError):  # options for other networks
        body["spec"] = rule(Case().network(), **options).spec
    told = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return type(f"{rule.__name__}({told})", (rule,), body)


def estimate(rule: Rule, case: Case) -> Estimate:
    """The rule's estimate on the batch of a case."""
    inputs, targets, lengths, mask = case.batch()
    return rule.estimate(inputs, targets, lengths, mask=mask)


def batch_of(rule: Rule, case: Case) -> Arguments:
    """The arguments that an oracle needs besides the network, in the order in which `reference` takes them.

    >>> import timelocal as tl
    >>> from timelocal.testing import Case, batch_of, reference
    >>> case = Case("gru")
    >>> rule = tl.BPTT(case.network())
    >>> loss, gradients = reference.bptt(rule.network, *batch_of(rule, case))
    """
    return case.loss_function(), case.at, *case.batch(), dropout_masks(rule, case)


def dropout_masks(rule: Rule, case: Case) -> DropoutMasks:
    """The masks between layers that the rule's next estimate will draw."""
    if not case.dropout:
        return ()
    network, (inputs, _, lengths, _) = rule.network, case.batch()
    drawn = copy.deepcopy(rule.generator)
    if rule.spec.draws:  # the seed of its noise comes first
        draw_key(drawn)
    return network.unroll(network.time_first(inputs), lengths, generator=drawn).dropout
