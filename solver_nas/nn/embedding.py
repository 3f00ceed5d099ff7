"""Look-up of a learned vector for every token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import autograd.numpy as anp
import numpy as np
from autograd.tracer import getval

from solver_nas.errors import LayerError
from solver_nas.nn.arguments import positive, title
from solver_nas.nn.forward import Call, forward
from solver_nas.rules import Scope, rule
from solver_nas.rules.contract import einsum

if TYPE_CHECKING:
    from solver_nas.labels import Tensor
    from solver_nas.nn.vertex import NetworkVertex


def embedding(
    tokens: NetworkVertex,
    vocabulary: int,
    units: int,
    *,
    deviation: float = 1.0,
    name: str | None = None,
) -> NetworkVertex:
    """A vector for every token number.

    Args:
        tokens: integers in `[0, vocabulary)`, of any shape; see `Network.tokens`.
        vocabulary: number of different tokens; it never changes.
        units: size of the vectors.
        deviation: standard deviation of the initial entries.
        name: of the new vertex.

    Returns:
        (*tokens' shape, units). Array: `weight` (vocabulary, units).

    >>> from solver_nas.nn import Network
    >>> embedding(Network().tokens("words", 12), 100, 8, name="vectors")
    <vectors: embedding 0 -> 8>
    """
    layer = title("embedding", name)
    shape = positive(layer, "vocabulary", vocabulary), positive(layer, "units", units)
    arrays = {"weight": tokens.model.rng.normal(0.0, deviation, shape)}
    return tokens.model.add("embedding", name, (tokens,), {}, arrays)


@forward("embedding")
def _forward(call: Call) -> Any:
    weight, index = call.parameters["weight"], np.asarray(getval(call.x))
    tokens = index.astype(np.intp)
    if (tokens != index).any() or ((tokens < 0) | (tokens >= len(weight))).any():
        raise LayerError(
            f"vertex {call.vertex.name!r} (embedding): tokens are integers in [0, {len(weight)}), "
            f"got values from {index.min()} to {index.max()}"
        )
    return anp.reshape(weight[tokens.reshape(-1)], (*tokens.shape, weight.shape[1]))


@rule("embedding")
def _flow(scope: Scope) -> Tensor:
    tokens = scope.pin(scope.inputs[0], "token numbers are looked up in a table")
    weight = scope.weight("weight")
    return einsum(scope, "...,vd->...d", tokens, weight, fixed="v", why="embedding: equal sizes", repeats=None)
