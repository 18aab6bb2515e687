"""Public calls with one thing wrong: a result or a `TimelocalError`, and nothing half-changed.

Some examples with the ordinary tests; as many as TIMELOCAL_ATTACK says for each test where it is set.
"""

from __future__ import annotations

import os
import warnings
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
)
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st
from torch import Tensor

import timelocal as tl

attacked = settings(
    max_examples=int(os.environ.get("TIMELOCAL_ATTACK", "150")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize="TIMELOCAL_ATTACK" not in os.environ,
)
MAKERS, DATA = makers(), data_calls()


@pytest.fixture(autouse=True, scope="module")
def _elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Text that is taken for a path makes its folder here."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("attack"))
    yield
    os.chdir(before)


def spoiled(call: Call, draw: st.DataObject) -> Call:
    """The call with one argument that is (most of the time) wrong."""
    name = draw.draw(st.sampled_from(sorted(call.arguments)), "argument")
    value = call.arguments[name]
    if isinstance(value, Tensor) and draw.draw(st.booleans(), "twisted"):
        twist = draw.draw(st.sampled_from(sorted(TWISTS)), "twist")
        call.arguments[name] = TWISTS[twist](value)
    else:
        # what a function of the user's raises is the user's to see: a module wants an argument
        choices = sorted(VALUES.keys() - ({"module"} if name == "watch" else set()))
        call.arguments[name] = VALUES[draw.draw(st.sampled_from(choices), "value")]()
    return call


ANSWERS = ("optimizer: lacks", "readout: ends in", "a loss of this rule was thrown away")
"""What the package itself warns of; what torch or NumPy warn of is no answer."""


def attack(call: Call) -> None:
    """Make the call; if it is refused, everything must be as it was."""
    before = call.bits()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for text in ANSWERS:
            warnings.filterwarnings("ignore", text)
        try:
            call.function(**call.arguments)
        except tl.TimelocalError as error:
            note(str(error))
            event("refused")
        else:
            event("taken")
            return
    after = call.bits()
    assert len(before) == len(after)
    assert all(map(same_bits, before, after))


def same_bits(old: Tensor, new: Tensor) -> bool:
    if (old.shape, old.dtype, old.device) != (new.shape, new.dtype, new.device):
        return False
    return old.is_meta or torch.equal(bits_of(old), bits_of(new))


def bits_of(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


def of_one(calls: dict[str, Callable[[], Call]], draw: st.DataObject) -> Call | None:
    """One of the calls; None if this rule does not go with this network."""
    make = calls[draw.draw(st.sampled_from(sorted(calls)), "call")]
    try:
        return make()
    except tl.UnsupportedError:
        return None


a_rule = {
    "rule": st.sampled_from(RULES),
    "network": st.sampled_from(sorted(NETWORKS)),
    "loss": st.sampled_from(["cross_entropy", "mse", "bce"]),
    "at": st.sampled_from(["last", "every"]),
}


@attacked
@given(name=st.sampled_from(sorted(MAKERS)), data=st.data())
def test_what_makes_something(name: str, data: st.DataObject) -> None:
    attack(spoiled(MAKERS[name](), data))


@attacked
@given(name=st.sampled_from(sorted(DATA)), data=st.data())
def test_data(name: str, data: st.DataObject) -> None:
    attack(spoiled(DATA[name](), data))


@attacked
@given(network=st.sampled_from(sorted(NETWORKS)), data=st.data())
def test_networks(network: str, data: st.DataObject) -> None:
    call = of_one(network_calls(network), data)
    assert call is not None
    attack(spoiled(call, data))


@attacked
@given(**a_rule, data=st.data())
def test_rules_streams_and_fit(
    rule: str, network: str, loss: str, at: str, data: st.DataObject
) -> None:
    call = of_one(rule_calls(rule, network, loss, at), data)
    if call is not None:
        attack(spoiled(call, data))


@attacked
@given(**a_rule, data=st.data())
def test_rules_whose_network_or_loss_was_altered(
    rule: str, network: str, loss: str, at: str, data: st.DataObject
) -> None:
    call = of_one(rule_calls(rule, network, loss, at), data)
    found = [own for own in call.watched if isinstance(own, tl.Rule)] if call else []
    if call is None or not found:
        return
    (altered,) = found
    if data.draw(st.booleans(), "loss"):
        chosen = data.draw(st.sampled_from(sorted(FUNCTIONS)), "function")
        altered.loss = tl.losses.resolve(FUNCTIONS[chosen])
        # what a function returns is seen when it is called: steps may have been made by then
        if getattr(call.function, "__name__", "") in ("fit", "learn"):
            call.watched = []
    else:
        chosen = data.draw(st.sampled_from(sorted(CIRCUMSTANCES)), "circumstance")
        if chosen == "no bias" and network == "deep readout":
            return
        CIRCUMSTANCES[chosen](altered)
    call.chance_counts = False  # such a thing may be found out when noise is drawn already
    attack(call)


def test_a_good_call_is_taken() -> None:
    """What is spoiled was good: else nothing is said of what is wrong."""
    for name, make in (MAKERS | DATA).items():
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
