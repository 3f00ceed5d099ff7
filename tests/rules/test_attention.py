"""Heads of queries that share heads of keys."""

import pytest

from solver_nas.errors import RuleError
from solver_nas.graph import Vertex
from solver_nas.labels import Tensor
from solver_nas.rules import Scope, Tape
from solver_nas.rules.attention import attention


def test_heads_are_shared_out_evenly() -> None:
    q, k, v = (Tensor((None, None, heads, size)) for heads, size in ((6, 8), (2, 8), (2, 5)))
    scope = Scope(Vertex("v", "attention"), (), Tape())
    y, scores = attention(scope, q, k, v, repeats=None)
    assert y.shape == (None, None, 6, 5)
    assert scores.shape == (None, 6, None, None)
    few = Tensor((None, None, 4, 8))
    with pytest.raises(RuleError, match="6 heads of queries cannot share 4 heads of keys"):
        attention(scope, q, few, few, repeats=None)
