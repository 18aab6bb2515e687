"""Good calls of everything public, from which one argument at a time is made bad."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import pandas
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import timelocal as tl
from timelocal import seeding
from timelocal.analysis import alignment as aligned
from timelocal.analysis import statistics
from timelocal.cells import RNNCell
from timelocal.cli.app import app
from timelocal.data import metrics, trivial
from timelocal.data.sources import sequences_from
from timelocal.experiments.config import TrainConfig
from timelocal.network import decorrelation_loss
from timelocal.training import TensorBoard, load_weights


@dataclass
class Call:
    """A function with good arguments, and what a refusal must leave as it was."""

    function: Callable[..., object]
    arguments: dict[str, Any]
    watched: list[Any] = field(default_factory=list)
    chance_counts: bool = True

    def bits(self) -> list[Tensor]:
        """Everything that a refusal must not change; generators too, if chance counts."""
        found = chain.from_iterable(_tensors(own, self.chance_counts) for own in self.watched)
        return [own.detach().clone() for own in found]


def _tensors(owner: Any, chance: bool) -> Iterator[Tensor]:
    """All tensors and numbers in an object's state."""
    if isinstance(owner, Tensor):
        yield owner
    elif isinstance(owner, int | float):
        yield torch.tensor(float(owner))
    elif isinstance(owner, dict):
        for name, value in owner.items():
            if chance or not str(name).endswith(("_extra_state", "generator")):
                yield from _tensors(value, chance)
    elif isinstance(owner, list | tuple):
        for value in owner:
            yield from _tensors(value, chance)
    elif isinstance(owner, nn.Module):
        yield from _tensors(owner.state_dict(), chance)
        yield from _tensors([p.grad for p in owner.parameters() if p.grad is not None], chance)
    elif isinstance(owner, torch.optim.Optimizer):
        yield from _tensors(owner.state_dict(), chance)
    elif isinstance(owner, tl.Stream):  # not by `state_dict`, which lets a predicted step go by
        yield from _tensors([owner.memory, owner.steps, owner.key], chance)


NETWORKS: dict[str, Callable[[int], tl.Network]] = {
    "rnn": lambda o: tl.RNN(2, 3, o, tau=2.0),
    "gru": lambda o: tl.GRU(2, 3, o),
    "lstm": lambda o: tl.LSTM(2, 3, o),
    "two layers": lambda o: tl.GRU(2, 3, o, num_layers=2, dropout=0.5),
    "decorrelating": lambda o: tl.RNN(2, 3, o, decorrelate=0.1),
    "time first": lambda o: tl.from_torch(nn.GRU(2, 3), nn.Linear(3, o)),
    "deep readout": lambda o: tl.from_torch(
        nn.RNN(2, 3, batch_first=True), nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, o))
    ),
    "both ways": lambda o: tl.GRU(2, 3, o, bidirectional=True),
}
VARIANTS: dict[str, Callable[..., tl.Rule]] = {
    "dfa diagonal": lambda n, **k: tl.DFA(n, trace="diagonal", **k),
    "dfa symmetric": lambda n, **k: tl.DFA(n, feedback="symmetric", **k),
    "dfa kolen_pollack": lambda n, **k: tl.DFA(n, feedback="kolen_pollack", **k),
    "dfa per parameter": lambda n, **k: tl.DFA(n, feedback_per="parameter", **k),
    "dfa exact": lambda n, **k: tl.DFA(n, feedback="exact", **k),
    "np to go": lambda n, **k: tl.NP(n, credit="to_go", antithetic=True, directions=2, **k),
    "np orthogonal": lambda n, **k: tl.NP(n, noise="orthogonal", **k),
    "wp sequence": lambda n, **k: tl.WP(n, redraw="sequence", **k),
    "tbptt 2": lambda n, **k: tl.TBPTT(n, 2, **k),
}
RULES = sorted({*tl.RULES, *VARIANTS})


def good_rule(name: str, network: str, loss: str, at: str) -> tl.Rule:
    """A rule of a registered name; raises `UnsupportedError` for what does not go together."""
    return (VARIANTS | tl.RULES)[name](NETWORKS[network](2), loss=loss, at=at)


def good_batch(loss: str, at: str, batch_first: bool = True) -> tuple[Tensor, Tensor]:
    """Inputs (3, 4, 2) and targets for 2 outputs."""
    shape = (3, 4) if at == "every" else (3,)
    targets = torch.zeros(shape).long() if loss == "cross_entropy" else torch.full((*shape, 2), 0.5)
    inputs = torch.linspace(-1, 1, 24).view(3, 4, 2).clone()
    if batch_first:
        return inputs, targets
    return inputs.transpose(0, 1).contiguous(), targets.transpose(
        0, 1
    ).contiguous() if at == "every" else targets


