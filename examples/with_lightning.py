"""A rule under Lightning: automatic optimization, validation and checkpoints, without BPTT.

    pip install timelocal lightning
    python with_lightning.py

`training_step` returns the loss that a rule is; Lightning calls `backward()` and the optimizer.
"""

from __future__ import annotations

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

import timelocal as tl


class Recurrent(lightning.LightningModule):
    """A GRU on the rows of digits. A rule owns its network: `self.rule` is all there is to save."""

    def __init__(self, hidden: int = 32, lr: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.rule = tl.DFA(tl.GRU(8, hidden, output_size=10, seed=0))

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        return self.rule(*batch)

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        found = self.rule.evaluate(*batch)
        self.log_dict({"validation_loss": found.loss, "validation_accuracy": found.accuracy})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])


def main(epochs: int = 10, count: int = 1000, folder: str = "lightning") -> dict[str, float]:
    """Validation accuracy of the trained module, and of the same loaded from its checkpoint."""
    digits = tl.data.load("digits-rows")
    train = TensorDataset(digits.inputs[:count], digits.targets[:count])
    held = TensorDataset(digits.inputs[count:], digits.targets[count:])
    loaders = DataLoader(train, batch_size=32, shuffle=True), DataLoader(held, batch_size=256)
    lightning.seed_everything(0)
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    module = Recurrent()
    trainer.fit(module, *loaders)
    trained = float(trainer.callback_metrics["validation_accuracy"])
    trainer.save_checkpoint(f"{folder}/module.ckpt")
    loaded = Recurrent.load_from_checkpoint(f"{folder}/module.ckpt", weights_only=True)
    (again,) = trainer.validate(loaded, loaders[1], verbose=False)
    return {"trained": trained, "loaded": again["validation_accuracy"]}


if __name__ == "__main__":
    print(main())
