"""Normalisation of every sample by groups of channels, or channel by channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import autograd.numpy as anp
import numpy as np

from solver_nas.nn.accompany import accompany
from solver_nas.nn.arguments import divisor, known_size, spatial_rank, title
from solver_nas.nn.batch_norm import rescale
from solver_nas.nn.forward import Call, forward
from solver_nas.rules import Scope, changed, rule
from solver_nas.rules.contract import einsum
from solver_nas.rules.primitives import whole
from solver_nas.rules.reshape import merge_axes, split_axis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.graph import Vertex
    from solver_nas.labels import Tensor
    from solver_nas.nn.vertex import NetworkVertex
    from solver_nas.rules import Resized

_FILLS = {"scale": 1.0, "shift": 0.0}


def group_norm(
    x: NetworkVertex,
    groups: int,
    *,
    affine: bool = True,
    epsilon: float = 1e-5,
    name: str | None = None,
) -> NetworkVertex:
    """Normalise each sample over the channels of a group and all spatial axes.

    Whole groups may go, or equally many channels of each; the latter changes the statistics.

    Args:
        x: the input, (batch, channels, *spatial).
        groups: how many; divides the channels.
        affine: whether a learned scale and shift follow.
        epsilon: added to the variance.
        name: of the new vertex.

    Returns:
        The shape of `x`. Arrays, each (channels,): `scale`, `shift`.
    """
    layer = title("group_norm", name)
    channels = known_size(layer, x, 1) if len(x.shape) > 1 else 0
    groups = divisor(layer, "groups", groups, channels)
    attributes = {"rank": len(x.shape) - 2, "groups": groups, "epsilon": float(epsilon)}
    return _add("group_norm", x, channels, attributes, affine=affine, name=name)


def instance_norm(
    x: NetworkVertex, *, affine: bool = False, epsilon: float = 1e-5, name: str | None = None
) -> NetworkVertex:
    """Normalise every channel of each sample over its spatial axes.

    Args:
        x: the input, (batch, channels, 1 to 3 spatial axes).
        affine: whether a learned scale and shift follow.
        epsilon: added to the variance.
        name: of the new vertex.

    Returns:
        The shape of `x`. Arrays, each (channels,), if `affine`: `scale`, `shift`.
    """
    layer = title("instance_norm", name)
    attributes = {"rank": spatial_rank(layer, x), "epsilon": float(epsilon)}
    channels = known_size(layer, x, 1)
    return _add("instance_norm", x, channels, attributes, affine=affine, name=name)


def _add(
    kind: str,
    x: NetworkVertex,
    channels: int,
    attributes: Mapping[str, object],
    *,
    affine: bool,
    name: str | None,
) -> NetworkVertex:
    fills = _FILLS if affine else {}
    arrays = {role: np.full(channels, fill) for role, fill in fills.items()}
    return x.model.add(kind, name, (x,), attributes, arrays, fills=fills)


def _normalised(x: Any, axes: tuple[int, ...], epsilon: float) -> Any:
    centred = x - anp.mean(x, axis=axes, keepdims=True)
    return centred / anp.sqrt(anp.mean(centred**2, axis=axes, keepdims=True) + epsilon)


@forward("group_norm")
def _group(call: Call) -> Any:
    x, rank, groups = call.x, call["rank"], call["groups"]
    place = x.ndim - rank - 1
    split = anp.reshape(x, (*x.shape[:place], groups, -1, *x.shape[place + 1 :]))
    y = _normalised(split, tuple(range(-rank - 1, 0)), call["epsilon"])
    return rescale(call, anp.reshape(y, x.shape), [-rank - 1])


@forward("instance_norm")
def _instance(call: Call) -> Any:
    y = _normalised(call.x, tuple(range(-call["rank"], 0)), call["epsilon"])
    return rescale(call, y, [-call["rank"] - 1])


def _regrouped(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    block = resized.before[0].block_of(1)
    if block is None:
        return {}
    groups = int(str(vertex.attributes["groups"]))
    return changed(vertex, groups=resized.rows(block.lines(1)[0], groups))


@rule("group_norm", rewrite=_regrouped, exact=False)
def _group_flow(scope: Scope) -> Tensor:
    groups, rank = scope.attribute("groups", int), scope.attribute("rank", int)
    y = whole(scope, scope.inputs[0], range(-rank, 0), "all of this axis is normalised together")
    size = y.shape[1] or 0
    y = split_axis(scope, y, 1, (groups, size // groups))
    for role in scope.vertex.parameters:
        weight = scope.weight(role, [(groups, size // groups)])
        why = f"parameter {role!r} has one entry per neuron"
        y = einsum(scope, "ngi...,gi->ngi...", y, weight, why=why)
    return merge_axes(scope, y, 1, 2)


@rule("instance_norm")
def _instance_flow(scope: Scope) -> Tensor:
    rank = scope.attribute("rank", int)
    y = whole(scope, scope.inputs[0], range(-rank, 0), "all of this axis is normalised together")
    for role in scope.vertex.parameters:
        y = accompany(scope, y, role, [-rank - 1])
    return y
