"""The JAX baseline: the cells written with `lax.scan`, the loss under `value_and_grad`, all under jit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from torch import Tensor

from timelocal.network import Network

Parameters = dict[str, Any]


def _step(cell: str, p: Parameters, state: Any, drive: Any) -> Any:
    """One step from the input's share of the pre-activations, (b, g)."""
    if cell == "rnn":
        return jnp.tanh(drive + state @ p["weight_hh"].T + p["bias_hh"])
    if cell == "gru":
        recurrent = state @ p["weight_hh"].T + p["bias_hh"]
        reset, update, candidate = jnp.split(drive, 3, -1)
        r_reset, r_update, r_candidate = jnp.split(recurrent, 3, -1)
        gate, keep = jax.nn.sigmoid(reset + r_reset), jax.nn.sigmoid(update + r_update)
        return (1 - keep) * jnp.tanh(candidate + gate * r_candidate) + keep * state
    hidden, memory = state
    i, f, g, o = jnp.split(drive + hidden @ p["weight_hh"].T + p["bias_hh"], 4, -1)
    memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(memory), memory


def make(cell: str, network: Network, inputs: Tensor, targets: Tensor) -> Callable[[], object]:
    """A compiled loss and gradient on the network's weights; the call waits for the result."""
    parameters: Parameters = {
        name.split(".")[1].removesuffix("_l0"): jnp.asarray(p.detach().numpy())
        for name, p in network.named_parameters()
        if name.startswith("recurrent")
    }
    parameters |= {
        name: jnp.asarray(p.detach().numpy()) for name, p in network.readout.named_parameters()
    }
    x, y = jnp.asarray(inputs.transpose(0, 1).numpy()), jnp.asarray(targets.numpy())
    zeros = jnp.zeros((inputs.shape[0], network.hidden_size), x.dtype)

    def loss(p: Parameters) -> Any:
        drives = x @ p["weight_ih"].T + p["bias_ih"]
        start = (zeros, zeros) if cell == "lstm" else zeros
        final, _ = jax.lax.scan(lambda s, d: (_step(cell, p, s, d), None), start, drives)
        hidden = final[0] if cell == "lstm" else final
        log_probabilities = jax.nn.log_softmax(hidden @ p["weight"].T + p["bias"])
        return -jnp.take_along_axis(log_probabilities, y[:, None], 1).mean()

    compiled = jax.jit(jax.value_and_grad(loss))

    wait: Callable[[object], object] = jax.block_until_ready

    def call() -> object:
        return wait(compiled(parameters))

    return call
