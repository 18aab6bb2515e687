"""Public calls with one thing wrong: a result or a `TimelocalError`, and nothing half-changed.

Every call is made from a number, which a failure tells: `attacked(family, number)` makes it again. A few of
each family with the ordinary tests; `make test-attack` makes a hundred thousand.
"""

from __future__ import annotations

import itertools
import os
import random
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from bad_values import TWISTS, VALUES
from good_calls import (
    CIRCUMSTANCES,
    FUNCTIONS,
    NETWORKS,
    RULES,
    Call,
    data_calls,
    makers,
    network_calls,
    rule_calls,
    tool_calls,
)
from torch import Tensor

import timelocal as tl
from damage import SCALE

ANSWERS = ("optimizer: lacks", "readout: ends in", "a loss of this rule was discarded")
"""What the package itself warns of; what torch or NumPy warn of is no answer."""
FAULT, NO_CALL = "FAULT", "no such call"
MAKERS, DATA, TOOLS = makers(), data_calls(), tool_calls()


class Draw:
    """Choices that follow from a number, and what was chosen."""

    def __init__(self, number: int) -> None:
        self._random = random.Random(number)
        self.chosen: list[str] = []

    def one_of(self, what: str, names: object) -> str:
        name = self._random.choice(sorted(names))
        self.chosen.append(f"{what} {name!r}")
        return name

    def often(self) -> bool:
        return self._random.random() < 0.5


def spoiled(call: Call, draw: Draw) -> Call:
    """The call with one argument that is (most of the time) wrong."""
    name = draw.one_of("argument", call.arguments)
    value = call.arguments[name]
    if isinstance(value, Tensor) and draw.often():
        call.arguments[name] = TWISTS[draw.one_of("twist", TWISTS)](value)
    else:
        # what a function of the user's raises is the user's to see: a module wants an argument
        left_out = {"module"} if name == "watch" else set()
        call.arguments[name] = VALUES[draw.one_of("value", VALUES.keys() - left_out)]()
    return call


def named(calls: dict[str, Callable[[], Call]], draw: Draw) -> Call:
    return calls[draw.one_of("call", calls)]()


def of_a_rule(draw: Draw) -> tuple[Call, str]:
    """A call of a rule, a stream or `fit`, and the name of its network."""
    network = draw.one_of("network", NETWORKS)
    calls = rule_calls(
        draw.one_of("rule", RULES),
        network,
        draw.one_of("loss", ("cross_entropy", "mse", "bce")),
        draw.one_of("at", ("last", "every", "mean")),
    )
    return named(calls, draw), network


def altered(draw: Draw) -> Call | None:
    """A good call, but the rule's network or its loss is no longer what it was."""
    call, network = of_a_rule(draw)
    rules = [own for own in call.watched if isinstance(own, tl.Rule)]
    if not rules:
        return None
    (rule,) = rules
    call.chance_counts = False  # such a thing may be found out when noise is drawn already
    if draw.often():
        rule.loss = tl.losses.resolve(FUNCTIONS[draw.one_of("function", FUNCTIONS)])
        # what a function returns is seen when it is called: steps may have been made by then
        if getattr(call.function, "__name__", "") in ("fit", "learn"):
            call.watched = []
        return call
    chosen = draw.one_of("circumstance", CIRCUMSTANCES)
    if chosen == "no bias" and network == "deep readout":
        return None
    CIRCUMSTANCES[chosen](rule)
    return call


FAMILIES: dict[str, tuple[Callable[[Draw], Call | None], float]] = {
    "constructors": (lambda draw: spoiled(named(MAKERS, draw), draw), 0.15),
    "data": (lambda draw: spoiled(named(DATA, draw), draw), 0.2),
    "tools": (lambda draw: spoiled(named(TOOLS, draw), draw), 0.15),
    "networks": (
        lambda draw: spoiled(named(network_calls(draw.one_of("network", NETWORKS)), draw), draw),
        0.05,
    ),
    "rules, streams, fit": (lambda draw: spoiled(of_a_rule(draw)[0], draw), 0.3),
    "altered networks and losses": (altered, 0.15),
}
"""Each with its share of the attack."""


