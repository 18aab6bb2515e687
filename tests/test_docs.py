"""The docs site: every public name is described, what it shows runs, its table says what rules declare."""

from __future__ import annotations

import importlib.util
import re
import shlex
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

import timelocal as tl
from site_links import dead_links
from timelocal.cli.app import app
from timelocal.rules import RULES

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.md"))


def configuration() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_conf", DOCS / "conf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_is_in_the_reference_once() -> None:
    pytest.importorskip("river")
    pytest.importorskip("sklearn")
    conf = configuration()
    pages = conf.reference_pages()
    found = re.findall(
        r"^\.\. (?:auto\w+|py:data):: (\S+)$", "\n".join(pages.values()), re.MULTILINE
    )
    assert len(found) == len(set(found))
    described = {id(getattr(import_module(path), name)) for path, _, name in map(parted, found)}
    names = {f"timelocal.{name}" for name in tl.__all__} - {"timelocal.data", "timelocal.losses"}
    assert names <= set(found)
    for path in conf.API:
        module = import_module(path)
        for name in conf.public_names(module):
            value = getattr(module, name)
            assert isinstance(value, ModuleType) or id(value) in described, f"{path}.{name}"
    assert len(found) > 130


def test_every_integration_is_in_the_reference_or_on_the_page_of_estimators() -> None:
    conf = configuration()
    folder = DOCS.parent / "src" / "timelocal" / "integrations"
    public = {path.stem for path in folder.glob("*.py") if "__all__ = " in path.read_text()}
    paths = {f"timelocal.integrations.{name}" for name in public}
    assert len(paths) >= 4
    assert paths <= {*conf.API, *conf.ELSEWHERE}
    estimators = (DOCS / "estimators.md").read_text()
    for path in conf.ELSEWHERE:
        assert path not in conf.API
        assert f"`{path}.RecurrentClassifier(estimator)`" in estimators


def parted(path: str) -> tuple[str, str, str]:
    return path.rpartition(".")


def test_every_page_can_be_reached() -> None:
    index = (DOCS / "index.md").read_text()
    blocks = re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line and line[0] != ":"]
    listed = [re.sub(r"^.*<(.*)>$", r"\1", line) for line in lines]
    pages = {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.md")}
    assert len(listed) == len(set(listed))
    assert set(listed) <= pages | {"api/index"}
    claims = (DOCS / "claims.md").read_text()  # leads to the page of every study
    rest = pages - {"index", *listed}
    assert all(f"]({page}.md" in claims for page in rest), rest


def anchors(page: str) -> set[str]:
    """What `#…` can lead to: GitHub's names of the headings, and explicit ids."""
    text = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    found: list[str] = []
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        shown = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).strip().lower()
        found.append(re.sub(r"[^\w\- ]", "", shown).replace(" ", "-"))
    again = {f"{name}-{n}" for name in found for n in range(1, found.count(name))}
    return {*found, *again, *re.findall(r'<\w+ [^>]*\bid="([^"]+)"', text)}


def test_anchors_are_those_of_github() -> None:
    page = '# A `b` & c_d\n```\n# comment\n```\n## [Two](x.md): *2*\n## Two\n## Two\n<a id="here"></a>\n'
    assert anchors(page) == {"a-b--c_d", "two-2", "two", "two-1", "here"}


