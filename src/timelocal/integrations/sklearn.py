"""Recurrent networks for scikit-learn: classifier, regressor and forecaster, trained without BPTT.

    from sklearn.model_selection import GridSearchCV
    from timelocal.integrations.sklearn import RecurrentClassifier

    search = GridSearchCV(RecurrentClassifier(), {"rule": ["dfa", "bptt"], "cell": ["gru", "lstm"]})

A table X (n, t) is n series of t steps of one feature. Series of several features are arrays (n, t,
features), or, as in aeon and sktime, (n, features, t): `layout` says which. Series of unequal length come as
a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from timelocal.optional import require

require("sklearn", extra="sklearn", for_="timelocal.integrations.sklearn")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin  # noqa: E402
from sklearn.utils import check_random_state, compute_sample_weight  # noqa: E402
from sklearn.utils.multiclass import check_classification_targets  # noqa: E402
from sklearn.utils.validation import (  # noqa: E402
    _check_sample_weight,
    assert_all_finite,
    check_array,
    check_is_fitted,
    column_or_1d,
    validate_data,
)
from torch import Tensor  # noqa: E402

from timelocal.arguments import as_real, as_series, is_whole  # noqa: E402
from timelocal.data import Sequences, moments, split  # noqa: E402
from timelocal.data.splits import scaled  # noqa: E402
from timelocal.errors import Problem, described, raise_problems, unknown_name  # noqa: E402
from timelocal.losses import LOSSES, Loss  # noqa: E402
from timelocal.model import Model  # noqa: E402
from timelocal.model.build import (  # noqa: E402
    OPTIMIZERS,
    find_cell,
    make_network,
    make_rule,
    rule_defaults,
)
from timelocal.rules import RULES  # noqa: E402
from timelocal.training import History, fit  # noqa: E402

__all__ = ["RecurrentClassifier", "RecurrentForecaster", "RecurrentRegressor"]

Layout: TypeAlias = Literal["ntc", "nct"]
LAYOUTS = ("ntc", "nct")
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


class Weighted(Loss):
    """A loss whose targets carry a weight each, as their last column: L = Σ w ℓ / Σ w."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    @property
    def classifies(self) -> bool:  # type: ignore[override]
        return self.loss.classifies

    def losses_and_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        weights = targets[:, -1]
        losses, errors = self.loss.losses_and_errors(outputs, self._own(targets))
        return weights * losses, weights[:, None] * errors

    def entry_weights(self, targets: Tensor) -> Tensor:
        return targets[..., -1]

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss.correct(outputs, self._own(targets))

    def target_problems(
        self,
        targets: Tensor,
        entries: tuple[int, ...],
        outputs: int,
        dtype: torch.dtype,
        counted: Tensor | None,
    ) -> list[Problem]:
        return self.loss.target_problems(self._own(targets), entries, outputs, dtype, counted)

    def _own(self, targets: Tensor) -> Tensor:
        return targets[..., 0].long() if self.classifies else targets[..., :-1]


