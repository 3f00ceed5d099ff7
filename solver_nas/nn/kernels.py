"""The size of a window changes: its centre stays, and what is computed there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from solver_nas.errors import LayerError
from solver_nas.graph import Parameter
from solver_nas.nn.arguments import per_axis, title
from solver_nas.nn.windows import window
from solver_nas.weights import cuts_around_centre, recentred

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.graph import Vertex
    from solver_nas.nn.network import Network

_WEIGHTED = ("conv", "conv_transpose")
_POOLING = ("max_pool", "avg_pool")


def resize_kernel(
    net: Network,
    name: str,
    change: int | Sequence[int],
    padding: str | int | Sequence[int | tuple[int, int]] | None,
) -> None:
    """Make the window of a convolution or a pooling larger or smaller, all around its centre.

    Args:
        net: the network; it is changed.
        name: the vertex.
        change: how many elements to add, or (negative) to remove, one number or one per spatial axis.
        padding: the new padding; `None` for one that keeps the output's size and position.

    Raises:
        LayerError: a vertex without a window, a window of less than one element, or padding that would have to
            be negative.
    """
    vertex = net.graph.vertex(name)
    layer = title(vertex.kind, name)
    kernel = _kernel(net, vertex, layer)
    deltas = _deltas(layer, change, len(kernel))
    sizes = tuple(size + delta for size, delta in zip(kernel, deltas, strict=True))
    if min(sizes) < 1:
        raise LayerError(f"{layer}: a window of {kernel} changed by {deltas} would be {sizes}; at least 1 has to stay")
    attributes = dict(vertex.attributes)
    attributes["padding"] = _padding(layer, attributes, kernel, cuts_around_centre(kernel, sizes), padding)
    arrays, parameters = dict(net.arrays), dict(vertex.parameters)
    if vertex.kind in _POOLING:
        attributes["kernel"] = sizes
    else:
        weight = parameters["weight"]
        made = recentred(arrays[weight.key], (*weight.shape[:2], *sizes))
        arrays[weight.key] = made
        parameters["weight"] = Parameter(weight.key, made.shape)
    changed = replace(vertex, attributes=attributes, parameters=parameters)
    net.commit(net.graph.replaced({name: changed}), arrays, {}, forget={name})


def _kernel(net: Network, vertex: Vertex, layer: str) -> tuple[int, ...]:
    if vertex.kind in _POOLING:
        kernel: tuple[int, ...] = tuple(vertex.attributes["kernel"])  # type: ignore[arg-type]  # written by the builder
        return kernel
    if vertex.kind not in _WEIGHTED:
        known = ", ".join((*_WEIGHTED, *_POOLING))
        raise LayerError(f"{layer}: has no window; kernel sizes belong to {known}")
    key = vertex.parameters["weight"].key
    sharing = [
        other.name
        for other in net.graph.vertices
        if other.name != vertex.name and key in {parameter.key for parameter in other.parameters.values()}
    ]
    if sharing:
        raise LayerError(
            f"{layer}: shares its weights with {', '.join(map(repr, sharing))}, whose window would change too"
        )
    return vertex.parameters["weight"].shape[2:]


def _deltas(layer: str, change: int | Sequence[int], rank: int) -> tuple[int, ...]:
    return per_axis(layer, "the change of the window", change, rank, least=-(10**6))


def _padding(
    layer: str,
    attributes: dict[str, Any],
    kernel: Sequence[int],
    cuts: Sequence[tuple[int, int]],
    padding: str | int | Sequence[int | tuple[int, int]] | None,
) -> object:
    if padding is not None:
        return window(layer, len(kernel), tuple(kernel), attributes["stride"], padding, attributes["dilation"]).padding
    if attributes["padding"] == "same":
        return "same"
    found = tuple(
        (before - dilation * first, after - dilation * last)
        for (before, after), (first, last), dilation in zip(
            attributes["padding"], cuts, attributes["dilation"], strict=True
        )
    )
    if min(side for pair in found for side in pair) < 0:
        raise LayerError(
            f"{layer}: to keep the output's size, padding {attributes['padding']} would have to become {found}; "
            f"give another one with padding=..."
        )
    return found
