"""The contract of a learning rule: what must hold for every one, over every kind of network and batch.

    from timelocal.testing import check_rule
    report = check_rule(MyRule)          # raises AssertionError at the first broken promise

Each check is a function of a rule class and a `Case`; `CHECKS` lists them all. A rule may refuse a case
with an `UnsupportedError` that says what to use instead; that is counted, never silent.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast
from unittest import mock

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from timelocal.errors import UnsupportedError
from timelocal.network import Network
from timelocal.rules import DFA, RFLO, TBPTT, EProp, Estimate, Rule
from timelocal.rules.feedback_rule import FeedbackRule
from timelocal.rules.perturbation import draw_key
from timelocal.testing import reference
from timelocal.testing.cases import Case, cases
from timelocal.training.stream import Stream, check_stream
from timelocal.typing import Gradients

RuleFactory = type[Rule]
close = torch.testing.assert_close
exactly = partial(close, rtol=0, atol=0)
to_rounding = partial(close, rtol=1e-10, atol=1e-10)


def make(rule: RuleFactory, network: Network, case: Case, **options: Any) -> Rule:
    """The rule for a case; a rule without a choice of place (`at`) refuses the other one."""
    if "at" in inspect.signature(rule).parameters:
        return rule(network, loss=case.loss, at=case.at, **options)
    learner = rule(network, loss=case.loss, **options)
    if learner.at != case.at:
        raise UnsupportedError(f"at: {rule.__name__} has no choice of it. Use DFA or BPTT.")
    return learner


def estimate(rule: Rule, case: Case) -> Estimate:
    inputs, targets, lengths, mask = case.batch()
    return rule.estimate(inputs, targets, lengths, mask=mask)


def same(one: Estimate, other: Estimate) -> None:
    """Bit for bit."""
    exactly(one.loss, other.loss)
    exactly(one.gradients, other.gradients)


def deterministic(rule: RuleFactory, case: Case) -> bool:
    """Whether the rule draws nothing while it estimates."""
    return not rule.spec.draws and not case.dropout


def estimates_purely(rule: RuleFactory, case: Case) -> None:
    """Names, shapes and dtypes are the parameters'; everything is finite; nothing is written."""
    network = case.network()
    learner = make(rule, network, case)
    before = copy.deepcopy((network.state_dict(), dict(learner.named_buffers())))
    found = estimate(learner, case)
    for name, parameter in network.named_parameters():
        assert found.gradients[name].shape == parameter.shape, name
        assert found.gradients[name].dtype == parameter.dtype, name
        assert found.gradients[name].isfinite().all(), name
        assert parameter.grad is None, f"estimate wrote to {name}.grad"
    assert set(found.gradients) == {name for name, _ in network.named_parameters()}
    assert found.loss.shape == ()
    assert found.loss.isfinite()
    assert not found.loss.requires_grad
    exactly((network.state_dict(), dict(learner.named_buffers())), before)


def is_alive(rule: RuleFactory, case: Case) -> None:
    """Every gradient moves: a zero gradient would agree with many oracles."""
    found = estimate(make(rule, case.network(), case), case)
    for name, gradient in found.gradients.items():
        idle = case.steps == 1 and "weight_hh" in name  # h_0 = 0: nothing enters it
        assert idle or bool((gradient != 0).any()) or _frozen_by_design(rule, name), name


def _frozen_by_design(rule: RuleFactory, name: str) -> bool:
    return rule.spec.name == "dfa-authors-code"


def accumulates(rule: RuleFactory, case: Case) -> None:
    """`rule(...).backward()` adds the estimate to `.grad`; it leaves frozen parameters alone."""
    network = case.network()
    frozen = network.recurrent.weights(0, 0).ih
    frozen.requires_grad_(False)
    found = estimate(make(rule, network, case), case)
    inputs, targets, lengths, mask = case.batch()
    start = copy.deepcopy(dict(network.named_buffers()))
    for _ in range(2):
        loss = make(rule, network, case)(inputs, targets, lengths, mask=mask)
        exactly(loss.detach(), found.loss)
        loss.backward()
        for name, buffer in network.named_buffers():  # what learns by a law of its own has moved
            exactly(buffer, start[name] + found.local_updates.get(f"network.{name}", 0))
            buffer.copy_(start[name])
    for name, parameter in network.named_parameters():
        if parameter is frozen:
            assert parameter.grad is None
        else:
            to_rounding(parameter.grad, 2 * found.gradients[name])


