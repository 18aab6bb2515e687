"""What one update costs: the time and the peak memory of learning from one sequence."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import torch

from timelocal.experiments.config import CostConfig
from timelocal.experiments.folder import set_status
from timelocal.experiments.preparing import prepared
from timelocal.experiments.run import arrive, build_network, build_optimizer, build_rule, recording
from timelocal.files import write_json
from timelocal.training.memory import peak_memory
from timelocal.training.stream import Stream


def measure_cost(config: CostConfig, out: str | Path, data_dir: str | Path | None = None) -> Path:
    """Measure `config` in its own folder under `out`; return that folder.

    `result.json` has the median `milliseconds` of an update with the first batch of the training part and
    the `peak_megabytes` of resident memory above what stood before it; the latter is None where the system
    does not tell.
    """
    folder, earlier = arrive(config, out)
    if earlier is None:
        return folder
    ready = prepared(config, data_dir)
    part = ready.split.train[torch.arange(config.batch)]
    network = build_network(config, ready.dataset)
    rule = build_rule(config, network, ready.dataset, ready.split)
    optimizer = build_optimizer(config, network)

    def update() -> None:
        if config.online:
            Stream(rule, optimizer, len(part)).run(part.inputs, part.targets)
        else:
            optimizer.zero_grad()
            rule.accumulate(rule.estimate(part.inputs, part.targets))
            optimizer.step()

    with recording(config, folder, earlier) as ours:
        if not ours:
            return folder
        update()
        seconds = []
        for _ in range(config.repeats):
            start = time.perf_counter()
            update()
            seconds.append(time.perf_counter() - start)
        peak = peak_memory(update)
        write_json(folder / "history.json", {"epochs": []})
        write_json(folder / "timing.json", {"step_seconds_median": median(seconds)})
        result = {
            "seed": config.seed,
            "milliseconds": 1e3 * median(seconds),
            "peak_megabytes": None if peak is None else peak / 2**20,
        }
        write_json(folder / "result.json", result)
        set_status(folder, "finished")
    return folder
