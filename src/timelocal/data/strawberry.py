"""strawberry: infrared spectra of fruit purees, pure strawberry or not."""

from __future__ import annotations

from timelocal.data.archive import ARCHIVE, TERMS, archive_forms
from timelocal.data.dataset import Card
from timelocal.data.fetch import Source
from timelocal.data.files import FileDataset

_ZIP = "https://www.timeseriesclassification.com/aeon-toolkit/Strawberry.zip"

ENTRY = FileDataset(
    card=Card(
        name="strawberry",
        title="Infrared spectra of fruit purees: strawberry, or adulterated and other fruit",
        shape=(983, 235, 1),
        classes=("strawberry", "not strawberry"),
        class_counts=(351, 632),
        source="https://www.timeseriesclassification.com/description.php?Dataset=Strawberry",
        citation=(
            "J. K. Holland, E. K. Kemsley, R. H. Wilson. Use of Fourier transform infrared "
            "spectroscopy and partial least squares regression for the detection of adulteration "
            "of strawberry purees. Journal of the Science of Food and Agriculture 76(2):263-269, "
            "1998.",
            ARCHIVE,
        ),
        terms=TERMS,
        notes=(
            "The archive's training and test files (613 + 370, edition of 2018) are merged.",
            "Every series is z-normalised already. Labels in the files are 1 and 2.",
            "Two of the spectra are equal although they belong to different classes.",
        ),
    ),
    folders=("strawberry", "Strawberry"),
    forms=archive_forms(
        "Strawberry",
        classes=(1, 2),
        sha256={
            "Strawberry_TRAIN.tsv": (
                "b467b8391dcb79d7259e46dbff0d18728e82ea90462f982228b2b5041bb9e79e"
            ),
            "Strawberry_TEST.tsv": (
                "6ba0513774dad642f9f6f723f84ec48a13b9419c6b4b6c5480051505c8455561"
            ),
        },
    ),
    # The bytes of the .zip are not established; its values are, by the fingerprint.
    sources=(Source("Strawberry_TRAIN.ts", (_ZIP,)), Source("Strawberry_TEST.ts", (_ZIP,))),
    fingerprint="772327e6f105a35467b0c6115061fd1e6085e63005b0c1ba59ade50163782b58",
)
