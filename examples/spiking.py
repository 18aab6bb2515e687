"""A spiking network with a hard threshold learns by perturbation: no derivative, none pretended.

Sinusoids of unknown frequency and phase come in; what the network must say is what they were two steps
ago. A network whose recurrent and input weights stay as they were shows what the readout does alone.

    python examples/spiking.py
"""

from __future__ import annotations

import torch

import timelocal as tl


def sinusoids(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (n, 60, 2), a sinusoid and its negative, and targets (n, 60, 1), what it was."""
    frequency = 0.1 + 0.2 * torch.rand(count, 1, 1, generator=generator)
    phase = 6.28 * torch.rand(count, 1, 1, generator=generator)
    time = torch.arange(60).view(1, 60, 1)
    now = torch.sin(frequency * time + phase)
    return torch.cat((now, -now), -1), torch.sin(frequency * (time - 2) + phase)


def main(epochs: int = 60) -> dict[str, float]:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    train, test = sinusoids(200, generator), sinusoids(100, generator)
    print(f"variance of the targets: {float(test[1].var()):.3f}")
    found = {}
    for name, learns in (("all weights", True), ("readout only", False)):
        network = tl.LIF(2, 64, output_size=1, seed=0)
        network.recurrent.requires_grad_(learns)
        rule = tl.ANP(network, loss="mse", at="every", sigma=0.3)
        optimizer = torch.optim.Adam(rule.parameters(), lr=0.005)
        history = tl.fit(rule, optimizer, train, test, epochs=epochs, batch_size=20)
        found[name] = history.epochs[-1]["validation_loss"]
        print(f"{name}: test error {found[name]:.3f} after {epochs} epochs")
    return found


if __name__ == "__main__":
    main()
