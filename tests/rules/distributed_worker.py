"""Both ranks of two: each trains rules under DDP and writes what became of them. Started by its test."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import timelocal as tl

STEPS = 4
SEQUENCES = 6
"""Of the joint batch: each rank has half of them."""


def data() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(STEPS, SEQUENCES, 5, 3, generator=draw, dtype=torch.float64)
    return inputs, torch.randn(STEPS, SEQUENCES, 5, 2, generator=draw, dtype=torch.float64)


def network(**options: object) -> tl.Network:
    return tl.GRU(3, 6, 2, **options).double()


def rules() -> dict[str, tl.Rule]:
    """Every rule, and what learns by laws of its own, with and without sync."""
    task = {"loss": "mse", "at": "every"}
    made: dict[str, tl.Rule] = {}
    for name, rule in tl.RULES.items():
        if name == "dfa-authors-code":
            made[name] = rule(tl.GRU(3, 6, 2, reset_after=False).double(), loss="mse").double()
        elif name == "wm":  # whose matrices learn by a law of their own
            made[name] = tl.WeightMirror(network(), sync=True, **task).double()
        else:
            made[name] = rule(network(), **task).double()
    made["wm, sync=False"] = tl.WeightMirror(network(), **task).double()
    for sync in (False, True):
        law = tl.Decorrelation(0.05, sync=sync)
        made[f"bptt, D, sync={sync}"] = tl.BPTT(network(decorrelate=law), **task)
        norm = tl.Decorrelation(0.05, "preserve", sync=sync)
        made[f"dfa, D preserving, sync={sync}"] = tl.DFA(network(decorrelate=norm), **task).double()
        made[f"np, D, sync={sync}"] = tl.NP(network(decorrelate=law), **task)
        made[f"dfa, Kolen-Pollack, sync={sync}"] = tl.DFA(
            network(), feedback="kolen_pollack", feedback_lr=0.1, sync=sync, **task
        ).double()
    made["np, running mean"] = tl.NP(network(), baseline_decay=0.5, **task)
    made["dfa, dropout"] = tl.DFA(network(num_layers=2, dropout=0.5), **task).double()
    return made


def train(rule: tl.Rule, loss: torch.nn.Module, rows: slice) -> dict[str, torch.Tensor]:
    """Some updates on some rows of every batch; the state afterwards."""
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
    for x, y in zip(*data(), strict=True):
        optimizer.zero_grad()
        targets = y[rows] if rule.at == "every" else y[rows, 0]
        loss(x[rows], targets).backward()
        optimizer.step()
    return {name: value.detach().clone() for name, value in rule.state_dict().items()}


def main(rank: int, folder: Path, names: list[str]) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2
    )
    half = SEQUENCES // 2
    own = slice(rank * half, (rank + 1) * half)
    found: dict[str, dict[str, object]] = {}
    for name, rule in rules().items():
        if name not in names:
            continue
        x, y = (tensor[0][:half] for tensor in data())  # the same rows on both ranks
        targets = y if rule.at == "every" else y[:, 0]
        drawn = rule.estimate(x, targets).gradients["recurrent.weight_hh_l0"]
        found[name] = {"drawn": drawn, "state": train(rule, DistributedDataParallel(rule), own)}
    rule = tl.NP(network(), loss="mse", at="every")
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
    try:
        tl.Stream(rule, optimizer)
    except tl.UnsupportedError as refusal:
        found["stream"] = {"refusal": str(refusal)}
    tl.Stream(rule, optimizer, sync=False)
    torch.save(found, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    rules()  # one process is the other's child, so that what they need is imported once
    child = os.fork()
    main(int(child == 0), Path(sys.argv[1]), sys.argv[2:])
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
