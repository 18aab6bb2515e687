"""Seeds and generators: every source of randomness is named and derived from one integer.

Children are spawned with `numpy.random.SeedSequence`, so that the second stream of seed 0 is never the first
of seed 1, as it would be with `seed + index`.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.overrides import TorchFunctionMode

from timelocal.arguments import seed_problem
from timelocal.errors import ArgumentError, Problem, described, raise_problems

_TURN = threading.RLock()
_OF_THREAD = threading.local()
_NOTHING = nullcontext()


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream called `names` under `seed`.

    The same arguments give the same seed on every machine; different names give independent ones.

    >>> derive_seed(0, "split") == derive_seed(0, "split")
    True
    >>> derive_seed(0, "split") == derive_seed(0, "batches")
    False

    Raises:
        ArgumentError: unless `seed` is a non-negative integer; None would give a different stream each time.
    """
    raise_problems([seed_problem(seed)])
    keys = tuple(zlib.crc32(str(name).encode(errors="surrogatepass")) for name in names)
    state = np.random.SeedSequence(int(seed), spawn_key=keys).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def generator(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A `torch.Generator` for the stream called `names` under `seed`.

    Raises:
        ArgumentError: as `derive_seed`, and for a device that has no generators.
    """
    own = derive_seed(seed, *names)
    try:
        return torch.Generator(device).manual_seed(own)
    except (RuntimeError, TypeError, ValueError) as error:
        expected = f"a device that draws random numbers ({error})"
        raise ArgumentError(str(Problem("device", described(device), expected))) from None


@contextmanager
def everywhere(seed: int, *names: str | int, device: torch.device) -> Iterator[None]:
    """Code without its own generator temporarily draws from the stream called `names`.

    Torch's generators belong to the whole process. They are seeded and restored afterwards; threads that
    need this take turns. Other threads may still draw from them, for instance by creating a
    `torch.nn.Linear`, so code that requests `own_draws` gets a generator for this thread only.
    """
    with _TURN, torch.random.fork_rng([device] if device.type == "cuda" else []):
        own = derive_seed(seed, *names, "process")
        if device.type == "cpu":
            torch.default_generator.manual_seed(own)  # without a word to every other kind of device
        else:
            torch.manual_seed(own)
        before, _OF_THREAD.mode = own_draws(), _DrawingFrom(generator(seed, *names))
        try:
            yield
        finally:
            _OF_THREAD.mode = before


def own_draws() -> AbstractContextManager[object]:
    """Inside `everywhere`, this thread's CPU draws come from its own generator.

    For a `torch.nn.Dropout` in a readout, or noise in a user's layer. It affects draws made by Python code,
    not those inside torch's compiled modules (the dropout of a `torch.nn.GRU`). Every torch call takes a
    microsecond longer, so keep its scope small.
    """
    return getattr(_OF_THREAD, "mode", _NOTHING)


class _DrawingFrom(TorchFunctionMode):
    """In this thread, what would draw from the process's generator for the CPU draws from another one."""

    def __init__(self, own: torch.Generator) -> None:
        super().__init__()
        self.own = own

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if function not in _DRAWS or kwargs.get("generator") is not None:
            return function(*args, **kwargs)
        like = args[0] if args else kwargs.get("input")
        device = kwargs.get("device") or (
            like.device if isinstance(like, Tensor) else torch.get_default_device()
        )
        if torch.device(device).type != "cpu":
            return function(*args, **kwargs)
        return _DRAWS[function](function, self.own, *args, **kwargs)


def _with_generator(
    function: Callable[..., Any], own: torch.Generator, *args: Any, **options: Any
) -> Any:
    return function(*args, **options | {"generator": own})


def _dropout(
    function: object,
    own: torch.Generator,
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> Tensor:
    """As torch's on the CPU, to the bit."""
    if not training or p == 0:
        return input
    kept = (
        torch.empty_like(input).bernoulli_(1 - p, generator=own)
        if p < 1
        else torch.zeros_like(input)
    )
    if p < 1:
        kept.div_(1 - p)
    return input.mul_(kept) if inplace else input * kept


def _like(fill: str) -> Callable[..., Tensor]:
    def draw(
        function: object, own: torch.Generator, input: Tensor, *args: Any, **options: Any
    ) -> Tensor:
        wanted = {name: value for name, value in options.items() if name != "generator"}
        gradient = wanted.pop("requires_grad", False)
        made: Tensor = getattr(torch.empty_like(input, **wanted), fill)(*args, generator=own)
        return made.requires_grad_(gradient)

    return draw


_OF_TORCH = (
    "bernoulli", "multinomial", "normal", "poisson", "rand", "randint", "randn", "randperm",
)  # fmt: skip
_OF_TENSORS = (
    "bernoulli", "bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "multinomial",
    "normal_", "random_", "uniform_",
)  # fmt: skip
_DRAWS: dict[Callable[..., Any], Callable[..., Any]] = {
    **{getattr(torch, name): _with_generator for name in _OF_TORCH},
    **{getattr(Tensor, name): _with_generator for name in _OF_TENSORS},
    torch.rand_like: _like("uniform_"),
    torch.randn_like: _like("normal_"),
    F.dropout: _dropout,
}
"""Functions of torch that draw, and how each is made to draw from another generator."""
