"""What makes a run another one: everything that its numbers depend on, and nothing else."""

from __future__ import annotations

import copy
import decimal
import enum
import functools
import importlib.util
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

import timelocal as tl
from timelocal.training import load_weights
from timelocal.training.identity import identity_of

Make = Callable[[], tl.Rule]


def net(**options: object) -> tl.Network:
    return tl.RNN(3, 6, 2, **options)


def begun() -> tl.Rule:
    return tl.DFA(net())


OTHERS: dict[str, Make] = {
    "normalize": lambda: tl.DFA(net(), normalize="frobenius"),
    "feedback": lambda: tl.DFA(net(), feedback="sparse"),
    "trace": lambda: tl.DFA(net(tau=1.0), trace="diagonal"),
    "seed": lambda: tl.DFA(net(), seed=1),
    "label_smoothing": lambda: tl.DFA(net(), loss=tl.losses.CrossEntropy(0.5)),
    "class_weights": lambda: tl.DFA(
        net(), loss=tl.losses.CrossEntropy(class_weights=torch.ones(2))
    ),
    "tau": lambda: tl.DFA(net(tau=5.0)),
}


NP = {"loss": "cross_entropy", "at": "last", "sigma": 0.01}


def run(problem: object, make: Make, folder: Path, epochs: int = 1) -> tl.History:
    rule = make()
    optimizer = torch.optim.Adam(rule.parameters(), lr=0.01)
    return tl.fit(rule, optimizer, problem.train, epochs=epochs, batch_size=16, folder=folder)  # type: ignore[attr-defined]


@pytest.mark.parametrize("option", OTHERS)
def test_a_rule_a_loss_or_a_cell_with_another_option_is_another_run(problem, tmp_path, option):
    run(problem, begun, tmp_path)
    with pytest.raises(tl.RunError, match=option):
        run(problem, OTHERS[option], tmp_path, epochs=2)
    assert len(run(problem, begun, tmp_path, epochs=2).epochs) == 2


def test_the_reset_of_a_gru_and_the_noise_of_a_rule_are_part_of_a_run(problem, tmp_path):
    for number, (begun, other, word) in enumerate(
        (
            (
                lambda: tl.DFA(tl.GRU(3, 6, 2)),
                lambda: tl.DFA(tl.GRU(3, 6, 2, reset_after=False)),
                "Reset",
            ),
            (lambda: tl.NP(net(), **NP), lambda: tl.NP(net(), **NP | {"sigma": 0.1}), "sigma"),
            (
                lambda: tl.NP(net(), **NP),
                lambda: tl.NP(net(), **NP | {"credit": "to_go"}),
                "credit",
            ),
        )
    ):
        folder = tmp_path / str(number)
        run(problem, begun, folder)
        with pytest.raises(tl.RunError, match=word):
            run(problem, other, folder)


def test_a_loss_of_the_users_own_is_known_by_its_name(problem, tmp_path):
    def one(outputs, targets):
        return nn.functional.cross_entropy(outputs, targets, reduction="none")

    def another(outputs, targets):
        return 2 * one(outputs, targets)

    run(problem, lambda: tl.DFA(net(), loss=one), tmp_path)
    run(problem, lambda: tl.DFA(net(), loss=one), tmp_path)
    with pytest.raises(tl.RunError, match="loss"):
        run(problem, lambda: tl.DFA(net(), loss=another), tmp_path)


def test_dropout_in_the_readout_goes_on_in_the_same_bits(problem, tmp_path):
    def make() -> tl.Rule:
        torch.manual_seed(0)
        readout = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 2))
        rule = tl.DFA(tl.from_torch(nn.RNN(3, 6, batch_first=True), readout))
        torch.rand(len(drawn))  # where torch's own generator is differs from one call to the next
        drawn.append(1)
        return rule

    drawn: list[int] = []
    whole = run(problem, make, tmp_path / "whole", 4)
    run(problem, make, tmp_path / "parts", 2)
    assert run(problem, make, tmp_path / "parts", 4).epochs == whole.epochs
    torch.testing.assert_close(
        load_weights(tmp_path / "parts", "last"),
        load_weights(tmp_path / "whole", "last"),
        rtol=0,
        atol=0,
    )


