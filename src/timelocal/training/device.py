"""Devices: the data, the rule with its network, and the optimizer move together."""

from __future__ import annotations

import torch

from timelocal.data import Sequences
from timelocal.errors import Problem, described
from timelocal.training.snapshot import Live


def device_problem(device: object) -> Problem | None:
    """A problem unless torch can place a tensor there."""
    try:
        usable = torch.empty(0, device=device).device.type != "meta"  # type: ignore[call-overload]
    except Exception:  # AssertionError, RuntimeError, TypeError …: every device has its own
        usable = False
    if usable and device is not None and not isinstance(device, bool):
        return None
    remedy = "Leave it out to train where the network is"
    return Problem(
        "device", described(device), "a device that torch can use here, such as 'cpu'", remedy
    )


def moved(parts: dict[str, Sequences], device: torch.device) -> dict[str, Sequences]:
    """Every part on the device; unchanged if it is already there."""
    return {
        name: part
        if part.inputs.device == device and part.targets.device == device
        else Sequences(
            part.inputs.to(device),
            part.targets.to(device),
            None if part.lengths is None else part.lengths.to(device),
        )
        for name, part in parts.items()
    }


def move(live: Live, device: torch.device) -> None:
    """Move the rule with its network, and the optimizer's state of every parameter."""
    live.rule.to(device)
    live.optimizer.load_state_dict(live.optimizer.state_dict())
