"""The classifier of `timelocal.integrations.sklearn` as a sktime classifier, for pipelines and benchmarks.

from timelocal.integrations.sklearn import RecurrentClassifier as Estimator
from timelocal.integrations.sktime import RecurrentClassifier

RecurrentClassifier(Estimator(rule="dfa", hidden=64)).fit(X, y)
"""

from __future__ import annotations

from typing import Any

from timelocal.integrations import sklearn
from timelocal.optional import require

require("sktime", extra="sktime", for_="timelocal.integrations.sktime")

from numpy.typing import NDArray  # noqa: E402
from sktime.classification.base import BaseClassifier  # noqa: E402

from timelocal.integrations.wrapped import Wrapped  # noqa: E402

__all__ = ["RecurrentClassifier"]


class RecurrentClassifier(Wrapped, BaseClassifier):
    """A sktime classifier that wraps one from `timelocal.integrations.sklearn`.

    Args:
        estimator: a `timelocal.integrations.sklearn.RecurrentClassifier`, whose options are `estimator__…`
            in a search; None for one with its defaults. It is cloned; its `layout` is that of sktime.

    Attributes:
        estimator_: the fitted one; `estimator_.model_` can be saved and exported.

    >>> from sktime.datasets import load_unit_test
    >>> from timelocal.integrations.sklearn import RecurrentClassifier as Estimator
    >>> from timelocal.integrations.sktime import RecurrentClassifier
    >>> X, y = load_unit_test(split="train")
    >>> own = Estimator(hidden=8, epochs=5, random_state=0)
    >>> RecurrentClassifier(own).fit(X, y).predict(X).shape
    (20,)
    """

    _tags = {  # noqa: RUF012
        "X_inner_mtype": ["df-list", "numpy3D"],
        "capability:multivariate": True,
        "capability:unequal_length": True,
        "capability:predict_proba": True,
    }

    def _fit(self, X: Any, y: Any) -> Any:
        return super()._fit(_features_first(X), y)

    def _predict(self, X: Any) -> NDArray[Any]:
        return super()._predict(_features_first(X))

    def _predict_proba(self, X: Any) -> NDArray[Any]:
        return super()._predict_proba(_features_first(X))

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        return [
            {
                "estimator": sklearn.RecurrentClassifier(
                    hidden=4, epochs=2, random_state=0, rule=rule
                )
            }
            for rule in ("dfa", "bptt")
        ]


def _features_first(X: Any) -> Any:
    """Data frames (t, features) as arrays (features, t); an array (n, features, t) is returned as it is."""
    return [frame.to_numpy().T for frame in X] if isinstance(X, list) else X
