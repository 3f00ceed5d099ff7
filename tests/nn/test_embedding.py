"""Embeddings look vectors up."""

import numpy as np
import pytest

from solver_nas import nn
from solver_nas.errors import LayerError


def test_values() -> None:
    net = nn.Network()
    v = nn.embedding(net.tokens("x", 3), 7, 4)
    tokens = np.array([[0, 6, 6], [1, 2, 3]])
    np.testing.assert_array_equal(net(tokens), v.op.weight[tokens])
    np.testing.assert_array_equal(net(tokens[0]), v.op.weight[tokens[0]])
    assert v.shape == (None, 3, 4)


def test_one_token_per_sample() -> None:
    net = nn.Network()
    v = nn.embedding(net.input("x", ()), 7, 4)
    np.testing.assert_array_equal(net(np.array([2, 5])), v.op.weight[[2, 5]])


def test_the_vocabulary_never_changes() -> None:
    net = nn.Network()
    nn.embedding(net.tokens("x"), 7, 4, name="table")
    (use,) = net.labels.parameters["table.weight"].uses
    assert (use.axes, use.role) == ((1,), "fresh")
    assert net["table"].shape == (None, None, 4)


@pytest.mark.parametrize("tokens", [[[7]], [[-1]], [[0.5]]])
def test_tokens_are_in_the_vocabulary(tokens: list[list[float]]) -> None:
    net = nn.Network()
    nn.embedding(net.tokens("x"), 7, 4, name="table")
    with pytest.raises(LayerError, match=r"vertex 'table' \(embedding\): tokens are integers in \[0, 7\)"):
        net(np.array(tokens))


def test_sizes_are_positive() -> None:
    with pytest.raises(LayerError, match="embedding: vocabulary is an integer of at least 1, got 0"):
        nn.embedding(nn.Network().tokens("x"), 0, 4)