def options_of(function: Callable[..., object]) -> dict[str, Any]:
    """The defaults of a function's options, those of a rule's author left out."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not inspect.Parameter.empty and name not in ("problems", "silent")
    }


SIZES = {"input_size": 2, "hidden_size": 3, "output_size": 2}


class Follower(tl.BlackBox):
    """What follows its inputs."""

    name = "follower"

    def scan(self, weights: Any, inputs: Tensor, initial: Any, node_noise: Any = None) -> Any:
        hidden, measured = [initial[0]], []
        for drive in self.drive(weights, inputs, node_noise):
            measured.append(drive + hidden[-1] @ weights.hh.t())
            hidden.append(measured[-1].tanh())
        return self.report(inputs, (torch.stack(hidden),), torch.stack(measured))


def makers() -> dict[str, Callable[[], Call]]:
    """Calls that make something."""
    made: dict[str, Callable[[], Call]] = {
        name: lambda make=make: Call(make, SIZES | options_of(make))
        for name, make in (("RNN", tl.RNN), ("GRU", tl.GRU), ("LSTM", tl.LSTM), ("LIF", tl.LIF))
    }
    made["from_cell"] = lambda: Call(
        tl.from_cell, {"cell": RNNCell()} | SIZES | options_of(tl.from_cell)
    )
    made["from_torch"] = lambda: Call(
        tl.from_torch, {"recurrent": nn.GRU(2, 3), "readout": nn.Linear(3, 2), "decorrelate": None}
    )
    made["to_torch"] = lambda: Call(tl.to_torch, {"network": tl.GRU(2, 3, 2)})
    made["Decorrelation"] = lambda: Call(tl.Decorrelation, {"lr": 0.1, "norm": None, "sync": False})
    made["CrossEntropy"] = lambda: Call(
        tl.losses.CrossEntropy, {"label_smoothing": 0.1, "class_weights": torch.ones(2)}
    )
    made["decorrelation_loss"] = lambda: Call(decorrelation_loss, {"features": torch.ones(3, 4, 2)})
    for name, rule in tl.RULES.items():
        made[name] = lambda rule=rule: Call(
            rule, {"network": tl.RNN(2, 3, 2)} | options_of(rule.__init__)
        )
    return made


def part(count: int = 10) -> tl.data.Sequences:
    inputs = torch.linspace(-1, 1, count * 8).view(count, 4, 2)
    return tl.data.Sequences(inputs, torch.arange(count) % 2)


def values(outputs: int = 1) -> tl.data.Sequences:
    return tl.data.Sequences(part().inputs, torch.linspace(0, 1, 40 * outputs).view(10, 4, outputs))


class Items(torch.utils.data.Dataset[Any]):
    """A data set of these items."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def from_items(inputs: Any, targets: Any, length: Any) -> tl.data.Sequences:
    items = [(torch.ones(4, 2), 1, 3), (inputs, targets, length)]
    return sequences_from(Items(items), torch.zeros(1))


def from_loader(inputs: Any, targets: Any, lengths: Any) -> tl.data.Sequences:
    batches = [(torch.ones(3, 3, 2), torch.zeros(3), None), (inputs, targets, lengths)]
    loader = torch.utils.data.DataLoader(Items(batches), batch_size=None, collate_fn=lambda x: x)
    return sequences_from(loader, torch.zeros(1))


