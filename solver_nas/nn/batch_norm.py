"""Batch normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import autograd.numpy as anp
import numpy as np
from autograd.tracer import getval

from solver_nas.nn.accompany import accompany, spread
from solver_nas.nn.arguments import known_size, neuron_axis, title
from solver_nas.nn.forward import Call, forward
from solver_nas.rules import Scope, rule

if TYPE_CHECKING:
    from solver_nas.labels import Tensor
    from solver_nas.nn.vertex import NetworkVertex


def batch_norm(
    x: NetworkVertex,
    *,
    axis: int | None = None,
    scale: bool = True,
    shift: bool = True,
    epsilon: float = 1e-5,
    momentum: float = 0.1,
    identity: bool = False,
    name: str | None = None,
) -> NetworkVertex:
    """Normalise every channel by its mean and variance: of the batch in training, of the past otherwise.

    Args:
        x: the input.
        axis: of the channels, with the batch as axis 0; by default the one that holds the neurons.
        scale: whether to multiply by a learned scale afterwards.
        shift: whether to add a learned shift afterwards.
        epsilon: added to the variance.
        momentum: weight of the newest batch in the running statistics.
        identity: whether it changes nothing at first (outside training): the variance starts at 1 - epsilon.
        name: of the new vertex.

    Returns:
        The shape of `x`. Arrays, each (channels,): `mean` and `var` (running statistics, without
        gradients), `scale`, `shift`.
    """
    layer = title("batch_norm", name)
    axis = neuron_axis(layer, x, axis)
    size = known_size(layer, x, axis)
    arrays = {"mean": np.zeros(size), "var": np.ones(size)}
    if identity:
        arrays["var"] -= epsilon
    arrays |= {"scale": np.ones(size)} if scale else {}
    arrays |= {"shift": np.zeros(size)} if shift else {}
    attributes = {"axis": axis, "epsilon": float(epsilon), "momentum": float(momentum)}
    fills = {"mean": 0.0, "var": 1.0, "scale": 1.0, "shift": 0.0}
    fills = {role: fill for role, fill in fills.items() if role in arrays}
    return x.model.add("batch_norm", name, (x,), attributes, arrays, fills=fills)


@forward("batch_norm")
def _forward(call: Call) -> Any:
    x, place = call.x, [call["axis"]]
    mean, var = call.parameters["mean"], call.parameters["var"]
    if call.training:
        others = tuple(axis for axis in range(x.ndim) if axis != x.ndim + call["axis"])
        past_mean, past_var = mean, var
        mean, var = anp.mean(x, axis=others), anp.var(x, axis=others)
        count = x.size // x.shape[call["axis"]]
        # As in PyTorch: what is remembered is the unbiased estimate, what normalises is not.
        unbiased = getval(var) * (count / max(count - 1, 1))
        weight = call["momentum"]
        call.update("mean", (1 - weight) * getval(past_mean) + weight * getval(mean))
        call.update("var", (1 - weight) * getval(past_var) + weight * unbiased)
    y = (x - spread(mean, place)) / anp.sqrt(spread(var, place) + call["epsilon"])
    return rescale(call, y, place)


def rescale(call: Call, y: Any, axes: list[int]) -> Any:
    """Apply scale and shift where the vertex has them."""
    if "scale" in call.parameters:
        y = y * spread(call.parameters["scale"], axes)
    if "shift" in call.parameters:
        y = y + spread(call.parameters["shift"], axes)
    return y


@rule("batch_norm", buffers=("mean", "var"))
def _flow(scope: Scope) -> Tensor:
    y = scope.inputs[0]
    for role in scope.vertex.parameters:
        y = accompany(scope, y, role, [scope.attribute("axis", int)])
    return y
