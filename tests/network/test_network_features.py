"""What a readout sees of whole sequences, kept without the sequences."""

from __future__ import annotations

import torch

import timelocal as tl


def test_features_that_are_kept_do_not_keep_the_trajectory_alive() -> None:
    network = tl.LRU(1, 4, output_size=2)
    inputs = torch.ones(3, 50, 1)
    features = network.features(inputs)
    assert torch.equal(features, network.scan(inputs).last())
    assert features.untyped_storage().nbytes() == features.numel() * features.element_size()
