"""river's estimators over streams: its own checks, networks that widen, and what a pickle keeps."""

from __future__ import annotations

import copy
import datetime
import importlib
import math
import pickle
import statistics
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

import timelocal as tl
from covering import covering

river = pytest.importorskip("river")

from river import checks, datasets, evaluate, metrics, preprocessing  # noqa: E402

from timelocal.integrations.growing_stream import ONLINE, Moments, Options  # noqa: E402
from timelocal.integrations.river import (  # noqa: E402
    RecurrentClassifier,
    RecurrentForecaster,
    RecurrentRegressor,
)

ESTIMATORS = (RecurrentClassifier, RecurrentRegressor, RecurrentForecaster)
LONG = {"check_bounded_memory_growth"}


def rivers_checks(long: bool) -> list[tuple[type, int, int, Callable[[object], None]]]:
    """Estimator, which of its settings, which of its checks, and that check."""
    return [
        (estimator, number, place, check)
        for estimator in ESTIMATORS
        for number, options in enumerate(estimator._unit_test_params())
        for place, check in enumerate(checks.yield_checks(estimator(**options)))
        if (check.__name__ in LONG) == long
    ]


def _named(estimator, number, place, check) -> str:
    return f"{estimator.__name__}-{number}-{place}-{check.__name__}"


def _places(estimator, number, place, check) -> tuple[object, ...]:
    """Each check on each estimator and on each setting, though not on each estimator's each setting."""
    return (estimator, place), (estimator, number), (number, check.__name__)


@pytest.mark.parametrize(
    ("estimator", "number", "place", "check"), covering(rivers_checks(False), _places, ids=_named)
)
@pytest.mark.filterwarnings("ignore")
def test_rivers_own_checks(estimator, number, place, check) -> None:
    check(estimator(**list(estimator._unit_test_params())[number]).clone())


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "number", "place", "check"), rivers_checks(long=True))
@pytest.mark.filterwarnings("ignore")
def test_rivers_own_checks_of_long_streams(estimator, number, place, check) -> None:
    check(estimator(**list(estimator._unit_test_params())[number]).clone())


def test_no_check_is_skipped() -> None:
    assert all(estimator()._unit_test_skips() == set() for estimator in ESTIMATORS)
    assert len(rivers_checks(long=False)) > 100


def samples(count: int, seed: int = 0) -> list[dict[str, float]]:
    drawn = np.random.default_rng(seed).normal(size=(count, 2))
    return [{"b": float(b), "d": float(d)} for b, d in drawn]


def taught(**options: object) -> RecurrentRegressor:
    model = RecurrentRegressor(hidden=6, **options)
    for x in samples(30):
        model.learn_one(x, 2 * x["b"] - x["d"])
    return model


@pytest.mark.parametrize("rule", sorted(ONLINE))
def test_new_features_leave_what_the_old_ones_gave(rule: str) -> None:
    model = taught(rule=rule, cell="rnn")
    probe = {"b": 0.3, "d": -1.2}
    before = model.predict_one(probe)
    weights = model._stream.stream.rule.network.recurrent.weight_ih_l0.detach().clone()
    moments = model._stream.stream.optimizer.state_dict()["state"][0]["exp_avg"].clone()
    model._stream._meet({"a", "c", "e"})
    assert model._stream.names == ["a", "b", "c", "d", "e"]
    assert model.predict_one(probe) == pytest.approx(before, rel=1e-5)
    wider = model._stream.stream
    assert torch.equal(wider.rule.network.recurrent.weight_ih_l0[:, [1, 3]], weights)
    assert torch.equal(wider.optimizer.state_dict()["state"][0]["exp_avg"][:, [1, 3]], moments)
    assert wider.steps == 30
    model.learn_one(probe | {"c": 1.0}, 0.0)
    assert math.isfinite(model.predict_one(probe))


def test_widening_by_a_feature_that_stays_at_its_mean_changes_no_update() -> None:
    """A column of zeros: the network that is widened learns as the one that is not."""
    narrow, wide = taught(), taught()
    for x in samples(20, seed=1):
        narrow.learn_one(x, x["b"])
        wide.learn_one(x | {"c": 7.0}, x["b"])
        assert wide.predict_one(x) == pytest.approx(narrow.predict_one(x), rel=1e-4, abs=1e-5)


