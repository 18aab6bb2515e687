"""Noise: the published cipher, its native twin, and the normal law."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from timelocal import kernels
from timelocal.kernels import torch_noise

KNOWN = [  # key, counter, cipher: the answers published with Random123 for Threefry-2x32-13
    ((0, 0), (0, 0), (0x9D1C5EC6, 0x8BD50731)),
    ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0xFD36D048, 0x2D17272C)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xBA3E4725, 0xF27D669E)),
]


@pytest.mark.parametrize(("key", "counter", "expected"), KNOWN)
def test_threefry_gives_the_published_answers(key, counter, expected):
    words = [torch.tensor(word) for word in (*key, *counter)]
    found = torch_noise._threefry(tuple(words[:2]), tuple(words[2:]))
    assert tuple(int(word) for word in found) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1,), (31,), (32,), (33,), (7, 5), (10, 100), (3, 333)])
@pytest.mark.parametrize("seed", [0, 2**61 + 12345])
def test_native_noise_is_the_twin_s(module, threads, dtype, shape, seed):
    expected = torch_noise.normal(seed, 2**33 + 5, 3, 4, shape, dtype)
    tolerance = 1e-13 if dtype == torch.float64 else 2e-6
    for count in (1, 2, 3):
        threads(count)
        found = kernels.normal(seed, 2**33 + 5, 3, 4, shape, dtype)
        assert found.shape == (3, *shape)
        assert_close(found, expected, atol=tolerance, rtol=tolerance)


def test_native_noise_does_not_depend_on_threads(module, threads):
    drawn = []
    for count in (1, 2, 5):
        threads(count)
        drawn.append(kernels.normal(3, 0, 7, 0, (1000,)))
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])


def test_moments_of_the_normal_law(module):
    drawn = kernels.normal(1, 0, 100, 0, (10_000,), torch.float64).flatten()
    count = drawn.numel()
    for power, (mean, variance) in enumerate([(0, 1), (1, 2), (0, 15), (3, 96)], 1):
        assert abs(float(drawn.pow(power).mean()) - mean) < 4 * math.sqrt(variance / count)
    steps = drawn.view(100, 10_000)
    assert abs(float((steps[1:] * steps[:-1]).mean())) < 4 / math.sqrt(count)
    halves = drawn.view(-1, 2, 16)  # the cosines and sines of the same counters
    assert abs(float((halves[:, 0] * halves[:, 1]).mean())) < 4 * math.sqrt(2 / count)
    assert 4.5 < float(drawn.abs().max()) < 5.8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_noise_is_float32_s_rounded(dtype):
    drawn = kernels.normal(7, 0, 50, 0, (1000,), dtype)
    assert drawn.dtype == dtype
    assert_close(drawn, torch_noise.normal(7, 0, 50, 0, (1000,)).to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_orthogonal_signs_are_float32_s(dtype):
    given = (7, 0, 4, 0, (8, 8, 64), 0, 64)
    found = kernels.orthogonal(*given, dtype)
    assert found.dtype == dtype
    assert_close(found, kernels.orthogonal(*given).to(dtype), rtol=0, atol=0)
    assert abs(float(found.double().mean())) < 0.1
