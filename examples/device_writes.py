"""A device whose weights are written in levels, drift while it runs, and can be written only now and then.

What a rule asks for and what a device holds are two things. Here a write lands on the nearest of a few
levels, every run lets the weights decay a little, and writing is so slow that many runs pass between two
writes. The device learns by activity perturbation from two noisy runs, and forgets what it is not told anew.

    python examples/device_writes.py
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import timelocal as tl


class Device(tl.BlackBox):
    """Holds what was last written, to the nearest of `levels`, and loses the share `drift` of it a run.

    every: runs between two writes. Noise of standard deviation 0.05 enters every unit at every step.
    """

    name = "device-with-writes"

    def __init__(self, levels: int, drift: float, every: int, seed: int = 0) -> None:
        self.levels, self.drift, self.every = levels, drift, every
        self.generator = torch.Generator().manual_seed(seed)
        self.runs = 0
        self.held: list[Tensor] = []

    def write(self, wanted: list[Tensor]) -> None:
        """Bring the weights to the nearest levels between −2 and 2."""
        step = 4 / self.levels
        bound = self.levels / 2
        self.held = [(one / step).round().clamp(-bound, bound) * step for one in wanted]

    def scan(
        self,
        weights: Any,
        inputs: Tensor,
        initial: tuple[Tensor, ...],
        node_noise: Tensor | None = None,
    ) -> Any:
        if self.runs % self.every == 0:
            self.write([weights.ih, weights.hh, weights.b_ih + weights.b_hh])
        self.runs += 1
        v, w, offset = self.held = [one * (1 - self.drift) for one in self.held]
        hidden, measured = [initial[0]], []
        for t, x in enumerate(inputs):
            noise = 0.05 * torch.randn(hidden[-1].shape, generator=self.generator)
            current = x @ v.t() + hidden[-1] @ w.t() + offset + noise
            if node_noise is not None:
                current = current + node_noise[t]
            measured.append(current)
            hidden.append(current.tanh())
        return self.report(inputs, (torch.stack(hidden),), torch.stack(measured))


def delayed_products(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs (n, 40, 2) in {−1, 1}, held for some steps, and targets (n, 40, 1), their product."""
    held = torch.randint(0, 2, (count, 5, 2), generator=generator).float() * 2 - 1
    inputs = held.repeat_interleave(8, 1)
    return inputs, inputs.prod(-1, keepdim=True)


DEVICES = {
    "64 levels, no drift, written at once": Device(64, 0.0, 1),
    "8 levels": Device(8, 0.0, 1),
    "drift of 1 % a run, written at once": Device(64, 0.01, 1),
    "written every 5 runs": Device(64, 0.0, 5),
    "written every 5 runs, drift of 1 % a run": Device(64, 0.01, 5),
}


def main(epochs: int = 60) -> dict[str, float]:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    train, test = delayed_products(200, generator), delayed_products(100, generator)
    print("test error of a constant: 1.0")
    found = {}
    for name, device in DEVICES.items():
        network = tl.black_box(device, 2, 32, output_size=1, seed=0)
        rule = tl.ANP(network, loss="mse", at="every", sigma=0.05, clean=False, seed=0)
        optimizer = torch.optim.Adam(rule.parameters(), lr=0.005)
        history = tl.fit(rule, optimizer, train, test, epochs=epochs, batch_size=20)
        found[name] = history.epochs[-1]["validation_loss"]
        print(f"{name}: test error {found[name]:.3f} after {epochs} epochs, {device.runs} runs")
    return found


if __name__ == "__main__":
    main()
