"""Dense layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import autograd.numpy as anp
import numpy as np

from solver_nas.errors import LayerError
from solver_nas.nn.activations import activate, function
from solver_nas.nn.arguments import title
from solver_nas.nn.forward import Call, forward
from solver_nas.nn.starts import start
from solver_nas.rules import Scope, rule
from solver_nas.rules.contract import einsum, elementwise

if TYPE_CHECKING:
    from solver_nas.labels import Tensor
    from solver_nas.nn.starts import Start
    from solver_nas.nn.vertex import NetworkVertex


def width(layer: str, value: object) -> int:
    """A number of neurons, checked."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise LayerError(f"{layer}: a number of neurons is a positive integer, got {value!r}")
    return int(value)


def dense(
    x: NetworkVertex,
    units: int,
    *,
    activation: str = "identity",
    bias: bool = True,
    weights: Start = "random",
    name: str | None = None,
) -> NetworkVertex:
    """A fully connected layer over the last axis: `activation(x @ weight.T + bias)`.

    Args:
        x: the input, (batch, ..., features).
        units: number of output neurons.
        activation: its name; see `solver_nas.nn.ACTIVATIONS`.
        bias: whether to add one.
        weights: how they start: `"random"` (Glorot uniform), `"identity"`, or `"zeros"`.
        name: of the new vertex.

    Returns:
        (batch, ..., units). Arrays: `weight` (units, features), `bias` (units,).
    """
    net, units = x.model, width("dense", units)
    function(activation)
    features = x.shape[-1]
    if features is None:
        raise LayerError(f"dense: the last axis of {x.name!r} has no known size")
    arrays = {"weight": start(net, title("dense", name), weights, (units, features), (features, units))}
    if bias:
        arrays["bias"] = np.zeros(units)
    return net.add("dense", name, (x,), {"activation": activation}, arrays)


@forward("dense")
def _forward(call: Call) -> Any:
    y = anp.dot(call.x, call.parameters["weight"].T)
    if "bias" in call.parameters:
        y = y + call.parameters["bias"]
    return activate(call["activation"], y)


@rule("dense")
def _flow(scope: Scope) -> Tensor:
    y = einsum(scope, "...i,oi->...o", scope.inputs[0], scope.weight("weight"))
    return elementwise(scope, y, scope.weight("bias")) if scope.has("bias") else y
