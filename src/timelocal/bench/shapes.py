"""The measured sizes: those of the DFA paper's data sets, and sequences of increasing length."""

from __future__ import annotations

from dataclasses import dataclass

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
"""Nodes per hidden unit of the cells that torch.nn has."""


@dataclass(frozen=True)
class Shape:
    """B sequences of T steps, I inputs, H hidden units, O classes at the last step."""

    name: str
    batch: int
    steps: int
    inputs: int
    hidden: int
    outputs: int

    def forward_flops(self, cell: str) -> float:
        """Floating-point operations of one forward pass: 2 T B (gates·H) (H + I) + 2 B H O."""
        recurrent = 2 * self.steps * self.batch * GATES[cell] * self.hidden
        return float(
            recurrent * (self.hidden + self.inputs) + 2 * self.batch * self.hidden * self.outputs
        )


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("ecg200", 120, 96, 1, 50, 2),
        Shape("strawberry", 10, 235, 1, 50, 2),
        Shape("libras", 10, 45, 2, 512, 15),
        Shape("row-mnist", 100, 28, 28, 512, 10),
        Shape("long", 100, 235, 1, 512, 2),
    )
}


def long_sequences() -> list[Shape]:
    """T from 100 to 10⁴ at B = 10, H = 50."""
    return [Shape(f"T = {steps}", 10, steps, 1, 50, 2) for steps in (100, 316, 1000, 3162, 10000)]
