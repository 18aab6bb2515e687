"""Datasets by name: from a folder, the cache or a server, in any form the same values."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from written_forms import as_arff, as_ts, as_tsv, as_txt

from timelocal import data
from timelocal.data.archive import archive_forms
from timelocal.data.dataset import Entry
from timelocal.data.fetch import Source
from timelocal.data.files import FileDataset, fingerprint
from timelocal.data.parsers import join, read_table, read_ts
from timelocal.data.registry import ENTRIES
from timelocal.errors import ArgumentError, DataError

Under = Callable[[Path], list[str]]

CLASSES = [name for name in data.names() if data.card(name).classes is not None]
VALUES = [name for name in data.names() if data.card(name).classes is None]
FILED = [name for name, entry in ENTRIES.items() if isinstance(entry, FileDataset)]


def filed(name: str) -> FileDataset:
    entry: Entry = ENTRIES[name]
    assert isinstance(entry, FileDataset)
    return entry


def test_the_registry() -> None:
    assert CLASSES == [
        "digits-rows",
        "row-mnist",
        "sequential-mnist",
        "ecg200",
        "strawberry",
        "libras",
        "gunpoint",
        "italy-power-demand",
        "arrow-head",
        "osu-leaf",
        "permuted-mnist",
        "delayed-match",
    ]
    assert VALUES == [
        "mackey-glass",
        "mackey-glass-recall",
        "copying",
        "copying-fixed",
        "weather-1h",
        "weather-24h",
        "weather-48h",
        "copying-memory",
        "selective-copying",
        "adding",
        "temperature-block",
    ]
    assert data.names() == (*CLASSES, *VALUES)
    assert len(FILED) == 7


def test_unknown_name() -> None:
    with pytest.raises(ArgumentError, match=r"ecg20'.*Did you mean 'ecg200'\?"):
        data.load("ecg20")
    with pytest.raises(ArgumentError, match="dataset"):
        data.card("x")
    with pytest.raises(ArgumentError, match="dataset"):
        data.locate("x")


@pytest.mark.parametrize("name", data.names())
def test_cards_are_complete_and_agree_with_themselves(name: str) -> None:
    card = data.card(name)
    assert card.name == name
    if card.classes is None:
        assert card.class_counts is None
    else:
        assert card.class_counts is not None
        assert len(card.classes) == len(card.class_counts) == len(set(card.classes))
        assert sum(card.class_counts) == card.shape[0]
    assert card.parts is None or sum(card.parts) == card.shape[0]
    if card.lengths is not None:
        assert len(card.lengths) == card.shape[0]
        assert max(card.lengths) == card.shape[1]
    assert card.source
    assert card.citation
    assert card.terms


@pytest.mark.parametrize("name", FILED)
def test_every_source_is_a_file_of_one_form(name: str) -> None:
    entry = filed(name)
    files = [source.file for source in entry.sources]
    assert files in [list(form.files) for form in entry.forms]
    for source in entry.sources:
        known = {k: v for form in entry.forms for k, v in form.files.items()}
        assert source.sha256 == known[source.file]


def test_digits_rows_needs_nothing(cache: Path) -> None:
    digits = data.load("digits-rows")
    assert digits.inputs.dtype == torch.float32
    assert digits.inputs.aminmax() == (0, 1)
    known = "5799c97b6c540ff1565093e5ec28cc86bcdfe8850560f9965f1a2f2589f031b0"
    assert fingerprint(digits.inputs.numpy(), digits.targets.numpy()) == known
    assert not cache.exists()


def slow_are(some: set[str], names: list[str]) -> list[object]:
    return [pytest.param(name, marks=pytest.mark.slow if name in some else ()) for name in names]


@pytest.mark.data  # the pixels of MNIST in another order are slow
@pytest.mark.parametrize("name", slow_are({"sequential-mnist", "permuted-mnist"}, CLASSES))
def test_real_data_are_what_the_card_says(name: str, data_dir: Path) -> None:
    if data.locate(name, data_dir) is None:
        pytest.skip(f"the files of {name} are not here")
    loaded = data.load(name, data_dir)
    card = loaded.card
    assert tuple(loaded.inputs.shape) == card.shape
    assert loaded.inputs.dtype == torch.float32
    assert loaded.targets.dtype == torch.int64
    assert card.class_counts == tuple(loaded.targets.bincount().tolist())
    assert data.floors(name, data.split(loaded, 0)) == {}


@pytest.mark.data  # slow: ridge regressions of a floor; what the floors of the weather ask for each delay
@pytest.mark.parametrize(
    "name", slow_are({"temperature-block", "weather-24h", "weather-48h"}, VALUES)
)
def test_tasks_are_what_the_card_says(name: str, data_dir: Path) -> None:
    loaded = data.load(name, data_dir)
    assert tuple(loaded.inputs.shape) == loaded.card.shape
    axes = 2 if loaded.card.stepwise else 1
    assert loaded.targets.shape[:axes] == loaded.card.shape[:axes]
    assert loaded.inputs.dtype == loaded.targets.dtype == torch.float32
    assert loaded.inputs.isfinite().all()
    assert (loaded.lengths is None) == (loaded.card.lengths is None)
    assert data.floors(name, data.split(loaded, 0))


@pytest.mark.data
def test_row_mnist_pixels(data_dir: Path) -> None:
    mnist = data.load("row-mnist", data_dir)
    assert mnist.targets[:3].tolist() == [5, 0, 4]
    assert mnist.targets[60000:60003].tolist() == [7, 2, 1]
    assert mnist.inputs[:60000].mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert mnist.inputs[60000:].std().item() == pytest.approx(0.3105, abs=5e-5)
    assert mnist.inputs.max() == 1


@pytest.mark.data
@pytest.mark.parametrize(("name", "stem"), [("ecg200", "ECG200"), ("strawberry", "Strawberry")])
@pytest.mark.parametrize(("ending", "write"), [("txt", as_txt), ("ts", as_ts), ("arff", as_arff)])
def test_other_forms_of_the_archive_give_the_same_arrays(
    name: str, stem: str, ending: str, write, data_dir: Path, tmp_path: Path
) -> None:
    for part in ("TRAIN", "TEST"):
        values, labels = read_table(data_dir / name / f"{stem}_{part}.tsv")
        (tmp_path / f"{stem}_{part}.{ending}").write_text(write(values, labels))
    got, expected = data.load(name, tmp_path), data.load(name, data_dir)
    assert torch.equal(got.inputs, expected.inputs)
    assert torch.equal(got.targets, expected.targets)


@pytest.mark.data
@pytest.mark.parametrize("ending", ["ts", "arff"])
def test_libras_is_the_same_from_uci_and_from_the_archive(
    ending: str, data_dir: Path, tmp_path: Path
) -> None:
    for part in ("TRAIN", "TEST"):
        values, labels = read_ts(data_dir / "libras" / f"Libras_{part}.ts")
        write = {"ts": as_ts, "arff": as_arff}[ending]
        (tmp_path / f"Libras_{part}.{ending}").write_text(write(values, labels))
    shutil.copy(data_dir / "libras" / "movement_libras.data", tmp_path)
    from_uci = data.load("libras", tmp_path)
    (tmp_path / "movement_libras.data").unlink()
    from_archive = data.load("libras", tmp_path)
    assert torch.equal(from_uci.inputs, from_archive.inputs)
    assert torch.equal(from_uci.targets, from_archive.targets)


@pytest.mark.data
def test_libras_keeps_every_curve_of_the_file(data_dir: Path) -> None:
    values, labels = join(
        read_ts(data_dir / "libras" / f"Libras_{part}.ts") for part in ("TRAIN", "TEST")
    )
    libras = data.load("libras", data_dir)

    def rows(inputs: np.ndarray, targets: np.ndarray) -> list[tuple[float, ...]]:
        flat = inputs.astype(np.float32).reshape(360, 90)
        return sorted(tuple(r) for r in np.column_stack([flat, targets]).tolist())

    assert rows(values, labels - 1) == rows(libras.inputs.numpy(), libras.targets.numpy())


@pytest.fixture
def ecg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two files made up here, which stand for those of ECG200."""
    folder = tmp_path / "own" / "ecg200"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    sha256 = {}
    for part in ("TRAIN", "TEST"):
        text = as_tsv(random.normal(size=(100, 96, 1)).round(6), random.choice((-1, 1), 100))
        path = folder / f"ECG200_{part}.tsv"
        path.write_text(text)
        sha256[path.name] = hashlib.sha256(text.encode()).hexdigest()
    forms = archive_forms("ECG200", (-1, 1), sha256)
    values = fingerprint(*forms[0].read([folder / name for name in forms[0].files]))
    made_up = replace(filed("ecg200"), forms=forms, fingerprint=values)
    monkeypatch.setitem(ENTRIES, "ecg200", made_up)
    return folder


