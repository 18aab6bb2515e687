"""Public names that have changed: the old name works for one release, with a warning that tells the new one.

To rename a public name, add it to `RENAMED`, and give the module it was in these lines, once:

    def __getattr__(name: str) -> object:
        return deprecated.renamed(__name__, name)

A method that has another name, or has become a function of its object or a class of its own, is a `Method` in
its class body.

Where mypy has to know the names of that module (everywhere in this package), put them under
`if not TYPE_CHECKING:`. Entries go with the release after the one that warned.
"""

from __future__ import annotations

import warnings
from functools import partial
from importlib import import_module
from pkgutil import resolve_name
from typing import Any

RENAMED: dict[str, str] = {
    "timelocal.studies.engines.JoblibEngine": "timelocal.studies.engines.Processes",
}
"""Old names and new names, in full: "module.name"."""


class Method:
    """What stands in a class body for a method that went: it calls the function it became.

    >>> import warnings
    >>> class Box:
    ...     area = Method("math.prod", "math.prod(box)")
    ...     def __iter__(self):
    ...         return iter((2, 3))
    >>> with warnings.catch_warnings(record=True) as told:
    ...     warnings.simplefilter("always")
    ...     Box().area()
    6
    >>> print(told[0].message)
    Box.area is now math.prod(box). The old name will be removed in the next release.
    """

    def __init__(self, function: str, instead: str) -> None:
        """function: "module.name" or "module.Class.name", called with the object first.

        instead: what a user writes now.
        """
        self.function, self.instead = function, instead

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return self
        warnings.warn(
            f"{owner.__name__}.{self.name} is now {self.instead}. The old name will be removed in the next "
            "release.",
            DeprecationWarning,
            stacklevel=2,
        )
        return partial(resolve_name(self.function), instance)


def renamed(module: str, name: str) -> Any:
    """What `module` called `name` in the release before, with a `DeprecationWarning`.

    To be called by the `__getattr__` of `module`, so that the warning points at the line of the user.

    Raises:
        AttributeError: there was no such name either.

    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as told:
    ...     warnings.simplefilter("always")
    ...     renamed("timelocal.studies.engines", "JoblibEngine").__name__
    'Processes'
    >>> print(told[0].message)  # doctest: +ELLIPSIS
    timelocal.studies.engines.JoblibEngine is now called timelocal.studies.engines.Processes...
    """
    old = f"{module}.{name}"
    if old not in RENAMED:
        raise AttributeError(f"module {module!r} has no attribute {name!r}", name=name)
    new = RENAMED[old]
    warnings.warn(
        f"{old} is now called {new}. The old name will be removed in the next release.",
        DeprecationWarning,
        stacklevel=3,
    )
    home, _, new_name = new.rpartition(".")
    return getattr(import_module(home), new_name)
