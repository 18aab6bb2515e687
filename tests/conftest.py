"""Settings that every test shares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)  # small tensors: threads only get in each other's way

settings.register_profile(
    "timelocal", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("timelocal")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first: then no core is idle while the last of them ends."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


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
