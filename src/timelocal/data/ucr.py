"""Small sets of the time series classification archive, from the package `aeon` (the extra `ucr`)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from timelocal.data.archive import ARCHIVE, TERMS, archive_forms
from timelocal.data.dataset import Arrays, Card, Floors
from timelocal.data.files import FileDataset
from timelocal.optional import require


@dataclass(frozen=True)
class Bundled:
    """Files of the archive: in a data folder, or in the installed package `aeon`, which is not imported."""

    files: FileDataset
    stem: str

    @property
    def card(self) -> Card:
        return self.files.card

    @property
    def floors(self) -> Floors:
        return self.files.floors

    def locate(self, data_dir: Path | None) -> str | None:
        found = self.files.locate(data_dir)
        if found is None and (spec := find_spec("aeon")) is not None:
            for home in spec.submodule_search_locations or ():
                folder = Path(home) / "datasets" / "data" / self.stem
                found = str(folder) if folder.is_dir() else found
        return found

    def read(self, data_dir: Path | None) -> Arrays:
        folder = self.locate(data_dir)
        if folder is None:
            require("aeon", extra="ucr", for_="data sets of the UCR archive")
            return self.files.read(data_dir)  # whose error says what is missing
        return self.files.read_folder(Path(folder))


def _bundled(
    name: str,
    stem: str,
    title: str,
    shape: tuple[int, int, int],
    classes: dict[int, str],
    counts: tuple[int, ...],
    fingerprint: str,
    citation: str,
) -> Bundled:
    """classes: by the labels in the files."""
    card = Card(
        name=name,
        title=title,
        shape=shape,
        classes=tuple(classes.values()),
        class_counts=counts,
        source=f"https://www.timeseriesclassification.com/description.php?Dataset={stem}",
        citation=(citation, ARCHIVE),
        terms=TERMS,
        notes=(
            "Read from the installed package aeon, which brings it: pip install 'timelocal[ucr]'.",
            "The archive's training and test files are merged.",
        ),
    )
    forms = archive_forms(stem, tuple(classes))
    return Bundled(FileDataset(card, (name, stem), forms, (), fingerprint), stem)


ENTRIES = (
    _bundled(
        "gunpoint",
        "GunPoint",
        "The height of a hand that draws a gun, or points a finger",
        (200, 150, 1),
        {1: "gun", 2: "point"},
        (100, 100),
        "05c1da5c19346cf5302ded3472677f5862c781f67708f9dc6e90bd7f5e966d35",
        "C. A. Ratanamahatana, E. Keogh. Everything you know about dynamic time warping is wrong. Third "
        "Workshop on Mining Temporal and Sequential Data, 2004.",
    ),
    _bundled(
        "italy-power-demand",
        "ItalyPowerDemand",
        "A day of electrical power in Italy: of winter, or of summer",
        (1096, 24, 1),
        {1: "October to March", 2: "April to September"},
        (547, 549),
        "60522a03d8b8e20bb2f0d63ec9f87645d234053772f6b0035a471b9c44df6c1e",
        "E. Keogh, L. Wei, X. Xi, S. Lonardi, J. Shieh, S. Sirowy. Intelligent icons: integrating "
        "lite-weight data mining and visualization into GUI operating systems. ICDM 2006, 912-916.",
    ),
    _bundled(
        "arrow-head",
        "ArrowHead",
        "The outline of an arrowhead, of three kinds",
        (211, 251, 1),
        {0: "Avonlea", 1: "Clovis", 2: "Mix"},
        (81, 65, 65),
        "ad5a32d071a4ff0ed51dc214200ba43dfa0bde1e485640a5c2424eea0ec122ab",
        "L. Ye, E. Keogh. Time series shapelets: a new primitive for data mining. KDD 2009, 947-956.",
    ),
    _bundled(
        "osu-leaf",
        "OSULeaf",
        "The outline of a leaf, of six kinds of tree",
        (442, 427, 1),
        {label: str(label) for label in range(1, 7)},
        (66, 84, 75, 97, 82, 38),
        "38f0da18c8a66f901ac8d092e9defa1c8d177b6a4eaf57ada49fcf6211d567e6",
        "A. Gandhi. Content-based image retrieval: plant species identification. MSc thesis, Oregon State "
        "University, 2002.",
    ),
)