def test_new_classes_widen_the_readout_and_keep_the_others() -> None:
    model = RecurrentClassifier(hidden=6, rule="dfa")
    for x in samples(30):
        model.learn_one(x, "right" if x["b"] > 0 else "left")
    network = model._stream.stream.rule.network
    rows = network.readout.weight.detach().clone()
    feedback = model._stream.stream.rule.feedback_matrix().clone()
    before = model.predict_proba_one({"b": 1.0, "d": 0.0})
    model._stream.widen_outputs(3)
    assert model.predict_proba_one({"b": 1.0, "d": 0.0}) == pytest.approx(before)
    wider = model._stream.stream.rule
    assert torch.equal(wider.network.readout.weight[:2], rows)
    assert torch.equal(wider.feedback_matrix()[:, :2], feedback)
    assert wider.feedback_matrix()[:, 2].abs().min() > 0
    for _ in range(20):
        model.learn_one({"b": 1.0, "d": 5.0}, "far")
    assert model.predict_one({"b": 1.0, "d": 5.0}) == "far"
    assert set(model.predict_proba_one({})) == {"left", "right", "far"}


def test_predictions_change_nothing() -> None:
    asked, silent = taught(), taught()
    for x in samples(10, seed=2):
        for other in samples(3, seed=3):
            asked.predict_one(other)
        asked.learn_one(x, 1.0)
        silent.learn_one(x, 1.0)
    assert asked.predict_one({"b": 0.1, "d": 0.2}) == silent.predict_one({"b": 0.1, "d": 0.2})


def test_a_prediction_is_what_the_stream_gives() -> None:
    """Standardized by hand, through a stream of our own with the same seeds."""
    model, options = RecurrentRegressor(hidden=6), Options(
        "gru", 6, RecurrentRegressor().rule, "adam", RecurrentRegressor().lr, "mean", 0
    )  # fmt: skip
    stream = options.stream(2, 1, "mse")
    seen = np.empty((0, 3))

    def scaled(column: int, value: float) -> float:
        past = seen[:, column]
        return float((value - past.mean()) / (past.std() or 1.0))

    for x in samples(12):
        y = x["b"] + 3
        model.learn_one(x, y)
        seen = np.vstack([seen, [x["b"], x["d"], y]])
        entered = torch.tensor([[scaled(0, x["b"]), scaled(1, x["d"])]])
        stream.step(entered, torch.tensor([[scaled(2, y)]]))
    entered = torch.tensor([[scaled(0, 0.5), scaled(1, -0.5)]])
    expected = seen[:, 2].mean() + stream.predict(entered).item() * seen[:, 2].std()
    assert model.predict_one({"b": 0.5, "d": -0.5}) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("options", [{}, {"rule": "np", "cell": "lstm", "missing": "hold"}])
def test_a_copy_goes_on_bit_for_bit_and_alone(copied, options) -> None:
    model = taught(**options)
    other = copied(model)
    for x in samples(10, seed=4):
        assert model.predict_one(x) == other.predict_one(x)
        model.learn_one(x | {"new": 1.0}, x["d"])
        other.learn_one(x | {"new": 1.0}, x["d"])
    before = other.predict_one({"b": 0.0})
    model.learn_one({"b": 9.0}, 1.0)
    assert other.predict_one({"b": 0.0}) == before


def test_the_seed_is_honoured() -> None:
    probe = {"b": 0.4, "d": 0.1}
    assert taught(seed=1).predict_one(probe) == taught(seed=1).predict_one(probe)
    assert taught(seed=1).predict_one(probe) != taught(seed=2).predict_one(probe)


def test_what_is_missing_is_the_mean_or_the_last_value() -> None:
    mean, hold = taught(), taught(missing="hold")
    seen = samples(30)
    average = statistics.fmean(x["d"] for x in seen)
    told = [{"b": 0.5}, {"b": 0.5, "d": None}, {"b": 0.5, "d": math.nan}]
    for x in told:
        assert mean.predict_one(x) == pytest.approx(mean.predict_one({"b": 0.5, "d": average}))
        assert hold.predict_one(x) == pytest.approx(
            hold.predict_one({"b": 0.5, "d": seen[-1]["d"]})
        )


def test_refusals_name_the_feature_and_change_nothing() -> None:
    model = taught()
    before = pickle.dumps(model)
    with pytest.raises(tl.ArgumentError, match=r"2 problems") as refused:
        model.learn_one({"b": "red", "d": math.inf, "z": 1.0}, 0.0)
    assert "feature 'b': got 'red'" in str(refused.value)
    assert "OneHotEncoder" in str(refused.value)
    with pytest.raises(tl.ArgumentError, match="y: got nan, expected a finite number"):
        model.learn_one({"b": 1.0, "z": 1.0}, math.nan)
    assert pickle.dumps(model) == before


