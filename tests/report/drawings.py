"""The drawings themselves, before they are written."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from timelocal.report import printed


def kept(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """From here on, drawings go into this list and not into files."""
    figures: list[Figure] = []

    def save(figure: Figure, path: Path) -> Path:
        figures.append(figure)
        return path

    monkeypatch.setattr(printed, "save", save)
    return figures
