"""Tables as LaTeX, of the package booktabs."""

from __future__ import annotations

from collections.abc import Sequence

_SPECIAL = {char: f"\\{char}" for char in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "²": "$^2$",
    "–": "--",
    "\u00a0": "~",
    "\u202f": r"\,",
    "’": "'",
    "σ": r"$\sigma$",
    "τ": r"$\tau$",
    "λ": r"$\lambda$",
    "ε": r"$\varepsilon$",
}


def escape(text: str) -> str:
    """Text as LaTeX shows it letter by letter.

    >>> print(escape("σ² = 0.1, 50 ± 2 %"))
    $\\sigma$$^2$ = 0.1, 50 $\\pm$ 2 \\%
    """
    return "".join(_SPECIAL.get(char, char) for char in text)


def tabular(
    head: Sequence[str], groups: Sequence[tuple[str, Sequence[Sequence[str]]]], command: str
) -> str:
    """A table with a line of its own above every group, if there are several.

    Args:
        head: the titles of the columns.
        groups: name and rows of each; cells are LaTeX already.
        command: the line that makes the numbers, said in a comment.
    """
    lines = [
        f"% {command}",
        r"\begin{tabular}{l" + "r" * (len(head) - 1) + "}",
        r"\toprule",
        " & ".join(map(escape, head)) + r" \\",
    ]
    for name, rows in groups:
        lines.append(r"\midrule")
        if len(groups) > 1:
            lines.append(rf"\multicolumn{{{len(head)}}}{{l}}{{\textit{{{escape(name)}}}}} \\")
        lines += [" & ".join(row) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
