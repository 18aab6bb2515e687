"""`timelocal cite`: where rules are from, for a bibliography."""

from __future__ import annotations

from typing import Annotated

import typer


def cite(
    rules: Annotated[
        list[str], typer.Argument(help="Names of rules; or your own as package.module:Name.")
    ],
) -> None:
    """Print the sources of rules, and of timelocal itself, as BibTeX."""
    from timelocal import __version__
    from timelocal.cli.terminal import say
    from timelocal.experiments.bibtex import bibtex
    from timelocal.model.build import find_rule

    references = [one for rule in rules for one in find_rule(rule).spec.references]
    own = (
        "@software{timelocal,\n  title = {timelocal: train recurrent networks without backpropagation "
        f"through time}},\n  author = {{{{The timelocal authors}}}},\n  version = {{{__version__}}},\n}}"
    )
    say("\n\n".join([*bibtex(references), own]))