def is_seeded(rule: RuleFactory, case: Case) -> None:
    """The same seed gives the same estimate, whatever the global generator does."""
    network = case.network()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        one = estimate(make(rule, network, case, seed=7), case)
        torch.manual_seed(2)
        other = estimate(make(rule, network, case, seed=7), case)
        same(one, other)


def state_survives(rule: RuleFactory, case: Case) -> None:
    """A rule restored from its `state_dict` goes on as if it had never stopped."""
    network = case.network()
    one, other = make(rule, network, case, seed=1), make(rule, network, case, seed=2)
    estimate(one, case)
    state = one.state_dict()
    assert all(isinstance(value, Tensor) for value in state.values())
    assert {f"network.{name}" for name in network.state_dict()} <= state.keys()
    assert list(map(id, one.parameters())) == list(map(id, network.parameters()))
    other.load_state_dict({name: value.clone() for name, value in state.items()})
    same(estimate(one, case), estimate(other, case))


def survives_a_copy(rule: RuleFactory, case: Case) -> None:
    """`copy.deepcopy` of a rule copies the network with it, and the copy estimates the same."""
    one = make(rule, case.network(), case)
    other = copy.deepcopy(one)
    assert other.network is not one.network
    same(estimate(one, case), estimate(other, case))


def ignores_padding(rule: RuleFactory, case: Case) -> None:
    """What stands in the padding (NaN here, in the cases) changes nothing."""
    inputs, targets, lengths, mask = case.batch()
    if lengths is None:
        return
    clean = inputs.nan_to_num(0.5)
    one = make(rule, case.network(), case).estimate(inputs, targets, lengths, mask=mask)
    other = make(rule, case.network(), case).estimate(clean, targets, lengths, mask=mask)
    same(one, other)


def is_the_mean_of_its_members(rule: RuleFactory, case: Case) -> None:
    """A batch's gradients are the mean of its sequences' own, each cut to its length."""
    inputs, targets, lengths, mask = case.batch()
    if not deterministic(rule, case) or not rule_is_linear(rule):
        return
    whole = estimate(make(rule, case.network(), case), case)
    total: dict[str, Tensor] = {}
    for b in range(case.sequences):
        steps = case.steps if lengths is None else int(lengths[b])
        time = 1 if case.batch_first else 0

        def own(values: Tensor, b: int = b, steps: int = steps, time: int = time) -> Tensor:
            one = values.narrow(1 - time, b, 1)
            return one.narrow(time, 0, steps)

        stepwise = case.at == "every"
        cut_mask = None if mask is None else (own(mask) if stepwise else mask[b : b + 1])
        if cut_mask is not None and not bool((cut_mask > 0).any()):
            continue
        part = make(rule, case.network(), case).estimate(
            own(inputs), own(targets) if stepwise else targets[b : b + 1], mask=cut_mask
        )
        for name, gradient in part.gradients.items():
            weighted = gradient * (part.count / whole.count)
            total[name] = total[name] + weighted if name in total else weighted
    to_rounding(whole.gradients, total)


def rule_is_linear(rule: RuleFactory) -> bool:
    """Whether the estimate is linear in the losses (no normalisation by its own size)."""
    return rule.spec.name != "dfa-authors-code"


def reads_packed_sequences(rule: RuleFactory, case: Case) -> None:
    """A `PackedSequence` says the same as padding with lengths."""
    inputs, targets, lengths, mask = case.batch()
    if lengths is None:
        return
    packed = pack_padded_sequence(
        inputs.nan_to_num(), lengths, batch_first=case.batch_first, enforce_sorted=False
    )
    one = make(rule, case.network(), case).estimate(inputs, targets, lengths, mask=mask)
    other = make(rule, case.network(), case).estimate(packed, targets, mask=mask)
    same(one, other)


def is_exact_if_it_says_so(rule: RuleFactory, case: Case) -> None:
    """A rule exact for "bptt" equals autograd through everything; no other is that one in disguise."""
    network = case.network()
    learner = make(rule, network, case)
    inputs, targets, lengths, mask = case.batch()
    masks = _dropout_masks(learner, case)
    loss, gradients = reference.bptt(
        network, case.loss_function(), case.at, inputs, targets, lengths, mask, masks
    )
    found = learner.estimate(inputs, targets, lengths, mask=mask)
    to_rounding(found.loss, loss)
    if rule.spec.estimates == "exact" and rule.spec.target == "bptt":
        to_rounding(found.gradients, gradients)
        return
    if case.steps == 1:
        return  # without a past, a rule that is blind to it may well be exact
    hidden = "recurrent.weight_ih_l0"
    assert not torch.allclose(found.gradients[hidden], gradients[hidden], rtol=1e-3, atol=1e-8)


