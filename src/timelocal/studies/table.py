"""A study as one table of text: the same runs give the same bytes, wherever and whenever they ran."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from timelocal.errors import printable
from timelocal.files import to_json
from timelocal.studies.store import RunRecord

_FIELDS = ("run", "status", "epochs", "config", "result")
_TIMES = {"seconds", "milliseconds", "peak_megabytes"}


def table(records: Iterable[RunRecord]) -> str:
    """CSV with one line per run, sorted by name: configuration and result, without times.

    >>> table([])
    'run,status,epochs,config,result\\n'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_FIELDS)
    for record in sorted(records, key=lambda one: one.folder.name):
        result = {k: v for k, v in (record.result or {}).items() if k not in _TIMES}
        writer.writerow(
            (
                printable(record.folder.name),
                record.status,
                len(record.epochs),
                _json(record.config),
                _json(result),
            )
        )
    return text.getvalue()


def _json(value: object) -> str:
    return to_json(value, sort_keys=True, separators=(",", ":"))
