"""Datasets by name, seeded splits, minibatches: from files to (inputs, targets, lengths)."""

from timelocal.data.dataset import Card, Dataset
from timelocal.data.fetch import cache_dir
from timelocal.data.registry import card, load, locate, names
from timelocal.data.sequences import Sequences, collate, minibatches
from timelocal.data.splits import Split, moments, split, standardize

__all__ = [
    "Card",
    "Dataset",
    "Sequences",
    "Split",
    "cache_dir",
    "card",
    "collate",
    "load",
    "locate",
    "minibatches",
    "moments",
    "names",
    "split",
    "standardize",
]
