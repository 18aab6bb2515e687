"""The committed page is what the committed runs say, to the digit."""

from __future__ import annotations

from pathlib import Path

import pytest

from timelocal.experiments.beyond import delays, memory, weather
from timelocal.experiments.catalogue import EXPERIMENTS
from timelocal.files import write_json
from timelocal.report.bench import bars_table, with_tables
from timelocal.report.citations import PAPERS
from timelocal.report.claims import decided, write_claims
from timelocal.report.markdown import write_markdown
from timelocal.report.provenance import commands
from timelocal.studies.reproduce import collect
from timelocal.studies.store import RunRecord

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_page_of_long_memories_is_made_anew_from_its_packed_runs(tmp_path: Path) -> None:
    store = ROOT / "results" / "memory" / "runs"
    asked = [*memory.EXPERIMENTS, *delays.EXPERIMENTS, *weather.EXPERIMENTS]
    found = collect(asked, "laptop", store)
    page = write_markdown(found, tmp_path / "page.md").read_bytes()
    assert page == (ROOT / "docs" / "memory.md").read_bytes()


@pytest.mark.slow
def test_the_page_of_the_gap_is_made_anew_from_its_packed_runs(tmp_path: Path) -> None:
    asked = [EXPERIMENTS[f"beyond/{name}"] for name in ("gap", "gap-costs", "gap-alignment")]
    found = collect(asked, "laptop", ROOT / "results" / "beyond" / "runs")
    page = write_markdown(found, tmp_path / "page.md").read_bytes()
    assert page == (ROOT / "docs" / "gap.md").read_bytes()
    for picture in ("figures/beyond-gap.svg", "figures/beyond-gap-learning.svg"):
        assert 1000 < (tmp_path / picture).stat().st_size < 300_000
        assert (ROOT / "docs" / picture).is_file()


@pytest.mark.slow
def test_the_page_of_feedback_matrices_is_made_anew_from_its_packed_runs(tmp_path: Path) -> None:
    found = collect(
        [EXPERIMENTS["beyond/feedback"]], "laptop", ROOT / "results" / "beyond" / "runs"
    )
    page = write_markdown(found, tmp_path / "page.md").read_bytes()
    assert page == (ROOT / "docs" / "feedback.md").read_bytes()


@pytest.mark.slow
def test_the_page_of_published_claims_is_made_anew_from_its_packed_runs(tmp_path: Path) -> None:
    store = ROOT / "results" / "published" / "runs"
    asked = [EXPERIMENTS[f"beyond/{name}"] for name in ("immediate", "sparse", "stationary")]
    found = collect(asked, "laptop", store)
    page = write_markdown(found, tmp_path / "page.md").read_bytes()
    assert page == (ROOT / "docs" / "published.md").read_bytes()


@pytest.mark.slow
def test_the_page_is_made_anew_from_the_packed_runs(tmp_path: Path) -> None:
    store = ROOT / "results" / "reproduction" / "runs"
    cited = {name for name, paper in PAPERS.items() if paper.citation}
    of_papers = [one for name, one in EXPERIMENTS.items() if name.split("/")[0] in cited]
    found = collect(of_papers, "laptop", store)
    page = write_markdown(found, tmp_path / "page.md").read_bytes()
    assert page == (ROOT / "docs" / "reproduction.md").read_bytes()


@pytest.mark.slow
def test_the_page_of_the_papers_size_is_made_anew_from_its_packed_runs(tmp_path: Path) -> None:
    asked = [EXPERIMENTS["perturbation/figure7"]]
    found = collect(asked, "paper", ROOT / "results" / "paper" / "runs")
    page = write_markdown(found, tmp_path / "page.md").read_bytes()
    assert page == (ROOT / "docs" / "paper.md").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "page"),
    [
        (("meet-forecasts",), "meet"),
        (("rewards-match", "rewards-copying"), "rewards"),
        (("gated-classes",), "gated"),
        (("spiking",), "spiking"),
        (("forward-only",), "forward-only"),
    ],
)
def test_the_page_of_a_question_is_made_anew_from_its_packed_runs(
    tmp_path: Path, names: tuple[str, ...], page: str
) -> None:
    asked = [EXPERIMENTS[f"beyond/{name}"] for name in names]
    found = collect(asked, "laptop", ROOT / "results" / page / "runs")
    made = write_markdown(found, tmp_path / "page.md").read_bytes()
    assert made == (ROOT / "docs" / f"{page}.md").read_bytes()


