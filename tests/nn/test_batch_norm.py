"""Batch normalisation in use and in training."""

import numpy as np
import pytest

from solver_nas import nn
from solver_nas.errors import LayerError
from solver_nas.nn.forward import evaluate
from solver_nas.testing.zoo import randomised


def test_values_in_use() -> None:
    net = nn.Network()
    v = nn.batch_norm(net.input("x", (3, 4, 5)), epsilon=0.1)
    randomised(net, 0)
    x = np.random.default_rng(1).normal(size=(2, 3, 4, 5))
    p = v.parameters
    for c in range(3):
        expected = (x[:, c] - p["mean"][c]) / np.sqrt(p["var"][c] + 0.1) * p["scale"][c] + p["shift"][c]
        np.testing.assert_allclose(net(x)[:, c], expected)
        np.testing.assert_allclose(net(x[0])[c], expected[0])


def test_training_uses_the_batch_and_remembers_it() -> None:
    net = nn.Network()
    nn.batch_norm(net.input("x", (3, 4)), momentum=0.25, name="norm")
    x = np.random.default_rng(1).normal(2.0, 3.0, size=(6, 3, 4))
    before = {key: array.copy() for key, array in net.arrays.items()}
    updates: dict[str, np.ndarray] = {}
    out = evaluate(net.graph, net.arrays, {"x": x}, net.rng, training=True, updates=updates)["norm"]
    np.testing.assert_allclose(out.mean((0, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(out.var((0, 2)), 1, rtol=1e-4)
    np.testing.assert_allclose(updates["norm.mean"], 0.25 * x.mean((0, 2)))
    np.testing.assert_allclose(updates["norm.var"], 0.75 + 0.25 * x.var((0, 2), ddof=1))
    for key, array in net.arrays.items():
        np.testing.assert_array_equal(array, before[key])


def test_the_channels_are_where_the_neurons_are() -> None:
    net = nn.Network()
    v = nn.batch_norm(net.input("x", (5, 4), axis=-1))
    assert v.op.axis == -1
    assert v.parameters["mean"].shape == (4,)
    assert nn.batch_norm(net["x"], axis=1).parameters["mean"].shape == (5,)


def test_scale_and_shift_can_be_left_out() -> None:
    net = nn.Network()
    v = nn.batch_norm(net.input("x", 4), scale=False, shift=False)
    assert set(v.parameters) == {"mean", "var"}


def test_new_channels_start_neutral() -> None:
    net = nn.Network()
    nn.batch_norm(net.input("x", 4), name="norm")
    fills = {role: net.fill_of("norm", role) for role in net["norm"].parameters}
    assert fills == {"mean": 0.0, "var": 1.0, "scale": 1.0, "shift": 0.0}


def test_every_array_follows_the_channels() -> None:
    net = nn.Network()
    v = nn.batch_norm(nn.dense(net.input("x", 2), 4, name="before"), name="norm")
    for role in v.parameters:
        (use,) = net.labels.parameters[f"norm.{role}"].uses
        np.testing.assert_array_equal(use.levels[0], net.tensor("before").neurons)


def test_the_batch_is_no_channel() -> None:
    with pytest.raises(LayerError, match=r"batch_norm: axis 0 of 'x' is not one of 1 \.\. 1 or"):
        nn.batch_norm(nn.Network().input("x", 4), axis=0)