def test_where_a_folder_is_looked_for(
    ecg: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data.locate("ecg200") is None
    assert data.locate("ecg200", ecg.parent) == data.locate("ecg200", ecg) == str(ecg)
    assert data.locate("strawberry", ecg) is None
    monkeypatch.setenv("TIMELOCAL_DATA", str(ecg.parent))
    assert data.locate("ecg200") == str(ecg)
    assert len(data.load("ecg200")) == 200
    assert not cache.exists()


def test_line_ends_do_not_matter(ecg: Path) -> None:
    path = ecg / "ECG200_TEST.tsv"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(data.load("ecg200", ecg)) == 200


def cut_in_a_line(content: bytes) -> bytes:
    return content[:-500]


def cut_between_lines(content: bytes) -> bytes:
    return b"\n".join(content.split(b"\n")[:50]) + b"\n"


def one_digit_changed(content: bytes) -> bytes:
    return content.replace(b"5", b"6", 1)


def one_label_changed(content: bytes) -> bytes:
    return b"-1" + content[1:] if content.startswith(b"1") else content[1:]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut_in_a_line, "ECG200_TRAIN.tsv, line 100: "),
        (cut_between_lines, "ECG200_TRAIN.tsv: wrong checksum"),
        (one_digit_changed, "ECG200_TRAIN.tsv: wrong checksum"),
        (one_label_changed, "ECG200_TRAIN.tsv: wrong checksum"),
    ],
)
def test_damaged_local_file(damage, reason: str, ecg: Path) -> None:
    path = ecg / "ECG200_TRAIN.tsv"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError) as caught:
        data.load("ecg200", ecg)
    message = str(caught.value)
    assert reason in message
    assert "ECG200_TEST.tsv: wrong" not in message
    assert f"put them into {ecg}" in message
    assert "https://www.timeseriesclassification.com" in message