def test_training_leaves_torchs_own_generator_where_it_was(problem, tmp_path):
    before = torch.get_rng_state()
    run(problem, begun, tmp_path)
    assert torch.equal(before, torch.get_rng_state())


# --- options of any kind ----------------------------------------------------------------------


def huber(outputs, targets, delta=1.0):
    targets = nn.functional.one_hot(targets, 2).float()
    return nn.functional.huber_loss(outputs, targets, reduction="none", delta=delta).mean(-1)


def enclosed(delta):
    def loss(outputs, targets):
        return huber(outputs, targets, delta)

    return loss


class Method:
    def __init__(self, delta):
        self.__delta = delta

    def loss(self, outputs, targets):
        return huber(outputs, targets, self.__delta)


class Called(nn.Module):
    def __init__(self, scale, weight):
        super().__init__()
        self.scale = scale
        self.register_buffer("weight", torch.full((2,), weight))

    def forward(self, outputs, targets):
        return huber(outputs * self.weight, targets) * self.scale


class Slotted:
    __slots__ = ("delta",)

    def __init__(self, delta):
        self.delta = delta

    def __call__(self, outputs, targets):
        return huber(outputs, targets, self.delta)


@dataclass(frozen=True)
class Device:
    gains: dict[str, float]
    clips: np.bool_ | bool = True


class Clipped(tl.BlackBox):
    name = "clipped"

    def __init__(self, limit, device=None):
        self._limit, self.device = limit, device
        self.noise = torch.Generator().manual_seed(3)
        self.others = [np.random.default_rng(3)]

    def scan(self, weights, inputs, initial, node_noise=None):
        hidden, measured = [initial[0]], []
        for drive in self.drive(weights, inputs, node_noise):
            noise = 0.1 * torch.randn(drive.shape, generator=self.noise)
            noise *= self.others[0].random()
            measured.append(drive + noise + hidden[-1] @ weights.hh.t())
            hidden.append(measured[-1].clamp(-self._limit, self._limit))
        return self.report(inputs, (torch.stack(hidden),), torch.stack(measured))


class Scaled(nn.Linear):
    def __init__(self, scale):
        super().__init__(6, 2)
        self.scale = scale

    def forward(self, features):
        return super().forward(features) * self.scale


def boxed(*options: object) -> tl.Rule:
    return tl.ANP(tl.black_box(Clipped(*options), 3, 6, 2), **NP)


def with_readout(readout: nn.Module) -> tl.Rule:
    recurrent = tl.RNN(3, 6, 2).recurrent
    return tl.BPTT(tl.Network(recurrent, readout))


def frozen(name: str) -> tl.Rule:
    network = net()
    network.get_parameter(name).requires_grad_(False)
    return tl.DFA(network)


def in_evaluation(mode: bool) -> tl.Rule:
    rule = tl.DFA(net())
    rule.network.readout.train(not mode)
    return rule


ANY_KIND: dict[str, tuple[Callable[..., tl.Rule], object, object]] = {
    "NumPy number": (
        lambda v: tl.NP(net(), **NP | {"sigma": v}),
        np.float32(0.01),
        np.float32(0.5),
    ),
    "NumPy integer": (lambda v: tl.NP(net(), **NP, directions=v), np.int64(1), np.int64(4)),
    "partial": (lambda v: tl.BPTT(net(), loss=functools.partial(huber, delta=v)), 1.0, 9.0),
    "partial, by place": (
        lambda v: tl.BPTT(net(), loss=functools.partial(v)),
        huber,
        huber.__call__,
    ),
    "closure": (lambda v: tl.BPTT(net(), loss=enclosed(v)), 1.0, 9.0),
    "method": (lambda v: tl.BPTT(net(), loss=Method(v).loss), 1.0, 9.0),
    "module": (lambda v: tl.BPTT(net(), loss=Called(v, 1.0)), 1.0, 9.0),
    "buffer of a module": (lambda v: tl.BPTT(net(), loss=Called(1.0, v)), 1.0, 9.0),
    "slots": (lambda v: tl.BPTT(net(), loss=Slotted(v)), 1.0, 9.0),
    "lambda": (
        lambda v: tl.BPTT(net(), loss=v),
        lambda outputs, targets: 2 * huber(outputs, targets),
        lambda outputs, targets: 3 * huber(outputs, targets),
    ),
    "default": (
        lambda v: tl.BPTT(net(), loss=v),
        (lambda f: lambda o, t, scale=f: huber(o, t) * scale)(1),
        (lambda f: lambda o, t, scale=f: huber(o, t) * scale)(2),
    ),
    "attribute of a black box": (boxed, 1.0, 0.1),
    "dict in a dataclass": (lambda v: boxed(1.0, Device({"gain": v})), 1.0, 0.1),
    "NumPy bool": (lambda v: boxed(1.0, Device({}, np.bool_(v))), True, False),
    "array": (lambda v: boxed(1.0, np.full(5000, v)), 1.0, 0.1),
    "attribute of a readout": (lambda v: with_readout(Scaled(v)), 1.0, 0.1),
    "infinity": (lambda v: boxed(v), 1.0, float("inf")),
    "frozen": (frozen, "recurrent.weight_hh_l0", "readout.weight"),
    "mode": (in_evaluation, False, True),
}


