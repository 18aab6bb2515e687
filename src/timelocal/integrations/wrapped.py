"""The common base of the aeon and sktime classifiers, which wrap an estimator of this package."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from sklearn.base import clone

from timelocal.integrations import sklearn


class Wrapped:
    """A `timelocal.integrations.sklearn.RecurrentClassifier` behind the base class of another library.

    That base class checks X and converts it to an array (n, features, t) or a list of series (features, t).
    """

    def __init__(self, estimator: sklearn.RecurrentClassifier | None = None) -> None:
        self.estimator = estimator
        super().__init__()

    def _fit(self, X: Any, y: Any) -> Any:
        own = sklearn.RecurrentClassifier() if self.estimator is None else clone(self.estimator)
        self.estimator_ = own.set_params(layout="nct").fit(X, y)
        return self

    def _predict(self, X: Any) -> NDArray[Any]:
        return self.estimator_.predict(X)

    def _predict_proba(self, X: Any) -> NDArray[Any]:
        return self.estimator_.predict_proba(X)
