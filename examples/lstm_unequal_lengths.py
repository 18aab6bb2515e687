"""An LSTM you already have, on sequences of unequal length, trained by DFA and by BPTT.

Handwritten digits arrive row by row, and each image stops at a random row between the fifth and the
eighth. The model and the loop are plain torch; only the rule is new.

    python examples/lstm_unequal_lengths.py
"""

from __future__ import annotations

import copy

import torch
from torch import nn

import timelocal as tl


def crop(part: tl.data.Sequences, seed: int) -> tl.data.Sequences:
    """Cut every sequence to a random length of 5 to 8 steps and pad it again."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(5, 9, (len(part),), generator=generator)
    cut = [inputs[:length] for inputs, length in zip(part.inputs, lengths.tolist(), strict=True)]
    return tl.data.collate(cut, part.targets)


def main(epochs: int = 20) -> dict[str, float]:
    torch.set_num_threads(1)  # so small a network is faster on one
    split = tl.data.split(tl.data.load("digits-rows"), seed=0)
    train, test = crop(split.train, seed=0), crop(split.test, seed=2)

    # The model you had: a two-layer LSTM and a readout.
    torch.manual_seed(0)
    lstm = nn.LSTM(input_size=8, hidden_size=64, num_layers=2, batch_first=True)
    readout = nn.Linear(64, 10)

    accuracies = {}
    for make_rule in (tl.BPTT, tl.DFA):
        own_lstm, own_readout = copy.deepcopy(lstm), copy.deepcopy(readout)
        network = tl.from_torch(own_lstm, own_readout)  # shares their parameters
        rule = make_rule(network)  # cross-entropy at the last valid step
        optimizer = torch.optim.Adam(rule.parameters(), lr=2e-3)
        order = torch.Generator().manual_seed(0)
        for _ in range(epochs):
            for batch in tl.data.minibatches(train, 32, order):
                optimizer.zero_grad()
                rule(batch.inputs, batch.targets, batch.lengths).backward()
                optimizer.step()
        result = rule.evaluate(test.inputs, test.targets, test.lengths)
        accuracies[rule.spec.name] = float(result.accuracy)
        print(f"{rule.spec.name:5} test accuracy {result.accuracy:.3f}")

        # The LSTM itself has learned: it is the same module, in any code that uses it.
        packed = nn.utils.rnn.pack_padded_sequence(
            test.inputs, test.lengths, batch_first=True, enforce_sorted=False
        )
        _, (hidden, _) = own_lstm(packed)
        assert torch.allclose(own_readout(hidden[-1]), result.outputs, atol=1e-5)
    return accuracies


if __name__ == "__main__":
    main()
