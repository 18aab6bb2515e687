"""What streams were called in the release before still works, and says what it is called now."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import timelocal as tl


def made() -> tuple[tl.Rule, torch.Tensor, torch.Tensor]:
    rule = tl.TBPTT(tl.RNN(2, 6, 1), loss="mse", at="every")
    draw = torch.Generator().manual_seed(0)
    return rule, torch.randn(3, 8, 2, generator=draw), torch.randn(3, 8, 1, generator=draw)


def test_a_session_fills_grad_and_runs_chunks_as_a_stream_does() -> None:
    rule, x, y = made()
    with pytest.warns(DeprecationWarning, match=r"TBPTT\.stream is now tl\.Stream") as told:
        session = rule.stream(3)
    assert told[0].filename == __file__
    estimate = session.step(x[:, 0], y[:, 0])
    for name, parameter in rule.network.named_parameters():
        assert_close(parameter.grad, estimate.gradients[name])
    losses = session.run(x[:, 1:], y[:, 1:], torch.optim.Adam(rule.parameters()))
    other, _, _ = made()
    tl.Stream(other, torch.optim.SGD(other.parameters(), lr=0.0), 3).step(x[:, 0], y[:, 0])
    stream = tl.Stream(other, torch.optim.Adam(other.parameters()), 3)
    stream.memory = {"states": stream.rule.begin(3)["states"]}
    stream.step(x[:, 0], y[:, 0], mask=torch.zeros(3))
    assert_close(stream.run(x[:, 1:], y[:, 1:]).loss, losses)


def test_methods_that_became_functions_say_so() -> None:
    rule, x, y = made()
    with pytest.warns(DeprecationWarning, match="repeated_estimate"):
        learn = rule.learner()
    estimate = learn(x, y, None)
    with pytest.warns(DeprecationWarning, match="update_locally"):
        rule.take_steps(estimate)
    with pytest.warns(DeprecationWarning, match="local_updates"):
        assert estimate.steps == {}
