"""Learned factors, summands and positions."""

import numpy as np
import pytest

from solver_nas import nn
from solver_nas.errors import LayerError


def test_scale_and_bias_are_neutral_at_first() -> None:
    net = nn.Network()
    nn.bias(nn.scale(net.input("x", (3, 4))))
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    np.testing.assert_array_equal(net(x), x)


def test_one_number_per_channel() -> None:
    net = nn.Network()
    x = net.input("x", (3, 4))
    nn.scale(x, name="factor").op.scale = [1.0, 2.0, 3.0]
    nn.bias(x, name="summand").op.bias = [1.0, 2.0, 3.0]
    nn.bias(x, axis=-1, name="last").op.bias = [1.0, 2.0, 3.0, 4.0]
    found = net.activations(np.ones((2, 3, 4)))
    np.testing.assert_array_equal(found["factor"][0, :, 0], [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(found["summand"][0, :, 0], [2.0, 3.0, 4.0])
    np.testing.assert_array_equal(found["last"][0, 0], [2.0, 3.0, 4.0, 5.0])
    assert net.fill_of("factor", "scale") == 1
    assert net.fill_of("summand", "bias") == 0


def test_positions_are_added_step_by_step() -> None:
    net = nn.Network()
    v = nn.position(net.input("x", (3, 4), axis=-1), deviation=2.0)
    np.testing.assert_array_equal(net(np.zeros((2, 3, 4)))[1], v.op.position)
    assert v.op.position.std() > 0.5


def test_positions_follow_the_features_and_keep_the_steps() -> None:
    net = nn.Network()
    nn.position(nn.dense(net.input("x", (3, 2), axis=-1), 4, name="before"), name="where")
    (use,) = net.labels.parameters["where.position"].uses
    assert (use.axes, use.role) == ((1,), "follow")
    np.testing.assert_array_equal(use.levels[0], net.tensor("before").neurons)


def test_steps_have_to_be_known() -> None:
    with pytest.raises(LayerError, match="position: axis 1 of 'x' has no known size"):
        nn.position(nn.Network().input("x", (None, 4), axis=-1))
