"""Names of things from outside the package: found, refused in words, and told where they come from."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugin_files import in_folder, module, package
from timelocal import plugins
from timelocal.errors import ArgumentError

BUILT_IN = {"dfa": 1, "bptt": 2}


@pytest.fixture(autouse=True)
def _imports_as_they_were(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """In an empty folder, which is not on the path; what a test imports goes with it."""
    with in_folder(tmp_path, monkeypatch):
        yield


def refusal(name: str) -> str:
    with pytest.raises(ArgumentError) as caught:
        plugins.find("rule", name, BUILT_IN)
    return str(caught.value)


def test_a_module_in_the_working_folder_is_found_first(tmp_path: Path) -> None:
    module(
        tmp_path, "tabnanny", "class Rule:\n    class Inner: pass"
    )  # a name of Python's own, too
    found = plugins.find("rule", "tabnanny:Rule", BUILT_IN)
    assert Path(sys.modules["tabnanny"].__file__ or "").parent == tmp_path
    assert plugins.find("rule", "tabnanny:Rule.Inner", BUILT_IN) is found.Inner
    assert sys.path[0] == str(tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "nothing_here:Rule",
            (
                "ModuleNotFoundError: No module named 'nothing_here'. Change to the folder",
                "on PYTHONPATH",
            ),
        ),
        ("broken:Rule", ("ZeroDivisionError: division by zero", "broken.py, line 3")),
        ("typo:Rule", ("SyntaxError", "typo.py, line 1")),
        ("leaves:Rule", ("SystemExit: 3",)),
        ("lacks:Rule", ("ModuleNotFoundError: No module named 'not_there'", "lacks.py, line 1")),
        ("fine:Rul", ("module fine has no 'Rul'", "fine.py", "Did you mean 'Rule'?")),
        ("fine:", ("expected module:name",)),
        (":Rule", ("expected module:name",)),
        (".fine:Rule", ("expected module:name",)),
    ],
)
def test_what_cannot_be_loaded_is_told(
    tmp_path: Path, name: str, expected: tuple[str, ...]
) -> None:
    module(tmp_path, "broken", "\n\n1 / 0")
    module(tmp_path, "typo", "class")
    module(tmp_path, "leaves", "raise SystemExit(3)")
    module(tmp_path, "lacks", "import not_there")
    module(tmp_path, "fine", "class Rule: pass")
    text = refusal(name)
    assert text.startswith(f"rule: got {name!r}")
    assert all(part in text for part in expected), text
    assert ("PYTHONPATH" in text) == name.startswith("nothing")


def test_an_unknown_name_is_near_to_built_in_and_installed_ones(tmp_path: Path) -> None:
    package(tmp_path / "site", "their-package", rules={"theirs": "their_module:Rule"})
    assert "For a rule of your own, give module:name." in refusal("xyz")
    sys.path.append(str(tmp_path / "site"))
    assert refusal("bptx") == (
        "rule: got 'bptx', expected one of 'bptt', 'dfa', 'theirs'. Did you mean 'bptt'?"
    )
    assert refusal("their").endswith("Did you mean 'theirs'?")


def test_an_installed_one_is_found_by_its_name(tmp_path: Path) -> None:
    site = tmp_path / "site"
    package(site, "their-package", rules={"theirs": "their_module:Rule"}, cells={"cell": "m:C"})
    module(site, "their_module", "class Rule: pass")
    sys.path.append(str(site))
    (one,) = plugins.installed("rule", BUILT_IN)
    assert "their_module" not in sys.modules  # a list imports nothing
    assert (one.name, one.value, one.package) == (
        "theirs",
        "their_module:Rule",
        "their-package 1.2",
    )
    found = plugins.find("rule", "theirs", BUILT_IN)
    assert plugins.origin("rule", "theirs", found) == {
        "name": "theirs",
        "module": "their_module",
        "file": "their_module.py",
        "sha256": hashlib.sha256(b"class Rule: pass").hexdigest(),
        "distribution": "their-package",
        "version": "1.2",
    }


def test_one_that_fails_to_load_breaks_nothing_else(tmp_path: Path) -> None:
    site = tmp_path / "site"
    package(site, "bad", rules={"bad": "bad_module:Rule"})
    package(site, "good", rules={"good": "good_module:Rule"})
    module(site, "bad_module", "raise RuntimeError('no GPU')")
    module(site, "good_module", "class Rule: pass")
    sys.path.append(str(site))
    text = refusal("bad")
    assert "of bad 1.2, but module bad_module cannot be imported: RuntimeError: no GPU" in text
    assert plugins.find("rule", "good", BUILT_IN).__name__ == "Rule"
    assert plugins.find("rule", "dfa", BUILT_IN) == 1


def test_a_built_in_name_is_never_taken(tmp_path: Path) -> None:
    package(tmp_path / "site", "pirate", rules={"dfa": "pirate_module:Rule"})
    sys.path.append(str(tmp_path / "site"))
    assert plugins.find("rule", "dfa", BUILT_IN) == 1
    (one,) = plugins.installed("rule", BUILT_IN)
    assert one.refused == "refused: 'dfa' is a rule of timelocal"


def test_a_name_of_two_packages_is_refused(tmp_path: Path) -> None:
    package(tmp_path / "site", "first", rules={"theirs": "a:Rule"})
    package(tmp_path / "site", "second", rules={"theirs": "b:Rule"})
    sys.path.append(str(tmp_path / "site"))
    text = refusal("theirs")
    assert "'a:Rule' of first 1.2 and 'b:Rule' of second 1.2" in text
    assert text.endswith("Give module:name instead.")
    assert {one.refused for one in plugins.installed("rule", BUILT_IN)} == {
        "refused: several packages claim this name"
    }


def test_the_origin_is_the_file_of_the_definition(tmp_path: Path) -> None:
    module(tmp_path, "defined", "class Rule: pass\ndef made(): pass")
    module(tmp_path, "passed_on", "from defined import Rule\nmade = Rule()")
    digest = hashlib.sha256((tmp_path / "defined.py").read_bytes()).hexdigest()
    for name in ("passed_on:Rule", "defined:made"):
        known = plugins.origin("rule", name, plugins.find("rule", name, {}))
        assert (known["module"], known["sha256"]) == ("defined", digest)
        assert known["distribution"] is None
    instance = plugins.origin("cell", "passed_on:made", plugins.find("cell", "passed_on:made", {}))
    assert instance["file"] == "passed_on.py"


def test_module_and_name_of_an_installed_package_tell_its_version() -> None:
    import numpy

    known = plugins.origin("rule", "numpy:dot", plugins.find("rule", "numpy:ndarray", {}))
    assert (known["distribution"], known["version"]) == ("numpy", numpy.__version__)


def test_other_processes_search_where_this_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", "/a"])
    paths = plugins.search_path()
    assert paths == [os.getcwd(), "/a"]
    monkeypatch.setattr(sys, "path", ["/b", "/a"])
    plugins.search_also(paths)
    assert sys.path == ["/b", "/a", os.getcwd()]
