"""Scores are those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from timelocal.errors import ArgumentError
from timelocal.model.scores import class_scores, value_scores


def test_class_scores_are_those_of_scikit_learn():
    draw = np.random.default_rng(0)
    probabilities = draw.dirichlet(np.ones(4), 300)
    targets = draw.integers(0, 3, 300)  # the last class never occurs
    found = class_scores(probabilities, targets, list("abcd"))
    guessed = probabilities.argmax(1)
    kept = {"labels": range(4), "zero_division": 0}
    precision, recall, f1, count = metrics.precision_recall_fscore_support(targets, guessed, **kept)
    for place, own in enumerate(found["classes"].values()):
        assert own["precision"] == pytest.approx(precision[place])
        assert own["recall"] == (pytest.approx(recall[place]) if count[place] else None)
        assert own["f1"] == pytest.approx(f1[place])
        assert own["count"] == count[place]
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(targets, guessed))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(targets, guessed, average="macro"))
    assert found["balanced_accuracy"] == pytest.approx(recall[:3].mean())
    assert (
        found["confusion"] == metrics.confusion_matrix(targets, guessed, labels=range(4)).tolist()
    )
    assert found["log_loss"] == pytest.approx(
        metrics.log_loss(targets, probabilities, labels=range(4))
    )
    one_hot = np.eye(4)[targets]
    assert found["brier"] == pytest.approx(np.square(probabilities - one_hot).sum(1).mean())


def test_the_calibration_error_sees_what_is_too_sure():
    draw = np.random.default_rng(1)
    p = draw.uniform(0.5, 1, 20_000)
    targets = (draw.random(20_000) > p).astype(int)  # class 0 with probability p: calibrated
    honest = class_scores(np.stack([p, 1 - p], 1), targets, ["a", "b"])
    sure = class_scores(np.stack([0.5 + p / 2, 0.5 - p / 2], 1), targets, ["a", "b"])
    assert honest["calibration_error"] < 0.015
    assert sure["calibration_error"] == pytest.approx(0.125, abs=0.015)
    assert sum(one["count"] for one in sure["bins"]) == 20_000


def test_value_scores_are_those_of_scikit_learn():
    draw = np.random.default_rng(2)
    values, targets = draw.normal(size=(50, 3)), draw.normal(size=(50, 3))
    found = value_scores(values, targets)
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(targets, values))
    assert found["rmse"] == pytest.approx(
        metrics.root_mean_squared_error(targets.ravel(), values.ravel())
    )
    assert found["r2"] == pytest.approx(metrics.r2_score(targets.ravel(), values.ravel()))
    assert value_scores(values, np.ones((50, 3)))["r2"] is None


def test_what_does_not_fit_is_told():
    with pytest.raises(ArgumentError, match="targets"):
        class_scores([[0.5, 0.5]], [2], ["a", "b"])
    with pytest.raises(ArgumentError, match="values"):
        value_scores([[1.0]], [[1.0, 2.0]])
