"""The softmax over any axis."""

import numpy as np
import pytest

from solver_nas import nn
from solver_nas.errors import LayerError


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_values(axis: int) -> None:
    net = nn.Network()
    nn.softmax(net.input("x", (3, 4)), axis=axis)
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    expected = np.exp(x) / np.exp(x).sum(axis, keepdims=True)
    np.testing.assert_allclose(net(x), expected)
    np.testing.assert_allclose(net(x[0]), expected[0])


def test_large_numbers_do_not_overflow() -> None:
    net = nn.Network()
    nn.softmax(net.input("x", 3))
    np.testing.assert_allclose(net(np.array([1e4, 1e4, -1e4])), [0.5, 0.5, 0.0])


def test_the_batch_is_not_normalised() -> None:
    with pytest.raises(LayerError, match="softmax: axis 0 of 'x'"):
        nn.softmax(nn.Network().input("x", 3), axis=0)
