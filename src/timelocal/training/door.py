"""Checks of a stream's inputs, one step or a chunk: all problems at once, with NaN handled."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from timelocal.arguments import is_plain, tensor_problem
from timelocal.errors import Problem, raise_problems
from timelocal.network import input_problems
from timelocal.rules import Rule
from timelocal.rules.batch import at_every_step, batch_problems, is_asked_again
from timelocal.training.carried import readout_now
from timelocal.training.missing import Entered, Missing, filled, is_finite


class Door:
    """The checks of one stream's inputs; for tensors like the previous ones, only values are checked.

    Attributes:
        held: the last known inputs (b, i) if `missing` is "hold", otherwise None.
    """

    def __init__(self, rule: Rule, batch_size: int, missing: Missing) -> None:
        self.rule, self.batch_size, self.missing = rule, batch_size, missing
        like, width = rule.network.recurrent.like, rule.network.input_size
        self.held = like.new_zeros(batch_size, width) if missing == "hold" else None
        self._seen: tuple[object, ...] | None = None
        self._seen_inputs: tuple[object, ...] | None = None
        self._outputs = 0

    def hold(self, inputs: Tensor) -> None:
        """Keep the last known inputs (b, i), if they are needed."""
        if self.held is not None:
            self.held = inputs.detach().clone()

    def inputs(self, inputs: Tensor, step: int) -> Entered:
        """The inputs (b, i) of the step with this number."""
        seen = _signature(inputs)
        if seen is not None and seen == self._seen_inputs and is_finite(inputs):
            return Entered(inputs)
        entered, network = self._filled(inputs, step), self.rule.network
        x = entered.inputs.unsqueeze(1 if network.batch_first else 0)
        problems = input_problems(network.recurrent, x, batch_first=network.batch_first)
        raise_problems([*problems, entered.problem])
        self._seen_inputs = seen
        return entered

    def step(self, inputs: Tensor, targets: Tensor, mask: Tensor | None, step: int) -> Entered:
        """One step (b, …)."""
        if self._is_known(inputs, targets, mask) and is_finite(inputs):
            self._check_values(targets, mask)
            return Entered(inputs)
        entered = self._filled(inputs, step)
        self._check(entered, targets, mask)
        return entered

    def targets(self, entered: Entered, targets: Tensor, mask: Tensor | None) -> None:
        """The targets (b, …) of a step whose inputs came earlier."""
        if entered.present is None and self._is_known(entered.inputs, targets, mask):
            self._check_values(targets, mask)
        else:
            self._check(entered, targets, mask)

    def chunk(
        self, inputs: Tensor, targets: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """A chunk: its inputs (t, b, i), which rows are present (t, b), and the targets of every step."""
        network = self.rule.network
        x, entered = inputs, None
        time = 1 if network.batch_first else 0
        again = is_asked_again(network, self.rule.loss, "every", self.batch_size, targets)
        if again and is_plain(inputs) and inputs.dim() == 3:
            targets = at_every_step(network, targets, inputs.shape[time])
        widths = (self.batch_size, network.input_size)
        if (
            is_plain(inputs)
            and inputs.is_floating_point()
            and inputs.dim() == 3
            and (inputs.shape[1 - time], inputs.shape[2]) == widths
            and inputs.numel()
        ):
            rows = network.time_first(inputs)
            entered = filled(rows, self.missing, self.held, "step {} of the chunk")
            if entered.inputs is not rows:
                x = entered.inputs.transpose(0, 1) if time else entered.inputs
        present = None if entered is None else entered.present
        counts = _counting(mask, present.t() if present is not None and time else present)
        problems = batch_problems(network, self.rule.loss, "every", x, targets, mask=counts)
        raise_problems([*problems, None if entered is None else entered.problem])
        sequences = inputs.shape[1 - time]
        if sequences != self.batch_size:
            remedy = "Create the stream with batch_size= the number of parallel sequences."
            got = f"{sequences} sequences"
            raise_problems([Problem("inputs", got, f"{self.batch_size}", remedy)])
        x = network.time_first(inputs) if entered is None else entered.inputs
        return x, present, targets

    def _filled(self, inputs: Tensor, step: int) -> Entered:
        """One step's inputs (b, i) without NaN; refused at once if they are of another shape."""
        self._check_shape(inputs)
        if not inputs.is_floating_point():
            return Entered(inputs)
        found = filled(inputs[None], self.missing, self.held, f"step {step} of the stream")
        present = None if found.present is None else found.present[0]
        return Entered(found.inputs[0], present, found.problem)

    def _check_shape(self, inputs: object) -> None:
        shape = (self.batch_size, self.rule.network.input_size)
        expected = f"a tensor of shape {shape}"
        raise_problems([tensor_problem("inputs", inputs, expected, may_be_meta=True)])
        assert isinstance(inputs, Tensor)
        if inputs.shape != shape:
            remedy = "A stream takes one step of each of its sequences; `run` takes many steps."
            got = f"shape {tuple(inputs.shape)}"
            raise_problems([Problem("inputs", got, f"shape {shape}", remedy)])

    def _is_known(self, inputs: Tensor, targets: Tensor, mask: Tensor | None) -> bool:
        """Whether they are like those of the last step, but for their values.

        Weights of losses are not: whether they are weights their values say. A bool mask is.
        """
        if self._seen is None:
            return False
        return (
            _signature_of_step(inputs, targets, mask),
            readout_now(self.rule.network),
        ) == self._seen

    def _check_values(self, targets: Tensor, mask: Tensor | None) -> None:
        """What a known step may still have wrong."""
        readout, loss = self.rule.network.readout, self.rule.loss
        # one that is linear was asked when all was checked; any other may have changed within
        width = self._outputs if type(readout) is nn.Linear else self.rule.network.output_size
        entries = (self.batch_size,)
        problems = loss.target_problems(targets, entries, width, targets.dtype, None)
        if problems and mask is not None:  # those that count may be right
            problems = loss.target_problems(targets, entries, width, targets.dtype, mask)
        if problems:
            raise_problems(problems)

    def _check(self, entered: Entered, targets: Tensor, mask: Tensor | None) -> None:
        """All of one step, with what was found in its inputs."""
        network, (x, present, problem) = self.rule.network, entered
        # the entries of one step are (b,), as those at a last step
        problems = batch_problems(
            network,
            self.rule.loss,
            "last",
            x.unsqueeze(1 if network.batch_first else 0),
            targets,
            mask=_counting(mask, present),
        )
        raise_problems([*problems, problem])
        signature = _signature_of_step(x, targets, mask)
        self._seen = None if signature is None else (signature, readout_now(network))
        self._outputs = network.output_size


def _signature(*tensors: object) -> tuple[object, ...] | None:
    """What the checks of a step look at, but for values; None for what are no tensors."""
    found: list[object] = []
    for one in tensors:
        if not is_plain(one):
            return None
        assert isinstance(one, Tensor)
        found += (one.shape, one.dtype, one.device)
    return tuple(found)


def _signature_of_step(
    inputs: Tensor, targets: Tensor, mask: Tensor | None
) -> tuple[object, ...] | None:
    """As `_signature`; None too for a mask whose values have to be looked at."""
    if mask is None:
        return _signature(inputs, targets)
    found = _signature(inputs, targets, mask)
    return found if found is not None and mask.dtype == torch.bool else None


def _counting(mask: Tensor | None, present: Tensor | None) -> Tensor | None:
    """A mask without the rows that are not there; as it was given if it is not one of their shape."""
    if present is None:
        return mask
    if mask is None:
        return present
    if not is_plain(mask) or mask.shape != present.shape or mask.device != present.device:
        return mask
    return mask * present
