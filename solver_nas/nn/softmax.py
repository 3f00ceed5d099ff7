"""The softmax over one axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import autograd.numpy as anp

from solver_nas.nn.arguments import axis_from_end, title
from solver_nas.nn.forward import Call, forward
from solver_nas.rules import Scope, rule
from solver_nas.rules.primitives import same

if TYPE_CHECKING:
    from solver_nas.labels import Tensor
    from solver_nas.nn.vertex import NetworkVertex


def softmax(x: NetworkVertex, *, axis: int = -1, name: str | None = None) -> NetworkVertex:
    """Positive numbers that sum to one over an axis; shape and size of `x`.

    Over an axis of neurons, removing one raises the share of all others.

    Args:
        x: the input.
        axis: what is normalised together, with the batch as axis 0 or negative.
        name: of the new vertex.
    """
    axis = axis_from_end(title("softmax", name), x, axis)
    return x.model.add("softmax", name, (x,), {"axis": axis})


def normalise(x: Any, axis: int) -> Any:
    """The softmax of an array; -inf gets nothing."""
    powers = anp.exp(x - anp.max(x, axis=axis, keepdims=True))
    return powers / anp.sum(powers, axis=axis, keepdims=True)


@forward("softmax")
def _forward(call: Call) -> Any:
    return normalise(call.x, call["axis"])


@rule("softmax", exact=False)
def _flow(scope: Scope) -> Tensor:
    return same(scope, scope.inputs[0])
