"""Convolutions over one to three spatial axes: plain, grouped and depthwise."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import autograd.numpy as anp
import numpy as np

from solver_nas.nn.accompany import accompany, spread
from solver_nas.nn.activations import activate, function
from solver_nas.nn.arguments import divisor, known_size, positive, spatial_rank, title
from solver_nas.nn.forward import Call, forward
from solver_nas.nn.starts import start
from solver_nas.nn.windows import Window, slide, window
from solver_nas.rules import Scope, changed, rule
from solver_nas.rules.contract import einsum
from solver_nas.rules.primitives import whole
from solver_nas.rules.reshape import merge_axes, split_axis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.graph import Vertex
    from solver_nas.labels import Tensor
    from solver_nas.nn.starts import Start
    from solver_nas.nn.vertex import NetworkVertex
    from solver_nas.rules import Resized


def conv(
    x: NetworkVertex,
    filters: int,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int | tuple[int, int]] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    activation: str = "identity",
    bias: bool = True,
    weights: Start = "random",
    name: str | None = None,
) -> NetworkVertex:
    """A convolution (cross-correlation, as everywhere in deep learning) over all spatial axes.

    With `groups` equal to the number of channels it is depthwise; `filters` may then be a multiple of it.
    A depthwise convolution with one filter per channel follows its input; any other grouped one keeps
    the best channels of each group, equally many.

    Args:
        x: the input, (batch, channels, 1 to 3 spatial axes).
        filters: number of output channels, a multiple of `groups`.
        kernel: the window's sizes, one integer or one per spatial axis; so are `stride` and `dilation`.
        stride: steps of the window.
        padding: `"valid"` (none), `"same"`, an integer, or per axis an integer or (before, after).
        dilation: steps inside the window.
        groups: number of groups that do not see each other's channels.
        activation: its name; see `solver_nas.nn.ACTIVATIONS`.
        bias: whether to add one.
        weights: how they start: `"random"` (Glorot uniform), `"identity"` (a copy of the input, with padding that
            keeps its size), or `"zeros"`.
        name: of the new vertex.

    Returns:
        (batch, filters, *positions). Arrays: `weight` (filters, channels / groups, *kernel),
        `bias` (filters,).

    Raises:
        LayerError: sizes that are impossible or do not divide; the message names the argument.
    """
    net, layer = x.model, title("conv", name)
    rank, filters = spatial_rank(layer, x), positive(layer, "filters", filters)
    channels = known_size(layer, x, 1)
    groups = divisor(layer, "groups", groups, channels)
    divisor(layer, "groups", groups, filters)
    over = window(layer, rank, kernel, stride, padding, dilation)
    over.positions(x.shape[2:], layer)  # raises before anything is made
    function(activation)
    inside, area = channels // groups, prod(over.kernel)
    shape = (filters, inside, *over.kernel)
    arrays = {"weight": start(net, layer, weights, shape, (inside * area, filters // groups * area), groups)}
    if bias:
        arrays["bias"] = np.zeros(filters)
    attributes = {
        **over.attributes,
        "groups": groups,
        "grouped": groups > 1,
        "depthwise": groups > 1 and groups == channels == filters,
        "activation": activation,
    }
    return net.add("conv", name, (x,), attributes, arrays)


def by_groups(x: Any, weight: Any, spatial: int, *, summed: int = 0) -> Any:
    """Multiply the channels of every group by that group's own matrix.

    Args:
        x: (..., channels, *positions, *window) with `spatial` positions and `summed` axes of a window.
        weight: (groups, channels / groups * window, outside).
        spatial: number of position axes.
        summed: number of window axes.

    Returns:
        (..., groups, outside, *positions).
    """
    groups, inside, _ = weight.shape
    place = x.ndim - 1 - spatial - summed
    lead, positions = x.shape[:place], x.shape[place + 1 : place + 1 + spatial]
    x = anp.reshape(x, (*lead, groups, x.shape[place] // groups, *x.shape[place + 1 :]))
    x = anp.moveaxis(anp.moveaxis(x, place, 0), place + 1, place + 1 + spatial)
    y = anp.matmul(anp.reshape(x, (groups, -1, inside)), weight)
    y = anp.reshape(y, (groups, *lead, *positions, y.shape[-1]))
    return anp.moveaxis(anp.moveaxis(y, -1, place + 1), 0, place)


def _window(vertex: Vertex) -> Window:
    return Window.of(vertex.attributes, vertex.parameters["weight"].shape[2:])


@forward("conv")
def _forward(call: Call) -> Any:
    over, groups = _window(call.vertex), call["groups"]
    weight, rank = call.parameters["weight"], len(over.kernel)
    matrix = anp.swapaxes(anp.reshape(weight, (groups, len(weight) // groups, -1)), 1, 2)
    y = by_groups(slide(call.x, over), matrix, rank, summed=rank)
    place = y.ndim - rank - 2
    y = anp.reshape(y, (*y.shape[:place], -1, *y.shape[place + 2 :]))
    if "bias" in call.parameters:
        y = y + spread(call.parameters["bias"], [-rank - 1])
    return activate(call["activation"], y)


def regrouped(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    """The number of groups after a change: the outermost axis under which the weight is seen."""
    return changed(vertex, groups=resized.views["weight"][0]) if vertex.attributes["grouped"] else {}


@rule("conv", rewrite=regrouped)
def _flow(scope: Scope) -> Tensor:
    over = _window(scope.vertex)
    rank = len(over.kernel)
    x = whole(scope, scope.inputs[0], range(2, 2 + rank), "a window slides along this axis")
    before, after, inside = "xyz"[:rank], "XYZ"[:rank], "uvw"[:rank]
    named = title("conv", scope.vertex.name)
    sizes = dict(zip(after, over.positions(x.shape[2:], named), strict=True))
    why = "convolution: equal channels"
    if scope.attribute("depthwise", bool):
        spec, fixed = f"nc{before},ci{inside}->nc{after}", f"i{inside}"
        y = einsum(scope, spec, x, scope.weight("weight"), fixed=fixed, sizes=sizes, why=why)
    elif scope.attribute("grouped", bool):
        groups, shape = scope.attribute("groups", int), scope.vertex.parameters["weight"].shape
        weight = scope.weight("weight", [(groups, shape[0] // groups), *((size,) for size in shape[1:])])
        x = split_axis(scope, x, 1, (groups, shape[1]))
        spec = f"ngi{before},goi{inside}->ngo{after}"
        y = merge_axes(scope, einsum(scope, spec, x, weight, fixed=inside, sizes=sizes, why=why), 1, 2)
    else:
        spec = f"nc{before},oc{inside}->no{after}"
        y = einsum(scope, spec, x, scope.weight("weight"), fixed=inside, sizes=sizes, why=why)
    return accompany(scope, y, "bias", [-rank - 1]) if scope.has("bias") else y
