"""Whether a run may draw from torch's global generators, of which a process has one per device."""

from __future__ import annotations

from torch import nn

from timelocal.losses import Custom
from timelocal.network.hooks import has_forward_hooks
from timelocal.training.snapshot import Live

_DRAW_NOTHING = tuple(
    f"torch.nn.modules.{file}"
    for file in ("activation", "batchnorm", "container", "flatten", "linear", "normalization")
)


def may_draw(live: Live) -> bool:
    """Whether the network, the rule, its loss or the optimizer may draw from torch's own generators.

    The rules, cells and losses of this package have their own generators, and torch's common layers draw
    nothing; anything else may draw.
    """
    rule = live.rule
    ours = (rule, rule.loss, rule.network.cell)
    return (
        isinstance(rule.loss, Custom)
        or not all(type(one).__module__.startswith("timelocal.") for one in ours)
        or not type(live.optimizer).__module__.startswith("torch.optim.")
        or not all(map(_draws_nothing, rule.modules()))
    )


def _draws_nothing(module: nn.Module) -> bool:
    home = type(module).__module__
    known = home.startswith("timelocal.") or home in _DRAW_NOTHING
    chance = isinstance(module, nn.RReLU | nn.MultiheadAttention)
    return known and not chance and not has_forward_hooks(module)
