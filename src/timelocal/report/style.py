"""How rules and cells look and are called on every page.

A rule is a colour, a cell a dash, and a variant of the two a marker.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle

from timelocal.cells import CELLS

# Chosen by a search: with any kind of colour blindness, rules on the same page look as different as so many
# can, and each stands out from white. Okabe and Ito's palette has too few colours, half of them too light.
_RULES = {
    "bptt": ("BPTT", "#0859B4"),
    "dfa": ("DFA", "#EE5D00"),
    "dfa-authors-code": ("DFA (authors’ code)", "#EE5D00"),
    "np": ("NP", "#733163"),
    "np-authors-code": ("NP (authors’ code)", "#733163"),
    "anp": ("ANP", "#7B9C64"),
    "anp-authors-code": ("ANP (authors’ code)", "#7B9C64"),
    "wp": ("WP", "#970E13"),
    "wp-authors-code": ("WP (authors’ code)", "#970E13"),
    "tbptt": ("TBPTT", "#AA7AFF"),
    "rflo": ("RFLO", "#008A9F"),
    "eprop": ("e-prop", "#3B5425"),
    "rtrl": ("RTRL", "#2A2A2A"),
    "snap1": ("SnAp-1", "#AB3567"),
    "sparse-rtrl": ("sparse RTRL", "#00A52D"),
    "uoro": ("UORO", "#996644"),
    "fa": ("feedback alignment", "#884847"),
    "wm": ("weight mirror", "#8990CD"),
}
_FOR_OTHERS = ("anp", "wp", "np")
"""Rules whose colours an unknown rule takes first."""
_VARIANT_SYMBOLS = (None, "square", "diamond", "triangle-up", "circle")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_OTHER_DASH = "longdash"


def rule_colours(rules: Iterable[str]) -> dict[str, str]:
    """A colour for each rule: fixed for those named above, else by alphabetical order.

    The others get colours that no rule beside them has, as long as there are any.
    """
    rules = set(rules)
    known = {rule: colour for rule, (_, colour) in _RULES.items()}
    taken = {colour for rule, colour in known.items() if rule in rules}
    palette = dict.fromkeys((*(known[rule] for rule in _FOR_OTHERS), *known.values()))
    free = [colour for colour in palette if colour not in taken] or list(palette)
    return known | dict(zip(sorted(rules - known.keys()), cycle(free), strict=False))


_SHADES = (
    (0.0, 0), (0.4, 0), (0.45, 255), (0.65, 0), (0.65, 255), (0.22, 0), (0.25, 255), (0.82, 0),
)  # fmt: skip
"""How far a variant's colour goes towards black or white."""
_VARIANT_DASHES = ("solid", "dash", "dashdot", "dot", "longdash")


def variant_look(colour: str, index: int) -> tuple[str, str]:
    """The colour and the dash of a rule's variant number `index`: shades of one hue.

    >>> variant_look("#0072B2", 0), variant_look("#0072B2", 1)
    (('#0072B2', 'solid'), ('#00446b', 'dash'))
    """
    share, end = _SHADES[index % len(_SHADES)]
    if not share:
        return colour, _VARIANT_DASHES[0]
    parts = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    mixed = "".join(f"{round((1 - share) * part + share * end):02x}" for part in parts)
    return f"#{mixed}", _VARIANT_DASHES[index % len(_VARIANT_DASHES)]


def variant_symbol(index: int) -> str | None:
    """The marker, by plotly's name, on the line of a cell and rule's variant number `index`."""
    return _VARIANT_SYMBOLS[index % len(_VARIANT_SYMBOLS)]


def cell_dash(cell: str) -> str:
    """The dash of a cell's lines, by plotly's name: by its place in the registry."""
    names = list(CELLS)
    return _DASHES[names.index(cell) % len(_DASHES)] if cell in names else _OTHER_DASH


def cell_label(cell: str) -> str:
    """A cell's name in text."""
    return CELLS[cell].label or cell if cell in CELLS else cell


def cell_order(cell: str) -> tuple[int, str]:
    """The key that sorts cells from simple to complex, unknown ones last."""
    names = list(CELLS)
    return (names.index(cell) if cell in names else len(names), cell)


def rule_label(rule: str) -> str:
    """A rule's name in text."""
    return _RULES[rule][0] if rule in _RULES else rule
