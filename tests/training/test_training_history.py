"""How a history shows itself."""

from __future__ import annotations

import re

import pytest

import timelocal as tl
from timelocal.training import History


def history(epochs: int = 3) -> History:
    return History(
        epochs=[
            {
                "epoch": epoch,
                "train_loss": 1 / epoch,
                "validation_loss": (epoch - 2) ** 2 + 0.123456,
                "<b>ratio</b>": 2,
            }
            for epoch in range(1, epochs + 1)
        ],
        seconds=[0.5] * epochs,
        status="finished",
    )


def test_its_repr_is_readable():
    assert repr(history()) == (
        "History of 3 epochs, finished\n"
        "  last, epoch 3: train_loss 0.3333, validation_loss 1.123, <b>ratio</b> 2\n"
        "  best, epoch 2: train_loss 0.5, validation_loss 0.1235, <b>ratio</b> 2"
    )
    one = history(1)
    one.message, one.restored = "stopped <i>", 1
    assert repr(one).startswith("History of 1 epoch, finished: stopped <i>\n")
    assert "best, epoch 1, restored:" in repr(one)
    assert repr(History()) == "History of 0 epochs, running"


def test_a_notebook_shows_a_table_with_every_text_escaped():
    one = history()
    one.message = "<script>"
    page = one._repr_html_()
    assert "<b>" not in page
    assert "<script>" not in page
    assert "&lt;b&gt;ratio&lt;/b&gt;" in page
    assert page.count("<tr") == 1 + 3
    assert re.search(r'<tr style="font-weight: bold"><td>2</td>', page)
    assert "whose weights the network has" not in page
    one.restored = 2
    assert "whose weights the network has" in one._repr_html_()
    assert "<table>" in History()._repr_html_()


def test_a_long_one_is_cut_around_its_best_epoch():
    one = history(100)
    for record in one.epochs:
        record["validation_loss"] = abs(record["epoch"] - 50.0)
    page = one._repr_html_()
    assert page.count("…") == 2
    shown = [int(number) for number in re.findall(r"<tr[^>]*><td>(\d+)</td>", page)]
    assert shown == [*range(1, 11), 50, *range(91, 101)]


def test_a_data_frame_has_a_row_for_each_epoch():
    pytest.importorskip("pandas")
    one = history()
    one.epochs[2]["late"] = 5.0
    frame = one.to_frame()
    assert frame.index.tolist() == [1, 2, 3]
    assert frame["train_loss"].tolist() == [1, 1 / 2, 1 / 3]
    assert frame["seconds"].tolist() == [0.5] * 3
    assert frame["late"].isna().tolist() == [True, True, False]
    assert len(History().to_frame()) == 0


def test_a_figure_has_a_panel_for_each_quantity():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot

    one = history()
    one.epochs[2]["test_accuracy"] = 0.5
    one.restored = 2
    figure = one.plot()
    loss, accuracy = figure.axes
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "accuracy")
    curves = {line.get_label(): line.get_ydata() for line in loss.get_lines()}
    assert list(curves["train"]) == [1, 1 / 2, 1 / 3]
    assert curves.keys() == {"train", "validation", "restored"}
    assert list(accuracy.get_lines()[0].get_xdata()) == [3]
    assert len(History().plot().axes) == 1
    pyplot.close("all")


@pytest.mark.parametrize(("method", "extra"), [("to_frame", "data"), ("plot", "report")])
def test_what_is_missing_is_named_with_its_extra(monkeypatch, method, extra):
    monkeypatch.setattr("timelocal.optional.find_spec", lambda name: None)
    with pytest.raises(tl.MissingExtraError, match=rf"timelocal\[{extra}\]"):
        getattr(history(), method)()