def data_calls() -> dict[str, Callable[[], Call]]:
    """Calls of `timelocal.data`."""
    data = tl.data
    series = [torch.ones(2, 2), torch.ones(3, 2)]
    return {
        "Sequences": lambda: Call(
            data.Sequences,
            {
                "inputs": torch.ones(3, 4, 2),
                "targets": torch.zeros(3),
                "lengths": torch.tensor([1, 4, 2]),
            },
        ),
        "index": lambda: Call(lambda index: part()[index], {"index": torch.tensor([0, 3])}),
        "collate": lambda: Call(
            data.collate, {"sequences": series, "targets": torch.tensor([0, 1])}
        ),
        "minibatches": lambda: Call(
            lambda **given: list(data.minibatches(**given)),
            {"sequences": part(), "batch_size": 4, "generator": torch.Generator()},
        ),
        "split": lambda: Call(
            data.split,
            {"dataset": part(), "seed": 0, "fractions": (0.6, 0.2, 0.2), "stratified": True},
        ),
        "Split": lambda: Call(
            lambda **given: data.Split(**given).duplicates,
            {"train": part(), "validation": part(), "test": part()},
        ),
        "standardize": lambda: Call(data.standardize, {"split": data.split(part(), 0)}),
        "moments": lambda: Call(data.moments, {"sequences": part()}),
        "copying": lambda: Call(
            data.copying_sequences, {"count": 2, "length": 3, "delay": 1, "seed": 0}
        ),
        "mackey_glass": lambda: Call(
            data.mackey_glass_streams, {"streams": 1, "steps": 3, "horizon": 2, "seed": 0}
        ),
        "mse": lambda: Call(
            metrics.mse, {"outputs": torch.ones(3, 2), "targets": torch.zeros(3, 2)}
        ),
        "nrmse": lambda: Call(
            metrics.nrmse, {"outputs": torch.ones(3, 2), "targets": torch.arange(6.0).view(3, 2)}
        ),
        "bit_errors": lambda: Call(
            metrics.bit_errors, {"outputs": torch.eye(3), "targets": torch.eye(3)}
        ),
        "majority_class": lambda: Call(
            trivial.majority_class,
            {"train_targets": torch.tensor([0, 1, 1]), "test_targets": torch.tensor([1, 0])},
        ),
        "persistence": lambda: Call(trivial.persistence, {"part": part(), "feature": 0}),
        "linear_on_lags": lambda: Call(
            trivial.linear_on_lags, {"train": values(), "test": values(), "lags": 2, "ridge": 1.0}
        ),
        "blank_then_uniform": lambda: Call(trivial.blank_then_uniform, {"part": values(4)}),
        "from a data set": lambda: Call(
            from_items, {"inputs": torch.ones(4, 2), "targets": 1, "length": 3}
        ),
        "from a loader": lambda: Call(
            from_loader,
            {
                "inputs": torch.ones(3, 4, 2),
                "targets": torch.zeros(3),
                "lengths": torch.tensor([1, 4, 2]),
            },
        ),
        "load": lambda: Call(data.load, {"name": "digits-rows", "data_dir": None}),
        "card": lambda: Call(data.card, {"name": "digits-rows"}),
        "locate": lambda: Call(data.locate, {"name": "digits-rows", "data_dir": None}),
    }


def command(verb: object, **options: object) -> None:
    """The command line with these options, each as text."""
    words(as_text(verb), *(part for name, one in options.items() for part in (f"--{name}", one)))


def words(verb: str, *arguments: object) -> None:
    """The command line with these words; a refusal is an error."""
    done = CliRunner().invoke(app, [*verb.split(), *map(as_text, arguments)])
    if isinstance(done.exception, Exception):
        raise done.exception
    if done.exit_code:
        assert done.output.strip(), "an error without a word"
        raise tl.ArgumentError(done.output)


