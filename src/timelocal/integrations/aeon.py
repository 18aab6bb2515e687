"""The classifier of `timelocal.integrations.sklearn` as an aeon classifier, for its pipelines and benchmarks.

    from timelocal.integrations.aeon import RecurrentClassifier
    from timelocal.integrations.sklearn import RecurrentClassifier as Estimator

    RecurrentClassifier(Estimator(rule="dfa", hidden=64)).fit(X, y)

aeon's arrays (n, features, t) and lists of series of unequal length (features, t) can also be passed
unchanged to the estimators of `timelocal.integrations.sklearn`, with `layout="nct"`.
"""

from __future__ import annotations

from typing import Any

from timelocal.integrations import sklearn
from timelocal.optional import require

require("aeon", extra="aeon", for_="timelocal.integrations.aeon")

from aeon.classification.base import BaseClassifier  # noqa: E402

from timelocal.integrations.wrapped import Wrapped  # noqa: E402

__all__ = ["RecurrentClassifier"]


class RecurrentClassifier(Wrapped, BaseClassifier):
    """An aeon classifier that wraps one from `timelocal.integrations.sklearn`.

    Args:
        estimator: a `timelocal.integrations.sklearn.RecurrentClassifier`, whose options are `estimator__…`
            in a search; None for one with its defaults. It is cloned; its `layout` is that of aeon.

    Attributes:
        estimator_: the fitted one; `estimator_.model_` can be saved and exported.
    """

    _tags = {  # noqa: RUF012
        "capability:multivariate": True,
        "capability:unequal_length": True,
        "X_inner_type": ["np-list", "numpy3D"],
        "algorithm_type": "deeplearning",
    }

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> dict[str, Any]:
        return {"estimator": sklearn.RecurrentClassifier(hidden=4, epochs=2, random_state=0)}
