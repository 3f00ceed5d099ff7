"""Parts of an axis: split, take, flip."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from solver_nas.errors import LayerError
from solver_nas.nn.arguments import divisor, known_size, neuron_axis, positive, title
from solver_nas.nn.forward import Call, forward
from solver_nas.rules import Scope, changed, rule
from solver_nas.rules.primitives import take as take_labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.graph import Vertex
    from solver_nas.labels import Block, Tensor
    from solver_nas.nn.vertex import NetworkVertex
    from solver_nas.rules import Resized


def split(
    x: NetworkVertex,
    sections: int | Sequence[int],
    *,
    axis: int | None = None,
    name: str | None = None,
) -> tuple[NetworkVertex, ...]:
    """An axis in parts, one vertex each; their sizes follow the neurons that are left in each part.

    Args:
        x: the input.
        sections: how many equal parts, or the sizes of all parts.
        axis: with the batch as axis 0; by default the one that holds the neurons.
        name: the parts are called `name.0`, `name.1`, ...

    Raises:
        LayerError: the parts do not add up to the axis.
    """
    layer = title("split", name)
    axis = neuron_axis(layer, x, axis)
    total = known_size(layer, x, axis)
    if isinstance(sections, int | np.integer):
        parts = divisor(layer, "sections", sections, total)
        sizes = [total // parts] * parts
    else:
        sizes = [positive(layer, "a section", size) for size in sections]
    if sum(sizes) != total:
        raise LayerError(f"{layer}: sections {sizes} add up to {sum(sizes)}, the axis has {total}")
    bounds = pairwise(accumulate(sizes, initial=0))
    with x.model.together():
        return tuple(
            x.model.add(
                "part",
                None if name is None else f"{name}.{place}",
                (x,),
                {"axis": axis, "start": start, "stop": stop},
            )
            for place, (start, stop) in enumerate(bounds)
        )


def take(x: NetworkVertex, index: Sequence[int], *, axis: int | None = None, name: str | None = None) -> NetworkVertex:
    """Positions of an axis, in any order and with repetitions; the list follows the neurons that are left.

    Args:
        x: the input.
        index: positions in `[0, size)`.
        axis: with the batch as axis 0; by default the one that holds the neurons.
        name: of the new vertex.
    """
    layer = title("take", name)
    axis = neuron_axis(layer, x, axis)
    size = known_size(layer, x, axis)
    positions = tuple(positive(layer, "a position", place, least=0) for place in index)
    if not positions or max(positions) >= size:
        raise LayerError(f"{layer}: positions are in [0, {size}) and at least one, got {positions}")
    return x.model.add("take", name, (x,), {"axis": axis, "index": positions})


def flip(x: NetworkVertex, *, axis: int | None = None, name: str | None = None) -> NetworkVertex:
    """An axis back to front; by default the one that holds the neurons."""
    layer = title("flip", name)
    axis = neuron_axis(layer, x, axis)
    return take(x, range(known_size(layer, x, axis))[::-1], axis=axis, name=name)


def _sliced(x: Any, axis: int, index: Any) -> Any:
    place: tuple[Any, ...] = (..., index, *[slice(None)] * (-axis - 1))
    return x[place]


@forward("part")
def _part(call: Call) -> Any:
    return _sliced(call.x, call["axis"], slice(call["start"], call["stop"]))


@forward("take")
def _take(call: Call) -> Any:
    return _sliced(call.x, call["axis"], np.asarray(call["index"]))


def _axis(vertex: Vertex, tensor: Tensor) -> tuple[int, Block | None]:
    """The vertex's axis counted from the front, and the block that covers it."""
    axis = int(str(vertex.attributes["axis"])) % len(tensor.shape)
    return axis, tensor.block_of(axis)


def _bounds(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    """Count what is left before the part and in it; every row that is left has equally many."""
    axis, block = _axis(vertex, resized.before[0])
    if block is None:
        return {}
    start, stop = (int(str(vertex.attributes[name])) for name in ("start", "stop"))
    lines = block.lines(axis)
    before = max(len(resized.moved(line[:start])) for line in lines)
    inside = max(len(resized.moved(line[start:stop])) for line in lines)
    return changed(vertex, start=before, stop=before + inside)


@rule("part", rewrite=_bounds)
def _part_flow(scope: Scope) -> Tensor:
    (x,) = scope.inputs
    start, stop = scope.attribute("start", int), scope.attribute("stop", int)
    axis, _ = _axis(scope.vertex, x)
    # One start for all rows of a rectangle: what stands before the part is equally long in each.
    take_labels(scope, x, axis, slice(0, start))
    return take_labels(scope, x, axis, slice(start, stop))


def _positions(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    """Where the neurons that take the place of each taken one stand now."""
    axis, block = _axis(vertex, resized.before[0])
    if block is None:
        return {}
    line = block.lines(axis)[0]
    now = {neuron.tobytes(): place for place, neuron in enumerate(resized.moved(line))}
    index: Sequence[int] = vertex.attributes["index"]  # type: ignore[assignment] # written by the builder
    taken = (resized.moved(line[place : place + 1]) for place in index)
    return changed(vertex, index=tuple(now[neuron.tobytes()] for part in taken for neuron in part))


@rule("take", rewrite=_positions)
def _take_flow(scope: Scope) -> Tensor:
    (x,) = scope.inputs
    axis, block = _axis(scope.vertex, x)
    if block is not None and block.axes[0] != axis:
        x = scope.pin(x, "one list of positions cannot serve rows that lose different columns")
    return take_labels(scope, x, axis, np.asarray(scope.integers("index")))
