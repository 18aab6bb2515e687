"""Other people's trainers take a rule as they take a loss: Lightning's automatic optimization, Accelerate."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import timelocal as tl

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # theirs, about workers, loggers and versions
    pytest.mark.xdist_group("trainers"),
]


def data() -> TensorDataset:
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(32, 6, 3, generator=draw)
    return TensorDataset(inputs, (inputs[:, -1, 0] > 0).long())


def made(rule: type[tl.Rule] = tl.DFA) -> tl.Rule:
    return rule(tl.GRU(3, 8, 2))


def by_hand(epochs: int) -> tl.Rule:
    rule = made()
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.1, momentum=0.9)
    for _ in range(epochs):
        for x, y in DataLoader(data(), batch_size=8):
            optimizer.zero_grad()
            rule(x, y).backward()
            torch.nn.utils.clip_grad_norm_(rule.parameters(), 0.5)
            optimizer.step()
    return rule


def test_lightning_optimizes_a_rule_by_itself_saves_and_loads(tmp_path) -> None:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        """Holds the network beside the rule, as people do."""

        def __init__(self) -> None:
            super().__init__()
            self.rule = made()
            self.network = self.rule.network

        def training_step(self, batch, index):
            return self.rule(*batch)

        def validation_step(self, batch, index):
            self.log("validation_loss", self.rule(*batch))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    module = Module()
    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_progress_bar=False,
        gradient_clip_val=0.5, default_root_dir=tmp_path, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(data(), batch_size=8), DataLoader(data(), batch_size=8))
    wanted = by_hand(3).state_dict()
    found = module.rule.state_dict()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value)
    trainer.save_checkpoint(tmp_path / "module.ckpt")
    again = Module.load_from_checkpoint(tmp_path / "module.ckpt", weights_only=True)
    assert again.network is again.rule.network
    for name, value in found.items():
        torch.testing.assert_close(again.rule.state_dict()[name], value, rtol=0, atol=0)


def test_accelerate_prepares_and_accumulates(monkeypatch) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    rule = made()
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
    loader = DataLoader(data(), batch_size=8)
    prepared, optimizer, loader = accelerator.prepare(rule, optimizer, loader)
    for x, y in loader:
        with accelerator.accumulate(prepared):
            accelerator.backward(prepared(x, y))
            optimizer.step()
            optimizer.zero_grad()
    wanted = made()
    plain = torch.optim.SGD(wanted.parameters(), lr=0.1)
    for x, y in DataLoader(data(), batch_size=16):
        halves = [wanted(x[rows], y[rows]) for rows in (slice(8), slice(8, 16))]
        (sum(halves) / 2).backward()
        plain.step()
        plain.zero_grad()
    for (name, value), (_, found) in zip(
        wanted.named_parameters(),
        accelerator.unwrap_model(prepared).named_parameters(),
        strict=True,
    ):
        torch.testing.assert_close(found, value, msg=name)
