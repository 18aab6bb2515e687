"""What a page of the docs says."""

from __future__ import annotations

from collections.abc import Iterable


def check_says(page: str, sentences: Iterable[str]) -> None:
    """That a page has these words, wherever its lines break."""
    words = " ".join(page.split())
    for said in sentences:
        assert said in words, said
