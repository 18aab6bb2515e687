"""Recurrent networks beside river's own models, on the streams that river ships: `python river_streams.py`.

Every sample is predicted before it is learned from. Needs `pip install "timelocal[river]"`. `main` gives the
tables of docs/river.md; one stream alone: `python river_streams.py AirlinePassengers`. `--record FILE` writes
the scores to a file, which needs `pip install "timelocal[cli]"`.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import river
from river import datasets, dummy, evaluate, forest, linear_model, metrics, preprocessing
from river import stats as running
from river.time_series import SNARIMAX, HoltWinters
from river.time_series.base import Forecaster

from timelocal.integrations.river import (
    RecurrentClassifier,
    RecurrentForecaster,
    RecurrentRegressor,
)

SEEDS = range(5)
Make = Callable[[int], Any]


class WithoutFeatures(Forecaster):
    """A forecaster that sees the series alone: SNARIMAX cannot take the dates that come with it."""

    def __init__(self, model: Forecaster) -> None:
        self.model = model

    def learn_one(self, y: float, x: dict | None = None) -> None:
        self.model.learn_one(y)

    def forecast(self, horizon: int, xs: list[dict] | None = None) -> list[float]:
        return self.model.forecast(horizon)


class LastValue(Forecaster):
    """The value of `season` steps before, again and again."""

    def __init__(self, season: int = 1) -> None:
        self.season = season
        self.past: list[float] = []

    def learn_one(self, y: float, x: dict | None = None) -> None:
        self.past = [*self.past, y][-self.season :]

    def forecast(self, horizon: int, xs: list[dict] | None = None) -> list[float]:
        return [self.past[step % len(self.past)] for step in range(horizon)]


def snarimax(**orders: int) -> Make:
    return lambda seed: WithoutFeatures(SNARIMAX(**orders))


def unlearned(**options: Any) -> Make:
    """The forecaster whose network learns nothing: what differencing alone is worth."""
    return lambda seed: RecurrentForecaster(**options, lr=1e-12, seed=seed)


def forecaster(**options: Any) -> Make:
    return lambda seed: RecurrentForecaster(**options, seed=seed)


def forecast(data: Iterable, horizon: int) -> Callable[[Any], float]:
    """The mean absolute error, over all steps up to a horizon: the protocol of river's forecasting track."""

    def score(model: Any) -> float:
        error = evaluate.evaluate(data, model, metrics.MAE(), horizon, agg_func=statistics.mean)
        return float(error.get())

    return score


def progressive(data: Iterable, metric: Callable[[], Any]) -> Callable[[Any], float]:
    return lambda model: float(evaluate.progressive_val_score(data, model, metric()).get())


def scaled(model: Any) -> Any:
    return preprocessing.StandardScaler() | model