def as_text(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return "hostile"


def contract(check: Callable[[Any], object], subject: Any) -> None:
    """A contract's table says what is wrong with anything; nothing is what a good call leaves out."""
    if subject is not None:
        try:
            check(subject)
        except AssertionError as error:
            raise tl.ArgumentError(str(error)) from error


READING: dict[str, Any] = {"series": "id", "time": "t", "label": "class"}


def table() -> Path:
    path = Path("table.csv")
    path.write_text(
        "id,t,x,y,class\n" + "".join(f"{n // 3},{n % 3},{n},{-n},{n // 3}\n" for n in range(9))
    )
    return path


def frame() -> Any:
    return pandas.read_csv(table())


def model_call(method: str) -> Call:
    model = tl.Model(tl.DFA(tl.RNN(2, 3, 2)), classes=("a", "b"))
    arguments = {"inputs": torch.ones(3, 4, 2), "lengths": torch.tensor([4, 1, 2])}
    return Call(getattr(model, method), arguments, [model.rule])


def load_saved(path: Any, **options: Any) -> None:
    if isinstance(path, Path) and path.name == "saved":
        tl.save(tl.DFA(tl.RNN(2, 3, 2)), path)
    tl.load(path, **options)


def tool_calls() -> dict[str, Callable[[], Call]]:
    """Calls of what is around networks and rules: analysis, seeds, configurations, the command."""
    numbers = {0: 0.5, 1: 0.25, 2: 0.75}
    fields = {
        name: field.get_default(call_default_factory=True)
        for name, field in TrainConfig.model_fields.items()
    }
    split = tl.data.split(tl.data.copying_sequences(10, 3, 1), 0)
    small = {"hidden": 2, "epochs": 1, "batch": 500}

    def folder() -> Path:
        home = Path("run")
        if not home.exists():
            rule = tl.DFA(tl.RNN(2, 3, 2))
            optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
            data = good_batch("cross_entropy", "last")
            tl.fit(rule, optimizer, data, epochs=1, batch_size=3, folder=home)
        return home

    def alignment() -> Call:
        rule, (inputs, targets) = tl.DFA(tl.RNN(2, 3, 2)), good_batch("cross_entropy", "last")
        arguments = {"rule": rule, "inputs": inputs, "targets": targets}
        return Call(aligned.alignment, arguments | {"lengths": torch.tensor([4, 1, 2])}, [rule])

    def watch() -> Call:
        rule = tl.DFA(tl.RNN(2, 3, 2))
        return Call(
            lambda rule, part: aligned.watch(rule, part)(), {"rule": rule, "part": part()}, [rule]
        )

    return {
        "alignment": alignment,
        "watch": watch,
        "summarize": lambda: Call(statistics.summarize, {"values": list(numbers.values())}),
        "sign_flip_p": lambda: Call(
            statistics.sign_flip_p, {"differences": list(numbers.values())}
        ),
        "paired_difference": lambda: Call(
            statistics.paired_difference, {"ours": dict(numbers), "reference": dict(numbers)}
        ),
        "derive_seed": lambda: Call(seeding.derive_seed, {"seed": 0}),
        "generator": lambda: Call(seeding.generator, {"seed": 0, "device": "cpu"}),
        "resolve": lambda: Call(tl.losses.resolve, {"loss": "mse"}),
        "config": lambda: Call(TrainConfig, dict(fields)),
        "load_weights": lambda: Call(load_weights, {"folder": folder(), "which": "last"}),
        "TensorBoard": lambda: Call(TensorBoard, {"folder": "boards"}),
        "check_rule": lambda: Call(
            lambda rule: contract(tl.testing.check_rule, rule), {"rule": None}
        ),
        "check_cell": lambda: Call(
            lambda cell: contract(tl.testing.check_cell, cell), {"cell": None}
        ),
        "check_black_box": lambda: Call(
            lambda cell: contract(tl.testing.check_black_box, cell), {"cell": None}
        ),
        "black_box": lambda: Call(
            tl.black_box, {"cell": Follower()} | SIZES | options_of(tl.black_box)
        ),
        "copying_sequences": lambda: Call(
            tl.data.copying_sequences, {"count": 2, "length": 3, "delay": 1, "seed": 0}
        ),
        "adding_sequences": lambda: Call(
            tl.data.adding_sequences, {"count": 2, "steps": 4, "seed": 0}
        ),
        "delayed_match_sequences": lambda: Call(
            tl.data.delayed_match_sequences, {"count": 2, "delay": 3, "seed": 0}
        ),
        "selective_copying_sequences": lambda: Call(
            tl.data.selective_copying_sequences, {"count": 2, "length": 2, "steps": 5, "seed": 0}
        ),
        "read": lambda: Call(tl.data.read, {"path": table()} | options_of(tl.data.read) | READING),
        "read_frame": lambda: Call(
            tl.data.read_frame,
            {"frame": frame()} | options_of(tl.data.read_frame) | READING,
        ),
        "Model": lambda: Call(
            tl.Model,
            {
                "rule": tl.DFA(tl.RNN(2, 3, 2)),
                "classes": ("a", "b"),
                "features": ("x", "y"),
                "outputs": None,
                "inputs_scale": (torch.zeros(2), torch.ones(2)),
                "outputs_scale": None,
                "reading": {},
            },
        ),
        "model.predict": lambda: model_call("predict"),
        "model.predict_proba": lambda: model_call("predict_proba"),
        "save": lambda: Call(tl.save, {"model": tl.DFA(tl.RNN(2, 3, 2)), "path": "model"}),
        "load": lambda: Call(
            load_saved,
            {"path": Path("saved"), "cell": None, "rule": None, "readout": None, "loss": None},
        ),
        "mackey_glass_streams": lambda: Call(
            tl.data.mackey_glass_streams, {"streams": 1, "steps": 20, "horizon": 2, "seed": 0}
        ),
        "floors": lambda: Call(tl.data.floors, {"name": "copying", "split": split}),
        "timelocal train": lambda: Call(
            command,
            {"verb": "train", "rule": "dfa", "cell": "rnn", "lr": 0.01, "seeds": 1, "out": "runs"}
            | small,
        ),
        "timelocal runs": lambda: Call(lambda store: words("runs", store), {"store": "runs"}),
        "timelocal report": lambda: Call(lambda run: words("report", run), {"run": "runs"}),
        "timelocal data": lambda: Call(
            lambda name: words("data show", name), {"name": "digits-rows"}
        ),
        "timelocal list": lambda: Call(command, {"verb": "list"}),
    }


def network_calls(network: str) -> dict[str, Callable[[], Call]]:
    """Calls of a network's methods."""

    def call(method: str) -> Call:
        made = NETWORKS[network](2)
        inputs, _ = good_batch("mse", "last", made.batch_first)
        arguments = {"inputs": inputs, "lengths": torch.tensor([4, 1, 2])}
        if method == "scan":
            arguments["initial"] = made.scan(inputs).final_states()
        return Call(getattr(made, method), arguments, [made])

    return {
        "network": lambda: call("__call__"),
        "network.scan": lambda: call("scan"),
        "network.features": lambda: call("features"),
    }


STREAM_METHODS = (
    "make", "step", "run", "predict", "peek", "learn", "reset", "load_state_dict", "save", "load",
)  # fmt: skip


def rule_calls(name: str, network: str, loss: str, at: str) -> dict[str, Callable[[], Call]]:
    """Calls of a rule's methods, of a stream's, and of `fit`."""

    def call(method: str) -> Call:
        rule = good_rule(name, network, loss, at)
        inputs, targets = good_batch(loss, at, rule.network.batch_first)
        arguments = {"inputs": inputs, "targets": targets, "lengths": torch.tensor([4, 1, 2])}
        if method != "check":
            arguments["initial"] = rule.network.scan(inputs).final_states()
        if method == "outputs":
            del arguments["targets"]
        else:
            surface = inputs.shape[:2] if at == "every" else (3,)
            arguments["mask"] = torch.linspace(0, 1, 12 if at == "every" else 3).view(surface)
        return Call(getattr(rule, method), arguments, [rule])

    def accumulate() -> Call:
        rule = good_rule(name, network, loss, at)
        inputs, targets = good_batch(loss, at, rule.network.batch_first)
        return Call(rule.accumulate, {"estimate": rule.estimate(inputs, targets)}, [rule])

    def fit(online: bool) -> Call:
        rule = good_rule(name, network, loss, "every" if online else at)
        inputs, targets = good_batch(loss, rule.at)
        optimizer = torch.optim.Adam(rule.parameters(), lr=0.01)
        return Call(
            tl.fit,
            {
                "rule": rule,
                "optimizer": optimizer,
                "train": (inputs, targets),
                "validation": (inputs, targets),
                "test": None,
                "epochs": 1,
                "batch_size": 2,
                "seed": 0,
                "clip": 1.0,
                "online": online,
                "folder": None,
                "progress": False,
                "watch": None,
                "scheduler": None,
                "patience": None,
                "restore_best": None,
                "callbacks": (),
                "drop_last": False,
                "metrics": None,
                "device": None,
            },
            [rule, optimizer],
        )

    def fit_on(inputs: Any, targets: Any, lengths: Any) -> Any:
        rule = good_rule(name, network, loss, at)
        optimizer = torch.optim.SGD(rule.parameters(), lr=0.01)
        return tl.fit(rule, optimizer, (inputs, targets, lengths), epochs=1, batch_size=2)

    def fit_data() -> Call:
        inputs, targets = good_batch(loss, at)
        return Call(
            fit_on, {"inputs": inputs, "targets": targets, "lengths": torch.tensor([4, 1, 2])}
        )

    def stream(method: str) -> Call:
        rule = good_rule(name, network, loss, at)
        optimizer = torch.optim.Adam(rule.parameters(), lr=0.01)
        if method == "make":
            arguments = {
                "rule": rule,
                "optimizer": optimizer,
                "batch_size": 3,
                "max_delay": 0,
                "missing": "raise",
                "sync": None,
                "clip": 1.0,
            }
            return Call(tl.Stream, arguments, [rule, optimizer])
        made = tl.Stream(rule, optimizer, 3, max_delay=2)
        inputs, targets = good_batch(loss, "every", rule.network.batch_first)
        time = 1 if rule.network.batch_first else 0
        made.step(inputs.select(time, 0), targets.select(time, 0))
        watched = [rule, optimizer, made]
        if method in ("predict", "learn"):
            made.predict(inputs.select(time, 1))
            if method == "predict":
                return Call(made.predict, {"inputs": inputs.select(time, 2).clone()}, watched)
            made.predict(inputs.select(time, 2))
            label = targets.select(time, 2).clone()
            return Call(made.learn, {"targets": label, "mask": torch.ones(3), "delay": 1}, watched)
        if method == "reset":
            return Call(made.reset, {"rows": torch.tensor([True, False, True])}, watched)
        if method == "load_state_dict":
            return Call(made.load_state_dict, {"state": made.state_dict()}, watched)
        if method == "peek":
            return Call(made.peek, {"inputs": inputs.select(time, 1).clone()}, watched)
        if method in ("save", "load"):
            path = Path(f"{name}-{loss}.stream")
            made.save(path)
            return Call(getattr(made, method), {"path": path}, watched)
        if method == "run":
            mask = torch.ones(inputs.shape[:2])
            return Call(made.run, {"inputs": inputs, "targets": targets, "mask": mask}, watched)
        arguments = {
            "inputs": inputs.select(time, 0).clone(),
            "targets": targets.select(time, 0).clone(),
            "mask": torch.ones(3),
            "gradients": False,
        }
        return Call(made.step, arguments, watched)

    return {
        **{f"rule.{m}": lambda m=m: call(m) for m in ("estimate", "evaluate", "outputs", "check")},
        "rule": lambda: call("__call__"),
        "rule.accumulate": accumulate,
        "fit": lambda: fit(False),
        "fit online": lambda: fit(True),
        "fit data": fit_data,
        **{f"stream.{m}": lambda m=m: stream(m) for m in STREAM_METHODS},
    }


FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "nothing": lambda y, t: None,
    "a number": lambda y, t: 1.0,
    "one loss": lambda y, t: y.mean(),
    "integers": lambda y, t: y.argmax(-1),
    "no graph": lambda y, t: y.detach().sum(-1),
    "another": lambda y, t: torch.ones(len(y), requires_grad=True),
    "a pair": lambda y, t: (y.sum(-1), t),
    "nan": lambda y, t: y.sum(-1) * float("nan"),
    "an array": lambda y, t: y.detach().numpy().sum(-1),
    "sparse": lambda y, t: y.sum(-1).to_sparse(),
    "complex": lambda y, t: y.sum(-1) * 1j,
    "float64": lambda y, t: y.double().sum(-1),
}
"""Losses that are not what a loss should be."""


