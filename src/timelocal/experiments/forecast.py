"""The forecast of a block of time: the mean of several networks, all of which have seen what came before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean, median

import torch
from torch import Tensor

from timelocal.data import Sequences, Split
from timelocal.data.metrics import mse
from timelocal.errors import Problem, raise_problems
from timelocal.experiments.config import ForecastConfig
from timelocal.experiments.floors import floors
from timelocal.experiments.folder import set_status
from timelocal.experiments.predictions import measured
from timelocal.experiments.preparing import Prepared, prepared
from timelocal.experiments.run import arrive, build_network, recording, trained
from timelocal.files import write_json
from timelocal.losses import LOSSES
from timelocal.training import History


def forecast(config: ForecastConfig, out: str | Path, data_dir: str | Path | None = None) -> Path:
    """Train the networks of `config` and average their forecasts of the test part; return their folder.

        ŷ_t = (1/M) Σ_m y_t^(m)

    Each network is kept as it was after its best epoch on the validation part. It then runs, without
    learning, over the end of the training part and the validation part, so that its state is not zero where
    the test part begins. A regression on lagged inputs sees these inputs, too.

    `result.json` has the `metrics` of the mean forecast, and under `alone` the mean, over the networks, of
    the error that each makes by itself: of the outputs that are judged. The curves in `history.json` are
    means over the networks, each starting every part from a state of zero, of the loss of all outputs. An
    interrupted forecast starts again.

    Raises:
        ArgumentError: for data whose parts do not follow each other in time, or with fewer outputs than are
            to be judged.
    """
    folder, earlier = arrive(config, out)
    if earlier is None:
        return folder
    ready = prepared(config, data_dir)
    if not ready.dataset.card.consecutive:
        expected = "data whose parts follow each other in time, such as temperature-block"
        raise_problems([Problem("dataset", repr(config.dataset), expected)])
    outputs = ready.dataset.targets.shape[-1]
    if config.judged is not None and config.judged > outputs:
        raise_problems(
            [Problem("judged", config.judged, f"at most {outputs}, as there are outputs")]
        )
    untrained = build_network(config, ready.dataset)
    judged = replace(
        ready, raw=_first_outputs(ready.raw, config), split=_first_outputs(ready.split, config)
    )
    trivial = floors(judged, untrained, LOSSES[config.loss](), None)
    with recording(config, folder, earlier) as ours:
        if not ours:
            return folder
        first = config.members * config.seed
        members = [_member(config, ready, first + n) for n in range(config.members)]
        histories = [history for history, _ in members]
        write_json(folder / "history.json", {"epochs": _mean_curves(histories)})
        took = [seconds for one in histories for seconds in one.step_seconds]
        write_json(folder / "timing.json", {"step_seconds_median": median(took) if took else None})
        diverged = [one.message for one in histories if one.status == "diverged"]
        if diverged:
            set_status(folder, "diverged", diverged[0])
            return folder
        targets = judged.raw.test.targets
        forecasts = [ready.in_own_units(made)[..., : config.judged] for _, made in members]
        result = {
            "seed": config.seed,
            "epochs": config.epochs,
            "seconds": sum(sum(one.seconds) for one in histories),
            "trivial": trivial,
            "metrics": measured(torch.stack(forecasts).mean(0), targets),
            "alone": {"mse": fmean(mse(one, targets) for one in forecasts)},
        }
        write_json(folder / "result.json", result)
        set_status(folder, "finished")
    return folder


def _first_outputs(split: Split, config: ForecastConfig) -> Split:
    """The parts with the targets that are judged."""

    def first(part: Sequences) -> Sequences:
        return replace(part, targets=part.targets[..., : config.judged])

    return Split(first(split.train), first(split.validation), first(split.test))


def _member(config: ForecastConfig, ready: Prepared, seed: int) -> tuple[History, Tensor]:
    """A network of this seed: its training, and its forecast (1, T, o) of the test part."""
    split = ready.split
    own = config.model_copy(update={"seed": seed})
    rule, history = trained(own, ready.dataset, split, tested=True)
    before = torch.cat((split.train.inputs[-1:], split.validation.inputs), 1)
    outputs = rule.outputs(torch.cat((before, split.test.inputs), 1))
    return history, outputs[:, before.shape[1] :]


def _mean_curves(histories: list[History]) -> list[dict[str, float]]:
    """The mean over the networks of every number of an epoch, as far as all of them went."""
    epochs = zip(*(one.epochs for one in histories), strict=False)
    return [{name: fmean(one[name] for one in epoch) for name in epoch[0]} for epoch in epochs]
