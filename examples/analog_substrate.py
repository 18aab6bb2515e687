"""A noisy analog substrate, which has no clean run, learns by comparing two noisy ones.

The simulated device holds weights in a few levels, no two of its elements are alike, every unit has an
offset, noise enters at every step and is another one every time, and what can be read of a unit is read
by a converter of few bits. Nothing can be differentiated and nobody knows the noise: ANP needs neither.

    python examples/analog_substrate.py
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import timelocal as tl


class Substrate(tl.BlackBox):
    """Quantised, mismatched, noisy: what a chip makes of the weights it is given."""

    name = "analog-substrate"

    def __init__(self, seed: int, mismatch: float = 0.2, levels: int = 64, noise: float = 0.05):
        self.seed, self.mismatch, self.levels, self.noise = seed, mismatch, levels, noise
        self.generator = torch.Generator().manual_seed(seed)

    def made_of(self, weight: Tensor, place: int) -> Tensor:
        """The weight as the device has it: one of its levels, times this element's own error."""
        element = torch.Generator().manual_seed(1000 * self.seed + place)
        error = 1 + self.mismatch * torch.randn(weight.shape, generator=element)
        step = 4 / self.levels
        return (weight / step).round().clamp(-self.levels / 2, self.levels / 2) * step * error

    def scan(
        self,
        weights: Any,
        inputs: Tensor,
        initial: tuple[Tensor, ...],
        node_noise: Tensor | None = None,
    ) -> Any:
        v, w = self.made_of(weights.ih, 1), self.made_of(weights.hh, 2)
        offset = self.made_of(weights.b_ih, 3) + self.made_of(weights.b_hh, 4)
        hidden, measured = [initial[0]], []
        for t, x in enumerate(inputs):
            noise = self.noise * torch.randn(hidden[-1].shape, generator=self.generator)
            current = x @ v.t() + hidden[-1] @ w.t() + offset + noise
            if node_noise is not None:
                current = current + node_noise[t]
            hidden.append(OneWay.apply(current))
            measured.append((current * 128).round() / 128)  # the converter
        return self.report(inputs, (torch.stack(hidden),), torch.stack(measured))


class OneWay(torch.autograd.Function):
    """The units' response. Current flows forward through a device, and not back."""

    @staticmethod
    def forward(ctx: Any, current: Tensor) -> Tensor:
        return current.tanh()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        raise RuntimeError("a physical system has no backward")


def delayed_products(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs (n, 40, 2) in {−1, 1}, held for some steps, and targets (n, 40, 1), their product."""
    held = torch.randint(0, 2, (count, 5, 2), generator=generator).float() * 2 - 1
    inputs = held.repeat_interleave(8, 1)
    return inputs, inputs.prod(-1, keepdim=True)


def main(epochs: int = 60) -> dict[str, float]:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    train, test = delayed_products(200, generator), delayed_products(100, generator)
    network = tl.black_box(Substrate(seed=0), 2, 32, output_size=1)
    rule = tl.ANP(network, loss="mse", at="every", sigma=0.05, clean=False)
    optimizer = torch.optim.Adam(rule.parameters(), lr=0.005)
    before = float(rule.evaluate(*test).loss)
    history = tl.fit(rule, optimizer, train, test, epochs=epochs, batch_size=20)
    after = history.epochs[-1]["validation_loss"]
    print(f"test error {before:.3f} before and {after:.3f} after {epochs} epochs (a constant: 1.0)")
    return {"before": before, "after": after}


if __name__ == "__main__":
    main()