@pytest.mark.slow
def test_the_page_of_all_claims_is_made_anew_from_the_packed_runs(tmp_path: Path) -> None:
    found = list(decided(EXPERIMENTS.values(), ROOT / "results"))
    page = write_claims(found, tmp_path / "claims.md").read_bytes()
    assert page == (ROOT / "docs" / "claims.md").read_bytes()


def test_commands_of_seeds_are_one_command() -> None:
    def made(command: str | None) -> RunRecord:
        environment = {} if command is None else {"command": command}
        return RunRecord(Path(), "finished", "", {}, environment)

    given = (
        "timelocal train --lr 0.1 --seeds 0, --threads 1",
        "timelocal demo",
        "timelocal train --lr 0.1 --seeds 2, --threads 1",
        None,
        "timelocal train --lr 0.2 --seeds 7, --threads 1",
        "timelocal train --lr 0.1 --seeds 0, --threads 1",
        "timelocal train --seeds 3",
        "timelocal demo",
    )
    assert commands([made(command) for command in given]) == [
        "timelocal train --lr 0.1 --seeds 0,2 --threads 1",
        "timelocal demo",
        "timelocal train --lr 0.2 --seeds 7, --threads 1",
        "timelocal train --seeds 3",
    ]


def test_the_bench_s_tables_are_those_of_its_records():
    folder = ROOT / "results" / "bench"
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "<!-- bars of online.json -->" in text
    assert with_tables(text, folder) == text


def test_the_bytes_of_a_step_are_a_table_below_the_bars():
    record = {
        "environment": {"processor": "a processor"},
        "kernels": {"path": "torch"},
        "threads": 1,
        "repeats": 9,
        "bars": [],
        "microseconds": {"lru": {"stream": 5.0}, "rtu": {"stream": 4.0}},
        "memory": {
            "lru": {"bytes": 10240, "GB/s": 2.048, "streaming, GB/s": 204.8},
            "rtu": {"bytes": 4096, "GB/s": 1.024},
        },
    }
    assert bars_table(record).endswith(
        "| lru | 5.00 | 10 | 2.0 | 205 |\n| rtu | 4.00 | 4 | 1.0 | – |\n"
    )


def test_a_table_follows_its_record(tmp_path):
    bar = {"what": "one over two", "measured": 2.517, "bar": "at least 2", "met": True}
    record = {
        "environment": {"processor": "a processor"},
        "kernels": {"path": "native", "instruction set": "avx2"},
        "threads": 1,
        "repeats": 9,
        "bars": [bar, {**bar, "what": "two over one", "met": False}],
    }
    write_json(tmp_path / "one.json", record)
    text = "Before\n<!-- bars of one.json -->\nold\n<!-- end -->\n<!-- bars of no.json -->\nx\n<!-- end -->\n"
    found = with_tables(text, tmp_path)
    assert found.startswith(
        "Before\n<!-- bars of one.json -->\na processor, avx2, threads: 1; medians of 9 "
    )
    assert (
        "| one over two | 2.52 | at least 2 | ✓ |\n| two over one | 2.52 | at least 2 | ✗ |\n<!-- end -->\n"
        in found
    )
    assert "old" not in found
    assert found.endswith("<!-- bars of no.json -->\nx\n<!-- end -->\n")
    assert with_tables(found, tmp_path) == found
