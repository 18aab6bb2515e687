"""A spiking network under rules with a surrogate derivative, with none, and with a recurrence that stays put.

Sinusoids of unknown frequency and phase come in; what the network must say is what they were two steps
ago. The last input as a forecast, and a network of which the readout alone learns, are the floors.

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


def rules(seed: int) -> dict[str, tuple[tl.Rule, float]]:
    """Rules, each on a network of its own, and their learning rates."""

    def network(learns: bool = True) -> tl.Network:
        made = tl.LIF(2, 64, output_size=1, seed=seed)
        made.recurrent.requires_grad_(learns)
        return made

    task = {"loss": "mse", "at": "every", "seed": seed}
    return {
        "BPTT": (tl.BPTT(network(), **task), 5e-3),
        "e-prop": (tl.EProp(network(), feedback="gaussian", **task), 5e-3),
        "DFA": (tl.DFA(network(), feedback="gaussian", **task), 5e-3),
        "ANP": (tl.ANP(network(), sigma=0.3, **task), 1e-3),
        "readout only": (tl.BPTT(network(learns=False), **task), 5e-3),
    }


def main(epochs: int = 60, seed: int = 0) -> dict[str, float]:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    train, test = sinusoids(200, generator), sinusoids(100, generator)
    inputs, targets = test
    print(f"variance of the targets: {float(targets.var()):.3f}")
    print(
        f"the input as it is: test error {float((inputs[..., :1] - targets).square().mean()):.4f}"
    )
    found = {}
    for name, (rule, lr) in rules(seed).items():
        optimizer = torch.optim.Adam(rule.parameters(), lr=lr)
        history = tl.fit(rule, optimizer, train, test, epochs=epochs, batch_size=20)
        found[name] = history.epochs[-1]["validation_loss"]
        spikes = rule.network.scan(inputs).layers[0][0].hidden
        print(
            f"{name}: test error {found[name]:.4f} after {epochs} epochs, {float(spikes.mean()):.2f} spikes "
            "a step"
        )
    return found


if __name__ == "__main__":
    main()
