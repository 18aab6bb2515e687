"""scikit-learn's own checks, and what series add to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import timelocal as tl
from timelocal.errors import ArgumentError
from timelocal.integrations.sklearn import (
    RecurrentClassifier,
    RecurrentForecaster,
    RecurrentRegressor,
)
from timelocal.losses import CrossEntropy

SMALL = {"hidden": 8, "random_state": 0}


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator",
    [
        RecurrentClassifier(dtype="float64", hidden=16, epochs=40),
        # its checks want the value of one column in the midst of noise: a rule that reaches back
        RecurrentRegressor(dtype="float64", rule="bptt", epochs=50),
    ],
    ids=["classifier", "regressor"],
)
def test_scikit_learns_own_checks(estimator):
    check_estimator(estimator, on_skip=None)


def slopes(count: int = 40, steps: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Series of two features, of which the first rises or falls."""
    draw = np.random.default_rng(seed)
    y = np.array(["fall", "rise"])[draw.integers(0, 2, count)]
    X = draw.normal(size=(count, steps, 2))
    X[..., 0] += np.where(y == "rise", 1, -1)[:, None] * np.arange(steps) / 4
    return X, y


def test_all_ways_to_give_series_are_one():
    X, y = slopes()
    told = RecurrentClassifier(layout="ntc", epochs=3, **SMALL).fit(X, y)
    turned = RecurrentClassifier(layout="nct", epochs=3, **SMALL).fit(X.swapaxes(1, 2), y)
    listed = RecurrentClassifier(layout="ntc", epochs=3, **SMALL).fit(list(X), y)
    expected = told.predict_proba(X)
    np.testing.assert_array_equal(turned.predict_proba(X.swapaxes(1, 2)), expected)
    np.testing.assert_array_equal(listed.predict_proba(list(X)), expected)
    one = RecurrentClassifier(epochs=3, **SMALL)  # one feature: an axis of 1 tells which it is
    table = one.fit(X[..., 0], y).predict_proba(X[..., 0])
    np.testing.assert_array_equal(one.fit(X[..., :1], y).predict_proba(X[..., :1]), table)
    np.testing.assert_array_equal(one.predict_proba(X[..., :1].swapaxes(1, 2)), table)


def test_an_array_that_may_be_read_both_ways_is_refused():
    X, y = slopes()
    for given in (X, list(X)):
        with pytest.raises(ArgumentError, match="layout='ntc'"):
            RecurrentClassifier(**SMALL).fit(given, y)


def test_series_of_unequal_length_count_as_long_as_they_are():
    X, y = slopes()
    lengths = np.random.default_rng(1).integers(3, 13, len(X))
    ragged = [row[:n] for row, n in zip(X, lengths, strict=True)]
    for series in (ragged, [row.T for row in ragged]):
        model = RecurrentClassifier(epochs=30, **SMALL).fit(series, y)
        assert model.score(series, y) > 0.9
        alone = np.concatenate([model.predict_proba([row, series[-1]])[:1] for row in series[:5]])
        np.testing.assert_allclose(alone, model.predict_proba(series)[:5], rtol=1e-4)
    with pytest.raises(ArgumentError, match="2, as in fit"):
        model.predict([np.zeros((5, 3)), np.zeros((6, 3))])
    with pytest.raises(ArgumentError, match="layout='ntc'"):
        RecurrentClassifier(layout="nct", **SMALL).fit(ragged, y)


def test_grid_search_over_rules_and_cells_in_a_pipeline():
    X, y = slopes(30)
    pipeline = make_pipeline(StandardScaler(), RecurrentClassifier(epochs=30, **SMALL))
    grid = {
        "recurrentclassifier__rule": ["dfa", "np"],
        "recurrentclassifier__cell": ["rnn", "lstm"],
    }
    search = GridSearchCV(pipeline, grid, cv=2).fit(X[..., 0], y)
    assert search.best_score_ > 0.7
    assert len(set(search.cv_results_["mean_test_score"])) > 1
    assert cross_val_score(RecurrentClassifier(layout="ntc", **SMALL), X, y, cv=3).mean() > 0.9


def test_weights_are_as_if_series_came_so_often():
    X, y = slopes(20)
    weights = np.random.default_rng(2).integers(0, 4, len(X))
    options = {"dtype": "float64", "layout": "ntc", "epochs": 10, **SMALL}
    weighted = RecurrentClassifier(**options).fit(X, y, sample_weight=weights)
    often = np.repeat(np.arange(len(X)), weights)
    repeated = RecurrentClassifier(**options).fit(X[often], y[often])
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-9)
    values = np.arange(20.0)
    weighted = RecurrentRegressor(**options).fit(X, values, sample_weight=weights)
    repeated = RecurrentRegressor(**options).fit(X[often], values[often])
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-9)


