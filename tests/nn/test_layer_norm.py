"""Layer norm and RMS norm, sample by sample."""

import numpy as np
import pytest

from solver_nas import nn
from solver_nas.errors import LayerError
from solver_nas.rules import rule_of
from solver_nas.testing.zoo import randomised

X = np.random.default_rng(1).normal(1.0, 2.0, size=(2, 5, 4, 3))


@pytest.mark.parametrize("axes", [-1, 1, (2, 3), (1, 2, 3), (-1, 1)])
def test_values(axes: int | tuple[int, ...]) -> None:
    net = nn.Network()
    given = net.input("x", X.shape[1:])
    layer = nn.layer_norm(given, axes=axes, epsilon=0.1, name="layer")
    rms = nn.rms_norm(given, axes=axes, epsilon=0.1, name="rms")
    randomised(net, 0)
    places = tuple(sorted(axis % 4 for axis in ([axes] if isinstance(axes, int) else axes)))
    shape = tuple(size if axis in places else 1 for axis, size in enumerate(X.shape))
    found = net.activations(X)
    for sample, x in enumerate(X):
        inside = tuple(axis - 1 for axis in places)
        p = {role: array.reshape(shape[1:]) for role, array in layer.parameters.items()}
        centred = x - x.mean(inside, keepdims=True)
        expected = centred / np.sqrt(x.var(inside, keepdims=True) + 0.1) * p["scale"] + p["shift"]
        np.testing.assert_allclose(found["layer"][sample], expected)
        p = {role: array.reshape(shape[1:]) for role, array in rms.parameters.items()}
        expected = x / np.sqrt((x**2).mean(inside, keepdims=True) + 0.1) * p["scale"]
        np.testing.assert_allclose(found["rms"][sample], expected)
    np.testing.assert_allclose(net.activations(X[0])["layer"], found["layer"][0])


def test_scale_and_shift_follow_the_neurons_and_nothing_else() -> None:
    net = nn.Network()
    x = nn.conv(net.input("x", (2, 3, 4)), 5, 1, name="before")
    v = nn.layer_norm(x, axes=(1, 2, 3), name="norm")
    for role in ("scale", "shift"):
        (use,) = net.labels.parameters[f"norm.{role}"].uses
        assert (use.axes, use.role) == ((0,), "follow")
        np.testing.assert_array_equal(use.levels[0], net.tensor("before").neurons)
    np.testing.assert_array_equal(net.tensor(v.name).neurons, net.tensor("before").neurons)


@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm"])
def test_dropping_is_not_masking(kind: str) -> None:
    found = rule_of(kind)
    assert found is not None
    assert not found.exact


@pytest.mark.parametrize("axes", [(), (1, 1), (1, -3)])
def test_axes_are_different_ones(axes: tuple[int, ...]) -> None:
    x = nn.Network().input("x", (5, 4, 3))
    with pytest.raises(LayerError, match="layer_norm 'n': axes are one or several different axes"):
        nn.layer_norm(x, axes=axes, name="n")


def test_sizes_have_to_be_known() -> None:
    x = nn.Network().input("x", (None, 4), axis=-1)
    assert nn.layer_norm(x).shape == (None, None, 4)
    with pytest.raises(LayerError, match="axis -2 of 'x' has no known size"):
        nn.layer_norm(x, axes=(1, 2))
