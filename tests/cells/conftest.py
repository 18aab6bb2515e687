"""The cells of others by name, as if each had its line in the registry."""

from __future__ import annotations

import pytest
from cells_of_others import OTHERS

from timelocal import cells


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for cell in OTHERS:
        monkeypatch.setitem(cells.CELLS, cell.name, cell)
