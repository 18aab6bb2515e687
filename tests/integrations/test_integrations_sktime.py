"""sktime's own checks of its estimators, and its data as they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sktime")

from sktime.datasets import load_basic_motions
from sktime.utils.estimator_checks import check_estimator

from timelocal.integrations import sklearn
from timelocal.integrations.sktime import RecurrentClassifier

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_sktimes_own_checks():
    found = check_estimator(RecurrentClassifier, raise_exceptions=False, verbose=False)
    assert len(found) > 100
    assert {name: told for name, told in found.items() if told != "PASSED"} == {}


def test_its_panels():
    X, y = load_basic_motions(split="train", return_type="numpy3D")
    own = sklearn.RecurrentClassifier(hidden=16, epochs=20, random_state=0)
    ours = RecurrentClassifier(own).fit(X, y)
    plain = sklearn.RecurrentClassifier(**own.get_params() | {"layout": "nct"}).fit(X, y)
    assert np.array_equal(ours.predict_proba(X), plain.predict_proba(X))
    exact = ours.clone().set_params(estimator__rule="bptt").fit(X, y)
    assert exact.score(X, y) > 0.4  # of four classes
    assert exact.estimator_.rule == "bptt"
    cut = [pd.DataFrame(series[:, : 50 + n].T) for n, series in enumerate(X)]  # of unequal length
    ours.fit(cut, y)
    plain.fit([series[:, : 50 + n] for n, series in enumerate(X)], y)
    assert np.array_equal(ours.predict(cut), plain.predict([frame.to_numpy().T for frame in cut]))