def replaced_readout(rule: tl.Rule, outputs: int, features: int) -> None:
    rule.network.readout = nn.Linear(features, outputs)


CIRCUMSTANCES: dict[str, Callable[[tl.Rule], object]] = {
    "a wider readout": lambda rule: replaced_readout(rule, 5, 3),
    "a narrower readout": lambda rule: replaced_readout(rule, 1, 3),
    "a readout of other features": lambda rule: replaced_readout(rule, 2, 7),
    "a deep readout": lambda rule: setattr(
        rule.network, "readout", nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    ),
    "a deep readout of other outputs": lambda rule: setattr(
        rule.network, "readout", nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    ),
    "no readout": lambda rule: setattr(rule.network, "readout", None),
    "a readout that fails": lambda rule: setattr(rule.network, "readout", nn.Conv2d(1, 1, 1)),
    "a readout in float64": lambda rule: rule.network.readout.double(),
    "a network in float64": lambda rule: rule.network.double(),
    "a stack in float64": lambda rule: rule.network.recurrent.double(),
    "a rule in float64": lambda rule: rule.double(),
    "a rule in bfloat16": lambda rule: rule.bfloat16(),
    "a network without memory": lambda rule: rule.network.to("meta"),
    "a rule without memory": lambda rule: rule.to("meta"),
    "frozen": lambda rule: rule.requires_grad_(False),
    "weights that are NaN": lambda rule: [p.data.fill_(float("nan")) for p in rule.parameters()],
    "a wider readout in place": lambda rule: setattr(
        rule.network.readout, "weight", nn.Parameter(torch.zeros(50, 3))
    ),
    "recurrent weights of another shape": lambda rule: (
        setattr(rule.network.recurrent, "weight_hh_l0", nn.Parameter(torch.zeros(2, 2)))
        if rule.network.recurrent.decorrelate is None
        else None
    ),
    "no bias": lambda rule: setattr(rule.network.readout, "bias", None),
    "evaluation": lambda rule: rule.eval(),
}
"""What may have become of a rule since it was made."""