class _Recurrent(BaseEstimator):
    """The common part of the estimators: their options, the reading of X, training and prediction."""

    _loss: str

    def __init__(
        self,
        cell: str = "gru",
        hidden: int = 64,
        layers: int = 1,
        rule: str = "dfa",
        rule_options: Mapping[str, object] | None = None,
        optimizer: str = "adam",
        lr: float = 0.01,
        batch_size: int | Literal["auto"] = "auto",
        epochs: int = 200,
        clip: float | None = None,
        standardize: bool = True,
        patience: int | None = None,
        validation_fraction: float = 0.1,
        layout: Layout | None = None,
        dtype: Literal["float32", "float64"] = "float32",
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.cell = cell
        self.hidden = hidden
        self.layers = layers
        self.rule = rule
        self.rule_options = rule_options
        self.optimizer = optimizer
        self.lr = lr
        self.batch_size = batch_size
        self.epochs = epochs
        self.clip = clip
        self.standardize = standardize
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.layout = layout
        self.dtype = dtype
        self.device = device
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def _check_options(self) -> None:
        raise_problems(
            [
                unknown_name("optimizer", self.optimizer, OPTIMIZERS),
                unknown_name("dtype", self.dtype, _DTYPES),
                None
                if 0 < as_real(self.lr) < np.inf
                else Problem("lr", described(self.lr), "a number above 0"),
                None
                if self.batch_size == "auto" or is_whole(self.batch_size)
                else Problem(
                    "batch_size", described(self.batch_size), "a positive integer or 'auto'"
                ),
                None
                if 0 < as_real(self.validation_fraction) < 1
                else Problem(
                    "validation_fraction", described(self.validation_fraction), "between 0 and 1"
                ),
                None if self.layout is None else unknown_name("layout", self.layout, LAYOUTS),
            ]
        )

    # --- X -----------------------------------------------------------------------------------------

    def _series(self, X: Any, *, reset: bool) -> tuple[Tensor, Tensor | None]:
        """X as (n, t, features) with the lengths of the series, None if all are alike."""
        if _is_list_of_series(X):
            rows = self._listed(X)
        elif (np.ndim(X) if isinstance(X, list | tuple) else getattr(X, "ndim", 2)) == 3:
            whole = check_array(X, allow_nd=True, dtype=_kinds(self.dtype), ensure_min_samples=1)
            rows = list(self._turned(whole))
        else:
            table = validate_data(self, X, reset=reset, dtype=_kinds(self.dtype))
            rows = [row[:, None] for row in table]
        width = rows[0].shape[1]
        if reset:
            self.n_channels_ = width
        elif width != self.n_channels_:
            got = f"series of {width} features"
            raise_problems([Problem("X", got, f"{self.n_channels_}, as in fit")])
        return as_series("X", [torch.tensor(row, dtype=_DTYPES[self.dtype]) for row in rows])

    def _listed(self, X: Iterable[Any]) -> list[NDArray[Any]]:
        """The series of a list, each (t, features)."""
        rows = [
            check_array(np.asarray(row), ensure_2d=False, dtype=_kinds(self.dtype), allow_nd=True)
            for row in X
        ]
        if all(row.ndim == 1 for row in rows):
            return [row[:, None] for row in rows]
        wrong = [n for n, row in enumerate(rows) if row.ndim != 2]
        if wrong:
            got = f"shape {rows[wrong[0]].shape}"
            raise_problems(
                [Problem(f"X[{wrong[0]}]", got, "(t, features) or (t,), like all others")]
            )
        if len({row.shape for row in rows}) == 1:
            return list(self._turned(np.stack(rows)))
        alike = [len({row.shape[axis] for row in rows}) == 1 for axis in (0, 1)]
        if not any(alike):
            raise_problems([Problem("X", "series of different features", "the same in all series")])
        layout = "ntc" if alike[1] else "nct"
        if self.layout not in (None, layout):
            got = f"layout={self.layout!r} with series that differ in the other axis"
            raise_problems([Problem("X", got, f"layout={layout!r}")])
        return rows if layout == "ntc" else [row.T for row in rows]

    def _turned(self, X: NDArray[Any]) -> NDArray[Any]:
        """(n, t, features) of an array of either layout; refused where both readings fit and none is told."""
        layout = self.layout
        if layout is None and 1 not in X.shape[1:]:
            remedy = "Give layout='ntc' for (series, steps, features), 'nct' for (series, features, steps)."
            got = f"an array {X.shape} that can be read either way"
            raise_problems([Problem("X", got, "to know which axis is time", remedy)])
        if layout is None:
            layout = "ntc" if X.shape[2] == 1 else "nct"
        return X if layout == "ntc" else X.swapaxes(1, 2)

    # --- training ------------------------------------------------------------------------------------

    def _begin(self, series: Sequences, outputs: int, weights: NDArray[Any] | None) -> None:
        """A fresh network, rule and optimizer, and the scale of the inputs."""
        self._check_options()
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        width = series.inputs.shape[2]
        network = make_network(
            find_cell(self.cell), width, self.hidden, outputs, num_layers=self.layers, seed=self._seed,
            dtype=_DTYPES[self.dtype],
        )  # fmt: skip
        options = dict(self.rule_options or {})
        if self.rule in RULES:
            known = rule_defaults(self.rule).keys() - {"loss", "at", "seed"}
            raise_problems(
                unknown_name(f"option of rule {self.rule!r}", one, known) for one in options
            )
        self.rule_ = make_rule(self.rule, network, self._loss, "last", self._seed, options)
        self._optimizer = OPTIMIZERS[self.optimizer](network.parameters(), lr=self.lr)
        self._inputs_scale = moments(series, weights) if self.standardize else None
        self._passes = 0

    def _go_on(self, series: Sequences, weights: NDArray[Any] | None, passes: int | None) -> None:
        """Run all epochs of a fit, or the passes of a `partial_fit`, over series in their original units."""
        if self._inputs_scale is not None:
            series = scaled(series, *self._inputs_scale)
        epochs, patience = (self.epochs, self.patience) if passes is None else (passes, None)
        self.history_ = self._train(series, weights, epochs=epochs, patience=patience)
        self.n_iter_ = len(self.history_.epochs)

    def _train(
        self, series: Sequences, weights: NDArray[Any] | None, *, epochs: int, patience: int | None
    ) -> History:
        """Further epochs over scaled series."""
        rule = self.rule_
        plain = LOSSES[self._loss]()
        if weights is not None:
            column = torch.tensor(weights, dtype=series.inputs.dtype)[:, None]
            targets = series.targets.reshape(len(series), -1).to(series.inputs.dtype)
            series = Sequences(series.inputs, torch.cat([targets, column], 1), series.lengths)
        rule.loss = plain if weights is None else Weighted(plain)
        validation = None
        if patience is not None:
            held = float(self.validation_fraction)
            parts = split(series, self._seed, (1 - held, held, 0.0))
            series, validation = parts.train, parts.validation
        size = min(200, len(series)) if self.batch_size == "auto" else self.batch_size
        try:
            history = fit(
                rule,
                self._optimizer,
                series,
                validation,
                epochs=epochs,
                batch_size=size,
                seed=self._seed + self._passes,
                clip=self.clip,
                patience=patience,
                device=None if self.device == "cpu" else self.device,
            )
        finally:
            rule.loss = plain
        self._passes += 1
        if history.status == "diverged":
            raise_problems(
                [
                    Problem(
                        "fit", history.message, "finite numbers", "Give a smaller lr, or clip=1.0."
                    )
                ]
            )
        return history

    def _predicted(self, X: Any) -> tuple[Tensor, Tensor | None]:
        check_is_fitted(self)
        return self._series(X, reset=False)


def _kinds(dtype: str) -> Any:
    return np.float64 if dtype == "float64" else np.float32


def _is_list_of_series(X: Any) -> bool:
    if isinstance(X, np.ndarray):
        return X.dtype == object and X.ndim == 1 and len(X) > 0 and np.ndim(X[0]) > 0
    if not isinstance(X, list | tuple) or not len(X):
        return False
    rows = [np.shape(row) if not isinstance(row, list) else (len(row),) for row in X]
    if any(isinstance(row, np.ndarray | Tensor) or hasattr(row, "to_numpy") for row in X):
        return True
    return len(set(rows)) > 1 and all(len(shape) for shape in rows)


class RecurrentClassifier(ClassifierMixin, _Recurrent):
    """A recurrent network that classifies series, trained by a rule of this package.

    Args:
        cell: name of a cell, such as "gru", "lstm", "rnn"; or module:name. hidden: its units. layers: their
            number.
        rule: name of a rule, such as "dfa", "bptt", "np"; or module:name. rule_options: further arguments.
        optimizer: "adam", "adamw", "rmsprop", "sgd", … lr: its learning rate.
        batch_size: series per update; "auto" is 200, or all if there are fewer. epochs: passes over the data.
        clip: largest norm of the gradient.
        standardize: shift and scale each feature to mean 0 and deviation 1 over the training data.
        patience: stop after this many epochs without a lower loss on `validation_fraction` of the data,
            which is held out for this, and keep the weights of the best epoch.
        class_weight: None, "balanced" or weights by class.
        layout: for arrays with three axes: "ntc" (series, steps, features) or "nct" (series, features,
            steps).
        dtype: of the network. device: of training. random_state: of weights, feedback, noise and order.

    Attributes:
        classes_, n_iter_ (epochs done), history_, model_ (a `timelocal.Model`, to save and to export).

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(60, 8))
    >>> y = np.where(X[:, -1] > 0, "up", "down")
    >>> RecurrentClassifier(hidden=16, random_state=0).fit(X, y).score(X, y) > 0.9
    True
    """

    _loss = "cross_entropy"
    classes_: NDArray[Any]

    def __init__(
        self,
        cell: str = "gru",
        hidden: int = 64,
        layers: int = 1,
        rule: str = "dfa",
        rule_options: Mapping[str, object] | None = None,
        optimizer: str = "adam",
        lr: float = 0.01,
        batch_size: int | Literal["auto"] = "auto",
        epochs: int = 200,
        clip: float | None = None,
        standardize: bool = True,
        patience: int | None = None,
        validation_fraction: float = 0.1,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        layout: Layout | None = None,
        dtype: Literal["float32", "float64"] = "float32",
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(
            cell, hidden, layers, rule, rule_options, optimizer, lr, batch_size, epochs, clip, standardize,
            patience, validation_fraction, layout, dtype, device, random_state,
        )  # fmt: skip
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RecurrentClassifier:
        """Train from fresh weights. X: (n, t), (n, t, features) by `layout`, or a list of series. y: (n,)."""
        return self._learn(X, y, None, sample_weight, passes=None)

    def partial_fit(
        self, X: Any, y: Any, classes: Sequence[Any] | None = None, sample_weight: Any = None
    ) -> RecurrentClassifier:
        """One pass over these series from where the last call ended; the first call needs `classes`.

        The scale of the inputs is that of the first call. Balanced class weights are refused, since the
        class counts are not known from part of the series.
        """
        if isinstance(self.class_weight, str):
            got = f"{self.class_weight!r} with partial_fit"
            weights = "sklearn.utils.class_weight.compute_class_weight('balanced', ...)"
            remedy = f"Give {weights} on a large sample."
            raise_problems([Problem("class_weight", got, "weights by class", remedy)])
        return self._learn(X, y, classes, sample_weight, passes=1)

    def _learn(
        self,
        X: Any,
        y: Any,
        classes: Sequence[Any] | None,
        sample_weight: Any,
        *,
        passes: int | None,
    ) -> RecurrentClassifier:
        begins = passes is None or not hasattr(self, "model_")
        inputs, lengths = self._series(X, reset=begins)
        y = _column(y, inputs)
        check_classification_targets(y)
        if begins:
            known = np.unique(y if classes is None else np.asarray(classes))
            if len(known) < 2:
                got = f"one class, {known.tolist()[0]!r}"
                raise_problems([Problem("y", got, "two or more different classes")])
        else:
            known = self.classes_
        unknown = np.setdiff1d(y, known)
        if len(unknown):
            raise_problems([Problem("y", f"the class {unknown[0]!r}", f"one of {known.tolist()}")])
        weights = _weights(sample_weight, inputs)
        if self.class_weight is not None:
            own = compute_sample_weight(self.class_weight, y)
            weights = own if weights is None else weights * own
        chosen, weights = _counted(weights)
        whole = Sequences(inputs, torch.from_numpy(np.searchsorted(known, y)), lengths)
        series = whole if chosen is None else whole[chosen]
        if begins:
            self.classes_ = known
            self._begin(series, len(known), weights)
        self._go_on(series, weights, passes)
        names = tuple(map(str, self.classes_.tolist()))
        self.model_ = Model(self.rule_, classes=names, inputs_scale=self._inputs_scale)
        return self

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """The probability of each class, (n, classes) in the order of `classes_`."""
        inputs, lengths = self._predicted(X)
        return self.model_.predict_proba(inputs, lengths)

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class of each series."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(1)]


class RecurrentRegressor(RegressorMixin, _Recurrent):
    """A recurrent network that predicts one or more values per series, trained by a rule of this package.

    Values are learned in units of their standard deviation and predicted in their original units.

    Args:
        The same as those of `RecurrentClassifier`, without `class_weight`.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(60, 8))
    >>> y = 100 + 5 * X[:, -1]
    >>> RecurrentRegressor(hidden=16, random_state=0).fit(X, y).score(X, y) > 0.8
    True
    """

    _loss = "mse"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RecurrentRegressor:
        """Train from fresh weights. X: (n, t), (n, t, features) by `layout`, or a list of series.

        y: (n,) or (n, k).
        """
        return self._learn(X, y, sample_weight, passes=None)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> RecurrentRegressor:
        """One pass over these series from where the last call ended; scales are those of the first call."""
        return self._learn(X, y, sample_weight, passes=1)

    def _learn(
        self, X: Any, y: Any, sample_weight: Any, *, passes: int | None
    ) -> RecurrentRegressor:
        begins = passes is None or not hasattr(self, "model_")
        inputs, lengths = self._series(X, reset=begins)
        y = _values(y, inputs)
        chosen, weights = _counted(_weights(sample_weight, inputs))
        whole = Sequences(inputs, torch.tensor(y.reshape(len(y), -1)).to(inputs), lengths)
        series = whole if chosen is None else whole[chosen]
        if begins:
            self._flat = y.ndim == 1
            self._begin(series, series.targets.shape[1], weights)
            rows = Sequences(series.targets.unsqueeze(1), series.targets)
            self._outputs_scale = moments(rows, weights) if self.standardize else None
        if self._outputs_scale is not None:
            mean, deviation = self._outputs_scale
            series = replace(series, targets=(series.targets - mean) / deviation)
        self._go_on(series, weights, passes)
        self.model_ = Model(
            self.rule_, inputs_scale=self._inputs_scale, outputs_scale=self._outputs_scale
        )
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """The values of each series, (n,) or (n, k) as y was."""
        inputs, lengths = self._predicted(X)
        values = self.model_.predict(inputs, lengths)
        return values[:, 0] if self._flat else values


class RecurrentForecaster(_Recurrent):
    """A recurrent network that forecasts the next values of a series from a window of its past.

    Every window of the series is a training example; with `patience`, the last `validation_fraction` of
    them, by time, is held out.

    Args:
        horizon: the number of values to forecast. window: the number of steps to forecast from.
        The rest: as in `RecurrentRegressor`.

    >>> import numpy as np
    >>> y = np.sin(np.arange(200) / 3)
    >>> model = RecurrentForecaster(horizon=2, window=12, hidden=16, random_state=0).fit(y)
    >>> bool(np.abs(model.predict() - np.sin(np.arange(200, 202) / 3)).max() < 0.3)
    True
    """

    _loss = "mse"

    def __init__(
        self,
        horizon: int = 1,
        window: int = 24,
        cell: str = "gru",
        hidden: int = 64,
        layers: int = 1,
        rule: str = "dfa",
        rule_options: Mapping[str, object] | None = None,
        optimizer: str = "adam",
        lr: float = 0.01,
        batch_size: int | Literal["auto"] = "auto",
        epochs: int = 200,
        clip: float | None = None,
        standardize: bool = True,
        dtype: Literal["float32", "float64"] = "float32",
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(
            cell, hidden, layers, rule, rule_options, optimizer, lr, batch_size, epochs, clip, standardize,
            None, 0.1, "ntc", dtype, device, random_state,
        )  # fmt: skip
        self.horizon = horizon
        self.window = window

    def fit(self, y: Any, X: Any = None) -> RecurrentForecaster:
        """Train on a series y (t,), and features X (t, c) that are known up to the present, if any."""
        steps, values = self._steps(y, X)
        whole = self.window + self.horizon
        if len(steps) < whole:
            got = f"{len(steps)} steps"
            raise_problems([Problem("y", got, f"{whole} or more, window + horizon")])
        windows = np.lib.stride_tricks.sliding_window_view(steps, self.window, 0)
        inputs = windows[: len(steps) - whole + 1].swapaxes(1, 2)
        ahead = np.lib.stride_tricks.sliding_window_view(values[self.window :], self.horizon)
        own = {name: value for name, value in self.get_params().items() if name not in _OWN}
        self.regressor_ = RecurrentRegressor(**own, layout="ntc").fit(inputs, ahead)
        self.model_, self.history_ = self.regressor_.model_, self.regressor_.history_
        self._last = steps[-self.window :]
        return self

    def predict(self, y: Any = None, X: Any = None) -> NDArray[Any]:
        """The next `horizon` values after the series of `fit`, or after y (t,) with features X (t, c)."""
        check_is_fitted(self)
        steps = self._last if y is None else self._steps(y, X)[0][-self.window :]
        if len(steps) < self.window:
            got = f"{len(steps)} steps"
            raise_problems([Problem("y", got, f"{self.window} or more, the window")])
        return self.regressor_.predict(steps[None])[0]

    def _steps(self, y: Any, X: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Steps (t, 1 + c), the series first; and the series itself."""
        values = check_array(y, ensure_2d=False, dtype=_kinds(self.dtype))
        if values.ndim != 1:
            raise_problems([Problem("y", f"shape {values.shape}", "(t,), one series")])
        if X is None:
            return values[:, None], values
        features = check_array(X, dtype=_kinds(self.dtype))
        if len(features) != len(values):
            raise_problems([Problem("X", f"{len(features)} steps", f"{len(values)}, as y")])
        return np.column_stack([values, features]), values


_OWN = ("horizon", "window")


def _weights(sample_weight: Any, inputs: Tensor) -> NDArray[Any] | None:
    if sample_weight is None:
        return None
    rows = np.empty((len(inputs), 1))
    return _check_sample_weight(sample_weight, rows, ensure_non_negative=True)


def _counted(weights: NDArray[Any] | None) -> tuple[Tensor | None, NDArray[Any] | None]:
    """The series that count, None for all; and their weights, None where all are 1."""
    if weights is None:
        return None, None
    counts = weights > 0
    if not counts.any():
        raise_problems([Problem("sample_weight", "zeros alone", "a weight above 0")])
    return torch.from_numpy(np.flatnonzero(counts)), weights[counts]


def _column(y: Any, inputs: Tensor) -> NDArray[Any]:
    _check_rows(y)
    labels = column_or_1d(y, warn=True)
    if labels.dtype.kind == "f":
        assert_all_finite(labels, input_name="y")
    _check_count(labels, inputs)
    return labels


def _values(y: Any, inputs: Tensor) -> NDArray[Any]:
    _check_rows(y)
    values = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
    _check_count(values, inputs)
    return values


def _check_rows(y: Any) -> None:
    """Refuse targets that are not there, and those of the steps of unequal series."""
    if y is None:
        raise_problems([Problem("y", "None", "requires y to be passed, but the target y is None")])
    if isinstance(y, list | tuple) and len({np.shape(row)[:1] for row in y}) > 1:
        raise_problems([Problem("y", "rows of several lengths", "one target for each series")])


def _check_count(y: NDArray[Any], inputs: Tensor) -> None:
    if len(y) != len(inputs):
        raise_problems([Problem("y", f"{len(y)} entries", f"{len(inputs)}, one for each series")])
