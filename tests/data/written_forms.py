"""Write labelled series in the forms that the parsers read."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def as_tsv(values: Array, labels: Array) -> str:
    return "".join(
        "\t".join([str(y), *(repr(float(v)) for v in x[:, 0])]) + "\n"
        for x, y in zip(values, labels, strict=True)
    )


def as_txt(values: Array, labels: Array) -> str:
    return "".join(
        "  " + "  ".join(f"{v:.17e}" for v in [y, *x[:, 0]]) + "\n"
        for x, y in zip(values, labels, strict=True)
    )


def as_ts(values: Array, labels: Array) -> str:
    rows = (
        ":".join([*(",".join(repr(float(v)) for v in channel) for channel in x.T), str(y)])
        for x, y in zip(values, labels, strict=True)
    )
    return "#a comment, with:colons\n@problemName x\n@classLabel true -1 1\n@data\n" + "\n".join(
        rows
    )


def as_arff(values: Array, labels: Array) -> str:
    rows = []
    for x, y in zip(values, labels, strict=True):
        text = r"\n".join(",".join(repr(float(v)) for v in channel) for channel in x.T)
        rows.append(f"{text},{y}" if x.shape[1] == 1 else f"'{text}',{y}.0")
    return "% Olá\n@relation x\n@attribute a numeric\n\n@data\n" + "\n".join(rows) + "\n"


def as_data(values: Array, labels: Array) -> str:
    return "".join(
        ",".join([*(repr(float(v)) for v in x.ravel()), str(y)]) + "\r\n"
        for x, y in zip(values, labels, strict=True)
    )
