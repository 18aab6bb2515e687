"""Learning at every step in one call: the twin against the formulas, the native path against the twin."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch_online
from torch.testing import assert_close

from covering import covering
from timelocal import kernels
from timelocal.kernels import (
    KINDS,
    OnlineSettings,
    OnlineState,
    OnlineWeights,
    native_online,
    torch_noise,
)

SIGMA = 0.1


def problem(
    kind,
    *,
    tau=1.0,
    steps=7,
    batch=3,
    inputs=2,
    hidden=5,
    outputs=2,
    bias=True,
    readout_bias=True,
    decorrelate=False,
    preserve_norm=False,
    dtype=torch.float64,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    scale = hidden**-0.5
    weights = OnlineWeights(
        draw(hidden, inputs) * scale,
        draw(hidden, hidden) * scale,
        draw(hidden) * scale if bias else None,
        draw(hidden) * scale if bias else None,
        draw(outputs, hidden) * scale,
        draw(outputs) if readout_bias else None,
        torch.eye(hidden, dtype=dtype) + 0.3 * scale * draw(hidden, hidden)
        if decorrelate
        else None,
    )
    state = OnlineState(
        draw(batch, hidden).tanh(),
        draw(batch, hidden).tanh() if kind not in ("bp1", "rflo") else None,
        0.1 * draw(batch, hidden, hidden + inputs + bias) if kind == "rflo" and tau > 1 else None,
    )
    settings = OnlineSettings(
        kind,
        0.1 / (hidden + outputs),
        tau,
        SIGMA,
        2**40 + 17,
        0.02 if decorrelate else 0.0,
        preserve_norm,
        draw(hidden, outputs) if kind == "rflo" else None,
        batch_reward=kind == "anp-authors-code",
    )
    return settings, weights, state, draw(steps, batch, inputs), draw(steps, batch, outputs)


def copied(tensors):
    return type(tensors)(*(None if t is None else t.clone() for t in tensors))


def run(path, settings, weights, state, inputs, targets, first_step=0):
    """A run on copies: losses, outputs, weights and state at the end."""
    weights, state = copied(weights), copied(state)
    found = path(settings, weights, state, inputs, targets, first_step)
    return [t for t in (*found, *weights, *state) if t is not None]


# --- the twin -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [1.0, 2.5])
@pytest.mark.parametrize("decorrelate", [False, True])
def test_bp1_follows_autograd_within_the_step(tau, decorrelate):
    settings, weights, state, inputs, targets = problem("bp1", tau=tau, decorrelate=decorrelate)
    losses, _, *found = run(torch_online.online, settings, weights, state, inputs, targets)
    matrix = weights.decorrelation if decorrelate else torch.eye(5, dtype=torch.float64)
    trained = [w.clone().requires_grad_() for w in weights.trained().values()]
    h = state.hidden
    for x, y, loss in zip(inputs, targets, losses, strict=True):
        ih, hh, b_ih, b_hh, u, c = trained
        a = x @ ih.T + h @ matrix.T @ hh.T + b_ih + b_hh
        h = (1 - 1 / tau) * h + a.tanh() / tau
        features = h @ matrix.T
        own = (features @ u.T + c - y).square().mean()
        assert_close(own.detach(), loss)
        with torch.no_grad():
            for weight, gradient in zip(trained, torch.autograd.grad(own, trained), strict=True):
                weight -= settings.lr * gradient
        h, features = h.detach(), features.detach()
        if decorrelate:
            correlation = features.T @ features / len(features)
            correlation -= correlation.diag().diag()
            matrix = matrix - settings.decorrelation_lr * correlation @ matrix
    expected = [*(w.detach() for w in trained), *([matrix] if decorrelate else []), h]
    assert_close(found, expected, atol=1e-12, rtol=1e-12)


def naive(settings, weights, state, inputs, targets, first_step):
    """Perturbation and RFLO from their formulas, sample by sample, in numpy."""
    V, W, b_ih, b_hh, U, c, D = (w.numpy().copy() for w in weights)
    clean, kind, sigma, tau = (
        state.hidden.numpy().copy(),
        settings.kind,
        settings.sigma,
        settings.tau,
    )
    noisy = None if state.noisy is None else state.noisy.numpy().copy()
    trace = None if state.trace is None else state.trace.numpy().copy()
    steps, batch, _ = inputs.shape
    (hidden, _), outputs = V.shape, len(U)
    losses = []
    for t in range(steps):

        def noise(place, *shape, t=t):
            drawn = torch_noise.normal(settings.key, first_step + t, 1, place, shape, torch.float64)
            return drawn[0].numpy()

        xi, nu = noise(0, batch, hidden), noise(1, batch, outputs)
        parameters = [V, W, b_ih, b_hh, U, c]
        shaken = [noise(place, *p.shape) for place, p in enumerate(parameters)]
        changes = [np.zeros_like(p) for p in parameters]
        stars, total = [], 0.0
        for b in range(batch):
            x, y = inputs[t, b].numpy(), targets[t, b].numpy()
            before = D @ clean[b]
            a = V @ x + W @ before + b_ih + b_hh
            clean[b] = (1 - 1 / tau) * clean[b] + np.tanh(a) / tau
            star = D @ clean[b]
            beta = U @ star + c
            loss = ((beta - y) ** 2).mean()
            total += loss / batch
            stars.append(star)
            if kind == "rflo":
                e = 2 * (beta - y) / (outputs * batch)
                entering = np.concatenate([before, x, [1.0]])
                trace[b] = (
                    np.outer((1 - np.tanh(a) ** 2) / tau, entering) + (1 - 1 / tau) * trace[b]
                )
                full = (settings.feedback.numpy() @ e)[:, None] * trace[b]
                own = [full[:, hidden:-1], full[:, :hidden], full[:, -1], full[:, -1]]
                own += [np.outer(e, star), e]
            else:
                if kind == "wp":
                    v, w, bi, bh, u, k = (
                        p + sigma * n for p, n in zip(parameters, shaken, strict=True)
                    )
                    other = v @ x + w @ D @ noisy[b] + bi + bh
                else:
                    u, k = U, c + sigma * nu[b]
                    other = V @ x + W @ D @ noisy[b] + b_ih + b_hh + sigma * xi[b]
                noisy[b] = (1 - 1 / tau) * noisy[b] + np.tanh(other) / tau
                moved = u @ D @ noisy[b] + k
                credit = (((moved - y) ** 2).mean() - loss) / batch
                if kind == "wp":
                    own = [credit * n / sigma for n in shaken]
                else:
                    if kind == "np":
                        delta, read = credit * xi[b] / sigma, credit * nu[b] / sigma
                    else:
                        norm = ((other - a) ** 2).sum() + ((moved - beta) ** 2).sum()
                        scale = (hidden + outputs) * credit / norm
                        delta, read = scale * (other - a), scale * (moved - beta)
                    own = [np.outer(delta, x), np.outer(delta, before), delta, delta]
                    own += [np.outer(read, star), read]
            for change, gradient in zip(changes, own, strict=True):
                change += gradient
        losses.append(total)
        for p, change in zip(parameters, changes, strict=True):
            p -= settings.lr * change
        correlation = sum(np.outer(s, s) for s in stars) / batch
        np.fill_diagonal(correlation, 0)
        rows = np.linalg.norm(D, axis=1)
        D = D - settings.decorrelation_lr * correlation @ D
        if settings.preserve_norm:
            D *= (rows / np.linalg.norm(D, axis=1))[:, None]
    ends = [V, W, b_ih, b_hh, U, c, D, clean, noisy, trace]
    return [torch.tensor(np.array(losses)), *(torch.tensor(e) for e in ends if e is not None)]


@pytest.mark.parametrize("kind", ["rflo", "np", "anp", "wp"])
@pytest.mark.parametrize("preserve_norm", [False, True])
def test_the_twin_follows_the_formulas(kind, preserve_norm):
    given = problem(kind, tau=2.0, decorrelate=True, preserve_norm=preserve_norm)
    losses, _, *found = run(torch_online.online, *given, 11)
    assert_close([losses, *found], naive(*given, 11), atol=1e-11, rtol=1e-11)


# --- the native path ------------------------------------------------------------------------------

SIZES = [  # batch, inputs, hidden, outputs
    (1, 1, 1, 1),
    (1, 3, 17, 2),
    (2, 1, 33, 5),
    (3, 5, 64, 1),
    (5, 2, 100, 9),
    (10, 3, 61, 3),
    (13, 1, 40, 17),
]
VARIANTS = [  # tau, bias, readout bias, decorrelate, preserve the norm
    (1.0, True, True, False, False),
    (2.0, False, True, True, False),
    (1.5, True, False, True, True),
    (1.0, False, False, True, False),
]


@pytest.mark.parametrize(
    ("kind", "size", "variant"), covering(itertools.product(KINDS, SIZES, VARIANTS), pairs=True)
)
def test_native_is_the_twin(module, threads, kind, size, variant):
    batch, inputs, hidden, outputs = size
    tau, bias, readout_bias, decorrelate, preserve_norm = variant
    given = problem(
        kind,
        tau=tau,
        batch=batch,
        inputs=inputs,
        hidden=hidden,
        outputs=outputs,
        bias=bias,
        readout_bias=readout_bias,
        decorrelate=decorrelate,
        preserve_norm=preserve_norm,
    )
    expected = run(torch_online.online, *given, 3)
    assert not torch.equal(expected[2], given[1].ih)
    threads(2)
    found = run(native_online.online, *given, 3)
    assert_close(found, expected, atol=1e-10, rtol=1e-10)
    threads(1)
    for one, two in zip(run(native_online.online, *given, 3), found, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("kind", ["np", "anp"])
@pytest.mark.parametrize(
    "change", [{"orthogonal": True}, {"batch_reward": True}, {"layer_norms": True}]
)
def test_native_is_the_twin_with_a_noisy_pass_of_another_kind(module, kind, change):
    settings, *given = problem(kind, batch=4, hidden=21, decorrelate=True)
    settings = settings._replace(**change)
    expected = run(torch_online.online, settings, *given)
    assert_close(run(native_online.online, settings, *given), expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_native_is_the_twin_in_single_precision(module, kind):
    given = problem(kind, tau=1.5, hidden=50, batch=10, decorrelate=True, dtype=torch.float32)
    expected = run(torch_online.online, *given)
    assert_close(run(native_online.online, *given), expected, atol=2e-5, rtol=2e-4)


@pytest.mark.parametrize("path", [native_online.online, torch_online.online])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_in_chunks_is_one_call(path, kind):
    if path is native_online.online and kernels.describe()["path"] != "native":
        pytest.skip("no native kernel is active")
    given = problem(kind, tau=1.5, decorrelate=True, steps=9)
    settings, weights, state, inputs, targets = given
    _, _, *expected = run(path, *given, 5)
    weights, state, at = copied(weights), copied(state), 0
    for size in (1, 3, 4, 1):
        part = slice(at, at + size)
        path(settings, weights, state, inputs[part], targets[part], 5 + at)
        at += size
    found = [t for t in (*weights, *state) if t is not None]
    assert_close(found, expected, atol=1e-12, rtol=1e-12)


def test_long_work_is_split_and_strided_tensors_are_served(module, monkeypatch):
    given = problem("np", decorrelate=True, steps=20)
    expected = run(native_online.online, *given)
    monkeypatch.setattr(native_online, "_WORK_PER_CALL", 1e4)
    settings, weights, state, inputs, targets = given
    strided = weights._replace(hh=weights.hh.T.contiguous().T)
    assert not strided.hh.is_contiguous()
    assert_close(run(native_online.online, settings, strided, state, inputs, targets), expected)


def test_wrong_shapes_are_refused(module):
    settings, weights, state, inputs, targets = problem("np")
    with pytest.raises(ValueError, match="readout weight"):
        native_online.online(
            settings, weights._replace(readout=weights.readout.T), state, inputs, targets
        )
