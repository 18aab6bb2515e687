"""Lines of a bibliography as BibTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NAME = r"(?:[^\W\d_]\.[- ]?)+(?:(?:van|von|de|der) )*[^\W\d_][\w'-]*(?: [^\W\d_][\w'-]*)*"
_AUTHORS = re.compile(rf"({_NAME}(?:, {_NAME})*)\. ")
_CONFERENCE = re.compile(r"NeurIPS|ICLR|ICML|IJCNN|AAAI|Workshop|Conference|Proceedings of the \d")


def bibtex(references: Iterable[str]) -> list[str]:
    """An entry for each different line "A. Author, B. Author. Title. Where, year." of a bibliography.

    >>> print(bibtex(["J. M. Murray. Local online learning. eLife 8:e43299, 2019."])[0])
    @article{murray2019local,
      title = {{Local online learning}},
      author = {J. M. Murray},
      journal = {eLife 8:e43299},
      year = {2019},
    }
    """
    entries: dict[str, str] = {}
    for reference in dict.fromkeys(references):
        found = _AUTHORS.match(reference)
        authors = found[1].split(", ") if found else []
        rest = reference[found.end() :] if found else reference
        title, _, where = rest.rstrip(".").partition(". ")
        years = re.findall(r"[, ]((?:19|20)\d\d)\b", where)
        place = re.sub(rf",? {years[-1]}\b", "", where, count=1) if years else where
        kind, field = "article", "journal"
        if _CONFERENCE.search(where):
            kind, field = "inproceedings", "booktitle"
        values = {
            "title": f"{{{title}}}",
            "author": " and ".join(authors),
            field: place,
            "year": years[-1] if years else "",
        }
        surname = re.sub(r"\W", "", authors[0].split(". ")[-1].split(" ")[-1]) if authors else ""
        word = re.sub(r"\W", "", title.split(" ")[0])
        key = f"{surname}{values['year']}{word}".casefold()
        while key in entries:
            key += "b"
        lines = [f"  {name} = {{{value}}}," for name, value in values.items() if value]
        entries[key] = "\n".join([f"@{kind}{{{key},", *lines, "}"])
    return list(entries.values())
