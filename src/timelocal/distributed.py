"""What a rule needs from a process group: the number of ranks, this process's rank, and means over ranks."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from timelocal.seeding import derive_seed


def ranks() -> int:
    """How many processes train together; 1 without a process group.

    >>> ranks()
    1
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean of every rank's `values`, the same on all of them; all ranks must call it.

    >>> mean_over_ranks(torch.ones(2))
    tensor([1., 1.])
    """
    count = ranks()
    if count == 1:
        return values
    total = values.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total / count


def of_this_rank(generator: torch.Generator) -> torch.Generator:
    """The generator that one estimate draws from: another one on every rank of a process group.

    Without a group it is `generator` itself. In a group every rank draws one key from it and derives a
    generator from the key and its rank: noise differs between ranks, and the state of `generator`, which a
    checkpoint keeps, stays the same on all of them.

    >>> generator = torch.Generator().manual_seed(0)
    >>> of_this_rank(generator) is generator
    True
    """
    if ranks() == 1:
        return generator
    key = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    seed = derive_seed(key, "rank", dist.get_rank())
    return torch.Generator(generator.device).manual_seed(seed)