@pytest.mark.parametrize("kind", ANY_KIND)
def test_a_changed_option_of_any_kind_is_told(problem, tmp_path, kind):
    make, begun, other = ANY_KIND[kind]
    run(problem, lambda: make(begun), tmp_path)
    with pytest.raises(tl.RunError, match="with which the run in"):
        run(problem, lambda: make(other), tmp_path, epochs=2)
    assert len(run(problem, lambda: make(copy.copy(begun)), tmp_path, epochs=2).epochs) == 2


def substrate() -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "analog_substrate.py"
    spec = importlib.util.spec_from_file_location("analog_substrate", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "changed", [{"seed": 1}, {"mismatch": 0.5}, {"levels": 16}, {"noise": 0.5}]
)
def test_another_substrate_is_another_run(problem, tmp_path, changed):
    made = substrate().Substrate

    def rule(**options: float) -> tl.Rule:
        network = tl.black_box(made(**{"seed": 0} | options), 3, 6, 2)
        return tl.ANP(network, **NP, clean=False)

    run(problem, rule, tmp_path)
    with pytest.raises(tl.RunError, match=f"cell.*{next(iter(changed))}"):
        run(problem, lambda: rule(**changed), tmp_path, epochs=2)


@pytest.mark.parametrize("kind", ["attribute of a black box", "closure", "module"])
def test_generators_of_the_user_s_own_go_on_in_the_same_bits(problem, contents, tmp_path, kind):
    def noisy(outputs, targets):
        return huber(outputs, targets) * (1 + torch.rand(len(outputs), generator=noise))

    def make() -> tl.Rule:
        nonlocal noise
        noise = torch.Generator().manual_seed(5)
        if kind == "closure":
            return tl.BPTT(net(), loss=noisy)
        if kind == "module":
            loss = Called(1.0, 1.0)
            loss.draws = {"noise": noise}
            loss.register_forward_hook(
                lambda module, given, found: found * (1 + torch.rand(len(found), generator=noise))
            )
            return tl.BPTT(net(), loss=loss)
        return boxed(1.0)

    noise = torch.Generator()
    whole = run(problem, make, tmp_path / "whole", 3)
    for epochs in (1, 2, 3):
        parts = run(problem, make, tmp_path / "parts", epochs)
    assert parts.epochs == whole.epochs
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_class_weights_go_on_in_the_same_bits(problem, contents, tmp_path):
    loss = tl.losses.CrossEntropy(0.1, torch.tensor([1.0, 20.0]))

    def start(folder: Path, epochs: int) -> None:
        network = net(num_layers=2, dropout=0.2)
        rule = tl.DFA(network, loss=loss)
        optimizer = torch.optim.Adam(rule.parameters(), lr=0.01)
        tl.fit(rule, optimizer, *problem[:2], epochs=epochs, batch_size=16, folder=folder)

    start(tmp_path / "whole", 3)
    start(tmp_path / "parts", 1)
    start(tmp_path / "parts", 3)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.float64(0.5), 0.5),
        (np.bool_(False), False),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (decimal.Decimal("0.10"), "0.10"),
        (1j, "1j"),
        (Path("a") / "b", str(Path("a") / "b")),
        (torch.float16, "torch.float16"),
        (b"\x01", "01"),
        (range(3), "range(0, 3)"),
        ({"b", "a"}, ["a", "b"]),
        (deque([1, (2,)]), [1, [2]]),
        ({1: "x"}, [[1, "x"]]),
        (torch.tensor([1, 2]), [1, 2]),
        (enum.Enum("Colour", "RED").RED, "Colour.RED"),  # type: ignore[attr-defined]
        (huber, {"is": "huber", "defaults": [1.0]}),
        (int, "int"),
        (object(), "object"),
        (threading.Lock(), "lock"),
        (Slotted(2), {"is": "Slotted", "delta": 2}),
    ],
    ids=lambda one: type(one).__name__,  # alike in every process
)
def test_a_value_is_told_as_json(value, told):
    assert identity_of(value) == told


