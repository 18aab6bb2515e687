"""Whether a module has forward hooks, found through the public API."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from torch import nn
from torch.utils.hooks import RemovableHandle

_SEEN: WeakKeyDictionary[nn.Module, tuple[dict[int, Any], ...]] = WeakKeyDictionary()
"""The dictionaries of a module's hooks, as its own handles refer to them."""


def has_forward_hooks(module: nn.Module) -> bool:
    """Whether any user hook is called before or after the module's forward.

    >>> import torch
    >>> layer = torch.nn.Linear(2, 2)
    >>> has_forward_hooks(layer)
    False
    >>> handle = layer.register_forward_hook(lambda *_: None)
    >>> has_forward_hooks(layer)
    True
    """
    hooks = _SEEN.get(module)
    if hooks is None:
        handles = (module.register_forward_pre_hook(no_hook), module.register_forward_hook(no_hook))
        hooks = _SEEN[module] = behind(*handles)
    return any(map(len, hooks))


def behind(*handles: RemovableHandle) -> tuple[dict[int, Any], ...]:
    """The dictionaries that hook handles refer to; the probing hooks, `no_hook`, are removed from them."""
    found = [handle.hooks_dict_ref() for handle in handles]
    for handle in handles:
        handle.remove()
    return tuple(one for one in found if one is not None)


def no_hook(*_: Any) -> None:
    """Never called: it is removed at once."""
