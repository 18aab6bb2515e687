"""`kill -9` of drivers, workers and machines in the middle of a study: in the end the same table."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driver import COUNT, trials

from timelocal.studies.engines import InProcess, RayEngine
from timelocal.studies.store import index, runs
from timelocal.studies.study import run_study
from timelocal.studies.table import table

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("killed")]  # one undisturbed study for all

SOURCE = Path(__file__).parents[2] / "src"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE)}


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The table of a study that nothing happened to."""
    store = tmp_path_factory.mktemp("undisturbed")
    found = table(run_study(trials(), store, engine=InProcess()))
    assert found.count("finished") == COUNT >= 30
    return found


def start(
    store: Path, engine: str, address: str = "", output: int = subprocess.DEVNULL
) -> subprocess.Popen[str]:
    """A driver in a process group of its own."""
    command = [sys.executable, str(Path(__file__).with_name("driver.py")), str(store), engine]
    return subprocess.Popen(
        [*command, *filter(None, [address])],
        env=ENVIRONMENT,
        stdout=output,
        text=True,
        start_new_session=True,
    )


def finished(store: Path) -> dict[str, int]:
    """When each finished run's result was written."""
    return {
        one["name"]: (store / one["name"] / "result.json").stat().st_mtime_ns
        for one in index(store)
        if one["status"] == "finished"
    }


def until(condition: Any, process: subprocess.Popen[str] | None = None) -> None:
    """Wait; a driver that ends before is waited for no longer."""
    while not condition() and (process is None or process.poll() is None):
        time.sleep(0.02)


def workers(store: Path) -> list[int]:
    """The processes that are doing trials in this store: they hold its locks."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith(str(store)) and target.endswith(".lock"):
            found.add(int(link.parts[2]))
    return sorted(found - {os.getpid()})


def test_processes_with_its_driver_killed_again_and_again(tmp_path: Path, undisturbed: str) -> None:
    draw, kept = random.Random(0), {}
    for goal in (3, 9, 17, 26):
        process = start(tmp_path, "processes")
        until(lambda goal=goal: len(finished(tmp_path)) >= goal, process)
        time.sleep(draw.uniform(0, 0.5))
        process.kill()
        process.wait()
        until(lambda: not workers(tmp_path))  # they end with their driver
        kept |= finished(tmp_path)
    assert start(tmp_path, "processes").wait() == 0
    assert table(runs(tmp_path)) == undisturbed
    after = finished(tmp_path)
    assert {name: after[name] for name in kept} == kept  # nothing was done twice


@pytest.mark.thorough
def test_processes_with_a_worker_killed_now_and_then(tmp_path: Path, undisturbed: str) -> None:
    process, draw, killed = start(tmp_path, "processes"), random.Random(1), 0
    for goal in (2, 8, 15, 22):
        until(lambda goal=goal: len(finished(tmp_path)) >= goal and workers(tmp_path), process)
        for pid in draw.sample(workers(tmp_path), min(1, len(workers(tmp_path)))):
            if pid != process.pid:
                os.kill(pid, signal.SIGKILL)
                killed += 1
    assert process.wait() == 0
    assert killed >= 2
    assert table(runs(tmp_path)) == undisturbed


@pytest.mark.thorough
def test_ctrl_c_ends_a_study_that_then_goes_on(tmp_path: Path, undisturbed: str) -> None:
    process = start(tmp_path, "processes")
    until(lambda: len(finished(tmp_path)) >= 4, process)
    os.killpg(process.pid, signal.SIGINT)
    process.wait()
    until(lambda: not workers(tmp_path))
    assert 4 <= len(finished(tmp_path)) < COUNT
    assert start(tmp_path, "processes").wait() == 0
    assert table(runs(tmp_path)) == undisturbed


def test_two_drivers_share_a_store(tmp_path: Path, undisturbed: str) -> None:
    drivers = [start(tmp_path, "processes", output=subprocess.PIPE) for _ in range(2)]
    told = [driver.communicate()[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0]
    assert table(runs(tmp_path)) == undisturbed
    assert not [one for one in index(tmp_path) if one["status"] != "finished"]
    assert "failed" not in "".join(told)


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two machines of one processor each, as far as Ray can tell."""
    pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=small)
    made.other = made.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    yield made
    made.shutdown()


def test_ray_with_a_machine_and_then_the_driver_killed(
    tmp_path: Path, undisturbed: str, cluster: Any
) -> None:
    store = tmp_path / "store"
    process = start(store, "ray", cluster.address)
    until(lambda: len(finished(store)) >= 4, process)
    cluster.remove_node(cluster.other, allow_graceful=False)
    until(lambda: len(finished(store)) >= 12, process)
    cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    until(lambda: len(finished(store)) >= 18, process)
    process.kill()
    process.wait()
    kept = finished(store)
    assert 18 <= len(kept) < COUNT
    assert start(store, "ray", cluster.address).wait() == 0
    assert table(runs(store)) == undisturbed
    after = finished(store)
    assert {name: after[name] for name in kept} == kept


def test_ray_goes_on_from_a_checkpoint_that_came_home(tmp_path: Path, cluster: Any) -> None:
    from timelocal.experiments.config import TrainConfig

    trial = TrainConfig(cell="rnn", hidden=4, batch=512, epochs=400)
    alone = table(run_study([trial], tmp_path / "alone", engine=InProcess()))
    store = tmp_path / "store"
    half = TrainConfig(**trial.model_dump() | {"epochs": 200})
    run_study([half], tmp_path / "half", engine=InProcess())
    # a checkpoint of the same run, half-way: what a lost machine would have sent home
    shutil.copytree(
        tmp_path / "half" / half.folder_name() / "checkpoint",
        store / trial.folder_name() / "checkpoint",
    )
    assert table(run_study([trial], store, engine=RayEngine(cluster.address))) == alone
    import ray

    ray.shutdown()
