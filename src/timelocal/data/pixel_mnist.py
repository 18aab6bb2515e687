"""sequential-mnist and permuted-mnist: MNIST, one pixel per step."""

from __future__ import annotations

from dataclasses import replace

import torch

from timelocal.data import row_mnist
from timelocal.data.dataset import Arrays, Card, Derived
from timelocal.data.families import Family
from timelocal.seeding import generator

PIXELS = 784
PARTS = (50_000, 10_000, 10_000)
_LE = (
    "Q. V. Le, N. Jaitly, G. E. Hinton. A Simple Way to Initialize Recurrent Networks of Rectified Linear "
    "Units. arXiv:1504.00941, 2015."
)


def permutation(seed: int) -> torch.Tensor:
    """The order (784,) in which permuted-mnist reads the pixels.

    >>> sorted(permutation(0).tolist()) == list(range(784))
    True
    """
    return torch.randperm(PIXELS, generator=generator(seed, "permuted-mnist"))


def _pixels(arrays: Arrays) -> Arrays:
    images, labels = arrays
    return images.reshape(len(images), PIXELS, 1), labels


def _card(name: str, title: str, *notes: str) -> Card:
    card = row_mnist.ENTRY.card
    return replace(
        card,
        name=name,
        title=title,
        shape=(card.shape[0], PIXELS, 1),
        citation=(*card.citation, _LE),
        notes=(
            *notes,
            "Pixels are divided by 255.",
            "Trained on the first 50,000 of the training files, validated on their last 10,000, tested on "
            "the test files.",
        ),
        parts=PARTS,
    )


ENTRY = Derived(
    row_mnist.ENTRY,
    _card("sequential-mnist", "MNIST handwritten digits, read pixel by pixel, row after row"),
    _pixels,
)


def _permuted(name: str, seed: int) -> Derived:
    def change(arrays: Arrays) -> Arrays:
        images, labels = _pixels(arrays)
        return images[:, permutation(seed).numpy()], labels

    title = "MNIST handwritten digits, read pixel by pixel in a random but fixed order"
    card = _card(name, title, f"The order is drawn with the seed {seed}.")
    return Derived(row_mnist.ENTRY, card, change)


FAMILY = Family("permuted-mnist", {"seed": 0}, _permuted)
