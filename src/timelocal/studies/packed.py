"""A packed study: one Parquet file with one row per run, instead of one folder of small files per run.

Any Parquet reader opens it, such as `read_parquet(path)` in pandas. Its columns are:

- `name`, the run's name; `formerly`, its previous name, null if it never had another; `status`, `message`;
- `config`, `environment`, `result`, `timing`, `predictions`: JSON, as in the run's files of these names, null
  if there is no such file;
- `epochs`, their number, and `history.KEY`: the values of one key of the history, epoch by epoch. Null means
  that the epoch lacks the key, NaN that the value was not finite. `timing.seconds` likewise;
- `config.KEY` and `result.KEY`: copies of the numbers and words in `config` and `result`, to select by.

Numbers are kept to the last bit. Checkpoints are not kept; of the step times of each epoch only the median is
kept. The file contains its own sha256, computed over its bytes with zeros in the place of the digest.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from timelocal.errors import RunError
from timelocal.experiments.config import DEFAULTS_VERSION
from timelocal.experiments.trial import name_of
from timelocal.files import read_bytes, run_error, sha256, to_json, write_bytes
from timelocal.optional import require

SUFFIX = ".parquet"
VERSION = "2"
"""Files of version 1 contain no sha256."""

_VERSION = b"timelocal.packed"
_DEFAULTS = b"timelocal.defaults"
_SEAL = re.compile(rb"timelocal-sha256:([0-9a-f]{64})")
_NO_SEAL = b"timelocal-sha256:" + b"0" * 64
_JSON = ("config", "environment", "result", "timing", "predictions")
_FEW = 0.1
"""The share of distinct values up to which a column compresses better as it is than split into bytes."""


@dataclass(frozen=True)
class PackedRun:
    """One run: its name, its previous name, and the contents of its files, by file name without ".json"."""

    name: str
    parts: Mapping[str, Any] = field(default_factory=dict)
    formerly: str | None = None


def write_packed(runs: Iterable[PackedRun], path: Path) -> None:
    """Write the runs, sorted by name, as one file; the same runs give the same bytes.

    Raises:
        RunError: the file cannot be written, or the history of a run is not a list of numbers by name.
        MissingExtraError: pyarrow is not installed.
    """
    arrow, _ = _pyarrow()
    try:
        data = _file(sorted(runs, key=lambda run: run.name))
    except (arrow.ArrowException, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise RunError(
            f"the runs cannot be packed into {path}: {error}. Delete the run that holds such values."
        ) from error
    write_bytes(path, _sealed(data))


class Packed(Mapping[str, PackedRun]):
    """The runs of a packed file by name, each assembled when it is first needed.

    Runs in a file that is older than a change of defaults appear under their present names.
    """

    def __init__(self, path: Path) -> None:
        """Raises `RunError` if the file cannot be read, `MissingExtraError` if pyarrow is not installed."""
        self._path, table = path, _table(path)
        with _damage_told(path):
            self._columns = {name: table.column(name) for name in table.column_names}
            names = self._columns["name"].to_pylist()
            self._stored = names
            if table.schema.metadata[_DEFAULTS] != str(DEFAULTS_VERSION).encode():
                configs = map(json.loads, self._columns["config"].to_pylist())
                names = [name_of(*pair) for pair in zip(configs, names, strict=True)]
            self._rows = {name: row for row, name in enumerate(names)}

    def __getitem__(self, name: str) -> PackedRun:
        row = self._rows[name]
        with _damage_told(self._path):
            return self._run(name, row)

    def _run(self, name: str, row: int) -> PackedRun:
        parts: dict[str, Any] = {}
        for key in _JSON:
            text = self._columns[key][row].as_py()
            if text is not None:
                parts[key] = json.loads(text)
        status = self._columns["status"][row].as_py()
        if status is not None:
            parts["status"] = {"status": status, "message": self._columns["message"][row].as_py()}
        length = self._columns["epochs"][row].as_py()
        if length is not None:
            parts["history"] = {"epochs": self._epochs(row, length)}
        seconds = self._columns["timing.seconds"][row].as_py()
        if seconds is not None:
            parts["timing"]["seconds"] = list(map(_json_number, seconds))
        former = self._columns["formerly"][row].as_py()
        stored = self._stored[row]
        return PackedRun(name, parts, former or (None if stored == name else stored))

    def _epochs(self, row: int, length: int) -> list[dict[str, Any]]:
        curves = {
            name.removeprefix("history."): values
            for name, column in self._columns.items()
            if name.startswith("history.") and (values := column[row].as_py()) is not None
        }
        return [
            {
                key: _json_number(values[n])
                for key, values in curves.items()
                if values[n] is not None
            }
            for n in range(length)
        ]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def read_packed(path: Path) -> Packed:
    """The runs of a packed file; the file is read again only if it has changed.

    Raises:
        RunError: it cannot be read, is damaged, or contains no packed runs of this version.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise run_error(path, error, "read") from error
    return _read(path.resolve(), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _read(path: Path, _changed: int, _size: int) -> Packed:
    return Packed(path)


def _file(rows: Sequence[PackedRun]) -> bytes:
    """The packed runs as the bytes of a file, still without sha256."""
    arrow, parquet = _pyarrow()
    columns: dict[str, Any] = {
        "name": arrow.array([run.name for run in rows], arrow.string()),
        "formerly": arrow.array([run.formerly for run in rows], arrow.string()),
    }
    for key in ("status", "message"):
        told = [(run.parts.get("status") or {}).get(key) for run in rows]
        columns[key] = arrow.array(told, arrow.string())
    histories = [_history(run) for run in rows]
    lengths = [None if epochs is None else len(epochs) for epochs in histories]
    columns["epochs"] = arrow.array(lengths, arrow.int64())
    for name in _JSON:
        texts = [_text(name, run.parts.get(name)) for run in rows]
        columns[name] = arrow.array(texts, arrow.string())
    keys = dict.fromkeys(key for epochs in histories for epoch in epochs or () for key in epoch)
    for key in keys:
        columns[f"history.{key}"] = _lists([_curve(epochs, key) for epochs in histories])
    seconds = [(run.parts.get("timing") or {}).get("seconds") for run in rows]
    columns["timing.seconds"] = _lists(
        [values and list(map(_number, values)) for values in seconds]
    )
    for name in ("config", "result"):
        columns |= _copies(name, [run.parts.get(name) or {} for run in rows])
    table = arrow.table(columns).replace_schema_metadata(
        {_VERSION: VERSION, _DEFAULTS: str(DEFAULTS_VERSION), b"timelocal.sha256": _NO_SEAL}
    )
    file = io.BytesIO()
    parquet.write_table(
        table,
        file,
        compression="zstd",
        compression_level=19,
        use_dictionary=[key for key, one in columns.items() if arrow.types.is_string(one.type)],
        column_encoding={
            f"{key}.list.element": "BYTE_STREAM_SPLIT"
            for key, one in columns.items()
            if arrow.types.is_list(one.type) and not _are_few(one)
        },
        row_group_size=max(1, len(rows)),
        write_statistics=False,
        write_page_checksum=True,
    )
    return file.getvalue()


def _sealed(data: bytes) -> bytes:
    """A file with its own sha256 in the place reserved for it, after all columns."""
    start = data.rindex(_NO_SEAL)
    seal = _NO_SEAL[:-64] + sha256(data).encode()
    return data[:start] + seal + data[start + len(seal) :]


def _is_sealed(data: bytes) -> bool | None:
    """Whether a file is unchanged since it was written; None if it contains no sha256."""
    found = [*_SEAL.finditer(data)]
    if not found:
        return None
    start, end = found[-1].span()
    return sha256(data[:start] + _NO_SEAL + data[end:]).encode() == found[-1][1]


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Turns whatever a damaged file raises, in pyarrow or afterwards, into one `RunError`."""
    arrow, _ = _pyarrow()
    try:
        yield
    except (
        arrow.ArrowException,
        OSError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise _damaged(path, reason) from None


def _damaged(path: Path, reason: str) -> RunError:
    remedy = "Delete it and pack its runs again, or fetch it again."
    return RunError(f"{path} is damaged ({reason}). {remedy}")


def _table(path: Path) -> Any:
    arrow, parquet = _pyarrow()
    data = read_bytes(path)
    sealed = _is_sealed(data)
    if sealed is False:
        raise _damaged(path, "its sha256 does not match its content")
    with _damage_told(path):
        table = parquet.read_table(
            arrow.BufferReader(data), page_checksum_verification=True, partitioning=None
        ).combine_chunks()
        version = (table.schema.metadata or {}).get(_VERSION, b"").decode()
    if not version:
        raise RunError(f"{path} holds no packed runs. Pack a folder of runs with `timelocal pack`.")
    if version not in ("1", VERSION):
        raise RunError(
            f"{path} has version {version} of packed runs, this timelocal reads version {VERSION}. "
            "Use the timelocal that packed it, or a later one."
        )
    if version == VERSION and sealed is None:
        raise _damaged(path, "its sha256 is missing")
    return table


def _history(run: PackedRun) -> list[dict[str, float | None]] | None:
    history = run.parts.get("history")
    if history is None:
        return None
    epochs = history.get("epochs")
    if not isinstance(epochs, list) or not all(
        isinstance(epoch, dict) and all(map(_is_number, epoch.values())) for epoch in epochs
    ):
        raise RunError(
            f"the run {run.name} cannot be packed: its history is not a list of epochs with numbers. Repair "
            "it or delete the run."
        )
    return epochs


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _number(value: float | None) -> float | int:
    """A number as it is packed: null in JSON stands for one that was not finite."""
    return math.nan if value is None or not math.isfinite(value) else value


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _curve(epochs: Sequence[Mapping[str, float | None]] | None, key: str) -> list[Any] | None:
    """The values of a key, None for epochs that lack it; None if all epochs lack it."""
    if not any(key in epoch for epoch in epochs or ()):
        return None
    return [_number(epoch[key]) if key in epoch else None for epoch in epochs or ()]


def _text(name: str, part: Mapping[str, Any] | None) -> str | None:
    if part is None:
        return None
    if name == "timing":
        part = {k: v for k, v in part.items() if k not in ("seconds", "step_seconds")}
    return to_json(part, separators=(",", ":"))


def _lists(values: Sequence[list[Any] | None]) -> Any:
    """Lists of whole numbers if all are, of floating-point numbers otherwise."""
    arrow, _ = _pyarrow()
    whole = all(type(one) is int for some in values for one in some or () if one is not None)
    known = any(values)
    return arrow.array(values, arrow.list_(arrow.int64() if whole and known else arrow.float64()))


def _are_few(lists: Any) -> bool:
    values = lists.flatten()
    return len(values.unique()) <= _FEW * len(values)


def _copies(name: str, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A column for every key whose values have one type: strings, booleans, integers, or numbers."""
    arrow, _ = _pyarrow()
    types = {
        frozenset({str}): arrow.string(),
        frozenset({bool}): arrow.bool_(),
        frozenset({int}): arrow.int64(),
        frozenset({float}): arrow.float64(),
        frozenset({int, float}): arrow.float64(),
    }
    rows = [dict(_leaves(part, name)) for part in parts]
    keys = dict.fromkeys(key for row in rows for key in row)
    for key in list(keys):
        if any(
            type(value) is int and abs(value) >= 2**63 for value in (row.get(key) for row in rows)
        ):
            del keys[key]  # no column can hold these values
    found = {
        key: frozenset(type(row[key]) for row in rows if row.get(key) is not None) for key in keys
    }
    return {
        key: arrow.array([row.get(key) for row in rows], types[kinds])
        for key, kinds in found.items()
        if kinds in types
    }


def _leaves(part: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in part.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key}", value


def _pyarrow() -> tuple[Any, Any]:
    require("pyarrow", extra="report", for_="packed runs")
    import pyarrow
    import pyarrow.parquet

    return pyarrow, pyarrow.parquet
