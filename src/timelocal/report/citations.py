"""Where experiments are from: the papers and how each is cited, or the questions beyond them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A paper: its title, its citation with an address, and which of its numbers it prints.

    The questions beyond the papers have only a title.
    """

    title: str
    citation: str = ""
    address: str = ""
    printed: str = ""


PAPERS = {
    "dfa": Paper(
        "Direct Feedback Alignment for Recurrent Neural Networks",
        "A. Cossu, A. Ceni, V. Lomonaco, D. Bacciu, C. Gallicchio. Direct Feedback Alignment for Recurrent "
        "Neural Networks. Second Workshop on Machine Learning with New Compute Paradigms at NeurIPS "
        "(MLNCP), 2024.",
        "https://openreview.net/forum?id=dNQETBrNcD",
        "Table 1 of the paper, as printed: test accuracy in %, mean ± standard deviation. It prints one "
        "number for DFA, which is shown next to both of our DFA columns; its figure 2 has no numbers.",
    ),
    "perturbation": Paper(
        "Gradient-Free Training of Recurrent Neural Networks using Random Perturbations",
        "J. García Fernández, S. Keemink, M. van Gerven. Gradient-free training of recurrent neural networks "
        "using random perturbations. Frontiers in Neuroscience 18:1439155, 2024.",
        "https://doi.org/10.3389/fnins.2024.1439155",
        "The paper shows its results as curves and bars without numbers; what it says about them in words is "
        "decided above, claim by claim.",
    ),
    "beyond": Paper("Beyond the papers"),
}
"""By the first part of an experiment's name."""
