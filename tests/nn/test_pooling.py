"""Pooling against loops over every window."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from solver_nas import nn
from solver_nas.errors import LayerError

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
SIZES = {1: (9,), 2: (7, 6), 3: (5, 4, 6)}


def pooled(
    x: Array, kernel: int, stride: int, padding: int, constant: float, reduce: Callable[[Array], float]
) -> Array:
    rank = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *[(padding, padding)] * rank], constant_values=constant)
    positions = [(size - kernel) // stride + 1 for size in x.shape[2:]]
    y = np.zeros((*x.shape[:2], *positions))
    for sample, channel, *place in itertools.product(*map(range, y.shape)):
        at = (slice(p * stride, p * stride + kernel) for p in place)
        window: tuple[Any, ...] = (sample, channel, *at)
        y[(sample, channel, *place)] = reduce(x[window])
    return y


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, None, 0), (3, 2, 1), (3, 1, 2)])
def test_values(rank: int, kernel: int, stride: int | None, padding: int) -> None:
    x = np.random.default_rng(rank).normal(size=(2, 3, *SIZES[rank]))
    step = kernel if stride is None else stride
    net = nn.Network()
    given = net.input("x", (3, *SIZES[rank]))
    highest = nn.max_pool(given, kernel, stride=stride, padding=padding, name="max")
    nn.avg_pool(given, kernel, stride=stride, padding=padding, name="mean")
    nn.avg_pool(given, kernel, stride=stride, padding=padding, count_padding=False, name="inner")
    found = net.activations(x)
    expected = pooled(x, kernel, step, padding, -np.inf, np.max)
    np.testing.assert_array_equal(found["max"], expected)
    assert highest.shape == (None, *expected.shape[1:])
    np.testing.assert_allclose(found["mean"], pooled(x, kernel, step, padding, 0, np.mean))
    np.testing.assert_allclose(found["inner"], pooled(x, kernel, step, padding, np.nan, np.nanmean))


def test_dilated_maximum() -> None:
    net = nn.Network()
    nn.max_pool(net.input("x", (1, 5)), 2, stride=1, dilation=2)
    np.testing.assert_array_equal(net(np.array([[5.0, 4.0, 1.0, 2.0, 3.0]])), [[5.0, 4.0, 3.0]])


@pytest.mark.parametrize("keepdims", [False, True])
def test_all_spatial_axes_at_once(keepdims: bool) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    net = nn.Network()
    given = net.input("x", (3, 4, 5))
    mean = nn.global_avg_pool(given, keepdims=keepdims, name="mean")
    nn.global_max_pool(given, keepdims=keepdims, name="max")
    found = net.activations(x)
    np.testing.assert_allclose(found["mean"], x.mean((2, 3), keepdims=keepdims))
    np.testing.assert_array_equal(found["max"], x.max((2, 3), keepdims=keepdims))
    assert mean.shape == ((None, 3, 1, 1) if keepdims else (None, 3))
    np.testing.assert_allclose(net.activations(x[0])["mean"], found["mean"][0])


@pytest.mark.parametrize("pool", [nn.max_pool, nn.avg_pool])
def test_channels_keep_their_neurons(pool: Callable[..., nn.NetworkVertex]) -> None:
    net = nn.Network()
    x = nn.conv(net.input("x", (2, 6, 6)), 5, 1, name="before")
    for v in (pool(x, 2), nn.global_avg_pool(x), nn.global_max_pool(x, keepdims=True)):
        np.testing.assert_array_equal(net.tensor(v.name).neurons, net.tensor("before").neurons)


def test_windows_of_nothing_but_padding_are_refused() -> None:
    with pytest.raises(LayerError, match="see nothing but padding; use less"):
        nn.max_pool(nn.Network().input("x", (2, 6)), 2, padding=2)


def test_vectors_are_refused() -> None:
    with pytest.raises(LayerError, match="global_avg_pool 'p': takes"):
        nn.global_avg_pool(nn.Network().input("x", 6), name="p")
