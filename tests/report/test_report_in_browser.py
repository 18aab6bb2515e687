import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest
from made_up_reproductions import everything, reproduction
from made_up_runs import make_run, make_runs

from timelocal.experiments.catalogue import EXPERIMENTS
from timelocal.report import write_report
from timelocal.report.site import write_site
from timelocal.studies.reproduce import collect

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium.EXECUTABLE is None, reason="there is no Chromium on this machine"),
]

TROUBLE = {"Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"}

FAULTS = """[...document.querySelectorAll('.chart')].flatMap((chart) => {
  const box = (one) => one.getBoundingClientRect();
  const [plots, all] = [[...chart.querySelectorAll('.nsewdrag')].map(box), box(chart)];
  const high = Math.max(...plots.map((one) => one.bottom)) - Math.min(...plots.map((one) => one.top));
  const texts = [...chart.querySelectorAll('svg text')].filter((one) => box(one).width);
  const cut = texts.filter((one) => box(one).left < all.left - 1 || box(one).right > all.right + 1
    || box(one).top < all.top - 1 || box(one).bottom > all.bottom + 1);
  const bars = [...chart.querySelectorAll('.legend .scrollbar')].filter((one) => box(one).height);
  return [
    ...(high < 260 ? [`a plot of ${high} pixels`] : []),
    ...cut.map((one) => `${one.textContent} is cut off`),
    ...bars.map(() => 'a legend that scrolls'),
    ...[...chart.querySelectorAll('.modebar')].map(() => 'a button before the data'),
  ];
})"""
"""What is wrong with the pictures of a page, as far as their boxes tell; the browser here has no pointer."""

OPEN_ALL = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"

PICTURES = (
    """[...document.querySelectorAll("article img[src$=svg]")].map((a) => [a.src, a.clientWidth])"""
)
"""The pictures of a page of the docs and how wide they are shown."""

FAULTS_OF_A_PICTURE = """((shown) => {
  const box = (one) => one.getBoundingClientRect();
  const all = box(document.documentElement);
  const plots = [...document.querySelectorAll('[id^=axes_] > [id^=patch_]:first-child')].map(box);
  const low = plots.map((one) => one.height * shown / all.width).filter((high) => high < 260);
  const cut = [...document.querySelectorAll('[id^=text_]')].filter((one) => box(one).left < all.left - 1
    || box(one).right > all.right + 1 || box(one).top < all.top - 1 || box(one).bottom > all.bottom + 1);
  return [
    ...(plots.length ? [] : ['no plot']),
    ...low.map((high) => `a plot of ${high} pixels`),
    ...cut.map((one) => `${one.id} is cut off`),
  ];
})"""
"""The same for a picture by matplotlib that is shown so wide."""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    with chromium.browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


def test_the_page_works_in_a_browser(tmp_path: Path, tab: chromium.Page) -> None:
    make_runs(tmp_path / "runs", seeds=2)
    make_runs(tmp_path / "runs", "mackey-glass", seeds=2, regression=True)
    make_run(tmp_path / "runs", seed=7, epochs=4, status="diverged")
    output = write_report([tmp_path / "runs"], tmp_path / "report.html")
    tab.open(output)
    # Every line of every figure is drawn: 8 or 9 seeds, 4 bands and 4 means in each of three.
    lines = "[...document.querySelectorAll('.chart')].map(c => c.querySelectorAll('{}').length)"
    assert tab.evaluate(lines.format(".scatter")) == [17, 17, 16]
    assert tab.evaluate(lines.format(".shapelayer path"))[0] == 3

    tab.evaluate("document.querySelector('.legend button').click()")
    assert tab.evaluate(lines.format(".scatter")) == [13, 13, 16]
    tab.evaluate("document.querySelector('.legend [data-key=trivial]').click()")
    assert tab.evaluate(lines.format(".shapelayer path"))[0] == 0

    for width, dark in ((1366, False), (390, False), (1366, True)):
        tab.show(width, dark)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate(FAULTS) == []
    # A chart is light in dark colours, too.
    seen = "getComputedStyle(document.querySelector('{}')).{}"
    assert tab.evaluate(seen.format(".chart .xtitle", "fill")) == "rgb(28, 31, 35)"
    for part in (".chart", ".legend button"):
        assert tab.evaluate(seen.format(part, "backgroundColor")) == "rgb(255, 255, 255)"
    assert tab.evaluate(seen.format("body", "backgroundColor")) == "rgb(20, 23, 26)"

    assert [event for event in tab.events if event["method"] in TROUBLE] == []
    requests = [e for e in tab.events if e["method"] == "Network.requestWillBeSent"]
    assert [e["params"]["request"]["url"] for e in requests] == [output.as_uri()]


