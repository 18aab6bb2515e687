"""Evidence that comes in pulses: on which side were there more?"""

import torch

from timelocal.data import Card, Dataset

SEQUENCES, STEPS = 600, 15


def evidence() -> Dataset:
    """Pulses left and right: on which side were there more?"""
    generator = torch.Generator().manual_seed(0)
    right = torch.rand(SEQUENCES, STEPS, generator=generator) < 0.5
    inputs = torch.stack((~right, right), dim=-1).float()  # (N, T, 2)
    targets = (2 * right.sum(1) > STEPS).long()  # (N,)
    card = Card(
        name="evidence",
        title="pulses left and right: on which side were there more?",
        shape=(SEQUENCES, STEPS, 2),
        classes=(
            "left",
            "right",
        ),  # None for values (N, T, O) at every step: then the loss is "mse"
        class_counts=None,  # counted
        source="made by this function",
        citation=(),
        terms="public domain",
    )
    return Dataset("evidence", inputs, targets, card)
