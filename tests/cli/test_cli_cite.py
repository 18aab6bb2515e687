"""Sources of rules as BibTeX."""

from __future__ import annotations

import re

from timelocal.rules import RULES


def test_every_rule_is_cited_once(call):
    done = call("cite", *RULES)
    assert done.exit_code == 0, done.output
    entries = re.findall(r"@\w+\{([^,]+),\n(.*?)\n\}", done.stdout, re.DOTALL)
    lines = {reference for rule in RULES.values() for reference in rule.spec.references}
    assert len({key for key, _ in entries}) == len(entries) == len(lines) + 1
    assert done.stdout.count("year = {") == len(lines)
    assert done.stdout.count("{") == done.stdout.count("}")
    assert "author = {J. García Fernández and S. Keemink and M. van Gerven}" in done.stdout
    assert "journal = {Frontiers in Neuroscience 18:1439155}" in done.stdout
    assert "@inproceedings{tallec2018unbiased," in done.stdout
    assert (
        "title = {{Weight versus node perturbation learning in temporally extended tasks}}"
        in done.stdout
    )
    assert "Did you mean 'rflo'" in call("cite", "rfl").output
