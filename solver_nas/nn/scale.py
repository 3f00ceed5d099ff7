"""Learned factors and summands: one per channel, or one per position of a sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solver_nas.nn.accompany import accompany, spread
from solver_nas.nn.arguments import known_size, neuron_axis, sequence, title
from solver_nas.nn.forward import Call, forward
from solver_nas.rules import Scope, rule

if TYPE_CHECKING:
    from solver_nas.labels import Tensor
    from solver_nas.nn.vertex import NetworkVertex


def scale(x: NetworkVertex, *, axis: int | None = None, name: str | None = None) -> NetworkVertex:
    """Multiply every channel by a number of its own; array `scale` (channels,), at first ones.

    Args:
        x: the input.
        axis: of the channels, with the batch as axis 0; by default the one that holds the neurons.
        name: of the new vertex.
    """
    return _per_channel("scale", x, axis, name, start=1.0)


def bias(x: NetworkVertex, *, axis: int | None = None, name: str | None = None) -> NetworkVertex:
    """Add a number of its own to every channel; array `bias` (channels,), at first zeros.

    Args:
        x: the input.
        axis: of the channels, with the batch as axis 0; by default the one that holds the neurons.
        name: of the new vertex.
    """
    return _per_channel("bias", x, axis, name, start=0.0)


def _per_channel(kind: str, x: NetworkVertex, axis: int | None, name: str | None, *, start: float) -> NetworkVertex:
    layer = title(kind, name)
    axis = neuron_axis(layer, x, axis)
    arrays = {kind: np.full(known_size(layer, x, axis), start)}
    return x.model.add(kind, name, (x,), {"axes": (axis,)}, arrays, fills={kind: start})


def position(x: NetworkVertex, *, deviation: float = 0.02, name: str | None = None) -> NetworkVertex:
    """Add a learned vector to every step of a sequence (batch, steps, features).

    Args:
        x: the input; the number of steps has to be known.
        deviation: standard deviation of the initial entries.
        name: of the new vertex.

    Returns:
        The shape of `x`. Array: `position` (steps, features).
    """
    layer = title("position", name)
    features = sequence(layer, x)
    shape = (known_size(layer, x, 1), features)
    arrays = {"position": x.model.rng.normal(0.0, deviation, shape)}
    return x.model.add("position", name, (x,), {"axes": (-2, -1)}, arrays, fills={"position": 0.0})


@forward("scale")
def _scale(call: Call) -> Any:
    return call.x * spread(call.parameters["scale"], call["axes"])


@forward("bias")
def _bias(call: Call) -> Any:
    return call.x + spread(call.parameters["bias"], call["axes"])


@forward("position")
def _position(call: Call) -> Any:
    return call.x + spread(call.parameters["position"], call["axes"])


@rule("scale")
@rule("bias")
@rule("position")
def _flow(scope: Scope) -> Tensor:
    (role,) = scope.vertex.parameters
    return accompany(scope, scope.inputs[0], role, scope.integers("axes"))
