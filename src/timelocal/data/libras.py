"""libras: hand movements of the Brazilian sign language, as curves in the plane."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from timelocal.data.archive import archive_forms
from timelocal.data.dataset import Arrays, Card
from timelocal.data.fetch import Source
from timelocal.data.files import FileDataset, Form
from timelocal.data.parsers import class_indices, read_interleaved

_LABELS = tuple(range(1, 16))
_DATA = "movement_libras.data"
_DATA_SHA256 = "97ebdaa6a9b28ab4a2cdd84b14f19a95a7456a46137c362b65a0669eca3c3c4d"


def _in_order(arrays: Arrays) -> Arrays:
    """One order and one precision, whatever the form.

    UCI and the archive publish the same 360 curves in different orders, and print four of them with
    differences up to 4e-7. Six decimals are what both agree on; sorted by class and then by value,
    a seeded split is the same from either.
    """
    inputs, labels = arrays
    inputs = np.round(inputs.astype(np.float64), 6).astype(np.float32)
    flat = inputs.reshape(len(inputs), -1)
    order = np.lexsort((*flat.T[::-1], labels))
    return inputs[order], labels[order]


def _read_data(paths: list[Path]) -> Arrays:
    values, labels = read_interleaved(paths[0])
    return _in_order((values.astype(np.float32), class_indices(labels, _LABELS)))


def _ordered(form: Form) -> Form:
    return replace(form, read=lambda paths: _in_order(form.read(paths)))


ENTRY = FileDataset(
    card=Card(
        name="libras",
        title="Hand movements of the Brazilian sign language, 45 points of a curve (x, y)",
        shape=(360, 45, 2),
        classes=(
            "curved swing",
            "horizontal swing",
            "vertical swing",
            "anti-clockwise arc",
            "clockwise arc",
            "circle",
            "horizontal straight-line",
            "vertical straight-line",
            "horizontal zigzag",
            "vertical zigzag",
            "horizontal wavy",
            "vertical wavy",
            "face-up curve",
            "face-down curve",
            "tremble",
        ),
        class_counts=(24,) * 15,
        source="https://archive.ics.uci.edu/dataset/181/libras+movement",
        citation=(
            "D. B. Dias, S. M. Peres, H. H. Bíscaro. Libras Movement. UCI Machine Learning "
            "Repository, 2009. doi:10.24432/C5GC82.",
            "D. B. Dias, R. C. B. Madeo, T. Rocha, H. H. Bíscaro, S. M. Peres. Hand movement "
            "recognition for Brazilian Sign Language: a study using distance-based neural "
            "networks. IJCNN 2009, 697-704. doi:10.1109/IJCNN.2009.5178917.",
        ),
        terms="CC BY 4.0",
        notes=(
            "30 of the 360 curves are exact copies of another one; a random split puts some of "
            "them into two parts (`Split.duplicates` counts these pairs).",
            "45 steps of 2 coordinates (some papers count 90 steps), in [0, 1], not normalised.",
            "Sorted by class and value, so that it does not depend on the file form.",
        ),
    ),
    folders=("libras", "Libras"),
    forms=(
        Form({_DATA: _DATA_SHA256}, _read_data),
        *map(_ordered, archive_forms("Libras", _LABELS)),
    ),
    # Pinned byte by byte, in the .zip too: the checksum is that of the file inside.
    sources=(
        Source(
            _DATA,
            (
                f"https://archive.ics.uci.edu/ml/machine-learning-databases/libras/{_DATA}",
                "https://archive.ics.uci.edu/static/public/181/libras+movement.zip",
            ),
            _DATA_SHA256,
        ),
    ),
    fingerprint="84347c4a9065220e8eb9784a99a5773b960282933da61bfac326a5ebabef5e07",
)
