"""A model in plain torch.nn: the form in which it is exported, for torch and for ONNX."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def at_the_end(outputs: Tensor, lengths: Tensor | None) -> Tensor:
    """Outputs (b, t, o) at the last valid step of each sequence, (b, o)."""
    if lengths is None:
        return outputs[:, -1]
    return outputs[
        torch.arange(len(outputs), device=outputs.device), lengths.to(outputs.device) - 1
    ]


class Plain(nn.Module):
    """Standardisation, a recurrent module of torch.nn, its readout where the loss is, and the activation.

    Inputs (b, t, i) and lengths (b,) to probabilities or values (b, o), or (b, t, o) at every step. Where
    `at` is "end", the loss was at every step, and the output at the last valid step counts.
    """

    inputs_mean: Tensor | None
    inputs_deviation: Tensor
    outputs_mean: Tensor | None
    outputs_deviation: Tensor

    def __init__(
        self,
        recurrent: nn.RNNBase,
        readout: nn.Module,
        *,
        at: str,
        activation: str,
        inputs_scale: tuple[Tensor, Tensor] | None,
        outputs_scale: tuple[Tensor, Tensor] | None,
    ) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.readout = readout
        self.at = at
        self.activation = activation
        for name, scale in (("inputs", inputs_scale), ("outputs", outputs_scale)):
            mean, deviation = (None, None) if scale is None else scale
            self.register_buffer(f"{name}_mean", mean)
            self.register_buffer(f"{name}_deviation", deviation)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        if self.inputs_mean is not None:
            inputs = (inputs - self.inputs_mean) / self.inputs_deviation
        features = self._features(inputs, lengths)
        if self.at == "last":
            features = self._last(features, lengths)
        outputs: Tensor = self.readout(features)
        if self.at == "end":
            outputs = at_the_end(outputs, lengths)
        elif self.at == "mean":
            valid = torch.arange(outputs.shape[1], device=outputs.device) < lengths[:, None]
            outputs = (outputs * valid[..., None]).sum(1) / lengths[:, None]
        if self.activation == "softmax":
            return outputs.softmax(-1)
        if self.activation == "sigmoid":
            return outputs.sigmoid()
        if self.outputs_mean is not None:
            return self.outputs_mean + self.outputs_deviation * outputs
        return outputs

    def _features(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """(b, t, h·directions); what is behind the end of a sequence reaches nothing before it."""
        batch_first = self.recurrent.batch_first
        if not self.recurrent.bidirectional:
            entering = inputs if batch_first else inputs.transpose(0, 1)
            features: Tensor = self.recurrent(entering)[0]
            return features if batch_first else features.transpose(0, 1)
        packed = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs = self.recurrent(packed)[0]
        return pad_packed_sequence(outputs, batch_first=True, total_length=inputs.shape[1])[0]

    def _last(self, features: Tensor, lengths: Tensor) -> Tensor:
        """(b, h·directions): forward at the last valid step, backward at the first."""
        index = (lengths - 1).view(-1, 1, 1).expand(-1, 1, features.shape[2])
        last = features.gather(1, index).squeeze(1)
        if not self.recurrent.bidirectional:
            return last
        hidden = self.recurrent.hidden_size
        return torch.cat([last[:, :hidden], features[:, 0, hidden:]], -1)
