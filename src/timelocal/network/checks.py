"""Checks of a network's inputs: all problems are reported at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from timelocal.arguments import is_plain, lengths_problem, tensor_problem
from timelocal.errors import Problem, described
from timelocal.network.recurrent import Recurrent


def input_problems(
    recurrent: Recurrent, inputs: object, lengths: object = None, *, batch_first: bool = True
) -> list[Problem]:
    """The problems of `inputs` (b, t, i), or (t, b, i) unless `batch_first`, and of `lengths` (b,)."""
    axes = "(batch, time, input)" if batch_first else "(time, batch, input)"
    expected = f"a tensor of shape {axes} with input = {recurrent.input_size}"
    if isinstance(inputs, PackedSequence):
        remedy = "Use inputs, lengths = torch.nn.utils.rnn.pad_packed_sequence(...)."
        return [Problem("inputs", "a PackedSequence", expected, remedy)]
    problem = tensor_problem("inputs", inputs, expected, may_be_meta=True)  # told as another device
    if problem is not None or not isinstance(inputs, Tensor):
        return [problem] if problem else []
    problems = recurrent.parameter_problems()
    weight = recurrent.like
    if inputs.dim() != 3:
        problems.append(
            Problem(
                "inputs",
                f"shape {tuple(inputs.shape)}",
                expected,
                _axis_remedy(inputs, recurrent.input_size, batch_first),
            )
        )
    elif inputs.shape[-1] != recurrent.input_size:
        features_first = inputs.shape[1] == recurrent.input_size
        remedy = "If the second axis holds the features, use inputs.transpose(1, 2)."
        got = f"shape {tuple(inputs.shape)}"
        problems.append(Problem("inputs", got, expected, remedy if features_first else ""))
    elif 0 in inputs.shape:
        empty = "an empty batch" if inputs.shape[0 if batch_first else 1] == 0 else "T = 0"
        remedy = "Leave empty batches and sequences out."
        problems.append(
            Problem("inputs", f"{empty}, shape {tuple(inputs.shape)}", expected, remedy)
        )
    if inputs.dtype != weight.dtype:
        remedy = f"Use inputs.to({weight.dtype})"
        remedy += f", or network.to({inputs.dtype})." if inputs.is_floating_point() else "."
        problems.append(Problem("inputs", f"{inputs.dtype}", f"{weight.dtype}", remedy))
    if inputs.device != weight.device:
        remedy = f"Use inputs.to({str(weight.device)!r})."
        problems.append(Problem("inputs", f"device {inputs.device}", f"{weight.device}", remedy))
    elif inputs.is_meta:
        problems.append(Problem("inputs", "a meta tensor, which has no values", expected))
    if inputs.dim() == 3 and 0 not in inputs.shape:
        problems += _length_problems(inputs, lengths, batch_first)
    if not problems and not _finite(inputs, lengths, batch_first):
        remedy = "Remove or impute these values before training."
        problems.append(Problem("inputs", "NaN or infinite values", "finite numbers", remedy))
    return problems


def initial_problems(recurrent: Recurrent, initial: object, batch: int) -> list[Problem]:
    """The problems of initial states, h or (h, c), each (l·directions, b, h)."""
    if initial is None:
        return []
    names, weight = recurrent.cell.state_names, recurrent.like
    shape = (recurrent.num_layers * recurrent.directions, batch, recurrent.hidden_size)
    one = weight.new_empty(shape)
    found, wanted = _described(initial), _described(one if len(names) == 1 else [one] * len(names))
    form = names[0] if len(names) == 1 else f"({', '.join(names)})"
    expected = f"{form}, as in torch.nn: {wanted} (layers · directions, batch, hidden)"
    remedy = "Use the final_states() of an earlier run."
    return [] if found == wanted else [Problem("initial", found, expected, remedy)]


def _axis_remedy(inputs: Tensor, input_size: int, batch_first: bool) -> str:
    if inputs.dim() != 2:
        return ""
    if inputs.shape[-1] == input_size:
        batch = 0 if batch_first else 1
        return f"Add an axis of length 1 for a single sequence: inputs.unsqueeze({batch})."
    if input_size == 1:
        return "Add an axis for the single feature: inputs.unsqueeze(-1)."
    return ""


def _described(states: object) -> str:
    """States as their shapes, types and devices."""
    if isinstance(states, Tensor) and is_plain(states):
        return f"{tuple(states.shape)} {states.dtype} {states.device}"
    if not isinstance(states, list | tuple):
        return described(states)
    parts = (described(one) if isinstance(one, list | tuple) else _described(one) for one in states)
    return f"[{', '.join(parts)}]"


def _length_problems(inputs: Tensor, lengths: object, batch_first: bool) -> list[Problem]:
    if lengths is None:
        return []
    batch, steps = inputs.shape[:2] if batch_first else (inputs.shape[1], inputs.shape[0])
    problem = lengths_problem(lengths, batch, steps)
    return [] if problem is None else [problem]


def _finite(inputs: Tensor, lengths: object, batch_first: bool) -> bool:
    """Whether all valid values are finite; a sum is finite only if every term is (or overflows)."""
    # One pass and no temporary of the inputs' size; a slow test only if this one is in doubt.
    if math.isfinite(inputs.sum().item()):
        return True
    if not isinstance(lengths, Tensor):
        return bool(inputs.isfinite().all())
    steps = torch.arange(inputs.shape[1 if batch_first else 0], device=inputs.device)
    valid = steps[None, :] < lengths.to(inputs.device)[:, None]
    return bool(inputs[valid if batch_first else valid.t()].isfinite().all())
