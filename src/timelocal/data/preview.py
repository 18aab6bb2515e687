"""A summary of your own file before training, even if nothing can be learned from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from timelocal.data.own_series import Series, are_values, in_order, told_classes
from timelocal.data.reading import Reading, dataset_of, series_of
from timelocal.errors import TimelocalError

_SHOWN = 20


def preview(path: Path, reading: Reading) -> dict[str, str]:
    """Series, features, lengths, classes, missing values, gaps and duplicates of a file, in words by name.

    `problem`, the last, is there if `read` would refuse the file, and says why.
    """
    series = series_of(path, reading, needs_label=False)
    lengths = series.lengths
    low, high = int(lengths.min()), int(lengths.max())
    missing = np.isnan(series.rows)
    lines = {
        "file": series.source,
        "series": f"{len(series):,}",
        "steps": f"{low:,}"
        if low == high
        else f"{low:,} to {high:,}, median {np.median(lengths):,.0f}",
        "features": f"{len(series.features)}: {_shortened(series.features)}",
        "missing values": _missing(series, missing),
        "duplicated times": ", ".join(
            f"{n:,}, such as {text}" for text, n in series.duplicates.items()
        )
        or ("none" if series.times is not None else "unknown: no time column"),
        "gaps in time": "unknown: no time column"
        if series.times is None
        else (f"{series.gaps:,} steps missing" if series.gaps else "none"),
    }
    if series.labels is not None:
        lines |= _labels(series, reading)
    try:
        made = dataset_of(series, reading)
    except TimelocalError as error:
        return {**lines, "problem": str(error)}
    if made.card.parts is not None:
        name, ahead = "pieces", ""
        if reading.target is not None:
            name, ahead = "windows", f", {made.targets.shape[1]} to forecast"
        lines[name] = (
            f"{len(made):,} of {made.inputs.shape[1]} steps{ahead}: "
            "{:,} train, {:,} validation, {:,} test".format(*made.card.parts)
        )
    lines["inputs"] = " × ".join(f"{n:,}" for n in made.inputs.shape)
    return lines


def _shortened(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _missing(series: Series, missing: np.ndarray) -> str:
    count = int(missing.sum())
    if not count:
        return "none"
    told = [f"{name}: {n:,}" for name, n in zip(series.features, missing.sum(0), strict=True) if n]
    return f"{count:,} of {missing.size:,} ({_shortened(told)})"


def _labels(series: Series, reading: Reading) -> dict[str, str]:
    assert series.labels is not None
    try:
        values = are_values(series, reading.task)
    except TimelocalError as error:
        return {"labels": str(error)}
    if values:
        numbers = series.labels.astype(np.float64)
        return {"values": f"{numbers.min():g} to {numbers.max():g}, mean {numbers.mean():g}"}
    names, places = told_classes(series)
    counts = Counter(names[place] for place in places.tolist())
    names = list(in_order(names))
    told = [f"{name} ({counts[name]:,})" for name in names]
    return {"classes": f"{len(names)}: {_shortened(told)}"}
