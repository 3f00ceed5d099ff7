"""Recurrent layers against loops over single units."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from solver_nas import nn
from solver_nas.errors import LayerError
from solver_nas.testing.zoo import randomised

X = np.random.default_rng(1).normal(size=(2, 5, 3))
UNITS = 4
Layer = Callable[..., nn.NetworkVertex]
LAYERS: list[Layer] = [nn.simple_rnn, nn.lstm, nn.gru]
each_layer = pytest.mark.parametrize("layer", LAYERS)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def walked(kind: str, p: Any, x: Any) -> Any:
    """The states of one sample (steps, units), one unit and one gate at a time."""
    state, memory = np.zeros(UNITS), np.zeros(UNITS)
    states = []
    for step in x:
        following = np.zeros(UNITS)
        for unit in range(UNITS):

            def gate(number: int, unit: int = unit, step: Any = step, state: Any = state) -> tuple[float, float]:
                row = number * UNITS + unit
                given = sum(p["weight_ih"][row, i] * step[i] for i in range(len(step))) + p["bias_ih"][row]
                own = sum(p["weight_hh"][row, i] * state[i] for i in range(UNITS)) + p["bias_hh"][row]
                return given, own

            if kind == "simple_rnn":
                following[unit] = np.tanh(sum(gate(0)))
            elif kind == "lstm":
                enter, forget, cell, leave = (sum(gate(number)) for number in range(4))
                memory[unit] = sigmoid(forget) * memory[unit] + sigmoid(enter) * np.tanh(cell)
                following[unit] = sigmoid(leave) * np.tanh(memory[unit])
            else:
                reset, update = sigmoid(sum(gate(0))), sigmoid(sum(gate(1)))
                given, own = gate(2)
                following[unit] = (1 - update) * np.tanh(given + reset * own) + update * state[unit]
        state = following
        states.append(state)
    return np.array(states)


@each_layer
def test_values(layer: Layer) -> None:
    net = nn.Network()
    v = layer(net.input("x", X.shape[1:], axis=-1), UNITS)
    randomised(net, 0)
    expected = np.array([walked(v.kind, v.parameters, x) for x in X])
    np.testing.assert_allclose(net(X), expected)
    np.testing.assert_allclose(net(X[0]), expected[0])
    assert v.shape == (None, 5, UNITS)


@each_layer
def test_reverse_begins_at_the_end(layer: Layer) -> None:
    net = nn.Network()
    v = layer(net.input("x", X.shape[1:], axis=-1), UNITS, reverse=True)
    randomised(net, 0)
    expected = np.array([walked(v.kind, v.parameters, x[::-1])[::-1] for x in X])
    np.testing.assert_allclose(net(X), expected)


@each_layer
@pytest.mark.parametrize("reverse", [False, True])
def test_the_last_state_alone(layer: Layer, reverse: bool) -> None:
    net = nn.Network()
    x = net.input("x", X.shape[1:], axis=-1)
    v = layer(x, UNITS, reverse=reverse, return_sequences=False)
    randomised(net, 0)
    ordered = X[:, ::-1] if reverse else X
    expected = np.array([walked(v.kind, v.parameters, x)[-1] for x in ordered])
    np.testing.assert_allclose(net(X), expected)
    assert v.shape == (None, UNITS)


@each_layer
def test_both_directions_side_by_side(layer: Layer) -> None:
    net = nn.Network()
    v = nn.bidirectional(layer, net.input("x", X.shape[1:], axis=-1), UNITS, name="both")
    found = net.activations(X)
    np.testing.assert_array_equal(found["both"][..., :UNITS], found["both.forward"])
    np.testing.assert_array_equal(found["both"][..., UNITS:], found["both.reverse"])
    assert v.nout == 2 * UNITS


@each_layer
def test_gates_share_their_units(layer: Layer) -> None:
    net = nn.Network()
    x = nn.dense(net.input("x", (5, 2), axis=-1), 3, name="before")
    v = layer(x, UNITS, name="layer")
    made = net.tensor(v.name).neurons
    uses = {role: net.labels.parameters[f"layer.{role}"].uses for role in v.parameters}
    assert [(use.axes, use.role) for use in uses["weight_ih"]] == [((2,), "contract"), ((1,), "fresh")]
    np.testing.assert_array_equal(uses["weight_ih"][0].levels[0], net.tensor("before").neurons)
    np.testing.assert_array_equal(uses["weight_ih"][1].levels[0], made)
    assert [use.axes for use in uses["weight_hh"]] == [(1,), (2,)]
    for use in (*uses["weight_hh"], *uses["bias_ih"], *uses["bias_hh"]):
        np.testing.assert_array_equal(use.levels[0], made)


def test_activation_of_a_simple_rnn() -> None:
    net = nn.Network()
    nn.simple_rnn(net.input("x", X.shape[1:], axis=-1), UNITS, activation="relu")
    assert (net(X) >= 0).all()
    with pytest.raises(LayerError, match="no activation 'swoosh'"):
        nn.simple_rnn(net["x"], UNITS, activation="swoosh")


@each_layer
def test_without_bias(layer: Layer) -> None:
    net = nn.Network()
    v = layer(net.input("x", X.shape[1:], axis=-1), UNITS, bias=False)
    assert set(v.parameters) == {"weight_ih", "weight_hh"}
    assert (net(np.zeros_like(X)) == 0).all()


@each_layer
def test_vectors_are_refused(layer: Layer) -> None:
    with pytest.raises(LayerError, match=r"'r': takes sequences \(batch, steps, features\), 'x' has shape"):
        layer(nn.Network().input("x", 6), 4, name="r")


def test_both_directions_leave_no_choice_of_direction() -> None:
    with pytest.raises(LayerError, match="leave `reverse` out"):
        nn.bidirectional(nn.gru, nn.Network().input("x", (5, 3), axis=-1), 4, reverse=True)
