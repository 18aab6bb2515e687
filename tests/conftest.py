"""Settings that every test shares."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)  # small tensors: threads only get in each other's way

settings.register_profile(
    "timelocal", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("timelocal")


_BEGAN = time.monotonic()
_ATTACKS: dict[str, dict[str, Any]] = {}
_FAILED: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--minutes",
        type=float,
        metavar="N",
        help="begin no slow test after N minutes; which files come first changes from day to day",
    )
    parser.addoption(
        "--record", type=Path, metavar="FILE", help="write the figures of the attacks to FILE"
    )


def pytest_configure(config: pytest.Config) -> None:
    """The day is told to the workers of xdist too, which must all have the same order."""
    os.environ.setdefault("TIMELOCAL_TEST_DAY", datetime.now(UTC).date().isoformat())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The slow ones first: then no core is idle while the last of them ends."""
    if config.getoption("--minutes") is not None:
        day = os.environ["TIMELOCAL_TEST_DAY"]
        items.sort(key=lambda item: sha256(f"{day} {item.path.name}".encode()).digest())
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    minutes = item.config.getoption("--minutes")
    late = minutes is not None and time.monotonic() - _BEGAN > 60 * minutes
    if late and item.get_closest_marker("slow") is not None:
        pytest.skip(f"no time is left of {minutes:g} minutes")


@pytest.fixture
def tell(record_property: Callable[[str, Any], None]) -> Callable[..., None]:
    """Prints the figures of an attack on `target`, and keeps them for `--record`."""

    def told(attack: str, target: str, figures: Mapping[str, int]) -> None:
        print(f"\n{attack}, {target}: " + ", ".join(f"{n:,} {what}" for what, n in figures.items()))
        record_property(attack, {target: dict(figures)})

    return told


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect what `tell` kept; the workers of xdist send it along."""
    if report.when == "call":
        for attack, figures in report.user_properties:
            _ATTACKS.setdefault(attack, {}).update(figures)
    if report.failed:
        _FAILED.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--record")
    ran = not session.config.getoption("collectonly") and not hasattr(session.config, "workerinput")
    if path is None or not ran:
        return
    from damage import SCALE
    from timelocal.experiments.environment import environment
    from timelocal.files import make_folder, write_json

    command = shlex.join(["pytest", *map(str, session.config.invocation_params.args)])
    make_folder(path.parent)
    write_json(
        path,
        {
            "environment": {**environment(), "command": command},
            "scale": SCALE,
            "failed": _FAILED,
            "attacks": _ATTACKS,
        },
    )


@pytest.fixture(autouse=True)
def _torch_as_it_was() -> Iterator[None]:
    """A run sets torch's threads and flushes subnormals, for its whole process: here only for its test.

    What a test draws from torch's own generator does not depend on the tests before it.
    """
    torch.manual_seed(0)
    yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets: TIMELOCAL_DATA, or `shared/data` beside the checkout."""
    folder = Path(os.environ.get("TIMELOCAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data: set TIMELOCAL_DATA to a folder of data sets")
    return folder
