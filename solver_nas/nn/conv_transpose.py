"""Transposed convolutions: the adjoint of a convolution, which enlarges the spatial axes."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import autograd.numpy as anp
import numpy as np

from solver_nas.errors import LayerError
from solver_nas.nn.accompany import accompany, spread
from solver_nas.nn.activations import activate, function
from solver_nas.nn.arguments import divisor, known_size, per_axis, positive, spatial_rank, title
from solver_nas.nn.conv import by_groups, regrouped
from solver_nas.nn.forward import Call, forward
from solver_nas.nn.starts import glorot
from solver_nas.nn.windows import Pads, Window, fold, window
from solver_nas.rules import Scope, rule
from solver_nas.rules.contract import einsum
from solver_nas.rules.primitives import whole
from solver_nas.rules.reshape import merge_axes, split_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.graph import Vertex
    from solver_nas.labels import Shape, Tensor
    from solver_nas.nn.vertex import NetworkVertex


def conv_transpose(
    x: NetworkVertex,
    filters: int,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int | tuple[int, int]] = 0,
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    activation: str = "identity",
    bias: bool = True,
    name: str | None = None,
) -> NetworkVertex:
    """A transposed convolution over all spatial axes, as PyTorch defines it.

    Args:
        x: the input, (batch, channels, 1 to 3 spatial axes).
        filters: number of output channels, a multiple of `groups`.
        kernel: the window's sizes, one integer or one per spatial axis; so are the next ones.
        stride: steps of the window in the output.
        padding: how much of the output is cut off at both ends, an integer or per axis an integer or
            (before, after).
        output_padding: how much is left at the far end in spite of that; less than stride or dilation.
        dilation: steps inside the window.
        groups: number of groups that do not see each other's channels.
        activation: its name.
        bias: whether to add one.
        name: of the new vertex.

    Returns:
        (batch, filters, *sizes), each `(size - 1) * stride + dilation * (kernel - 1) + 1 + output_padding`
        less the padding. Arrays: `weight` (channels, filters / groups, *kernel), `bias` (filters,).

    Raises:
        LayerError: sizes that are impossible or do not divide; the message names the argument.
    """
    net, layer = x.model, title("conv_transpose", name)
    rank, filters = spatial_rank(layer, x), positive(layer, "filters", filters)
    channels = known_size(layer, x, 1)
    groups = divisor(layer, "groups", groups, channels)
    divisor(layer, "groups", groups, filters)
    over = window(layer, rank, kernel, stride, padding, dilation)
    extra = per_axis(layer, "output_padding", output_padding, rank, least=0)
    for more, step, spread_ in zip(extra, over.stride, over.dilation, strict=True):
        if more >= max(step, spread_):
            raise LayerError(f"{layer}: output_padding {more} has to be less than stride or dilation")
    enlarged(over, extra, x.shape[2:], layer)
    function(activation)
    area = prod(over.kernel)
    shape = (channels, filters // groups, *over.kernel)
    arrays = {"weight": glorot(net, shape, channels // groups * area, filters // groups * area)}
    if bias:
        arrays["bias"] = np.zeros(filters)
    attributes = {
        **over.attributes,
        "output_padding": extra,
        "groups": groups,
        "grouped": groups > 1,
        "depthwise": groups > 1 and groups == channels == filters,
        "activation": activation,
    }
    return net.add("conv_transpose", name, (x,), attributes, arrays)


def enlarged(over: Window, extra: Sequence[int], sizes: Shape, layer: str) -> Shape:
    """The output's spatial sizes; `None` where the input's is not known.

    Raises:
        LayerError: the padding cuts everything off.
    """
    result: list[int | None] = []
    for size, more, step, reach, pads in zip(sizes, extra, over.stride, over.reach, _cuts(over, layer), strict=True):
        left = None if size is None else (size - 1) * step + reach + more - sum(pads)
        if left is not None and left < 1:
            raise LayerError(f"{layer}: padding {pads} leaves nothing of the output; use less of it")
        result.append(left)
    return tuple(result)


def _cuts(over: Window, layer: str) -> Pads:
    if over.padding == "same":
        raise LayerError(f"{layer}: padding is an integer or one per axis here, not 'same'")
    return over.padding


def _window(vertex: Vertex) -> Window:
    return Window.of(vertex.attributes, vertex.parameters["weight"].shape[2:])


@forward("conv_transpose")
def _forward(call: Call) -> Any:
    over, groups = _window(call.vertex), call["groups"]
    weight, rank = call.parameters["weight"], len(over.kernel)
    matrix = anp.reshape(weight, (groups, len(weight) // groups, -1))
    y = by_groups(call.x, matrix, rank)
    place = y.ndim - rank - 2
    lead, positions = y.shape[:place], y.shape[place + 2 :]
    # (..., groups, outside * kernel, *positions) -> (..., filters, *positions, *kernel)
    y = anp.reshape(y, (*lead, groups * weight.shape[1], *over.kernel, *positions))
    order = [*range(place + 1), *range(y.ndim - rank, y.ndim), *range(place + 1, place + 1 + rank)]
    y = anp.transpose(y, order)
    full = tuple(
        (size - 1) * step + reach + more
        for size, step, reach, more in zip(positions, over.stride, over.reach, call["output_padding"], strict=True)
    )
    cuts = zip(_cuts(over, call.vertex.name), full, strict=True)
    y = fold(y, full, over.stride, over.dilation)
    y = y[(..., *(slice(before, size - after) for (before, after), size in cuts))]
    if "bias" in call.parameters:
        y = y + spread(call.parameters["bias"], [-rank - 1])
    return activate(call["activation"], y)


@rule("conv_transpose", rewrite=regrouped)
def _flow(scope: Scope) -> Tensor:
    over = _window(scope.vertex)
    rank = len(over.kernel)
    x = whole(scope, scope.inputs[0], range(2, 2 + rank), "a window slides along this axis")
    before, after, inside = "xyz"[:rank], "XYZ"[:rank], "uvw"[:rank]
    named = title("conv_transpose", scope.vertex.name)
    spatial = enlarged(over, scope.integers("output_padding"), x.shape[2:], named)
    sizes = dict(zip(after, spatial, strict=True))
    # Every input position is multiplied with the whole kernel.
    why, repeats = "transposed convolution: equal channels", f"n{before}"
    if scope.attribute("depthwise", bool):
        spec, fixed = f"nc{before},co{inside}->nc{after}", f"o{inside}"
        y = einsum(scope, spec, x, scope.weight("weight"), fixed=fixed, sizes=sizes, why=why, repeats=repeats)
    elif scope.attribute("grouped", bool):
        groups, shape = scope.attribute("groups", int), scope.vertex.parameters["weight"].shape
        channels = shape[0] // groups
        weight = scope.weight("weight", [(groups, channels), *((size,) for size in shape[1:])])
        x = split_axis(scope, x, 1, (groups, channels))
        spec = f"ngi{before},gio{inside}->ngo{after}"
        y = merge_axes(scope, einsum(scope, spec, x, weight, fixed=inside, sizes=sizes, why=why, repeats=repeats), 1, 2)
    else:
        spec = f"nc{before},co{inside}->no{after}"
        y = einsum(scope, spec, x, scope.weight("weight"), fixed=inside, sizes=sizes, why=why, repeats=repeats)
    return accompany(scope, y, "bias", [-rank - 1]) if scope.has("bias") else y