def test_the_page_is_forbidden_to_load_anything(tmp_path: Path, tab: chromium.Page) -> None:
    make_run(tmp_path / "runs")
    output = write_report([tmp_path / "runs"], tmp_path / "report.html")
    tampered = output.read_text().replace("</main>", '<img src="http://127.0.0.1:9/x.png"></main>')
    output.write_text(tampered)
    tab.open(output)
    # So the check above is alive: what it must catch does show among the events.
    said = [e["params"]["entry"]["text"] for e in tab.events if e["method"] == "Log.entryAdded"]
    assert any("Content Security Policy" in text for text in said)


def test_the_site_works_in_a_browser(tmp_path: Path, tab: chromium.Page) -> None:
    index = write_site(everything(), tmp_path / "site")
    drawn = 0
    for page in sorted(index.parent.glob("*.html")):
        tab.open(page)
        tab.evaluate("document.querySelectorAll('.panel').forEach((one) => { one.open = true; })")
        tab.evaluate("new Promise((done) => setTimeout(done, 100))")
        charts = tab.evaluate("document.querySelectorAll('.chart').length")
        plots = "[...document.querySelectorAll('.chart')].filter(c => c.querySelector('.scatter, .points'))"
        assert tab.evaluate(f"{plots}.length") == charts
        drawn += charts
        for width, dark in ((1366, False), (390, False), (390, True)):
            tab.show(width, dark)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, page.name
            assert tab.evaluate(FAULTS) == [], page.name
        assert [event for event in tab.events if event["method"] in TROUBLE] == []
        asked = [e for e in tab.events if e["method"] == "Network.requestWillBeSent"]
        assert all(e["params"]["request"]["url"].startswith("file:") for e in asked)
    assert drawn >= 3
    tab.open(index.parent / "dfa-made-up-sizes.html")
    tab.evaluate("document.querySelector('.results td a').click()")
    assert tab.evaluate("document.querySelector('details[id]').open")


def test_a_page_of_committed_runs_has_no_faults(tmp_path: Path, tab: chromium.Page) -> None:
    store = ROOT / "results" / "reproduction" / "runs"
    found = collect([EXPERIMENTS["dfa/table1"]], "laptop", store)
    tab.open(write_site(found, tmp_path / "site").parent / "dfa-table1.html")
    tab.show(1366, dark=False)
    assert (
        tab.evaluate("document.documentElement.scrollHeight") < 6 * 768
    )  # the rest is a click away
    tab.evaluate(OPEN_ALL)
    tab.evaluate("document.querySelector('.more input').click()")
    for width in (1366, 390):
        tab.show(width, dark=False)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate(FAULTS) == []
    assert tab.evaluate("document.querySelectorAll('.chart .scatter').length") > 100


def test_pages_of_the_docs_have_no_faults(tmp_path: Path, tab: chromium.Page) -> None:
    pytest.importorskip("sphinx")
    only = ("-D", "include_patterns=index.md,gap.md", "-D", "nb_execution_mode=off")
    subprocess.run(
        [sys.executable, "-m", "sphinx", "-Q", *only, "docs", tmp_path], cwd=ROOT, check=True
    )
    for page in ("index.html", "gap.html"):
        for width in (1366, 390):
            tab.open(tmp_path / page)
            tab.show(width, dark=False)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            pictures = tab.evaluate(PICTURES)
            assert pictures
            for picture, shown in pictures:
                assert shown <= width
                tab.call("Page.navigate", url=picture)
                tab.evaluate("new Promise((done) => setTimeout(done, 300))")
                assert tab.evaluate(f"{FAULTS_OF_A_PICTURE}({shown})") == []


def test_numbers_choices_floors_and_points_open_their_runs(
    tmp_path: Path, tab: chromium.Page
) -> None:
    site = write_site([reproduction()], tmp_path / "site").parent
    shown = "[...document.querySelectorAll('details[open]')].map(d => d.id)"
    line = "digits-rnn-dfa-as-corrected"
    for click, opened in (
        ("document.querySelector('th small a').click()", [line, f"{line}-search"]),
        ("document.querySelector('.trivial a').click()", ["digits-rnn-majority-class"]),
        ("document.querySelector('.verdicts a').click()", ["digits-rnn-bptt-true-bptt"]),
        (
            "(c => c.emit('plotly_click', {points: [{data: c.data[0]}]}))(document.querySelector('.chart'))",
            [line],
        ),
    ):
        tab.open(site / "dfa-made-up-curves.html")
        assert tab.evaluate(shown) == []
        tab.evaluate(click)
        tab.evaluate("new Promise((done) => setTimeout(done, 100))")
        assert tab.evaluate(shown) == opened
        assert [event for event in tab.events if event["method"] in TROUBLE] == []
