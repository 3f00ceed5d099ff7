"""How neurons pass through PyTorch operations that pick by positions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np

from solver_nas.labels import Block, Tensor
from solver_nas.rules.primitives import concat, take, whole
from solver_nas.torch.op import Slot
from solver_nas.torch.operator import operator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.graph import Vertex
    from solver_nas.rules import Resized
    from solver_nas.torch.op import Op, Value

_PICKED = "positions of this axis are picked"


@operator("embedding", weights=True, note="the table makes new neurons; its entries stay")
def _embedding(op: Op) -> Tensor:
    op.hold("indices", "positions are taken from here")
    table = whole(op.scope, op.tensor("weight"), [0], "entries of a table are looked up")
    return _shifted(op, table, 0, len(op.shape) - 1)


@operator("embedding_bag", "_embedding_bag", weights=True, note="the table makes new neurons; its entries stay")
def _bag(op: Op) -> Tensor:
    if op.output:
        raise op.unsupported("positions as outputs")
    for name in op.given[1:]:
        op.hold(name, "positions are taken from here")
    table = whole(op.scope, op.tensor("weight"), [0], "entries of a table are looked up")
    return _shifted(op, table, 0, 1)


def _shifted(op: Op, x: Tensor, axis: int, width: int, count: int = 1) -> Tensor:
    """The same neurons where `count` axes from one on, which have none, become `width` axes."""
    op.scope.speak(x)
    blocks = (
        Block(tuple(place + width - count if place >= axis + count else place for place in block.axes), block.levels)
        for block in x.blocks
    )
    return Tensor(op.shape, tuple(blocks))


def _positions(vertex: Vertex) -> tuple[int, Value] | None:
    """Which axis is picked from, and which positions of it, where these are known and of one axis."""
    arguments = cast("Mapping[str, object]", vertex.attributes["arguments"])
    if "indices" in arguments:
        listed = cast("tuple[object, ...]", arguments["indices"])
        slots = [(axis, slot) for axis, slot in enumerate(listed) if isinstance(slot, Slot)]
    else:
        slot = arguments.get("index")
        slots = [(int(cast("int", arguments.get("dim", 0))), slot)] if isinstance(slot, Slot) else []
    if len(slots) != 1 or slots[0][1].value is None or len(slots[0][1].value.shape) != 1:
        return None
    return slots[0][0], slots[0][1].value


def _repositioned(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    """Where the neurons that take the place of each one that is picked stand now."""
    found = _positions(vertex)
    if found is None or not resized.before:
        return {}
    tensor = resized.before[0]
    axis, value = found[0] % len(tensor.shape), found[1]
    block = tensor.block_of(axis)
    if block is None or block.axes[0] != axis or not vertex.attributes["rewritten"]:
        return {}
    row = block.lines(axis)[0]
    now = {neuron.tobytes(): place for place, neuron in enumerate(resized.moved(row))}
    taken = (resized.moved(row[place % len(row)][None]) for place in value.elements)
    places = tuple(now[neuron.tobytes()] for part in taken for neuron in part)
    new = value._replace(shape=(len(places),), elements=places)
    return {"arguments": _replaced(cast("Mapping[str, object]", vertex.attributes["arguments"]), value, new)}


def _replaced(arguments: Mapping[str, object], old: Value, new: Value) -> Mapping[str, object]:
    def one(argument: object) -> object:
        if isinstance(argument, Slot) and argument.value is old:
            return replace(argument, value=new, shape=new.shape)
        return tuple(map(one, argument)) if type(argument) is tuple else argument

    return {name: one(argument) for name, argument in arguments.items()}


@operator(
    "index",
    "index_select",
    note="positions that a buffer holds are followed; an axis picked from in another way is pinned",
    rewrite=_repositioned,
)
def _index(op: Op) -> Tensor:
    x, rank = op.x, len(op.sizes(op.first))
    if op.operator == "index":
        axes = [axis for axis in range(op.count("indices")) if op.has("indices", axis)]
        for axis in axes:
            op.hold("indices", "positions are taken from here", axis)
        shapes = [op.sizes("indices", axis) for axis in axes]
    else:
        axes = [op.integer("dim") % rank]
        op.hold("index", "positions are taken from here")
        shapes = [op.sizes("index")]
    found = _positions(op.scope.vertex)
    block = x.block_of(axes[0])
    if found is not None and block is not None and block.axes[0] == axes[0] and op.extra("rewritten"):
        places = np.array(found[1].elements, np.int64) % (x.shape[axes[0]] or 1)
        return take(op.scope, x, axes[0], places)
    x = whole(op.scope, x, axes, _PICKED)
    width = max((len(shape) for shape in shapes), default=1)
    if any(block is not None for block in map(x.block_of, axes)) or axes != list(range(axes[0], axes[0] + len(axes))):
        raise op.unsupported("positions of several axes are picked")
    return _shifted(op, x, axes[0], width, len(axes))


@operator("gather", "take_along_dim", note="pinned: which positions are picked differs from place to place")
def _gather(op: Op) -> Tensor:
    op.hold("indices" if op.operator == "take_along_dim" else "index", "positions are taken from here")
    x = whole(op.scope, op.x, range(len(op.shape)), _PICKED)
    return Tensor(op.shape, x.blocks)


@operator("tril", "triu", note="the last two axes are pinned")
def _triangle(op: Op) -> Tensor:
    return whole(op.scope, op.x, [-1, -2], "what remains depends on its place")


@operator("index_add", "index_copy", note="the axis that is written to is pinned; the others are tied")
def _added(op: Op) -> Tensor:
    axis = op.integer("dim") % max(len(op.shape), 1)
    op.hold("index", "positions are written to")
    return _written(op, axis, op.tensor("source"))


@operator("index_put", "_unsafe_index_put", note="the axis that is written to is pinned; the others are tied")
def _put(op: Op) -> Tensor:
    axes = [axis for axis in range(op.count("indices")) if op.has("indices", axis)]
    for axis in axes:
        op.hold("indices", "positions are written to", axis)
    if axes != [0] or len(op.sizes("indices", 0)) != 1 or len(op.sizes("values")) != len(op.shape):
        raise op.unsupported("positions that are written to")
    return _written(op, 0, op.tensor("values"))


def _written(op: Op, axis: int, values: Tensor) -> Tensor:
    """A tensor with other values, or more, at some positions of an axis."""
    parts = [whole(op.scope, one, [axis], "positions of this axis are written to") for one in (op.x, values)]
    return Tensor(op.shape, concat(op.scope, parts, axis).blocks)
