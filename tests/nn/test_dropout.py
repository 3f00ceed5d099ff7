"""Dropout drops in training only."""

import numpy as np
import pytest

from solver_nas import nn
from solver_nas.errors import LayerError


def test_only_training_drops() -> None:
    net = nn.Network(seed=3)
    nn.dropout(net.input("x", 1000), 0.25)
    x = np.ones((10, 1000))
    np.testing.assert_array_equal(net(x), x)
    dropped = net(x, training=True)
    assert set(np.unique(dropped)) == {0.0, 1 / 0.75}
    assert abs((dropped == 0).mean() - 0.25) < 0.02
    assert (net(x, training=True) != dropped).any()


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2.0])
def test_the_rate_is_a_probability(rate: float) -> None:
    with pytest.raises(LayerError, match=r"dropout 'd': rate is a probability in \[0, 1\)"):
        nn.dropout(nn.Network().input("x", 4), rate, name="d")