def test_missing_local_file(ecg: Path) -> None:
    (ecg / "ECG200_TEST.tsv").unlink()
    with pytest.raises(DataError) as caught:
        data.load("ecg200", ecg.parent)
    message = str(caught.value)
    assert "missing ECG200_TEST.tsv, or else ECG200_TRAIN.ts and ECG200_TEST.ts" in message
    assert "https://www.timeseriesclassification.com" in message
    assert str(ecg.parent) in message


def test_files_of_one_form_in_two_folders(ecg: Path) -> None:
    (ecg / "ECG200_TEST.tsv").rename(ecg.parent / "ECG200_TEST.tsv")
    with pytest.raises(DataError, match=r"missing ECG200_TEST\.tsv, or else"):
        data.load("ecg200", ecg.parent)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        data.load("ecg200", tmp_path / "nowhere")


@pytest.mark.data
@pytest.mark.parametrize("damaged", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
def test_truncated_mnist(damaged: str, data_dir: Path, tmp_path: Path) -> None:
    for path in (data_dir / "mnist").glob("*.gz"):
        (tmp_path / path.name).symlink_to(path)
    content = (tmp_path / damaged).read_bytes()
    (tmp_path / damaged).unlink()
    (tmp_path / damaged).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=f"{damaged}: .*truncated"):
        data.load("row-mnist", tmp_path)


