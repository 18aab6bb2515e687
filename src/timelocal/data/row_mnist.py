"""row-mnist: MNIST, one row of pixels per step."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from timelocal.data.dataset import Arrays, Card
from timelocal.data.fetch import Source
from timelocal.data.files import FileDataset, Form
from timelocal.data.parsers import read_idx
from timelocal.errors import DataError

# The sha256 of the four original files: these downloads are pinned byte by byte, whoever serves
# them. The original home often refuses, so the mirror that torchvision uses comes first.
_SHA256 = {
    f"{part}-ubyte.gz": sha256
    for part, sha256 in (
        ("train-images-idx3", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        ("train-labels-idx1", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        ("t10k-images-idx3", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        ("t10k-labels-idx1", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    )
}
_HOMES = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")


def _read(paths: list[Path]) -> Arrays:
    train_images, train_labels, test_images, test_labels = map(read_idx, paths)
    pixels = (train_images, test_images)
    labels = np.concatenate((train_labels, test_labels)).astype(np.int64)
    count = sum(len(part) for part in pixels)
    if any(part.shape[1:] != (28, 28) for part in pixels) or labels.shape != (count,):
        raise DataError(
            f"{paths[0].parent}: got images {[part.shape for part in pixels]} and labels "
            f"{labels.shape}, expected images of 28 × 28 and one label each. Fetch the files again"
        )
    inputs = np.empty((count, 28, 28), np.float32)
    start = 0
    for part in pixels:
        np.divide(part, np.float32(255), out=inputs[start : start + len(part)])
        start += len(part)
    return inputs, labels


ENTRY = FileDataset(
    card=Card(
        name="row-mnist",
        title="MNIST handwritten digits, 28 × 28 pixels, read row by row",
        shape=(70000, 28, 28),
        classes=tuple("0123456789"),
        class_counts=(6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958),
        source="http://yann.lecun.com/exdb/mnist/",
        citation=(
            "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. Gradient-based learning applied to "
            "document recognition. Proceedings of the IEEE 86(11):2278-2324, 1998.",
        ),
        terms="CC BY-SA 3.0, as commonly stated (Y. LeCun and C. Cortes hold the copyright); the "
        "original page states no licence.",
        notes=(
            "Pixels are divided by 255.",
            "The 60,000 training files, then the 10,000 test files.",
        ),
    ),
    folders=("mnist", "row-mnist"),
    forms=(Form(_SHA256, _read),),
    sources=tuple(
        Source(name, tuple(home + name for home in _HOMES), sha256)
        for name, sha256 in _SHA256.items()
    ),
    fingerprint="156bbcaba2980d9df4d55d251e00bd6dcae635e8cfb09f19b37b1d3f0d1aa95f",
)
