"""Measurements of everything that a rule declares, on small networks in float64.

Each function of `MEASURES` takes a rule class and returns a `Finding`, or None if the rule declares nothing
there. A case that the rule refuses is skipped; a refusal must name an alternative.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast
from unittest import mock

import torch
from torch import Tensor

from timelocal.cells import BlackBox, CellWeights, LayerTrajectory
from timelocal.errors import UnsupportedError
from timelocal.network import Network, black_box
from timelocal.rules import Rule
from timelocal.rules.batch import arrange
from timelocal.testing.cases import CELLS, Case
from timelocal.testing.oracles import expected
from timelocal.testing.report import Finding
from timelocal.testing.setting import RuleFactory, estimate, make, takes
from timelocal.testing.statistics import Verdict, judge
from timelocal.typing import Gradients, State

FALSE_ALARM = 1e-6
"""The probability that a correct rule that draws noise fails, over all its cases and numbers of draws."""
MOST_DRAWS = 2**14
"""The number of estimates for one case after which a rule that draws noise counts as undecided."""
_FIRST_DRAWS = 64
_SIDE_BY_SIDE = 16
"""Copies of a batch in one estimate of an unbiased rule, whose target does not depend on their number."""
_REACH = 0.5
"""|1 − 1/c| of the smallest factor c that the draws must be able to detect: ×2."""
SMALL_SIGMA = 1e-4
"""The noise of a rule with a `sigma`: small enough, in float64, for losses to be linear in it."""
LARGE_SIGMA = 0.1
"""The noise of a rule whose variance grows as 1/σ²: the nonlinear part is far below a factor of two."""

DETERMINISTIC_CASES = (
    *(Case(cell, at=at) for at in ("every", "last") for cell in CELLS),
    Case("rnn", at="every", loss="mse", layers=2, unequal=True),
    Case("gru", at="last", layers=2, unequal=True),
    Case("lstm", at="every", mask=True, bidirectional=True),
    Case("rnn", at="last", decorrelate=True),
)
"""The cases for rules that draw no noise, which must be exact up to rounding."""


class LivelyCase(Case):
    """A smaller case, in which hidden units move the loss much more than noise on the outputs does.

    Few draws then suffice: their variance grows with the number of nodes or weights.
    """

    INPUTS = 1
    HIDDEN = 2
    OUTPUTS = 2

    def network(self) -> Network:
        """The network of `Case`, with a readout twice as strong."""
        network = super().network()
        with torch.no_grad():
            network.readout.get_parameter("weight").mul_(2)
        return network


DRAWN_CASES = (
    LivelyCase("rnn", at="every", loss="mse", sequences=2, steps=3, seed=2),
    LivelyCase("gru", at="last", sequences=2, steps=2, seed=2),
    LivelyCase("lstm", at="every", loss="mse", sequences=2, steps=2, seed=2),
    LivelyCase("rnn", at="every", loss="mse", sequences=2, steps=3, layers=2, unequal=True, seed=3),
    LivelyCase("rnn", at="last", sequences=2, steps=3, seed=5),
)
"""The cases for rules that draw noise, measured by statistics; the liveliest of ten seeds."""


def must_help(refusal: UnsupportedError) -> None:
    """A refusal says what was given and what to use instead."""
    assert "Use " in str(refusal), f"a refusal that names no alternative: {refusal}"


def taken(rule: RuleFactory, cases: Sequence[Case], **options: Any) -> Iterator[tuple[Case, Rule]]:
    """Each case that the rule does not refuse, with the rule on it."""
    for case in cases:
        try:
            learner = make(rule, case.network(), case, **options)
            estimate(copy.deepcopy(learner), case)
        except UnsupportedError as refusal:
            must_help(refusal)
        else:
            yield case, learner


def _cases(count: int) -> str:
    return "1 case" if count == 1 else f"{count} cases"


# --- estimates ---------------------------------------------------------------------------------


def estimates(rule: RuleFactory) -> Finding:
    """The estimate, or its mean, is the declared target."""
    spec = rule.spec
    sigma = SMALL_SIGMA if spec.variance == "bounded" else LARGE_SIGMA
    small = {"sigma": sigma} if takes(rule, "sigma") else {}
    cases = DRAWN_CASES if spec.draws else DETERMINISTIC_CASES
    details, wrong, smallest = [], False, 1.0
    for case, learner in taken(rule, cases, **small):
        right = expected(learner, case)
        if not spec.draws:
            found = _blocks(estimate(learner, case).gradients)
            off = [_off(name, found[name], own) for name, own in _blocks(right).items()]
            told = [text for text in off if text]
            wrong |= bool(told)
            details += [f"✗ {case}: {'; '.join(told)}"] if told else []
            details += [] if told else [f"{case}: to rounding"]
            if wrong:
                break
            continue
        verdicts = judged(learner, case, right)
        details += [_told(case, name, verdict) for name, verdict in verdicts.items()]
        wrong |= any(not verdict.ok for verdict in verdicts.values())
        smallest = max(smallest, *(v.verdict.smallest_factor for v in verdicts.values()))
        if wrong:
            break
    declared = f"{spec.estimates}, {spec.target}"
    if not details:
        return Finding("estimates", declared, "nothing: every case was refused", ok=False)
    count = _cases(len({text.split(":")[0] for text in details}))
    if wrong:
        measured = "something else"
    elif spec.draws:
        measured = f"as declared on average, on {count} (detectable: ×{smallest:.2f}, a flipped sign, noise)"
    else:
        measured = f"as declared to rounding, on {count}"
    return Finding("estimates", declared, measured, not wrong, tuple(details))


def _blocks(gradients: Gradients) -> dict[str, Tensor]:
    """All recurrent parameters as one row, all readout parameters as one row, and every parameter alone."""
    rows = {name: gradients[name].flatten().double() for name in sorted(gradients)}
    found = {}
    for block in BLOCKS:
        parts = [own for name, own in rows.items() if name.startswith(block)]
        if parts:
            found[block] = torch.cat(parts)
    return found | rows


BLOCKS = ("recurrent", "readout")
"""The blocks that are judged separately: an exact readout must not hide wrong recurrent weights."""


def _off(name: str, found: Tensor, right: Tensor) -> str:
    """How a gradient differs from the expected one, in words; empty if it does not."""
    size = float(right.norm())
    away = float((found - right).norm())
    if away <= 1e-9 * size + 1e-10:
        return ""
    return f"{name} is {_compared(found, right)}"


def _compared(found: Tensor, right: Tensor) -> str:
    size, own = float(right.norm()), float(found.norm())
    if not size or not own:
        return f"of size {own:.3g} where {size:.3g} is right"
    cosine = float(found @ right) / (size * own)
    return f"{own / size:.3g} times as large as its target, at a cosine of {cosine:.3f}"


@dataclass(frozen=True)
class Judged:
    """The verdict on one block, and the reason in words if it fails."""

    verdict: Verdict
    wrong: str = ""

    @property
    def ok(self) -> bool:
        return not self.wrong


def judged(rule: Rule, case: Case, right: Gradients) -> dict[str, Judged]:
    """Draw until, for each block, the target is rejected or a factor of two would have been detected.

    The draws are independent estimates. For a rule that declares itself unbiased, each is over several copies
    of the batch, whose mean gradient is the same.
    """
    target = _blocks(right)
    inputs, targets, lengths, _ = case.batch()
    copies = _SIDE_BY_SIDE if rule.spec.estimates == "unbiased" else 1
    inputs, targets = (torch.cat([own] * copies) for own in (inputs, targets))
    lengths = None if lengths is None else lengths.repeat(copies)
    stages = (MOST_DRAWS // _FIRST_DRAWS).bit_length()
    error = FALSE_ALARM / (stages * len(target) * len(DRAWN_CASES))
    drawn: dict[str, list[Tensor]] = {name: [] for name in target}
    count = _FIRST_DRAWS
    while True:
        while len(drawn[BLOCKS[0]]) < count:
            found = _blocks(rule.estimate(inputs, targets, lengths).gradients)
            for name, rows in drawn.items():
                rows.append(found[name])
        stacked = {name: torch.stack(rows) for name, rows in drawn.items()}
        verdicts = {name: judge(stacked[name], own, error) for name, own in target.items()}
        refuted = {
            name: Judged(verdict, f"the mean is {_compared(stacked[name].mean(0), target[name])}")
            for name, verdict in verdicts.items()
            if verdict.rejected
        }
        if refuted:
            return refuted
        blocks = {name: verdicts[name] for name in BLOCKS if name in verdicts}
        if all(verdict.reach <= _REACH for verdict in blocks.values()):
            return {name: Judged(verdict) for name, verdict in blocks.items()}
        if count >= MOST_DRAWS:
            text = "undecided: a factor of two would not have been detected. The variance must be lower"
            return {
                name: Judged(verdict, text if verdict.reach > _REACH else "")
                for name, verdict in blocks.items()
            }
        count *= 2


def _told(case: Case, name: str, found: Judged) -> str:
    verdict = found.verdict
    told = f"{verdict.statistic:.2f} of at most {verdict.bound:.2f} in {verdict.draws} draws"
    if not verdict.degrees:
        told = "all draws the same"
    if found.ok:
        return f"{case}: {name}: {told}; caught: {verdict.caught()}"
    return f"✗ {case}: {name}: {told}: {found.wrong}"


# --- weight transport -----------------------------------------------------------------------------


def weight_transport(rule: RuleFactory) -> Finding:
    """The weights read after all forward passes, on instances that declare this and on others."""
    details, wrong, read, declared = [], False, False, []
    for case, learner in _transport_cases(rule):
        names = weights_read(learner, case)
        declares = learner.spec.weight_transport
        declared.append(declares)
        read |= bool(names)
        bad = bool(names) and not declares
        wrong |= bad
        kind = "black box, " if isinstance(learner.network.cell, BlackBox) else ""
        details.append(f"{'✗ ' if bad else ''}{kind}{case}: {', '.join(names) or 'none'}")
    idle = any(declared) and not read
    told = "reads weights only where declared" if any(declared) else "reads none"
    if wrong:
        told = "reads weights where it declares none"
    if idle:
        told = "reads none on any instance that declares it"
    says = {True: "yes", False: "no"}.get(all(declared), "no") if declared else "no"
    says = "on some networks" if len(set(declared)) > 1 else says
    return Finding("weight_transport", says, told, not (wrong or idle), tuple(details))


_TRANSPORT_CASES = tuple(
    replace(
        case, at=at, mask=True, loss="mse"
    )  # with a mask, no single native call does everything
    for case in (
        Case("rnn"),
        Case("gru"),
        Case("gru-reset-before"),
        Case("lstm"),
        Case("rnn", layers=2),
    )
    for at in ("every", "last")
)


def _transport_cases(rule: RuleFactory) -> Iterator[tuple[Case, Rule]]:
    if not rule.spec.derivative_free:
        yield from taken(rule, _TRANSPORT_CASES)
        return
    for case in (c for c in _TRANSPORT_CASES if c.cell == "rnn"):
        try:
            learner = make(rule, device_network(case), case)
            estimate(copy.deepcopy(learner), case)
        except UnsupportedError as refusal:
            must_help(refusal)
        else:
            yield case, learner


def weights_read(rule: Rule, case: Case) -> list[str]:
    """The weights that the credit of recurrent parameters reads, by the network's names.

    A weight is read if the estimate of any recurrent parameter changes when the weight is altered after the
    forward passes: a recurrent weight after the network's last run, the readout after the last loss was
    computed. In weight_hh only entries between different units are altered, since a unit may know its weight
    to itself. Reading a weight within a forward pass, clean or noisy, is not transport; a rule that needs no
    derivative is tested on a black box, whose pre-activations are measured and not recomputed.
    """
    generator = torch.Generator().manual_seed(1)
    kept = _altered_late(rule, case, "", generator)
    found = []
    for name, parameter in rule.network.named_parameters():
        if parameter.dim() < 2:
            continue
        other = _altered_late(rule, case, name, generator)
        for own in kept:
            if own.startswith("recurrent") and _differ(kept[own], other[own]):
                found.append(name)
                break
    return found


def _differ(one: Tensor, other: Tensor) -> bool:
    return float((one - other).norm()) > 1e-9 * float(one.norm())


def _altered_late(rule: Rule, case: Case, name: str, generator: torch.Generator) -> Gradients:
    """Gradients with a weight altered after the last run (or, for the readout, the last loss)."""
    waits = not name.startswith("recurrent")
    _, runs = _watched(copy.deepcopy(rule), case, waits, None, lambda _: None)
    subject = copy.deepcopy(rule)

    def alter(network: Network) -> None:
        if not name:
            return
        weight = network.get_parameter(name).data
        other = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        if "weight_hh" in name:
            blocks = other.unflatten(0, (-1, other.shape[1]))
            own = weight.unflatten(0, (-1, other.shape[1]))
            blocks.diagonal(dim1=1, dim2=2).copy_(own.diagonal(dim1=1, dim2=2))
        weight.copy_(other)

    return _watched(subject, case, waits, runs, alter)[0]


def _watched(
    rule: Rule, case: Case, waits: bool, last: int | None, act: Callable[[Network], None]
) -> tuple[Gradients, int]:
    """An estimate, during which `act` is called after forward pass number `last`.

    waits: whether computing a loss counts as well as running the network. Also returns the number of these
    calls.
    """
    network, done = rule.network, 0

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal done
            result = function(*args, **options)
            done += 1
            if done == last:
                act(network)
            return result

        return call

    kind = type(rule.loss)
    with mock.patch.object(network, "unroll", watched(network.unroll)):
        if not waits:
            return estimate(rule, case).gradients, done
        with (
            mock.patch.object(kind, "losses", watched(kind.losses)),
            mock.patch.object(kind, "losses_and_errors", watched(kind.losses_and_errors)),
        ):
            return estimate(rule, case).gradients, done


# --- streams ---------------------------------------------------------------------------------------


def online(rule: RuleFactory) -> Finding | None:
    """A rule that declares itself online learns from a stream in memory that does not grow."""
    if not rule.spec.online:
        return None
    cases = (
        Case("rnn", at="every", loss="mse"),
        Case("lstm", at="every"),
        Case("rnn", at="every", layers=2),
    )
    details: list[str] = []
    wrong = False
    for case, learner in taken(rule, cases):
        try:
            text = _stream_of(learner, case, watch=not details)
        except NotImplementedError:
            text = "✗ the rule has no `begin` and no `advance`"
        except UnsupportedError as refusal:
            must_help(refusal)
            continue
        wrong |= text.startswith("✗")
        details.append(f"{case}: {text}")
    if not details:
        return Finding("online", "yes", "every stream was refused", ok=False)
    told = (
        "memory that grows, or no stream" if wrong else f"flat memory, on {len(details)} networks"
    )
    return Finding("online", "yes", told, not wrong, tuple(details))


def _stream_of(rule: Rule, case: Case, watch: bool) -> str:
    """The memory of a stream over many steps; watch: all memory, not only the carried state."""
    inputs, targets, _, _ = case.batch()
    memory = rule.begin(case.sequences)
    shapes = {name: kept.shape for name, kept in memory.items()}
    sizes: list[int] = []
    step = 0
    for chunk in (10, 30, 30):  # growth must show twice: unrelated tensors come and go
        for _ in range(chunk):
            t = step % case.steps
            x, y = inputs[:, t : t + 1], targets[:, t : t + 1]
            batch = arrange(rule.network, rule.loss, "every", x, y)
            with torch.no_grad():
                found, gradients, memory = rule.advance(memory, batch, 1, step)
            assert all(own.isfinite().all() for own in gradients.values()), "not finite"
            step += 1
        del found, gradients, batch
        if watch:  # a walk over all Python objects: tenths of a second
            sizes.append(live_bytes())
        now = {name: kept.shape for name, kept in memory.items()}
        if now != shapes:
            return f"✗ what it carries changed its shape in {step} steps: {shapes} to {now}"
    carried = sum(kept.numel() * kept.element_size() for kept in memory.values())
    if watch and sizes[0] < sizes[1] < sizes[2]:
        grown = sizes[2] - sizes[0]
        return (
            f"✗ {grown} bytes more after {step} steps than after 10, besides the {carried} carried"
        )
    return f"{carried} bytes carried, the same after {step} steps as after 10"


def live_bytes() -> int:
    """Bytes of all tensors that Python can reach, each storage once."""
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), Tensor):  # `isinstance` would wake lazy modules
            try:
                storage = thing.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
            except (RuntimeError, NotImplementedError):  # a compiler's tensor has no memory
                continue
    return sum(storages.values())


# --- requirements ------------------------------------------------------------------------------------


def draws(rule: RuleFactory) -> Finding:
    """Two estimates of one batch differ if and only if the rule declares that it draws noise."""
    cases = DRAWN_CASES if rule.spec.draws else DETERMINISTIC_CASES
    differ = []
    for case, learner in taken(rule, cases):
        one, other = (estimate(learner, case).gradients for _ in range(2))
        differ.append(any(not torch.equal(own, other[name]) for name, own in one.items()))
    measured = {frozenset((True,)): "yes", frozenset((False,)): "no"}.get(
        frozenset(differ), "sometimes"
    )
    declared = "yes" if rule.spec.draws else "no"
    return Finding("draws", declared, measured, declared == measured)


def clean(rule: RuleFactory) -> Finding:
    """The loss and outputs of an estimate are those of the network without noise, if the rule declares so."""
    cases = DRAWN_CASES if rule.spec.draws else DETERMINISTIC_CASES
    equal = []
    for case, learner in taken(rule, cases):
        inputs, targets, lengths, mask = case.batch()
        outputs = learner.evaluate(inputs, targets, lengths, mask=mask).outputs
        equal.append(torch.allclose(estimate(learner, case).outputs, outputs, rtol=1e-9, atol=1e-9))
    measured = {True: "yes", False: "no"}.get(all(equal), "") if equal else "every case was refused"
    if len(set(equal)) > 1:
        measured = "sometimes"
    declared = "yes" if rule.spec.clean else "no"
    return Finding("clean", declared, measured, declared == measured)


def variance(rule: RuleFactory) -> Finding | None:
    """With a tenth of the noise, the variance of draws stays about equal or, if declared, grows 100 times."""
    if not (rule.spec.draws and takes(rule, "sigma")):
        return None
    spreads = []
    for sigma in (10 * SMALL_SIGMA, SMALL_SIGMA):
        _, learner = next(taken(rule, DRAWN_CASES, sigma=sigma))
        inputs, targets, lengths, _ = DRAWN_CASES[0].batch()
        drawn = torch.stack(
            [
                torch.cat(
                    list(_blocks(learner.estimate(inputs, targets, lengths).gradients).values())
                )
                for _ in range(_FIRST_DRAWS)
            ]
        )
        spreads.append(float(drawn.var(0).sum()))
    ratio = spreads[1] / spreads[0]
    measured = "1/sigma^2" if 25 < ratio < 400 else "bounded" if ratio < 4 else "something else"
    declared = rule.spec.variance
    return Finding("variance", declared, f"{measured}: ×{ratio:.2g}", declared == measured)


def autograd_free(rule: RuleFactory) -> Finding | None:
    """Trains with every way into autograd shut (linear readouts and named losses)."""
    if not rule.spec.autograd_free:
        return None
    cases = DRAWN_CASES if rule.spec.draws else DETERMINISTIC_CASES
    names = []
    for case, learner in taken(rule, cases):
        try:
            with autograd_shut():
                estimate(learner, case)
        except AssertionError as used:
            return Finding("autograd_free", "yes", f"no: {used}", ok=False)
        names.append(case)
    return Finding("autograd_free", "yes", f"yes, on {_cases(len(names))}", bool(names))


@contextmanager
def autograd_shut() -> Iterator[None]:
    """Any backward pass, and any graph that is built, raises."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a rule that declares autograd_free used autograd")

    with (
        mock.patch("torch.autograd.grad", refuse),
        mock.patch("torch.autograd.backward", refuse),
        mock.patch("torch.Tensor.backward", refuse),
        torch.autograd.graph.saved_tensors_hooks(
            cast(Callable[[Tensor], Any], refuse), cast(Callable[[Any], Tensor], refuse)
        ),
    ):
        yield