CLASSIFIERS: dict[str, Make] = {
    "RecurrentClassifier()": lambda seed: RecurrentClassifier(seed=seed),
    "the same, DFA": lambda seed: RecurrentClassifier(rule="dfa", seed=seed),
    "the same, e-prop": lambda seed: RecurrentClassifier(rule="eprop", seed=seed),
    "the same, LSTM": lambda seed: RecurrentClassifier(cell="lstm", seed=seed),
    "ARFClassifier": lambda seed: forest.ARFClassifier(seed=seed),
    "SoftmaxRegression": lambda seed: scaled(linear_model.SoftmaxRegression()),
    "last class": lambda seed: dummy.NoChangeClassifier(),
}
REGRESSORS: dict[str, Make] = {
    "RecurrentRegressor()": lambda seed: RecurrentRegressor(seed=seed),
    "the same, DFA": lambda seed: RecurrentRegressor(rule="dfa", seed=seed),
    "the same, LSTM": lambda seed: RecurrentRegressor(cell="lstm", seed=seed),
    "LinearRegression": lambda seed: scaled(linear_model.LinearRegression()),
    "running mean": lambda seed: dummy.StatisticRegressor(running.Mean()),
}
STREAMS: dict[str, tuple[str, Callable[[Any], float], dict[str, Make]]] = {
    "AirlinePassengers": (
        "MAE, 1 to 12 months ahead",
        forecast(datasets.AirlinePassengers(), 12),
        {
            "RecurrentForecaster(m=12, sd=1)": forecaster(m=12, sd=1),
            "the same, d=0": forecaster(d=0, m=12, sd=1),
            "the same, DFA": forecaster(m=12, sd=1, rule="dfa"),
            "the same, LSTM": forecaster(m=12, sd=1, cell="lstm"),
            "the same, lr=0.001": forecaster(m=12, sd=1, lr=0.001),
            "the same, lr=0.003": forecaster(m=12, sd=1, lr=0.003),
            "the same, lr=0.03": forecaster(m=12, sd=1, lr=0.03),
            "the same, learning nothing": unlearned(m=12, sd=1),
            "d=0, learning nothing": unlearned(d=0, m=12, sd=1),
            "RecurrentForecaster(p=12), no season": forecaster(p=12),
            "RecurrentForecaster(p=12, d=0), no differences": forecaster(p=12, d=0),
            "SNARIMAX(p=12, d=1, q=12, m=12, sd=1)": snarimax(p=12, d=1, q=12, m=12, sd=1),
            "HoltWinters(0.3, 0.1, 0.6, 12)": lambda seed: HoltWinters(
                0.3, 0.1, 0.6, seasonality=12, multiplicative=True
            ),
            "the value 12 months ago": lambda seed: LastValue(12),
            "last value": lambda seed: LastValue(),
        },
    ),
    "TrumpApproval, forecast": (
        "MAE, the next day",
        forecast(datasets.TrumpApproval(), 1),
        {
            "RecurrentForecaster()": forecaster(),
            "RecurrentForecaster(p=3)": forecaster(p=3),
            "the same, learning nothing": unlearned(p=3),
            "SNARIMAX(p=1, d=1, q=0)": snarimax(p=1, d=1, q=0),
            "SNARIMAX(p=3, d=0, q=1)": snarimax(p=3, d=0, q=1),
            "last value": lambda seed: LastValue(),
        },
    ),
    "TrumpApproval": (
        "MAE, from the day's polls alone",
        progressive(datasets.TrumpApproval(), metrics.MAE),
        REGRESSORS,
    ),
    "Phishing": ("accuracy", progressive(datasets.Phishing(), metrics.Accuracy), CLASSIFIERS),
    "ImageSegments": (
        "accuracy",
        progressive(datasets.ImageSegments(), metrics.Accuracy),
        CLASSIFIERS,
    ),
}


def table(name: str, scores: Mapping[str, Sequence[float]]) -> str:
    """The scores on a stream as Markdown; models whose seeds all agree have no spread."""
    lines = [f"| model | {STREAMS[name][0]} | all seeds |", "|---|---|---|"]
    for model, own in scores.items():
        mean = statistics.fmean(own)
        differ = max(own) - min(own) > 1e-6 * abs(mean)
        spread = f" ± {statistics.stdev(own):.2g}" if differ else ""
        each = " ".join(f"{one:.4g}" for one in own) if differ else ""
        lines.append(f"| {model} | {mean:.4g}{spread} | {each} |")
    return "\n".join(lines)


def main(
    names: Iterable[str] = tuple(STREAMS), seeds: Sequence[int] = SEEDS
) -> dict[str, dict[str, list[float]]]:
    """Print a table for each stream; returns the scores, one a seed, by stream and model."""
    found: dict[str, dict[str, list[float]]] = {}
    for name in names:
        _, score, models = STREAMS[name]
        found[name] = {
            model: [score(make(seed)) for seed in seeds] for model, make in models.items()
        }
        print(f"\n### {name}\n\n{table(name, found[name])}", flush=True)
    return found


def write_record(path: Path, scores: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """The scores, and what they were computed with, as JSON."""
    from timelocal.experiments.environment import environment
    from timelocal.files import make_folder, write_json

    make_folder(path.parent)
    facts = {"environment": environment(), "river": river.__version__}
    write_json(path, {**facts, "seeds": list(SEEDS), "scores": scores})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("streams", nargs="*", metavar="STREAM", default=list(STREAMS))
    parser.add_argument("--record", type=Path, metavar="FILE")
    asked = parser.parse_args()
    scores = main(asked.streams)
    if asked.record:
        write_record(asked.record, scores)
