"""DDP around a rule, on two processes: as one process on the joint batch, and equal replicas in any case."""

from __future__ import annotations

import subprocess
import sys

import distributed_worker
import pytest
import torch
from torch.testing import assert_close

import timelocal as tl

EXACT_IN_THE_MEAN = (
    "bptt",
    "tbptt",
    "rtrl",
    "dfa",
    "rflo",
    "eprop",
    "snap1",
    "fa",
    "bptt, D, sync=True",
    "dfa, D preserving, sync=True",
    "dfa, Kolen-Pollack, sync=True",
)
NAMES = tuple(distributed_worker.rules())
DRAWING = tuple(
    name for name, rule in distributed_worker.rules().items() if rule.spec.draws or "drop" in name
)


@pytest.fixture(scope="module")
def ranks(request, tmp_path_factory):
    """What each rank found, of the rules that the tests which were collected ask for."""
    folder = tmp_path_factory.mktemp("ranks")
    tests = [
        item for item in request.session.items if getattr(item, "module", None) is request.module
    ]
    names = {test.callspec.params["name"] for test in tests if hasattr(test, "callspec")}
    command = [sys.executable, "-W", "ignore", distributed_worker.__file__, str(folder)]
    done = subprocess.run([*command, *names], stderr=subprocess.PIPE, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


pytestmark = pytest.mark.xdist_group("distributed")


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT_IN_THE_MEAN)
def test_two_processes_learn_as_one_on_the_joint_batch(ranks, name):
    rule = distributed_worker.rules()[name]
    joint = distributed_worker.train(rule, rule, slice(None))
    for rank in ranks:
        found = rank[name]["state"]
        for key in joint.keys() - {"_extra_state"}:  # which counts the draws of each
            assert_close(found[key], joint[key], atol=1e-9, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_replicas_are_equal(ranks, name):
    one, other = (rank[name]["state"] for rank in ranks)
    last_own_step = ("decorrelation", "feedback") if "sync=False" in name else ("running_loss",)
    for key, value in one.items():
        if not any(word in key for word in last_own_step):
            assert_close(other[key], value, atol=0, rtol=0, msg=key)


@pytest.mark.parametrize("name", ["bptt, D, sync=False", "dfa, Kolen-Pollack, sync=False"])
def test_without_sync_a_local_law_sees_its_own_rows_alone(ranks, name):
    rule = distributed_worker.rules()[name]
    joint = distributed_worker.train(rule, rule, slice(None))
    found = ranks[0][name]["state"]
    assert any(not torch.equal(found[key], value) for key, value in joint.items())


@pytest.mark.parametrize("name", DRAWING)
def test_ranks_draw_different_noise(ranks, name):
    one, other = (rank[name]["drawn"] for rank in ranks)
    assert not torch.allclose(one, other, rtol=1e-3)


def test_a_stream_in_a_process_group_is_refused_unless_told(ranks):
    for rank in ranks:
        assert "2 ranks" in rank["stream"]["refusal"]
        assert "sync=False" in rank["stream"]["refusal"]


def test_all_rules_are_among_them():
    assert len(DRAWING) == 11
    assert set(tl.RULES) <= set(NAMES)
