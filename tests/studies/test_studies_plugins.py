"""Workers on other machines know the plug-ins of their driver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from plugin_files import CELL, DATA, RULE, module
from timelocal.studies.store import runs

DRIVER = """
import os, sys
from pathlib import Path
from timelocal.experiments.config import TrainConfig
from timelocal.studies.engines import RayEngine
from timelocal.studies.study import run_study

trials = [
    TrainConfig(dataset="mine:pulses", rule="mine:Rule", cell="mine:Cell", hidden=4, epochs=1, seed=seed)
    for seed in range(2)
]
if sys.argv[1] == "hidden":
    sys.path.remove(os.getcwd())
os.mkdir("elsewhere")
os.chdir("elsewhere")
print([one.status for one in run_study(trials, Path("runs"), engine=RayEngine())])
"""


@pytest.mark.slow
@pytest.mark.xdist_group("killed")  # one Ray at a time: two that start together may both fail
@pytest.mark.parametrize("way", ["shared", "hidden"])
def test_ray_workers_import_from_where_the_driver_does(tmp_path: Path, way: str) -> None:
    pytest.importorskip("ray")
    module(tmp_path, "mine", RULE, CELL, DATA)
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-P", "-c", DRIVER, way],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    if way == "hidden":  # what the workers cannot import is told once, in words
        assert "ArgumentError: on " in done.stderr
        assert "No module named 'mine'" in done.stderr
        return
    assert done.stdout == "['finished', 'finished']\n", done.stderr
    for record in runs(tmp_path / "elsewhere" / "runs"):
        assert record.environment["plugins"]["rule"]["file"] == "mine.py"
