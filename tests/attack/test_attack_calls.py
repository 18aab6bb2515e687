"""Public calls with one bad argument: a result or a `TimelocalError`, and nothing half-changed.

A few examples in the ordinary tests; as many as TIMELOCAL_ATTACK says where it is set.
"""

from __future__ import annotations

import os
import warnings

import torch
from bad_values import TWISTS, VALUES
from good_calls import NETWORKS, RULES, Call, data_calls, makers, network_calls, rule_calls
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st
from torch import Tensor

import timelocal as tl

EXAMPLES = int(os.environ.get("TIMELOCAL_ATTACK", "100"))
attacked = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize="TIMELOCAL_ATTACK" not in os.environ,
)


def spoiled(call: Call, draw: st.DataObject) -> Call:
    """The call with one argument that is (most of the time) wrong."""
    name = draw.draw(st.sampled_from(sorted(call.arguments)), "argument")
    value = call.arguments[name]
    if isinstance(value, Tensor) and draw.draw(st.booleans(), "twisted"):
        twist = draw.draw(st.sampled_from(sorted(TWISTS)), "twist")
        call.arguments[name] = TWISTS[twist](value)
    else:
        call.arguments[name] = VALUES[draw.draw(st.sampled_from(sorted(VALUES)), "value")]()
    return call


def attack(call: Call) -> None:
    before = call.bits()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            call.function(**call.arguments)
        except tl.TimelocalError as error:
            note(str(error))
            event("told")
            after = call.bits()
            assert len(before) == len(after)
            for old, new in zip(before, after, strict=True):
                assert torch.equal(old, new) or bool((old.isnan() & new.isnan()).any())
        else:
            event("taken")


MAKERS, DATA = makers(), data_calls()


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
    calls = network_calls(network)
    attack(spoiled(calls[data.draw(st.sampled_from(sorted(calls)), "call")](), data))


@attacked
@given(
    rule=st.sampled_from(RULES),
    network=st.sampled_from(sorted(NETWORKS)),
    loss=st.sampled_from(["cross_entropy", "mse", "bce"]),
    at=st.sampled_from(["last", "every"]),
    data=st.data(),
)
def test_rules_streams_and_fit(
    rule: str, network: str, loss: str, at: str, data: st.DataObject
) -> None:
    calls = rule_calls(rule, network, loss, at)
    name = data.draw(st.sampled_from(sorted(calls)), "call")
    try:
        call = calls[name]()
    except tl.UnsupportedError:
        return  # this rule does not go with this network
    attack(spoiled(call, data))