LINKING = [
    *sorted(DOCS.rglob("*.md")),
    *(DOCS.parent / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(DOCS.parent.glob("results/*/README.md")),
]


@pytest.mark.parametrize("path", LINKING, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = link.partition("#")
        if "://" in file or file.startswith("api/"):  # the reference is made with the site
            continue
        target = path.parent / file if file else path
        # the page of a study is named there before it has any runs
        study = path.name == "claims.md" and "/" not in file
        assert study or target.exists(), link
        if anchor and target.is_file():
            assert anchor in anchors(target.read_text()), link


def test_links_that_lead_nowhere_in_the_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "b c.html").write_text('<h1 id="here">b</h1><img src="no.svg">')
    (tmp_path / "a.html").write_text(
        '<a href="b%20c.html?v=1#here">1</a><a href="https://example.org/no.html#no">2</a>'
        '<a href="#">3</a><a href="#no">4</a><a href="b%20c.html#no">5</a><a href="no.html">6</a>'
    )
    dead = ["a.html: #no", "a.html: b%20c.html#no", "a.html: no.html", "b c.html: no.svg"]
    assert dead_links(tmp_path) == dead
    assert dead_links(tmp_path / "empty")


def test_which_rule_says_what_rules_declare() -> None:
    table = [
        [cell.strip(" `") for cell in line.strip("| \n").split(" | ")]
        for line in (DOCS / "which-rule.md").read_text().splitlines()
        if line.startswith("| `")
    ]
    rows = {row[0]: row for row in table}
    assert rows.keys() == {name for name in RULES if not name.endswith("authors-code")}
    targets = {"bptt": "for BPTT", "tbptt1": "step"}
    for name, row in rows.items():
        spec = RULES[name].spec
        _, needs, bias, variance, online, *_ = row
        assert online == ("yes" if spec.online else "no"), name
        assert bias.startswith(spec.estimates), name
        assert targets.get(spec.target, "") in bias, name
        assert (variance == "none") == (not spec.draws), name
        if not spec.weight_transport:
            assert "backwards" not in needs, name


def snippets(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / f"{page}.md").read_text(), re.DOTALL)


def run(blocks: list[str], page: str) -> dict[str, object]:
    """One after another, and what they leave."""
    scope: dict[str, object] = {"__name__": page}
    for block in blocks:
        exec(compile(block, f"{page}.md", "exec"), scope)
    return scope


@pytest.mark.parametrize("page", ["write-a-rule", "write-a-cell"])
def test_a_page_s_snippets_run(page: str) -> None:
    blocks = snippets(page)
    assert len(blocks) >= 2
    run(
        [block.replace("check_rule(OneStep)", "''") for block in blocks], page
    )  # its own test, slow


def test_the_stream_of_the_page_ends_with_the_errors_that_it_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scope = run(snippets("streams"), "streams")
    sentence = (
        r"error is (\d\.\d\d)\. Repeating the last value gives (\d\.\d\d), the mean (\d\.\d\d)\."
    )
    said = map(float, re.search(sentence, (DOCS / "streams.md").read_text()).groups())
    learned, last_value, mean = said
    assert scope["network"] == pytest.approx(learned, abs=0.015)
    assert scope["last_value"] == pytest.approx(last_value, abs=0.005)
    assert scope["mean"] == pytest.approx(mean, abs=0.005)
    stream = scope["stream"]
    assert (stream.steps, stream.max_delay) == (1103, 15)
    assert scope["learned"].outputs.isfinite().all()


@pytest.mark.slow
def test_the_rule_of_the_page_is_what_it_declares() -> None:
    scope = run(snippets("write-a-rule"), "write-a-rule")
    assert "one-step" in str(scope["report"]) or "OneStep" in str(scope["report"])


def test_commands_of_the_page_of_installation_run() -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", (DOCS / "install.md").read_text(), re.DOTALL)
    for line in block.strip().splitlines():
        program, *arguments = shlex.split(line)
        assert program == "timelocal"
        assert CliRunner().invoke(app, arguments).exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the site is not built: the numbers it prints beat the floors beside them."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    cells = re.findall(r"```\{code-cell\}\n(.*?)```", path.read_text(), re.DOTALL)
    assert cells
    scope: dict[str, object] = {"__name__": path.stem}
    for cell in cells:
        exec(compile(cell, path.name, "exec"), scope)
    said = capsys.readouterr().out
    numbers = [float(number) for number in re.findall(r"(\d\.\d+)(?:$|[, ])", said, re.MULTILINE)]
    if path.stem == "digits":
        assert min(numbers[:3]) > 5 * numbers[3]
    elif path.stem == "mackey-glass":
        *rules, mean = numbers[-3:]
        assert max(rules) < 0.8 * mean
    elif path.stem == "long-sequences":
        assert numbers[-1] < 0.05 < 0.5 < numbers[-2]
    elif path.stem == "own-csv":
        assert scope["history"].epochs[-1]["test_accuracy"] > 0.8
    elif path.stem == "streams":
        assert numbers[0] > 0.8
