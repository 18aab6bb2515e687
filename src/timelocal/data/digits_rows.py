"""digits-rows: the small digits that come with scikit-learn, one row of pixels per step."""

from __future__ import annotations

import numpy as np

from timelocal.data.dataset import Arrays, BuiltIn, Card
from timelocal.optional import require


def _make() -> Arrays:
    require("sklearn", extra="cli", for_="the data set digits-rows")
    from sklearn.datasets import load_digits

    digits = load_digits()
    return (digits.images / 16).astype(np.float32), digits.target.astype(np.int64)


ENTRY = BuiltIn(
    card=Card(
        name="digits-rows",
        title="Handwritten digits, 8 × 8 pixels, read row by row",
        shape=(1797, 8, 8),
        classes=tuple("0123456789"),
        class_counts=(178, 182, 177, 183, 181, 182, 181, 179, 174, 180),
        source="scikit-learn, sklearn.datasets.load_digits: the test part of UCI data set 80, "
        "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        citation=(
            "E. Alpaydin, C. Kaynak. Optical Recognition of Handwritten Digits. UCI Machine "
            "Learning Repository, 1998. doi:10.24432/C50P49.",
        ),
        terms="CC BY 4.0",
        notes=("Pixels are counts 0..16, divided by 16.", "Needs no download."),
    ),
    make=_make,
)
