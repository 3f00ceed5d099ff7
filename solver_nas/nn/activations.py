"""Element-wise functions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import autograd.numpy as anp
from autograd.scipy.special import erf, expit

from solver_nas.errors import LayerError
from solver_nas.nn.forward import Call, forward
from solver_nas.rules import Scope, rule
from solver_nas.rules.primitives import same

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from solver_nas.labels import Tensor
    from solver_nas.nn.network import Network
    from solver_nas.nn.vertex import NetworkVertex


def _softplus(x: Any) -> Any:
    return anp.logaddexp(x, 0.0)


def _gelu(x: Any) -> Any:
    return 0.5 * x * (1 + erf(x / 2**0.5))


ACTIVATIONS: Mapping[str, Callable[[Any], Any]] = {
    "identity": lambda x: x,
    "relu": lambda x: anp.maximum(x, 0.0),
    "relu6": lambda x: anp.minimum(anp.maximum(x, 0.0), 6.0),
    "leaky_relu": lambda x: anp.where(x > 0, x, 0.01 * x),
    "elu": lambda x: anp.where(x > 0, x, anp.expm1(anp.minimum(x, 0.0))),
    "sigmoid": expit,
    "tanh": anp.tanh,
    "softplus": _softplus,
    "gelu": _gelu,
    "silu": lambda x: x * expit(x),
    "hardswish": lambda x: x * anp.minimum(anp.maximum(x + 3.0, 0.0), 6.0) / 6.0,
}


def _known(name: object) -> bool:
    return isinstance(name, str) and name in ACTIVATIONS


def activate(name: str, x: Any) -> Any:
    """Apply an activation by name.

    Raises:
        LayerError: there is none of that name.
    """
    return function(name)(x)


def function(name: str) -> Callable[[Any], Any]:
    """The activation of that name, or an error that lists them."""
    if not _known(name):
        raise LayerError(f"no activation {name!r}; there are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def activation(x: NetworkVertex, kind: str, *, name: str | None = None) -> NetworkVertex:
    """An activation as a vertex of its own; shape and size of `x`."""
    function(kind)
    return x.model.add("activation", name, (x,), {"activation": kind})


def relu(x: NetworkVertex, *, name: str | None = None) -> NetworkVertex:
    """The positive part of `x`, as a vertex of its own."""
    return activation(x, "relu", name=name)


@forward("activation")
def _forward(call: Call) -> Any:
    return activate(call["activation"], call.x)


@rule("activation")
def _flow(scope: Scope) -> Tensor:
    return same(scope, scope.inputs[0])


def set_activation(net: Network, name: str, activation: str) -> None:
    """Let a layer of a network use another activation.

    Raises:
        LayerError: there is no such activation, or the layer has none.
    """
    function(activation)
    vertex = net.graph.vertex(name)
    if "activation" not in vertex.attributes:
        raise LayerError(f"vertex {name!r} ({vertex.kind}) has no activation; insert one behind it instead")
    changed = replace(vertex, attributes={**vertex.attributes, "activation": activation})
    net.commit(net.graph.replaced({name: changed}), net.arrays, {})
