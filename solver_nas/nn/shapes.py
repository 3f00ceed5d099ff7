"""The same numbers in another shape or order of axes."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import autograd.numpy as anp
import numpy as np

from solver_nas.errors import LayerError
from solver_nas.nn.arguments import axis_from_end, divisor, known_size, positive, spatial_rank, title
from solver_nas.nn.forward import Call, forward
from solver_nas.rules import Scope, changed, rule
from solver_nas.rules.primitives import transpose as transpose_labels
from solver_nas.rules.reshape import reshape as reshape_labels
from solver_nas.rules.reshape import rewrite_shape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.graph import Vertex
    from solver_nas.labels import Shape, Tensor
    from solver_nas.nn.vertex import NetworkVertex
    from solver_nas.rules import Resized


def flatten(x: NetworkVertex, *, name: str | None = None) -> NetworkVertex:
    """Every sample as one vector: (batch, a, b, ...) -> (batch, a * b * ...)."""
    layer = title("flatten", name)
    for axis in range(1, len(x.shape)):
        known_size(layer, x, axis)
    return x.model.add("flatten", name, (x,), {"rank": len(x.shape) - 1})


def reshape(
    x: NetworkVertex,
    shape: Sequence[int],
    *,
    fixed: Sequence[int] = (),
    lasting: Sequence[int] = (),
    name: str | None = None,
) -> NetworkVertex:
    """Every sample in another shape, in row-major order.

    Where neurons are split over several axes, whole rows may go, and every row keeps equally many of its
    columns; the literal sizes follow.

    Args:
        x: the input.
        shape: sizes without the batch; one of them may be -1.
        fixed: axes of the result, with the batch as axis 0 or negative, that never change.
        lasting: axes of the result that stay as long as they are, too, though each row may keep columns of its own.
        name: of the new vertex.

    Returns:
        (batch, *shape).

    Raises:
        LayerError: a sample does not have that many elements.
    """
    layer = title("reshape", name)
    sizes = tuple(-1 if size == -1 else positive(layer, "a size (or -1)", size) for size in shape)
    sample = x.shape[1:]
    if sizes.count(-1) > 1:
        raise LayerError(f"{layer}: only one size may be -1, got {sizes}")
    total, known = prod(size or 0 for size in sample), prod(size for size in sizes if size > 0)
    if None not in sample and (total % known if -1 in sizes else total != known):
        raise LayerError(f"{layer}: a sample of {x.name!r} has shape {sample}, which does not fit {sizes}")
    rank = len(sizes) + 1
    kept, stay = (_from_end(layer, axes, rank, what) for axes, what in ((fixed, "fixed"), (lasting, "lasting")))
    attributes = {"shape": sizes, "rank": len(sample), "fixed": kept, **({"lasting": stay} if stay else {})}
    return x.model.add("reshape", name, (x,), attributes)


def _from_end(layer: str, axes: Sequence[int], rank: int, what: str) -> tuple[int, ...]:
    """Axes of a result, counted from its end."""
    if any(not -rank < axis < rank or axis == 0 for axis in axes):
        raise LayerError(f"{layer}: {what} axes {tuple(axes)} are not axes of a result with {rank} axes")
    return tuple(axis - rank if axis > 0 else axis for axis in axes)


def transpose(x: NetworkVertex, order: Sequence[int], *, name: str | None = None) -> NetworkVertex:
    """Axes in another order, as in `numpy.transpose`: axis `order[i]` of `x` is axis `i` of the result.

    Args:
        x: the input.
        order: all axes, with the batch as axis 0, which stays the first.
        name: of the new vertex.
    """
    layer, rank = title("transpose", name), len(x.shape)
    order = tuple(order)
    if not order or order[0] != 0 or len(order) != rank:
        raise LayerError(f"{layer}: order names all {rank} axes of {x.name!r}, the batch (0) first, got {order}")
    places = tuple(axis_from_end(layer, x, axis) for axis in order[1:])
    if len(set(places)) < rank - 1:
        raise LayerError(f"{layer}: order {order} names an axis twice")
    return x.model.add("transpose", name, (x,), {"order": places})


def channel_shuffle(x: NetworkVertex, groups: int, *, name: str | None = None) -> NetworkVertex:
    """Channels of all groups in turn: the first of each group, then the second of each, and so on.

    The number of groups never changes: each of them keeps equally many channels. A group of one channel is that
    channel, which stays alone.

    Args:
        x: the input, (batch, channels, *spatial) with known sizes.
        groups: how many; divides the channels.
        name: of the last of the three vertices that this adds; the others are `name.split` and `name.swap`.
    """
    layer = title("channel_shuffle", name)
    sizes = [known_size(layer, x, axis) for axis in range(1, len(x.shape))]
    groups = divisor(layer, "groups", groups, sizes[0] if sizes else 0)
    names = (None, None) if name is None else (f"{name}.split", f"{name}.swap")
    with x.model.together():
        split = reshape(x, (groups, sizes[0] // groups, *sizes[1:]), lasting=(1,), name=names[0])
        swapped = transpose(split, (0, 2, 1, *range(3, len(sizes) + 2)), name=names[1])
        return reshape(swapped, sizes, name=name)


def pixel_shuffle(x: NetworkVertex, factor: int, *, name: str | None = None) -> NetworkVertex:
    """Channels as pixels: (batch, c * factor**2, h, w) -> (batch, c, h * factor, w * factor).

    Works for one to three spatial axes. The `factor**2` channels of one output channel go together.

    Args:
        x: the input, with known sizes.
        factor: how much larger every spatial axis gets.
        name: of the last of the three vertices that this adds; the others are `name.split` and `name.swap`.
    """
    layer = title("pixel_shuffle", name)
    rank, factor = spatial_rank(layer, x), positive(layer, "factor", factor)
    sizes = [known_size(layer, x, axis) for axis in range(1, rank + 2)]
    channels = sizes[0] // divisor(layer, f"factor ** {rank}", factor**rank, sizes[0])
    names = (None, None) if name is None else (f"{name}.split", f"{name}.swap")
    fixed = tuple(range(2, rank + 2))
    pairs = [axis for place in range(2, rank + 2) for axis in (place + rank, place)]
    with x.model.together():
        split = reshape(x, (channels, *[factor] * rank, *sizes[1:]), fixed=fixed, name=names[0])
        swapped = transpose(split, (0, 1, *pairs), name=names[1])
        return reshape(swapped, (channels, *(size * factor for size in sizes[1:])), name=name)


@forward("flatten")
def _flatten(call: Call) -> Any:
    return anp.reshape(call.x, (*call.x.shape[: call.x.ndim - call["rank"]], -1))


@forward("reshape")
def _reshape(call: Call) -> Any:
    lead = call.x.shape[: call.x.ndim - call["rank"]]
    return anp.reshape(call.x, (*lead, *call["shape"]))


@forward("transpose")
def _transpose(call: Call) -> Any:
    order, rank = call["order"], np.ndim(call.x)
    return anp.transpose(call.x, [*range(rank - len(order)), *(axis + rank for axis in order)])


def _spelled_out(sample: Shape, sizes: Sequence[int]) -> Shape:
    """The sizes without -1; `None` where the sample's sizes are not known."""
    if None in sample:
        return tuple(None if size == -1 else size for size in sizes)
    total, known = prod(size or 0 for size in sample), prod(size for size in sizes if size > 0)
    return tuple(total // known if size == -1 else size for size in sizes)


def _reshaped(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    literal: tuple[int, ...] = vertex.attributes["shape"]  # type: ignore[assignment] # written by the builder
    return changed(vertex, shape=rewrite_shape(literal, resized))


@rule("flatten")
def _flatten_flow(scope: Scope) -> Tensor:
    (x,) = scope.inputs
    return reshape_labels(scope, x, (x.shape[0], *_spelled_out(x.shape[1:], (-1,))))


@rule("reshape", rewrite=_reshaped)
def _reshape_flow(scope: Scope) -> Tensor:
    (x,) = scope.inputs
    sizes = _spelled_out(x.shape[1:], scope.integers("shape"))
    result = reshape_labels(scope, x, (x.shape[0], *sizes), fixed=scope.integers("fixed"))
    if "lasting" in scope.vertex.attributes:
        for axis in scope.integers("lasting"):
            block = result.block_of(axis % len(result.shape))
            if block is not None:
                level = block.levels[block.axes.index(axis % len(result.shape))]
                scope.tape.pin(level, scope.reason("this axis of a reshape lasts"))
    return result


@rule("transpose")
def _transpose_flow(scope: Scope) -> Tensor:
    (x,) = scope.inputs
    return transpose_labels(scope, x, (0, *(axis % len(x.shape) for axis in scope.integers("order"))))
