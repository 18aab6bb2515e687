"""Scores of a model's predictions: class by class, and for values in their original units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timelocal.arguments import as_tensor
from timelocal.errors import Problem, described, raise_problems

_BINS = 10


def class_scores(probabilities: object, targets: object, classes: Sequence[str]) -> dict[str, Any]:
    """The scores of predicted probabilities against the true classes.

        precision_c = TP_c / (TP_c + FP_c)    recall_c = TP_c / (TP_c + FN_c)    F1_c: their harmonic mean
        Brier = mean Σ_c (p_c − [c is right])²    calibration error = Σ_bins N_bin / N |accuracy − confidence|

    Args:
        probabilities: (n, c), rows that sum to 1.
        targets: (n,) indices of the true classes.
        classes: c names.

    Returns:
        `accuracy`, `balanced_accuracy` (the mean recall of the classes that occur), `macro_f1`, `log_loss`,
        `brier`, `calibration_error` over 10 bins of the confidence, those `bins`, `confusion` (rows: true
        classes; columns: predicted classes), and `classes`: precision, recall, F1 and count of each. A class
        that was never predicted has precision 0, one that never occurs has recall None.

    Raises:
        ArgumentError: for shapes that do not match, and targets that are not class indices.

    >>> class_scores([[0.9, 0.1], [0.2, 0.8]], [0, 0], ["a", "b"])["confusion"]
    [[1, 1], [0, 0]]
    """
    p = as_tensor("probabilities", probabilities).double().numpy()
    right = as_tensor("targets", targets).numpy()
    fits = p.ndim == 2 and p.shape[1] == len(classes) and right.shape == p.shape[:1] and len(p) > 0
    whole = right.dtype.kind == "i" and fits and bool(((right >= 0) & (right < len(classes))).all())
    raise_problems(
        [
            None
            if fits
            else Problem("probabilities", described(p), f"(n, {len(classes)}), n from 1"),
            None
            if whole or not fits
            else Problem("targets", described(right), f"places from 0 to {len(classes) - 1}"),
        ]
    )
    count = len(classes)
    guessed = p.argmax(1)
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (right, guessed), 1)
    hits, there, said = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    precision = hits / np.maximum(said, 1)
    recall = hits / np.maximum(there, 1)
    f1 = 2 * hits / np.maximum(there + said, 1)
    occurs = there > 0
    of_right = p[np.arange(len(p)), right]
    bins, error = _calibration(p.max(1), guessed == right)
    return {
        "sequences": len(p),
        "accuracy": float(hits.sum() / len(p)),
        "balanced_accuracy": float(recall[occurs].mean()),
        "macro_f1": float(f1[occurs | (said > 0)].mean()),
        "log_loss": float(-np.log(np.maximum(of_right, np.finfo(float).tiny)).mean()),
        "brier": float((np.square(p).sum(1) - 2 * of_right + 1).mean()),
        "calibration_error": error,
        "bins": bins,
        "classes": {
            name: {
                "precision": float(precision[c]),
                "recall": float(recall[c]) if occurs[c] else None,
                "f1": float(f1[c]),
                "count": int(there[c]),
            }
            for c, name in enumerate(classes)
        },
        "confusion": confusion.tolist(),
    }


def _calibration(
    confidence: NDArray[np.float64], hit: NDArray[np.bool_]
) -> tuple[list[dict[str, float]], float]:
    """The bins of equal width that hold something: their mean confidence, accuracy and count."""
    place = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    bins = []
    for one in np.unique(place):
        inside = place == one
        mean, share = float(confidence[inside].mean()), float(hit[inside].mean())
        bins.append({"confidence": mean, "accuracy": share, "count": int(inside.sum())})
    error = sum(one["count"] * abs(one["accuracy"] - one["confidence"]) for one in bins)
    return bins, error / len(hit)


def value_scores(values: object, targets: object) -> dict[str, float | None]:
    """Mean absolute and root mean squared error, and R² = 1 − Σ (y − ŷ)² / Σ (y − mean y)².

    Args:
        values, targets: of one shape (n, …, o), every entry of which counts.

    Returns:
        `mae`, `rmse` in the units of the targets, and `r2`, None if all targets are equal.

    Raises:
        ArgumentError: for shapes that differ, or empty arrays.

    >>> value_scores([[1.0], [2.0]], [[1.0], [4.0]])["mae"]
    1.0
    """
    y = as_tensor("targets", targets, floating=True).double().numpy()
    found = as_tensor("values", values, floating=True).double().numpy()
    fits = y.shape == found.shape and y.size > 0
    raise_problems([None if fits else Problem("values", described(found), f"{y.shape}, not empty")])
    squares = np.square(found - y)
    spread = float(np.square(y - y.mean()).sum())
    return {
        "mae": float(np.abs(found - y).mean()),
        "rmse": float(np.sqrt(squares.mean())),
        "r2": 1 - float(squares.sum()) / spread if spread else None,
    }