class Device(BlackBox):
    """A tanh layer that only runs forward, for derivative-free rules."""

    name = "device"

    def scan(
        self,
        weights: CellWeights,
        inputs: Tensor,
        initial: State,
        node_noise: Tensor | None = None,
    ) -> LayerTrajectory:
        hidden, measured = [initial[0]], []
        for drive in self.drive(weights, inputs, node_noise):
            measured.append(drive + weights.decorrelated(hidden[-1]) @ weights.hh.t())
            hidden.append(measured[-1].tanh())
        return self.report(inputs, torch.stack(hidden), torch.stack(measured))


def device_network(case: Case, cell: BlackBox | None = None) -> Network:
    """A black-box network with the size of a case, and weights as large as those of cases."""
    network = black_box(
        cell or Device(), Case.INPUTS, Case.HIDDEN, Case.OUTPUTS,
        num_layers=case.layers, bias=case.bias, seed=case.seed, dtype=torch.float64,
    )  # fmt: skip
    network.batch_first = case.batch_first
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    return network


def derivative_free(rule: RuleFactory) -> Finding:
    """Trains a layer that only runs forward if the rule declares so, and otherwise refuses it."""
    declared = "yes" if rule.spec.derivative_free else "no"
    details = []
    trained = 0
    for at in ("every", "last"):
        case = Case(at=at, loss="mse")
        try:
            learner = make(rule, device_network(case), case)
            with autograd_shut():
                gradients = estimate(learner, case).gradients
        except (UnsupportedError, AssertionError) as refusal:
            details.append(f"{at}: {refusal}")
            continue
        idle = [name for name, own in gradients.items() if not bool((own != 0).any())]
        details += [f"{at}: no gradient of {', '.join(idle)}"] if idle else []
        trained += not idle
    measured = "trains a black box" if trained else "trains no black box"
    ok = bool(trained) == rule.spec.derivative_free
    return Finding("derivative_free", declared, measured, ok, () if ok else tuple(details))


def bidirectional(rule: RuleFactory) -> Finding:
    """Accepts networks that run in both directions if the rule declares so, and otherwise refuses them."""
    declared = "yes" if rule.spec.bidirectional else "no"
    cases = [Case(at=at, bidirectional=True) for at in ("every", "last")]
    count = len(list(taken(rule, cases)))
    measured = "accepts both directions" if count else "refuses both directions"
    return Finding("bidirectional", declared, measured, bool(count) == rule.spec.bidirectional)


MEASURES: tuple[Callable[[RuleFactory], Finding | None], ...] = (
    draws,
    clean,
    variance,
    estimates,
    weight_transport,
    online,
    autograd_free,
    derivative_free,
    bidirectional,
)
"""All measurements, starting with those that reveal wrong rules soonest."""
