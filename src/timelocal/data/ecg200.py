"""ecg200: single heartbeats, normal or of a myocardial infarction."""

from __future__ import annotations

from timelocal.data.archive import ARCHIVE, TERMS, archive_forms
from timelocal.data.dataset import Card
from timelocal.data.fetch import Source
from timelocal.data.files import FileDataset

_ZIP = "https://www.timeseriesclassification.com/aeon-toolkit/ECG200.zip"

ENTRY = FileDataset(
    card=Card(
        name="ecg200",
        title="Single heartbeats: normal, or of a myocardial infarction",
        shape=(200, 96, 1),
        classes=("myocardial infarction", "normal"),
        class_counts=(67, 133),
        source="https://www.timeseriesclassification.com/description.php?Dataset=ECG200",
        citation=(
            "R. T. Olszewski. Generalized feature extraction for structural pattern recognition in "
            "time-series data. PhD thesis, Carnegie Mellon University, CMU-CS-01-108, 2001.",
            ARCHIVE,
        ),
        terms=TERMS,
        notes=(
            "The archive's training and test files (100 + 100) are merged.",
            "Every series is z-normalised already. Labels in the files are -1 and 1.",
        ),
    ),
    folders=("ecg200", "ECG200"),
    forms=archive_forms(
        "ECG200",
        classes=(-1, 1),
        sha256={
            "ECG200_TRAIN.tsv": "bd08b37147ebf205231ad43e02c42dd5c14bc348f4ccc7614f85634c8916bf21",
            "ECG200_TEST.tsv": "c8ac02caf98be23c47c044fde026219301ceaf0b2f97bc107bd0cd96330b867c",
        },
    ),
    # The bytes of the .zip are not established; its values are, by the fingerprint.
    sources=(Source("ECG200_TRAIN.ts", (_ZIP,)), Source("ECG200_TEST.ts", (_ZIP,))),
    fingerprint="9afc0db1cb4bc60788d4e23ad4d1b999ac95943250180720c4e74e38ae59d955",
)
