"""Normalisation of every sample over some of its axes: layer norm and RMS norm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import autograd.numpy as anp
import numpy as np

from solver_nas.errors import LayerError
from solver_nas.nn.accompany import accompany
from solver_nas.nn.arguments import axis_from_end, known_size, title
from solver_nas.nn.batch_norm import rescale
from solver_nas.nn.forward import Call, forward
from solver_nas.rules import Scope, rule
from solver_nas.rules.primitives import same

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.labels import Tensor
    from solver_nas.nn.vertex import NetworkVertex


def layer_norm(
    x: NetworkVertex,
    *,
    axes: int | Sequence[int] = -1,
    scale: bool = True,
    shift: bool = True,
    epsilon: float = 1e-5,
    name: str | None = None,
) -> NetworkVertex:
    """Subtract the mean and divide by the standard deviation, taken over the given axes of each sample.

    Removing a neuron from a normalised axis changes the statistics, and with them all other neurons.

    Args:
        x: the input.
        axes: what is normalised together, with the batch as axis 0 or negative: -1 for the features of a
            sequence, 1 for the channels at every pixel, (1, 2, 3) for a whole image.
        scale: whether to multiply by a learned scale afterwards.
        shift: whether to add a learned shift afterwards.
        epsilon: added to the variance.
        name: of the new vertex.

    Returns:
        The shape of `x`. Arrays, each of the sizes of `axes`: `scale`, `shift`.
    """
    return _add("layer_norm", x, axes, {"scale": scale, "shift": shift}, epsilon, name)


def rms_norm(
    x: NetworkVertex,
    *,
    axes: int | Sequence[int] = -1,
    scale: bool = True,
    epsilon: float = 1e-6,
    name: str | None = None,
) -> NetworkVertex:
    """Divide by the root of the mean square over the given axes of each sample.

    Arguments, the array `scale` and the effect of removing neurons are those of `layer_norm`.
    """
    return _add("rms_norm", x, axes, {"scale": scale}, epsilon, name)


def _add(
    kind: str,
    x: NetworkVertex,
    axes: int | Sequence[int],
    wanted: dict[str, bool],
    epsilon: float,
    name: str | None,
) -> NetworkVertex:
    layer = title(kind, name)
    given = [axes] if isinstance(axes, int) else list(axes)
    places = sorted({axis_from_end(layer, x, axis) for axis in given})
    if not places or len(places) < len(given):
        raise LayerError(f"{layer}: axes are one or several different axes, got {axes!r}")
    shape = tuple(known_size(layer, x, axis) for axis in places)
    fills = {"scale": 1.0, "shift": 0.0}
    fills = {role: fill for role, fill in fills.items() if wanted.get(role)}
    arrays = {role: np.full(shape, fill) for role, fill in fills.items()}
    attributes = {"axes": tuple(places), "epsilon": float(epsilon)}
    return x.model.add(kind, name, (x,), attributes, arrays, fills=fills)


@forward("layer_norm")
def _layer(call: Call) -> Any:
    axes = call["axes"]
    centred = call.x - anp.mean(call.x, axis=axes, keepdims=True)
    var = anp.mean(centred**2, axis=axes, keepdims=True)
    return rescale(call, centred / anp.sqrt(var + call["epsilon"]), list(axes))


@forward("rms_norm")
def _rms(call: Call) -> Any:
    axes = call["axes"]
    square = anp.mean(call.x**2, axis=axes, keepdims=True)
    return rescale(call, call.x / anp.sqrt(square + call["epsilon"]), list(axes))


@rule("layer_norm", exact=False)
@rule("rms_norm", exact=False)
def _flow(scope: Scope) -> Tensor:
    y = same(scope, scope.inputs[0])
    for role in scope.vertex.parameters:
        y = accompany(scope, y, role, scope.integers("axes"))
    return y
