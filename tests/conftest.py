"""Settings that every test shares."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)  # small tensors: threads only get in each other's way

settings.register_profile(
    "timelocal", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("timelocal")


_BEGAN = time.monotonic()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--minutes",
        type=float,
        metavar="N",
        help="begin no slow test after N minutes; which files come first changes from day to day",
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