def attack(call: Call) -> str:
    """Make the call; if it is refused, everything must be as it was."""
    before = call.bits()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for text in ANSWERS:
            warnings.filterwarnings("ignore", text)
        try:
            call.function(**call.arguments)
            return "taken"
        except tl.TimelocalError:
            pass
        except Exception as error:
            return f"{FAULT}: {type(error).__name__} at {place_of(error)}"
    after = call.bits()
    same = len(before) == len(after) and all(map(same_bits, before, after))
    return "refused" if same else f"{FAULT}: half-changed"


def place_of(error: Exception) -> str:
    """The last line of this package that led to an error."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "timelocal" in Path(frame.filename).parts] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno} ({str(error)[:100]!r})"


def attacked(family: str, number: int) -> tuple[str, list[str]]:
    """What came of the call of this number, and what was drawn for it."""
    draw = Draw(number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls some of the values prototypes
        try:
            call = FAMILIES[family][0](draw)
        except tl.UnsupportedError:  # this rule does not go with this network
            call = None
    return (NO_CALL if call is None else attack(call)), draw.chosen


def same_bits(old: Tensor, new: Tensor) -> bool:
    if (old.shape, old.dtype, old.device) != (new.shape, new.dtype, new.device):
        return False
    return old.is_meta or torch.equal(bits_of(old), bits_of(new))


def bits_of(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


@pytest.fixture(autouse=True, scope="module")
def _elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Text that is taken for a path makes its folder here."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("attack"))
    yield
    os.chdir(before)


def outcomes_of(family: str, first: int, calls: int) -> tuple[Counter[str], list[str]]:
    """Make so many calls, of the numbers from `first` on: the outcomes, and an example of each fault."""
    counts: Counter[str] = Counter()
    faults: dict[str, str] = {}
    numbers = itertools.count(first)
    while counts.total() < calls:
        number = next(numbers)
        outcome, chosen = attacked(family, number)
        if outcome == NO_CALL:
            continue
        counts[outcome.partition(":")[0]] += 1
        if outcome.startswith(FAULT):
            example = f"{outcome} of number {number}: {', '.join(chosen)}"
            faults.setdefault(outcome.partition("(")[0], example)
    return counts, list(faults.values())


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_public_calls(family: str) -> None:
    counts, faults = outcomes_of(family, 0, 200)
    assert not faults, "\n".join(faults)
    assert counts["refused"] > 20
    assert counts["taken"] > 5


@pytest.mark.attack
@pytest.mark.parametrize("family", FAMILIES)
def test_a_hundred_thousand_public_calls(family: str, tell: Callable[..., None]) -> None:
    counts, faults = outcomes_of(family, 1000, round(100_000 * FAMILIES[family][1] * SCALE))
    outcomes = {"refused": "refused", "taken": "accepted", FAULT: "faults"}
    made = {"made": counts.total()}
    tell("public calls", family, made | {told: counts[own] for own, told in outcomes.items()})
    assert not faults, "\n".join(faults)


def test_an_attack_sees_a_raw_error_a_half_change_and_a_warning_of_torch() -> None:
    weight = torch.zeros(2)

    def raw(value: object) -> None:
        raise TypeError("of torch")

    def half(value: float) -> None:
        weight.fill_(value)
        raise tl.ArgumentError("too late")

    def warns(value: object) -> None:
        warnings.warn("of torch", stacklevel=1)

    assert attack(Call(raw, {"value": 1})).startswith("FAULT: TypeError")
    assert attack(Call(half, {"value": 0.0}, [weight])) == "refused"
    assert attack(Call(half, {"value": 1.0}, [weight])) == "FAULT: half-changed"
    assert attack(Call(warns, {"value": 1})).startswith("FAULT: UserWarning")
    assert attack(Call(lambda value: None, {"value": 1})) == "taken"


def test_a_good_call_is_taken() -> None:
    """What is spoiled was good: else nothing is said of what is wrong."""
    for name, make in (MAKERS | DATA | TOOLS).items():
        call = make()
        assert call.arguments, name
        call.function(**call.arguments)
    for network in NETWORKS:
        for make in network_calls(network).values():
            call = make()
            call.function(**call.arguments)
    taken = 0
    for rule in RULES:
        for name, make in rule_calls(rule, "rnn", "mse", "every").items():
            try:
                call = make()
                call.function(**call.arguments)
                taken += 1
            except tl.UnsupportedError:
                assert "stream" in name or "online" in name or "authors" in rule, (rule, name)
    assert taken > 100
