"""Padding and upsampling."""

import numpy as np
import pytest

from solver_nas import nn
from solver_nas.errors import LayerError
from solver_nas.labels import FIXED

X = np.random.default_rng(0).normal(size=(2, 3, 4, 2))


def test_pad() -> None:
    net = nn.Network()
    v = nn.pad(net.input("x", X.shape[1:]), [(1, 2), 3], constant=0.5)
    expected = np.pad(X, [(0, 0), (0, 0), (1, 2), (3, 3)], constant_values=0.5)
    np.testing.assert_array_equal(net(X), expected)
    np.testing.assert_array_equal(net(X[0]), expected[0])
    assert v.shape == (None, *expected.shape[1:])


def test_padded_channels_are_always_there() -> None:
    net = nn.Network()
    x = nn.conv(net.input("x", (2, 3)), 3, 1, name="before")
    nn.pad(x, [(1, 2), 0], name="padded")
    before, padded = (net.tensor(name).neurons["label"] for name in ("before", "padded"))
    np.testing.assert_array_equal(padded, [FIXED, *before, FIXED, FIXED])


def test_padded_pixels_leave_the_channels_alone() -> None:
    net = nn.Network()
    x = nn.conv(net.input("x", (2, 3)), 3, 1, name="before")
    nn.pad(x, [1], name="padded")
    np.testing.assert_array_equal(net.tensor("padded").neurons, net.tensor("before").neurons)


@pytest.mark.parametrize("factor", [2, (3, 1)])
def test_upsample(factor: int | tuple[int, int]) -> None:
    net = nn.Network()
    v = nn.upsample(net.input("x", X.shape[1:]), factor)
    tall, wide = (factor, factor) if isinstance(factor, int) else factor
    expected = np.kron(X, np.ones((1, 1, tall, wide)))
    np.testing.assert_array_equal(net(X), expected)
    np.testing.assert_array_equal(net(X[0]), expected[0])
    assert v.shape == (None, *expected.shape[1:])


def test_impossible_arguments_are_named() -> None:
    x = nn.Network().input("x", (3, 4))
    with pytest.raises(LayerError, match="pad 'p': widths are for 1 to 2 last axes, got 3"):
        nn.pad(x, [1, 1, 1], name="p")
    with pytest.raises(LayerError, match="width is an integer of at least 0, got -1"):
        nn.pad(x, [(1, -1)])
    with pytest.raises(LayerError, match="upsample: factor is an integer of at least 1, got 0"):
        nn.upsample(x, 0)