def test_what_refers_to_itself_or_to_the_network_is_described_too():
    network = net()
    box: dict[str, object] = {"network": network}
    box["itself"] = box
    assert identity_of(box, held=(network,)) == {"network": "Network", "itself": "dict"}
    many = identity_of(list(range(5000)))
    assert many["items"] == 5000
    assert many != identity_of(list(range(1, 5001)))


# --- numbers of NumPy and torch ---------------------------------------------------------------


def test_numbers_of_numpy_and_torch_are_saved_as_numbers(problem, tmp_path):
    def start(epochs, seed, rate, watched):
        rule = begun()
        optimizer = torch.optim.Adam(rule.parameters(), lr=rate)
        return tl.fit(
            rule,
            optimizer,
            problem.train,
            epochs=epochs,
            batch_size=16,
            seed=seed,
            folder=tmp_path,
            watch=lambda: {"watched": watched},
        )

    rate = float(np.float32(0.1))
    first = start(1, np.int64(3), np.float32(0.1), np.float32(0.5))
    again = start(2, 3, rate, torch.tensor(0.5))
    third = start(3, np.uint8(3), torch.tensor(rate, dtype=torch.float64), np.array(0.5))
    assert third.epochs[:1] == first.epochs
    assert third.epochs[:2] == again.epochs
    assert [type(epoch["watched"]) for epoch in third.epochs] == [float] * 3


# --- threads ----------------------------------------------------------------------------------


def test_fits_in_threads_are_as_one_after_the_other(problem):
    """Dropout in a readout, while modules are made, and draw, elsewhere."""

    def start(seed: int, found: dict[int, list[dict[str, float]]]) -> None:
        gru, linear = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 2)
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in (*gru.parameters(), *linear.parameters()):
                parameter.uniform_(-0.3, 0.3, generator=draw)
        rule = tl.BPTT(tl.from_torch(gru, nn.Sequential(nn.Dropout(0.5), linear)))
        optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
        found[seed] = tl.fit(rule, optimizer, problem.train, epochs=8, batch_size=4).epochs

    def disturb() -> None:
        while not done.is_set():
            torch.rand(3)

    alone: dict[int, list[dict[str, float]]] = {}
    together: dict[int, list[dict[str, float]]] = {}
    for seed in range(4):
        start(seed, alone)
    done = threading.Event()
    noise = threading.Thread(target=disturb)
    threads = [threading.Thread(target=start, args=(seed, together)) for seed in range(4)]
    for thread in (noise, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    noise.join()
    assert together == alone


@pytest.mark.slow
def test_fits_that_draw_from_torchs_own_generator_take_turns(problem):
    def noisy(outputs, targets):
        return huber(outputs, targets) * torch.rand(len(outputs))

    def start(seed: int, found: dict[int, list[dict[str, float]]]) -> None:
        rule = tl.BPTT(net(), loss=noisy)
        optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
        history = tl.fit(rule, optimizer, problem.train, epochs=8, batch_size=2, seed=seed)
        found[seed] = history.epochs

    alone: dict[int, list[dict[str, float]]] = {}
    together: dict[int, list[dict[str, float]]] = {}
    before = torch.get_rng_state()
    for seed in range(4):
        start(seed, alone)
    threads = [threading.Thread(target=start, args=(seed, together)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone
    assert torch.equal(before, torch.get_rng_state())
