"""What carries a state is saved as JSON and tensors, and comes back as it was."""

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch

import timelocal as tl
from timelocal.training.state import packed, unpacked


def there_and_back(value):
    tensors = {}
    text = json.dumps(packed(value, tensors, "state"), allow_nan=False)
    return unpacked(json.loads(text), tensors)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        2**70,
        "text",
        0.1,
        math.inf,
        -math.inf,
        [],
        (1, (2.0, [None])),
        {},
        {"a": {"tensor": "not a tensor"}, "b": {"float": 1}},
        {"items": [1], "x": 2},
        {1: "one", "1": "another", 2.5: None},
        Counter({2: 1, 3: 2}),
        OrderedDict(a=1),
    ],
)
def test_plain_values_come_back(value):
    found = there_and_back(value)
    assert found == value
    assert type(found) is (dict if isinstance(value, OrderedDict) else type(value))


def test_numbers_of_numpy_come_back_as_numbers():
    found = there_and_back({"best": np.float32(0.1), "steps": np.int64(3), "done": np.bool_(True)})
    assert found == {"best": float(np.float32(0.1)), "steps": 3, "done": True}
    assert math.isnan(there_and_back(math.nan))


def test_tensors_and_arrays_come_back_apart():
    state = {"a": {"b": torch.ones(2, dtype=torch.bfloat16)}, "a.b": torch.zeros(3), "c": [0]}
    state["c"] = [np.arange(4, dtype=np.uint32), torch.tensor(1.5)]
    found = there_and_back(state)
    assert torch.equal(found["a"]["b"], state["a"]["b"])
    assert torch.equal(found["a.b"], state["a.b"])
    assert found["c"][0].dtype == np.uint32
    np.testing.assert_array_equal(found["c"][0], state["c"][0])
    assert found["c"][1].shape == ()
    found["a.b"] += 1  # copies
    assert not state["a.b"].any()


@pytest.mark.parametrize("value", [object(), print, {1, 2}, {(1, 2): 3}, np.array(["x"]), 1j])
def test_anything_else_is_refused_by_name(value):
    with pytest.raises(tl.UnsupportedError, match=r"the state of EMA\.x holds a"):
        packed({"x": value}, {}, "EMA")