@pytest.fixture
def archive(ecg: Path, server) -> Path:
    """ECG200 as its home publishes it, a zip of .ts files, served here; gives the folder of files."""
    texts = {}
    for part in ("TRAIN", "TEST"):
        values, labels = read_table(ecg / f"ECG200_{part}.tsv")
        texts[f"ECG200_{part}.ts"] = as_ts(values, labels)
    server.files |= {"good.zip": zipped(texts)}
    wrong = texts | {"ECG200_TEST.ts": texts["ECG200_TEST.ts"].replace("5", "6", 1)}
    server.files |= {"wrong.zip": zipped(wrong)}
    short = texts | {"ECG200_TEST.ts": texts["ECG200_TEST.ts"][:-30]}
    server.files |= {"short.zip": zipped(short)}
    return ecg


def zipped(texts: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        for name, text in texts.items():
            content.writestr(name, text)
    return buffer.getvalue()


def served_from(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = filed("ecg200")
    sources = tuple(Source(source.file, (url,)) for source in entry.sources)
    monkeypatch.setitem(ENTRIES, "ecg200", replace(entry, sources=sources))


def test_download_is_kept_and_used_again(
    archive: Path, cache: Path, server, monkeypatch: pytest.MonkeyPatch, everything_under: Under
) -> None:
    served_from(server.url("good.zip"), monkeypatch)
    first = data.load("ecg200")
    again = data.load("ecg200")
    assert len(server.asked) == 1
    assert torch.equal(first.inputs, data.load("ecg200", archive).inputs)
    assert torch.equal(first.inputs, again.inputs)
    assert data.locate("ecg200") == str(cache / "ecg200")
    assert everything_under(cache) == ["ecg200", "ecg200/ECG200_TEST.ts", "ecg200/ECG200_TRAIN.ts"]


def test_a_cached_file_damaged_later_is_fetched_again(
    archive: Path, cache: Path, server, monkeypatch: pytest.MonkeyPatch
) -> None:
    served_from(server.url("good.zip"), monkeypatch)
    data.load("ecg200")
    path = cache / "ecg200" / "ECG200_TEST.ts"
    good = path.read_bytes()
    path.write_bytes(good[:-100])
    assert len(data.load("ecg200")) == 200
    assert path.read_bytes() == good
    assert len(server.asked) == 2


def test_a_damaged_file_put_into_the_cache_by_hand(
    archive: Path, cache: Path, server, monkeypatch: pytest.MonkeyPatch, everything_under: Under
) -> None:
    shutil.copytree(archive, cache / "ecg200")
    path = cache / "ecg200" / "ECG200_TEST.tsv"
    path.write_bytes(one_digit_changed(path.read_bytes()))
    served_from(server.url("good.zip", "refused"), monkeypatch)
    with pytest.raises(DataError, match=r"TEST.tsv: wrong checksum[\s\S]*refused: 403"):
        data.load("ecg200")
    served_from(server.url("good.zip"), monkeypatch)
    for _ in range(2):
        assert len(data.load("ecg200")) == 200
    assert len(server.asked) == 2
    assert everything_under(cache / "ecg200") == ["ECG200_TEST.ts", "ECG200_TRAIN.ts"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("wrong.zip", "values differ from the known ones"), ("short.zip", "line 104")],
)
def test_wrong_values_are_not_cached(
    name: str,
    reason: str,
    archive: Path,
    cache: Path,
    server,
    monkeypatch: pytest.MonkeyPatch,
    everything_under: Under,
) -> None:
    served_from(server.url(name), monkeypatch)
    with pytest.raises(DataError) as caught:
        data.load("ecg200")
    message = str(caught.value)
    assert reason in message
    assert server.url(name) in message
    assert f"put them into {cache / 'ecg200'}" in message
    assert ".download-" not in message
    assert everything_under(cache) == []


def test_importing_the_data_layer_is_cheap() -> None:
    heavy = "pooch", "requests", "sklearn", "scipy", "pandas", "polars"
    code = f"import sys, timelocal.data; print([m for m in {heavy!r} if m in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
