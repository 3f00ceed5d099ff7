"""Group and instance norm, group by group."""

import numpy as np
import pytest

from solver_nas import nn
from solver_nas.errors import LayerError
from solver_nas.testing.zoo import randomised

X = np.random.default_rng(1).normal(1.0, 2.0, size=(2, 6, 4, 3))


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_values(groups: int) -> None:
    net = nn.Network()
    v = nn.group_norm(net.input("x", X.shape[1:]), groups, epsilon=0.1)
    randomised(net, 0)
    found, width = net(X), 6 // groups
    for sample in range(2):
        for first in range(0, 6, width):
            block = X[sample, first : first + width]
            expected = (block - block.mean()) / np.sqrt(block.var() + 0.1)
            for channel in range(first, first + width):
                scaled = expected[channel - first] * v.op.scale[channel] + v.op.shift[channel]
                np.testing.assert_allclose(found[sample, channel], scaled)
    np.testing.assert_allclose(net(X[0]), found[0])


def test_instance_values() -> None:
    net = nn.Network()
    nn.instance_norm(net.input("x", X.shape[1:]), epsilon=0.1)
    expected = (X - X.mean((2, 3), keepdims=True)) / np.sqrt(X.var((2, 3), keepdims=True) + 0.1)
    np.testing.assert_allclose(net(X), expected)
    assert not net.arrays


def test_vectors_have_groups_too() -> None:
    net = nn.Network()
    nn.group_norm(net.input("x", 6), 2, affine=False)
    x = np.array([[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]])
    np.testing.assert_allclose(net(x), np.tile([-1.2247, 0, 1.2247], 2)[None], atol=1e-3)


@pytest.mark.parametrize("affine", [True, False])
def test_groups_keep_equally_many_channels(affine: bool) -> None:
    net = nn.Network()
    x = nn.conv(net.input("x", (2, 4, 4)), 6, 1, name="before")
    v = nn.group_norm(x, 2, affine=affine, name="norm")
    labels = net.tensor("before").neurons["label"]
    (joint,) = net.labels.joints
    np.testing.assert_array_equal(joint.cells, labels.reshape(2, 3))
    np.testing.assert_array_equal(net.tensor(v.name).neurons["label"], labels)


def test_groups_divide_the_channels() -> None:
    message = r"group_norm 'g': groups is 4, which does not divide 6; possible are \[1, 2, 3, 6\]"
    with pytest.raises(LayerError, match=message):
        nn.group_norm(nn.Network().input("x", (6, 3)), 4, name="g")


def test_an_instance_has_pixels() -> None:
    with pytest.raises(LayerError, match="instance_norm: takes"):
        nn.instance_norm(nn.Network().input("x", 6))
