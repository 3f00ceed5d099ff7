"""Larger axes from the same numbers: padding and nearest-neighbour upsampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import autograd.numpy as anp

from solver_nas.errors import LayerError
from solver_nas.labels import Tensor
from solver_nas.nn.arguments import per_axis, spatial_rank, title
from solver_nas.nn.forward import Call, forward
from solver_nas.rules import Scope, rule
from solver_nas.rules.primitives import pad as pad_labels
from solver_nas.rules.primitives import whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.nn.vertex import NetworkVertex


def pad(
    x: NetworkVertex,
    widths: Sequence[int | tuple[int, int]],
    *,
    constant: float = 0.0,
    name: str | None = None,
) -> NetworkVertex:
    """Constant elements around the last axes; those on an axis of neurons are there to stay.

    Args:
        x: the input.
        widths: for the last axes, one integer or (before, after) each.
        constant: what is added.
        name: of the new vertex.

    Raises:
        LayerError: more axes than a sample has, or negative widths.
    """
    layer = title("pad", name)
    pairs = [item if isinstance(item, tuple) else (item, item) for item in widths]
    if not 0 < len(pairs) < len(x.shape):
        raise LayerError(f"{layer}: widths are for 1 to {len(x.shape) - 1} last axes, got {len(pairs)}")
    checked = tuple(per_axis(layer, "width", pair, 2, least=0) for pair in pairs)
    return x.model.add("pad", name, (x,), {"widths": checked, "constant": float(constant)})


def upsample(x: NetworkVertex, factor: int | Sequence[int], *, name: str | None = None) -> NetworkVertex:
    """Repeat every element along the spatial axes (nearest neighbour).

    Args:
        x: the input, (batch, channels, 1 to 3 spatial axes).
        factor: one integer or one per spatial axis.
        name: of the new vertex.
    """
    layer = title("upsample", name)
    factors = per_axis(layer, "factor", factor, spatial_rank(layer, x))
    return x.model.add("upsample", name, (x,), {"factors": factors})


@forward("pad")
def _pad(call: Call) -> Any:
    lead = [(0, 0)] * (call.x.ndim - len(call["widths"]))
    return anp.pad(call.x, [*lead, *call["widths"]], "constant", constant_values=call["constant"])


@forward("upsample")
def _upsample(call: Call) -> Any:
    x = call.x
    # Counted from the front: autograd's derivative of `repeat` is wrong for negative axes.
    for axis, factor in enumerate(call["factors"], start=x.ndim - len(call["factors"])):
        x = anp.repeat(x, factor, axis=axis)
    return x


@rule("pad")
def _pad_flow(scope: Scope) -> Tensor:
    (x,) = scope.inputs
    scope.speak(x)
    widths = scope.attribute("widths", tuple)
    for axis, (before, after) in enumerate(widths, start=len(x.shape) - len(widths)):
        if before or after:
            x = pad_labels(scope, x, axis, before, after)
    return x


@rule("upsample")
def _upsample_flow(scope: Scope) -> Tensor:
    factors = scope.integers("factors")
    rank = len(factors)
    x = whole(scope, scope.inputs[0], range(-rank, 0), "every element of this axis is repeated")
    sizes = zip(x.shape[-rank:], factors, strict=True)
    larger = (None if size is None else size * factor for size, factor in sizes)
    return Tensor((*x.shape[:-rank], *larger), x.blocks)
