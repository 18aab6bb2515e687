"""The contract of a learning rule: what must hold for every rule, on every kind of network and batch.

    from timelocal.testing import check_rule
    print(check_rule(MyRule))    # a table; an AssertionError with that table where something is broken

First, everything that the rule declares in its `spec` is measured (`timelocal.testing.measure`): its
estimates, compared with autograd or an oracle, by statistics if it draws noise; which weights its credit
reads; streams; its requirements. Then each of `CHECKS`, a function of a rule class and a `Case`, runs over
the grid of all cases. A rule may refuse a case with an `UnsupportedError` that says what to use instead;
refusals are counted and reported.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from timelocal.errors import Problem, UnsupportedError, described, raise_problems
from timelocal.network import Network
from timelocal.rules import Estimate, Rule
from timelocal.rules.perturbation import draw_key
from timelocal.testing import reference
from timelocal.testing.cases import Case, cases
from timelocal.testing.measure import MEASURES, autograd_shut, must_help
from timelocal.testing.oracles import Oracle, expected
from timelocal.testing.report import ContractReport, Finding
from timelocal.testing.setting import RuleFactory, batch_of, configured, estimate, make
from timelocal.training.stream import Stream
from timelocal.training.stream_checks import check_stream

close = torch.testing.assert_close
exactly = partial(close, rtol=0, atol=0)
to_rounding = partial(close, rtol=1e-10, atol=1e-10)


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


_OF_THE_PAST = ("weight_hh", "recurrent.u_", "recurrent.theta_")
"""Parameters whose input is zero at the first step, because h_0 = 0."""


def is_alive(rule: RuleFactory, case: Case) -> None:
    """No gradient is zero: a zero gradient would agree with many oracles."""
    found = estimate(experienced(rule, case.network(), case), case)
    for name, gradient in found.gradients.items():
        idle = case.steps == 1 and any(kind in name for kind in _OF_THE_PAST)
        assert idle or bool((gradient != 0).any()) or _frozen_by_design(rule, name), name


def experienced(rule: RuleFactory, network: Network, case: Case) -> Rule:
    """The rule after one training call, so that a running mean of losses has its first value."""
    learner = make(rule, network, case)
    inputs, targets, lengths, mask = case.batch()
    learner(inputs, targets, lengths, mask=mask)
    return learner


def _frozen_by_design(rule: RuleFactory, name: str) -> bool:
    return rule.spec.name == "dfa-authors-code"


def accumulates(rule: RuleFactory, case: Case) -> None:
    """`backward()` of the loss and `accumulate` add the estimate to `.grad`, except for frozen parameters."""
    network = case.network()
    frozen = network.recurrent.weights(0, 0).weight_ih
    frozen.requires_grad_(False)
    found = estimate(make(rule, network, case), case)
    inputs, targets, lengths, mask = case.batch()
    start = copy.deepcopy(dict(network.named_buffers()))
    for by_backward in (False, True):
        learner = make(rule, network, case)
        if by_backward:
            loss = learner(inputs, targets, lengths, mask=mask)
            exactly(loss.detach(), found.loss)
            loss.backward()
        else:
            learner.accumulate(found)
        for name, buffer in network.named_buffers():  # buffers with a local update have moved
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
    """A rule restored from its `state_dict` continues as if it had never stopped."""
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
    """The values in the padding (NaN in these cases) change nothing."""
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

        stepwise = case.at in ("every", "ramp")
        cut_mask = None if mask is None else (own(mask) if stepwise else mask[b : b + 1])
        if cut_mask is not None and not bool((cut_mask > 0).any()):
            continue
        part = make(rule, case.network(), case).estimate(
            own(inputs),
            own(targets) if case.stepwise_targets else targets[b : b + 1],
            mask=cut_mask,
        )
        for name, gradient in part.gradients.items():
            weighted = gradient * (part.weight / whole.weight)
            total[name] = total[name] + weighted if name in total else weighted
    to_rounding(whole.gradients, total)


def rule_is_linear(rule: RuleFactory) -> bool:
    """Whether the estimate is linear in the losses (no normalisation by its own size)."""
    return rule.spec.name != "dfa-authors-code"


def reads_packed_sequences(rule: RuleFactory, case: Case) -> None:
    """A `PackedSequence` gives the same result as padding with lengths."""
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
    """A rule exact for "bptt" equals autograd through everything, and no other rule does."""
    learner = make(rule, case.network(), case)
    loss, gradients = reference.bptt(learner.network, *batch_of(learner, case))
    found = estimate(learner, case)
    if learner.spec.clean:
        to_rounding(found.loss, loss)
    if learner.spec.estimates == "exact" and learner.spec.target == "bptt":
        to_rounding(found.gradients, gradients)
        return
    if case.steps == 1:
        return  # without a past, a rule that is blind to it may well be exact
    hidden = "recurrent.weight_ih_l0"
    assert not torch.allclose(found.gradients[hidden], gradients[hidden], rtol=1e-3, atol=1e-8)


def agrees_with_its_oracle(rule: RuleFactory, case: Case) -> None:
    """A rule that draws no noise equals autograd or its oracle, as declared, up to rounding."""
    if rule.spec.draws:
        return  # `measure.estimates` tests such rules by statistics, on a few cases
    learner = make(rule, case.network(), case)
    right = expected(learner, case)
    to_rounding(estimate(learner, case).gradients, right)


def needs_no_autograd_if_it_says_so(rule: RuleFactory, case: Case) -> None:
    """Trains with every way into autograd shut (linear readouts and named losses)."""
    if not rule.spec.autograd_free or case.readout != "linear":
        return
    with autograd_shut():
        estimate(make(rule, case.network(), case), case)


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
    """The matrices D of a decorrelating network learn by their local update, and only in training."""
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
    """A rule that declares itself online refuses a stream on a network that needs the end of the sequence."""
    if not rule.spec.online:
        return
    case = replace(case, bidirectional=True, at="every")
    try:
        check_stream(make(rule, case.network(), case))
    except UnsupportedError:
        return
    raise AssertionError("an online rule accepted a stream for a bidirectional network")


def streams_as_one_call(rule: RuleFactory, case: Case) -> None:
    """With fixed weights, a stream's steps sum to the whole sequence's gradient; memory does not grow."""
    inputs, targets, lengths, mask = case.batch()
    if not rule.spec.online or case.at != "every" or case.whole or case.dropout:
        return
    if lengths is not None or case.bidirectional:
        return
    network = (
        case.network().eval()
    )  # so D is fixed too: in training every step of the stream updates it
    learner, stepwise = (experienced(rule, network, case).eval() for _ in range(2))
    key = draw_key(copy.deepcopy(learner.generator))
    whole = estimate(learner, case)
    try:
        still = torch.optim.SGD(network.parameters(), lr=0.0)
        stream = Stream(stepwise, still, case.sequences)
    except UnsupportedError as refusal:
        must_help(refusal)
        return
    if rule.spec.draws:
        stream.key = key
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
            total[name] += gradient * (step.weight / whole.weight)
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


def check_case(
    rule: RuleFactory, case: Case, report: ContractReport, *, oracle: Oracle | None = None
) -> None:
    """All checks on one case; raises at the first failure. `report` counts and keeps refusals."""
    subject = _subject(rule, oracle, {})
    for check in CHECKS:
        try:
            check(subject, case)
        except UnsupportedError as refusal:
            must_help(refusal)
            report.refused[str(case)] = str(refusal)
            return
        except Exception as broken:
            broken.add_note(f"{rule.__name__} breaks `{check.__name__}` on {case}")
            raise
        report.held += 1


def check_rule(
    rule: RuleFactory,
    *,
    oracle: Oracle | None = None,
    options: Mapping[str, Any] | None = None,
    fail_fast: bool = False,
) -> ContractReport:
    """Measure everything that a rule declares, and run all checks over all cases.

    Args:
        rule: the class.
        oracle: a function of a rule and a `Case` that returns the expected gradients (the estimate, or its
            mean), computed in some other way. A rule that declares target="oracle" must bring one (built-in
            rules have theirs, which a subclass inherits).
        options: arguments of its constructor that differ from the defaults. When draws are measured, `sigma`
            is set to 1e-4, so that the loss is linear in the noise, or to 0.1 if their variance grows as
            1/σ².
        fail_fast: whether to stop at the first broken property or case.

    Returns a report; its `str` is a table.

    Raises:
        AssertionError: with that table, if anything is broken.
        ArgumentError: if `rule` is not a class of rules.

    >>> import timelocal as tl
    >>> from timelocal.testing import check_rule
    >>> check_rule(tl.BPTT).refused
    {}

    Rules that draw noise are judged by the mean of enough draws K to detect a factor of two, a flipped sign
    or unrelated noise: ‖mean − target‖² / (tr Σ / K) is compared with a quantile of its distribution, which
    has (tr Σ)² / tr Σ² degrees of freedom, for the recurrent parameters, the readout's, and each parameter
    alone. A correct rule fails with a probability of one in a million; seeds are fixed, so the outcome
    repeats.
    """
    raise_problems([_class_problem(rule)])
    subject = _subject(rule, oracle, options or {})
    report = ContractReport(subject.__name__)
    for measure in MEASURES:
        finding = _measured(measure, subject)
        report.findings += [] if finding is None else [finding]
        _stop(report, fail_fast)
    for case in cases():
        _collect(subject, case, report)
        _stop(report, fail_fast)
    _stop(report, True)
    return report


def _class_problem(rule: object) -> Problem | None:
    if isinstance(rule, type) and issubclass(rule, Rule):
        return None
    return Problem("rule", described(rule), "the class of a rule, such as tl.DFA")


def _subject(rule: RuleFactory, oracle: Oracle | None, options: Mapping[str, Any]) -> RuleFactory:
    """The rule with these options as its defaults, and with the oracle."""
    subject = configured(rule, options)
    if oracle is None:
        return subject
    body = {"brought_oracle": staticmethod(oracle), "__module__": rule.__module__}
    return type(subject.__name__, (subject,), body)


def _measured(
    measure: Callable[[RuleFactory], Finding | None], rule: RuleFactory
) -> Finding | None:
    """One measurement; if it raises, the property counts as broken."""
    try:
        return measure(rule)
    except Exception as broken:  # a user's rule may raise anything
        declared = getattr(rule.spec, measure.__name__, "")
        return Finding(
            measure.__name__, str(declared), "it raised", ok=False, details=(_told(broken),)
        )


def _collect(rule: RuleFactory, case: Case, report: ContractReport) -> None:
    """All checks on one case, whatever breaks."""
    for check in CHECKS:
        try:
            check(rule, case)
        except UnsupportedError as refusal:
            report.refused[str(case)] = str(refusal)
            if "Use " in str(refusal):
                return
            text = f"on {case}: a refusal that names no alternative: {refusal}"
            report.failures.setdefault(check.__name__, []).append(text)
            return
        except Exception as broken:  # a user's rule may raise anything
            report.failures.setdefault(check.__name__, []).append(f"on {case}: {_told(broken)}")
        else:
            report.held += 1


def _told(error: Exception) -> str:
    """The text of an error, with its type unless it is an AssertionError; long comparisons are shortened."""
    text = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(lines[:10]) or type(error).__name__


def _stop(report: ContractReport, now: bool) -> None:
    if now and not report.ok:
        raise AssertionError(str(report))


__all__ = ["CHECKS", "ContractReport", "check_case", "check_rule"]