Oracle = Callable[[Rule, Case], Gradients]
"""What a rule's gradients should be on a case, computed some other way."""


def feedback_oracle(rule: Rule, case: Case) -> Gradients:
    """Autograd of the surrogate, or traces by autograd, with the rule's own feedback matrices."""
    assert isinstance(rule, FeedbackRule)
    inputs, targets, lengths, mask = case.batch()
    batch = (case.loss_function(), case.at, inputs, targets, lengths, mask)
    masks = _dropout_masks(rule, case)
    if rule.trace == "none":
        return reference.dfa(rule.network, rule.feedback_matrix, *batch, masks)
    return reference.traced(rule.network, rule.feedback_matrix, rule.trace, *batch, masks)


def tbptt_oracle(rule: Rule, case: Case) -> Gradients:
    """Autograd through windows of the rule's k steps."""
    assert isinstance(rule, TBPTT)
    batch = case.batch()
    masks = _dropout_masks(rule, case)
    return reference.tbptt(rule.network, rule.k, case.loss_function(), case.at, *batch, masks)


ORACLES: dict[str, Oracle] = {
    **{rule.spec.name: feedback_oracle for rule in (DFA, RFLO, EProp)},
    TBPTT.spec.name: tbptt_oracle,
}
"""By the rule's name. A biased rule without an oracle here is not checked for what it computes: add
yours before you call `check_rule`."""


def agrees_with_its_oracle(rule: RuleFactory, case: Case) -> None:
    """A rule with an oracle equals it to rounding; one exact for another target than BPTT's has one."""
    oracle = ORACLES.get(rule.spec.name)
    if oracle is None:
        other = rule.spec.estimates == "exact" and rule.spec.target != "bptt"
        assert not other, f"exact for {rule.spec.target!r}, by no oracle in ORACLES"
        return
    learner = make(rule, case.network(), case)
    expected = oracle(learner, case)
    to_rounding(estimate(learner, case).gradients, expected)


def _dropout_masks(rule: Rule, case: Case) -> tuple[Tensor | None, ...]:
    """The masks between layers that the rule's next estimate will draw."""
    if not case.dropout:
        return ()
    network, (inputs, _, lengths, _) = rule.network, case.batch()
    drawn = copy.deepcopy(rule.generator)
    if rule.spec.draws:  # the seed of its noise comes first
        draw_key(drawn)
    return network.unroll(network.time_first(inputs), lengths, generator=drawn).dropout


def needs_no_autograd_if_it_says_so(rule: RuleFactory, case: Case) -> None:
    """Trains with every way into autograd shut (linear readouts and named losses)."""
    if not rule.spec.autograd_free or case.readout != "linear":
        return
    with autograd_shut():
        estimate(make(rule, case.network(), case), case)


