"""Datasets by name, seeded splits, minibatches: from files to (inputs, targets, lengths)."""

from timelocal.data.adding import adding_sequences
from timelocal.data.copying import copying_sequences
from timelocal.data.dataset import Card, Dataset
from timelocal.data.delayed_match import delayed_match_sequences
from timelocal.data.fetch import cache_dir
from timelocal.data.mackey_glass import mackey_glass_streams
from timelocal.data.reading import read, read_frame
from timelocal.data.registry import card, floors, load, locate, names
from timelocal.data.selective import selective_copying_sequences
from timelocal.data.sequences import Sequences, Split, collate, minibatches
from timelocal.data.splits import moments, split, standardize

__all__ = [
    "Card",
    "Dataset",
    "Sequences",
    "Split",
    "adding_sequences",
    "cache_dir",
    "card",
    "collate",
    "copying_sequences",
    "delayed_match_sequences",
    "floors",
    "load",
    "locate",
    "mackey_glass_streams",
    "minibatches",
    "moments",
    "names",
    "read",
    "read_frame",
    "selective_copying_sequences",
    "split",
    "standardize",
]
