"""The worked examples of things that only run forward: they learn, and nothing flows back."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import statistics
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import timelocal as tl
from pages import check_says
from timelocal.testing.measure import Device

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
CURVE = r'<path d="(M[^"]*L[^"]*)" clip-path=[^>]*stroke: (#\w+)'


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def record(path: str) -> dict[str, Any]:
    return json.loads(text_of(f"results/{path}"))


@pytest.mark.slow
def test_a_spiking_network_learns_by_a_surrogate_and_without_one() -> None:
    found = example("spiking").main(epochs=20)
    assert found["BPTT"] < found["e-prop"] < 0.085, "the last input is off by 0.085"
    assert found["ANP"] < 0.3


def test_an_analog_substrate_learns_from_two_noisy_runs() -> None:
    found = example("analog_substrate").main(epochs=12)
    assert found["before"] > 0.9
    assert found["after"] < 0.7


def test_a_device_holds_what_was_last_written_and_loses_it_run_by_run() -> None:
    device = example("device_writes").Device(levels=8, drift=0.1, every=3)
    network = tl.black_box(device, 2, 4, output_size=1, seed=0)
    inputs, written = torch.ones(1, 5, 2), []
    for run in range(6):
        network.scan(inputs)
        written.append(device.held[0])
        if run == 1:
            with torch.no_grad():
                network.recurrent.weight_ih_l0.add_(1)  # lands at the next write, the fourth run
    levels = written[0] / 0.9 / 0.5
    torch.testing.assert_close(levels, levels.round())
    torch.testing.assert_close(written[2], written[0] * 0.9**2)
    torch.testing.assert_close(written[3], written[0] + 0.9)
    torch.testing.assert_close(written[5], written[3] * 0.9**2)


@pytest.mark.slow
def test_a_device_that_is_written_often_learns() -> None:
    found = example("device_writes").main(epochs=12)
    assert found["64 levels, no drift, written at once"] < 0.7


def test_no_clean_run_exists_and_nothing_flows_back() -> None:
    substrate = example("analog_substrate")
    network = tl.black_box(substrate.Substrate(seed=0), 2, 8, output_size=1)
    inputs = torch.ones(3, 5, 2)
    assert not torch.equal(network.scan(inputs).outputs, network.scan(inputs).outputs)
    current = torch.zeros(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="no backward"):
        substrate.OneWay.apply(current).sum().backward()
    for blind in (network, tl.black_box(Device(), 2, 8, output_size=1)):
        for rule in (tl.BPTT, tl.DFA, tl.EProp, tl.RTRL, tl.SnAp1, tl.TBPTT, tl.UORO):
            with pytest.raises(tl.UnsupportedError, match=r"black box\. Use ANP, NP or WP"):
                rule(blind, loss="mse", at="every").estimate(inputs, torch.zeros(3, 5, 1))


@pytest.mark.parametrize("rule", [tl.NP, tl.ANP, tl.WP])
def test_black_boxes_take_layers_lengths_decorrelation_and_streams(rule: type[tl.Rule]) -> None:
    network = tl.black_box(Device(), 2, 8, output_size=1, num_layers=2, decorrelate=1e-3, seed=0)
    made = rule(network, loss="mse", at="every", sigma=0.5, seed=0)
    inputs, targets = torch.ones(3, 5, 2), torch.zeros(3, 5, 1)
    before = network.recurrent.decorrelation_l0.clone()
    estimate = made.estimate(inputs, targets, torch.tensor([5, 3, 1]))
    assert all(gradient.isfinite().all() for gradient in estimate.gradients.values())
    stream = tl.Stream(made, torch.optim.SGD(made.parameters(), lr=0.0), batch_size=3)
    for _ in range(20):
        stream.step(inputs[:, 0], targets[:, 0])
    assert not torch.equal(network.recurrent.decorrelation_l0, before)


def test_streams_of_river_are_learned_and_compared() -> None:
    pytest.importorskip("river")
    streams = example("river_streams")
    forecasters = streams.STREAMS["AirlinePassengers"][2]
    unlearned, last = "the same, learning nothing", "last value"
    for name in list(forecasters):
        if name not in (unlearned, last):
            del forecasters[name]
    found = streams.main(["AirlinePassengers"], seeds=[0])["AirlinePassengers"]
    assert found[unlearned] == [pytest.approx(29.73, abs=0.01)]
    assert found[last] == [pytest.approx(48.86, abs=0.01)]


def test_the_page_of_river_has_the_numbers_of_the_record() -> None:
    pytest.importorskip("river")
    streams, page = example("river_streams"), text_of("docs/river.md")
    scores = record("river/streams.json")["scores"]
    assert scores.keys() == streams.STREAMS.keys()
    for name, models in scores.items():
        assert models.keys() == streams.STREAMS[name][2].keys()
        assert streams.table(name, models) in page
    assert page.count("| model |") == len(scores)
    means = {
        name: {model: statistics.fmean(own) for model, own in models.items()}
        for name, models in scores.items()
    }
    months, days = means["AirlinePassengers"], means["TrumpApproval, forecast"]
    first, polls = "RecurrentForecaster(m=12, sd=1)", means["TrumpApproval"]
    still = months["the same, learning nothing"]
    gained = months["d=0, learning nothing"] - months["the same, d=0"]
    lost = [months[f"the same, {what}"] - still for what in ("DFA", "LSTM")]
    rates = months["the same, lr=0.001"], months[first], months["the same, lr=0.03"]
    worst = max(scores["AirlinePassengers"]["the same, lr=0.03"])
    unseasonal = [own for model, own in months.items() if "(p=12" in model and "SNAR" not in model]
    said = (
        f"SNARIMAX ({months['SNARIMAX(p=12, d=1, q=12, m=12, sd=1)']:.1f}), but",
        f"reaches {still:.1f}: with d=1, learning makes it worse by {lost[0]:.1f} (DFA) to "
        f"{lost[1]:.1f} (LSTM); with d=0 it gains {gained:.1f}.",
        f"0.001, 0.01 and 0.03 the error is {rates[0]:.1f}, {rates[1]:.1f} and {rates[2]:.1f} "
        f"({worst:.1f} with one seed).",
        f"the error is {min(unseasonal):.0f} to {max(unseasonal):.0f}:",
        f"as good as anything ({days['last value']:.3f}): the network adds noise "
        f"({days['RecurrentForecaster()']:.3f}), and SNARIMAX with d=1 hardly less "
        f"({days['SNARIMAX(p=1, d=1, q=0)']:.3f}). SNARIMAX without differencing reaches "
        f"{days['SNARIMAX(p=3, d=0, q=1)']:.1f}.",
        f"a linear model ({means['Phishing']['SoftmaxRegression']:.3f})",
    )
    check_says(page, said)
    assert 2 * polls["RecurrentRegressor()"] < polls["LinearRegression"]


def test_the_page_of_the_endless_stream_has_the_numbers_of_the_record() -> None:
    forever, page = example("stream_forever"), text_of("docs/stream-forever.md")
    errors = record("stream-forever/errors.json")
    assert errors["steps"] == forever.STEPS
    assert forever.table(errors["tenths"]) in page
    *first, last = (f"{one:.3f}" for one in errors["last tenth of RTRL, by seed"].values())
    always = {name: own[-1] for name, own in errors["tenths, asked at every step"].items()}
    low, high = forever.GAPS
    said = (
        f"one in every {low} to {high} is marked. Once per mark, between {forever.LEAST} steps after it",
        f"A minGRU of {forever.HIDDEN} units whose update gates start near 1/{1 / forever.UPDATE:.0f}",
        f"learning rate {forever.RATE}, gradients clipped at norm {forever.CLIP}",
        f"in the last tenth {', '.join(first)} and {last} (seeds 0 to {len(first)})",
        f"the last tenth is {always['TBPTT(1)']:.1g}, against {always['RTRL']:.1g}.",
    )
    check_says(page, said)


def test_the_figure_of_the_endless_stream_shows_the_record() -> None:
    """The heights of all points are one linear function of the logarithms of the errors."""
    errors = record("stream-forever/errors.json")["fortieths"]
    in_order = [*(name for name in errors if name != "RTRL"), "RTRL"]
    logarithms = [math.log(error) for name in in_order for error in errors[name]]
    curves = [path for path, _ in re.findall(CURVE, text_of("docs/figures/stream-forever.svg"))]
    heights = [float(y) for path in curves for y in re.findall(r"[ML] \S+ (\S+)", path)]
    slope, start = statistics.linear_regression(logarithms, heights)
    assert slope < -10
    for logarithm, height in zip(logarithms, heights, strict=True):
        assert height == pytest.approx(start + slope * logarithm, abs=0.01)


@pytest.mark.slow
def test_a_stream_learns_to_recall_what_no_window_reaches() -> None:
    forever = example("stream_forever")
    found = forever.main(400_000, windows=[50])
    ends = {name: float(errors.tensor_split(5)[-1].mean()) for name, errors in found.items()}
    assert ends["RTRL"] < 0.15
    assert ends["TBPTT(50)"] > 0.25
    assert ends["readout alone"] > 0.25


def test_every_mark_is_asked_for_once_and_late() -> None:
    forever = example("stream_forever")
    inputs, targets, asked = (part[0] for part in forever.stream(10_000))
    marks = inputs[:, 1].nonzero().flatten()
    questions = asked.nonzero().flatten()
    assert len(marks) - len(questions) in (0, 1)
    for question in questions:
        mark = marks[marks <= question][-1]
        assert question - mark >= forever.LEAST
        assert targets[question] == inputs[mark, 0]


@pytest.mark.parametrize("windows", [(1, 10, 50, 500), (5, 300)])
def test_every_rule_of_the_stream_has_its_curve_in_the_figure(
    tmp_path: Path, windows: tuple[int, ...]
) -> None:
    forever = example("stream_forever")
    windows = [f"TBPTT({window})" for window in windows]
    found = {
        name: forever.means(torch.rand(80), 40) for name in ("RTRL", "readout alone", *windows)
    }
    pictures = []
    for path in (tmp_path / "one.svg", tmp_path / "two.svg"):
        forever.draw(found, 1_000_000, path)
        pictures.append(path.read_text(encoding="utf-8"))
    assert pictures[0] == pictures[1]
    curves = [colour for _, colour in re.findall(CURVE, pictures[0])]
    assert len(curves) == len(set(curves)) == len(found)
    assert all(f"<!-- {name} -->" in pictures[0] for name in found)


@pytest.mark.slow
def test_truncated_learning_at_the_questions_is_that_of_a_stream() -> None:
    forever = example("stream_forever")
    data = forever.stream(3_000)
    stepwise = tl.TBPTT(forever.network(0), 5, loss="mse")
    whole = tl.BPTT(forever.network(0), loss="mse", at="last")
    torch.testing.assert_close(
        forever.back_in_time(whole, 5, data), forever.forward_in_time(stepwise, data)
    )


@pytest.mark.filterwarnings("ignore")  # theirs, about workers, loggers and versions
@pytest.mark.slow
def test_a_rule_under_skorch_is_searched_over_as_an_estimator() -> None:
    pytest.importorskip("skorch")
    found = example("with_skorch").main(epochs=10, count=400)
    assert found.keys() == {"DFA", "BPTT"}
    assert found["DFA"] > 0.3  # 50 updates; ten classes
    assert found["BPTT"] > 0.6


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
@pytest.mark.xdist_group("trainers")
def test_a_rule_under_lightning_is_trained_validated_saved_and_loaded(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    found = example("with_lightning").main(epochs=5, folder=str(tmp_path))
    assert found["trained"] > 0.6
    assert found["loaded"] == pytest.approx(found["trained"])