@contextmanager
def autograd_shut() -> Iterator[None]:
    """Any backward pass, and any graph that is built, raises."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a rule that declares itself free of autograd used it")

    with (
        mock.patch("torch.autograd.grad", refuse),
        mock.patch("torch.autograd.backward", refuse),
        mock.patch("torch.Tensor.backward", refuse),
        torch.autograd.graph.saved_tensors_hooks(
            cast(Callable[[Tensor], Any], refuse), cast(Callable[[Any], Tensor], refuse)
        ),
    ):
        yield


def evaluates_without_a_trace(rule: RuleFactory, case: Case) -> None:
    """`evaluate` changes neither network, rule nor generator, and uses no dropout."""
    network = case.network()
    learner = make(rule, network, case)
    before = copy.deepcopy((network.state_dict(), learner.state_dict()))
    inputs, targets, lengths, mask = case.batch()
    one = learner.evaluate(inputs, targets, lengths, mask=mask)
    other = learner.evaluate(inputs, targets, lengths, mask=mask)
    exactly(one.loss, other.loss)
    exactly((network.state_dict(), learner.state_dict()), before)


def decorrelates(rule: RuleFactory, case: Case) -> None:
    """The matrices D of a network that decorrelates learn, by their own law, and in training only."""
    network = case.network()
    learner = make(rule, network, case)
    found = estimate(learner, case).local_updates
    mine = {name: step for name, step in found.items() if "decorrelation" in name}
    names = network.recurrent.decorrelation_names() if case.decorrelate else []
    assert set(mine) == {f"network.recurrent.{name}" for name in names}
    if case.decorrelate and deterministic(rule, case):
        inputs, _, lengths, _ = case.batch()
        to_rounding(mine, reference.decorrelation_steps(network, inputs, lengths))
    network.eval()
    assert not mine.keys() & estimate(learner, case).local_updates.keys()


def refuses_both_directions_online(rule: RuleFactory, case: Case) -> None:
    """A rule that says it learns online refuses to on a network that needs the end of the sequence."""
    if not rule.spec.online:
        return
    case = replace(case, bidirectional=True, at="every")
    try:
        check_stream(make(rule, case.network(), case))
    except UnsupportedError:
        return
    raise AssertionError("an online rule accepted a stream for a bidirectional network")


def streams_as_one_call(rule: RuleFactory, case: Case) -> None:
    """While weights stay, the steps of a stream add up to the whole sequence; its memory does not grow."""
    inputs, targets, lengths, mask = case.batch()
    if not rule.spec.online or case.at == "last" or case.dropout:
        return
    if lengths is not None or case.bidirectional:
        return
    network = case.network().eval()  # D stays too: it would move at every step of the stream
    learner, stepwise = make(rule, network, case), make(rule, network, case)
    whole = estimate(learner, case)
    try:
        still = torch.optim.SGD(network.parameters(), lr=0.0)
        stream = Stream(stepwise, still, case.sequences)
    except UnsupportedError as refusal:
        _must_help(refusal)
        return
    if rule.spec.draws:
        stream.key = draw_key(make(rule, network, case).generator)
    shapes = {name: kept.shape for name, kept in stream.memory.items()}
    for name, kept in stream.memory.items():
        assert len(kept) == case.sequences, f"the batch is not the first axis of {name}"
        assert not kept.any(), f"{name} does not begin at zero"
    total = {name: torch.zeros_like(own) for name, own in whole.gradients.items()}
    time = 1 if case.batch_first else 0
    for t in range(case.steps):
        own_mask = None if mask is None else mask.select(time, t)
        if own_mask is not None and not bool((own_mask > 0).any()):
            continue
        step = stream.step(
            inputs.select(time, t), targets.select(time, t), mask=own_mask, gradients=True
        )
        to_rounding(step.outputs, whole.outputs.select(time, t))
        assert {name: kept.shape for name, kept in stream.memory.items()} == shapes
        for name, gradient in step.gradients.items():
            total[name] += gradient * (step.count / whole.count)
    to_rounding(whole.gradients, total)


CHECKS: tuple[Callable[[RuleFactory, Case], None], ...] = (
    estimates_purely,
    is_alive,
    accumulates,
    is_seeded,
    state_survives,
    survives_a_copy,
    ignores_padding,
    is_the_mean_of_its_members,
    reads_packed_sequences,
    is_exact_if_it_says_so,
    agrees_with_its_oracle,
    needs_no_autograd_if_it_says_so,
    evaluates_without_a_trace,
    decorrelates,
    refuses_both_directions_online,
    streams_as_one_call,
)


@dataclass
class ContractReport:
    """How much was checked: (case, check) pairs that held, and cases refused with the reason."""

    held: int = 0
    refused: dict[str, str] = field(default_factory=dict)


def _must_help(refusal: UnsupportedError) -> None:
    assert "Use " in str(refusal), f"a refusal that names no alternative: {refusal}"


def check_case(rule: RuleFactory, case: Case, report: ContractReport) -> None:
    """All checks on one case; a refusal must say what was given and what to use instead."""
    for check in CHECKS:
        try:
            check(rule, case)
        except UnsupportedError as refusal:
            _must_help(refusal)
            report.refused[str(case)] = str(refusal)
            return
        except Exception as broken:
            broken.add_note(f"{rule.__name__} breaks `{check.__name__}` on {case}")
            raise
        report.held += 1


def check_rule(rule: RuleFactory) -> ContractReport:
    """Run the whole contract over a rule class; raises AssertionError at the first broken promise.

    >>> import timelocal as tl
    >>> from timelocal.testing import check_rule
    >>> check_rule(tl.BPTT).refused
    {}
    """
    report = ContractReport()
    for case in cases():
        check_case(rule, case, report)
    return report


__all__ = ["CHECKS", "ContractReport", "check_case", "check_rule"]