def test_class_weights_are_those_of_the_loss():
    X, y = slopes(30)
    counts = {name: (y == name).sum() for name in np.unique(y)}
    model = RecurrentClassifier(class_weight="balanced", layout="ntc", epochs=1, lr=1e-9, **SMALL)
    model.fit(X, y)
    balanced = torch.tensor([30 / (2 * counts[name]) for name in model.classes_])
    loss = torch.nn.functional.cross_entropy(
        torch.log(torch.tensor(model.predict_proba(X))),
        torch.tensor(np.searchsorted(model.classes_, y)),
        weight=balanced.float(),
    )
    assert model.history_.epochs[0]["train_loss"] == pytest.approx(float(loss), rel=1e-4)


def test_balanced_classes_are_refused_chunk_by_chunk():
    """The weights of a chunk are not those of all: scikit-learn refuses them alike."""
    X, y = slopes(12)
    model = RecurrentClassifier(class_weight="balanced", layout="ntc", **SMALL)
    with pytest.raises(
        ArgumentError, match="'balanced' with partial_fit, expected weights by class"
    ):
        model.partial_fit(X, y)
    model.set_params(class_weight={"fall": 1.0, "rise": 2.0, "stand": 1.0}).partial_fit(X, y)


def test_options_that_a_rule_does_not_have_are_told():
    X, y = slopes(12)
    model = RecurrentClassifier(layout="ntc", rule="np", rule_options={"sigm": 0.1}, **SMALL)
    with pytest.raises(
        ArgumentError, match=r"option of rule 'np': got 'sigm'.*Did you mean 'sigma'"
    ):
        model.fit(X, y)
    with pytest.raises(ArgumentError, match="option of rule 'np': got 'loss'"):
        model.set_params(rule_options={"loss": "mse"}).fit(X, y)
    with pytest.raises(ArgumentError, match="one class, 'rise'"):
        model.fit(X, ["rise"] * 12)


@pytest.mark.parametrize("estimator", [RecurrentClassifier, RecurrentRegressor])
def test_targets_of_steps_are_told(estimator):
    X, _ = slopes(12)
    with pytest.raises(ArgumentError, match="y: got rows of several lengths, expected one target"):
        estimator(layout="ntc", **SMALL).fit(X, [[0] * (2 + n % 3) for n in range(12)])


def test_partial_fit_goes_on():
    X, y = slopes(60)
    model = RecurrentClassifier(layout="ntc", **SMALL)
    model.partial_fit(X[:20], y[:20], classes=["fall", "rise", "stand"])
    first = model.predict_proba(X)
    for _ in range(40):
        model.partial_fit(X, y)
    assert model.score(X, y) > 0.9
    assert first.shape == (60, 3)
    assert not np.array_equal(first, model.predict_proba(X))
    with pytest.raises(ArgumentError, match="'jump'"):
        model.partial_fit(X[:1], ["jump"])


def test_early_stopping_keeps_the_best_epoch():
    X, y = slopes(60)
    model = RecurrentClassifier(layout="ntc", epochs=400, patience=3, lr=0.05, **SMALL).fit(X, y)
    assert model.n_iter_ < 400
    assert model.history_.restored is not None


def test_the_model_inside_is_saved_and_exported(tmp_path):
    X, y = slopes()
    model = RecurrentClassifier(layout="ntc", epochs=10, **SMALL).fit(X, y)
    tl.save(model.model_, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(tl.load(tmp_path / "m.safetensors").predict(X), model.predict(X))
    assert type(model.rule_.loss) is CrossEntropy


def test_a_forecaster_beats_the_last_value():
    steps = np.arange(300)
    y = np.sin(steps / 4)
    X = np.cos(steps / 4)[:, None]
    model = RecurrentForecaster(horizon=3, window=10, epochs=80, **SMALL).fit(y[:250], X[:250])
    ends = range(250, 290)
    wanted = np.array([y[n : n + 3] for n in ends])
    found = np.array([model.predict(y[:n], X[:n]) for n in ends])
    held = np.array([np.repeat(y[n - 1], 3) for n in ends])
    assert np.abs(found - wanted).mean() < 0.3 * np.abs(held - wanted).mean()
    np.testing.assert_array_equal(model.predict(), model.predict(y[:250], X[:250]))
    with pytest.raises(ArgumentError, match="13 or more"):
        RecurrentForecaster(horizon=3, window=10).fit(y[:12])


def test_options_that_are_none_are_told():
    X, y = slopes()
    with pytest.raises(ArgumentError, match="rule: got 'dfx'"):
        RecurrentClassifier(rule="dfx", layout="ntc").fit(X, y)
    with pytest.raises(ArgumentError, match=r"(?s)2 problems.*lr.*batch_size"):
        RecurrentClassifier(lr=-1, batch_size=0, layout="ntc").fit(X, y)
