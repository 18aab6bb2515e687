"""A change of anything that a native call was told of is seen: replaced, added, removed or moved."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch

from timelocal.fast import held
from timelocal.fast.held import Held


def replaced(numbers, ordered, items):
    numbers["b"] = 2.5


def added(numbers, ordered, items):
    numbers["c"] = None


def removed(numbers, ordered, items):
    del numbers["b"]


def reordered(numbers, ordered, items):
    first, second = items
    items[:] = [second, first]


def longer(numbers, ordered, items):
    items.append(items[0])


def put_in_front(numbers, ordered, items):
    ordered["z"] = print
    ordered.move_to_end("z", last=False)


def moved(numbers, ordered, items):
    items[0].data = torch.zeros(3)


def widened(numbers, ordered, items):
    items[1].data = items[1].data.view(2, 1)


def frozen(numbers, ordered, items):
    items[0].requires_grad_(True)


CHANGES = (replaced, added, removed, reordered, longer, put_in_front, moved, widened, frozen)


@pytest.mark.parametrize("path", ["active", "Python"])
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_seen(monkeypatch, change, path):
    if path == "Python":
        monkeypatch.setattr(held, "_members", held.members)
        monkeypatch.setattr(held, "_are_members", held.are_members)
    numbers, ordered = {"a": 1.5, "b": 2.0}, OrderedDict(x=print, y=len)
    items = [torch.zeros(3), torch.zeros(2)]
    kept = Held([numbers, {}, ordered, [], items], items)
    assert kept.is_same()
    change(numbers, ordered, items)
    assert not kept.is_same()


def test_equal_objects_are_not_the_same():
    items = [torch.ones(1)]
    kept = Held([items])
    items[0] = torch.ones(1)
    assert not kept.is_same()
