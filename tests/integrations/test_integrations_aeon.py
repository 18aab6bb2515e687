"""aeon's own checks of its estimators, and its data as they are."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("aeon")

from aeon.datasets import load_basic_motions
from aeon.testing.estimator_checking import check_estimator
from sklearn.model_selection import GridSearchCV

from timelocal.integrations import sklearn
from timelocal.integrations.aeon import RecurrentClassifier

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_aeons_own_checks():
    found = check_estimator(RecurrentClassifier, raise_exceptions=False)
    assert len(found) > 20
    assert {name: told for name, told in found.items() if told != "PASSED"} == {}


def test_its_arrays_and_what_a_search_chooses():
    X, y = load_basic_motions(split="train")
    own = sklearn.RecurrentClassifier(hidden=16, epochs=20, random_state=0)
    ours = RecurrentClassifier(own).fit(X, y)
    plain = sklearn.RecurrentClassifier(**own.get_params() | {"layout": "nct"}).fit(X, y)
    assert np.array_equal(ours.predict_proba(X), plain.predict_proba(X))
    search = GridSearchCV(ours, {"estimator__rule": ["dfa", "bptt"]}, cv=2).fit(X, y)
    assert search.best_score_ > 0.4  # of four classes
