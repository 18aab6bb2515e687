"""The ways in which Windows and macOS start processes, emulated here: no forked memory, all by import."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import timelocal as tl
from timelocal.experiments.config import TrainConfig
from timelocal.studies.engines import InProcess, Processes, child
from timelocal.studies.study import run_study

X, Y = torch.randn(12, 5, 2), torch.arange(12) % 3


@pytest.fixture(params=["spawn", "forkserver"])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.slow
def test_the_engine_of_processes(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_context", multiprocessing.get_context(method))
    configs = [TrainConfig(hidden=4, epochs=1, seed=seed) for seed in range(2)]
    found = run_study(configs, tmp_path / method, engine=Processes(2))
    expected = run_study(configs, tmp_path / "here", engine=InProcess())
    assert [one.status for one in found] == ["finished"] * 2
    assert [one.epochs for one in found] == [one.epochs for one in expected]


@pytest.mark.slow
def test_workers_of_a_loader(method: str) -> None:
    given = {"num_workers": 1, "multiprocessing_context": method}
    data, rule = TensorDataset(X, Y), tl.DFA(tl.GRU(2, 4, 3))
    for inputs, targets in DataLoader(data, batch_size=4, **given):  # type: ignore[arg-type]
        rule(inputs, targets).backward()
    sampler = [torch.arange(4), torch.arange(4, 12)]
    parts = list(DataLoader(tl.data.Sequences(X, Y), None, sampler=sampler, **given))  # type: ignore
    assert torch.equal(torch.cat([part.inputs for part in parts]), X)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dfa", "np", "rflo", "bptt"])
def test_a_rule_goes_to_another_process_with_its_randomness(method: str, name: str) -> None:
    rule = tl.RULES[name](tl.RNN(2, 4, 3), seed=3)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        there = pool.submit(rule.estimate, X, Y).result()
    here = rule.estimate(X, Y)
    torch.testing.assert_close(there.gradients, here.gradients, rtol=0, atol=0)