def test_wrong_options_are_told_all_at_once() -> None:
    with pytest.raises(tl.ArgumentError, match="5 problems") as refused:
        RecurrentClassifier(cell="gur", hidden=0, rule="bptt", optimizer="adm", lr=-1)
    assert "Did you mean 'gru'?" in str(refused.value)
    with pytest.raises(tl.ArgumentError, match="m: got 0"):
        RecurrentForecaster(m=0)


def test_dates_are_left_out_and_features_may_be_of_any_kind_of_name() -> None:
    model = RecurrentRegressor(hidden=4)
    model.learn_one(
        {"when": datetime.datetime(2020, 1, 1), 1: True, "1": 2, None: np.float32(1)}, 3
    )
    assert model._stream.names == [1, "1", None]
    RecurrentRegressor().learn_one({}, 1.0)


def test_moments_are_those_of_numpy() -> None:
    drawn = np.random.default_rng(0).normal(size=(50, 3))
    drawn[::7, 1] = np.nan
    moments = Moments(3)
    for row in drawn:
        moments.update(row)
    np.testing.assert_allclose(moments.mean, np.nanmean(drawn, 0))
    np.testing.assert_allclose(moments.deviation, np.nanstd(drawn, 0))


def test_a_forecast_leaves_the_forecaster_as_it_was() -> None:
    model = RecurrentForecaster(p=2, m=4, sd=1, hidden=4)
    for step in range(30):
        model.learn_one(step % 4 + 0.1 * step, {"time": step})
    before = pickle.dumps(model)
    first = model.forecast(6, [{"time": 30 + step} for step in range(6)])
    assert pickle.dumps(model) == before
    assert model.forecast(6, [{"time": 30 + step} for step in range(6)]) == first
    with pytest.raises(tl.ArgumentError, match="features of 1 steps, expected of 2 steps"):
        model.forecast(2, [{}])


@pytest.mark.parametrize(("d", "m", "sd"), [(0, 1, 0), (1, 1, 0), (2, 1, 0), (1, 3, 1), (0, 2, 2)])
def test_differences_are_those_of_numpy(d: int, m: int, sd: int) -> None:
    series = np.random.default_rng(1).normal(size=20)
    expected = np.diff(series, d)
    for _ in range(sd):
        expected = expected[m:] - expected[:-m]
    model = RecurrentForecaster(p=3, d=d, m=m, sd=sd, hidden=4)
    for value in series:
        model.learn_one(value)
    np.testing.assert_allclose(list(model._differences), expected[:-4:-1])
    unlearned = RecurrentForecaster(p=3, d=d, m=m, sd=sd, hidden=4, lr=1e-12)
    for value in series:
        unlearned.learn_one(value)
    (forecast,) = unlearned.forecast(1)
    again = np.append(series, forecast)
    difference = np.diff(again, d)
    for _ in range(sd):
        difference = difference[m:] - difference[:-m]
    assert difference[-1] == pytest.approx(expected.mean())


def test_a_forecaster_that_has_seen_little_repeats_it() -> None:
    model = RecurrentForecaster(m=12, sd=1)
    assert model.forecast(2) == [0.0, 0.0]
    model.learn_one(5.0)
    assert model.forecast(2) == [5.0, 5.0]


@pytest.mark.slow
def test_airline_passengers_at_or_below_snarimax() -> None:
    """river's own protocol: 12 months ahead, the mean over the months; SNARIMAX has 31.9 so."""
    model = RecurrentForecaster(m=12, sd=1)
    found = evaluate.evaluate(
        datasets.AirlinePassengers(), model, metrics.MAE(), 12, agg_func=statistics.mean
    )
    assert 25 < found.get() < 31.9


def test_estimators_go_in_pipelines() -> None:
    model = preprocessing.OneHotEncoder() | RecurrentClassifier(hidden=8)
    for _ in range(30):
        for colour in ("red", "green"):
            model.learn_one({"colour": colour}, colour == "red")
    assert model.predict_one({"colour": "red"}) is True


def test_without_river_one_line_says_which_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timelocal.optional.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "timelocal.integrations.river")
    expected = r"river: needs river\. Install it: pip install \"timelocal\[river\]\"$"
    with pytest.raises(tl.MissingExtraError, match=expected):
        importlib.import_module("timelocal.integrations.river")
