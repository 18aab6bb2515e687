"""Seeds and generators: every source of chance is named and derived from one integer.

Children are spawned with `numpy.random.SeedSequence`, so that seed 0's second stream is never
seed 1's first one, as it would be with `seed + index`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from timelocal.arguments import seed_problem
from timelocal.errors import raise_problems


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream called `names` under `seed`.

    The same arguments give the same seed on every machine; different names give independent ones.

    >>> derive_seed(0, "split") == derive_seed(0, "split")
    True
    >>> derive_seed(0, "split") == derive_seed(0, "batches")
    False

    Raises:
        ArgumentError: unless `seed` is a non-negative integer; None would mean another one each time.
    """
    raise_problems([seed_problem(seed)])
    keys = tuple(zlib.crc32(str(name).encode()) for name in names)
    state = np.random.SeedSequence(int(seed), spawn_key=keys).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def generator(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A `torch.Generator` for the stream called `names` under `seed`."""
    return torch.Generator(device).manual_seed(derive_seed(seed, *names))


@contextmanager
def everywhere(seed: int, *names: str | int, device: torch.device) -> Iterator[None]:
    """Torch's own generators seeded for the stream called `names`, and put back afterwards.

    For what draws from nothing else: a `torch.nn.Dropout` in a readout, noise in a layer of the user's.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        own = derive_seed(seed, *names)
        if device.type == "cpu":
            torch.default_generator.manual_seed(own)  # without a word to every other kind of device
        else:
            torch.manual_seed(own)
        yield
