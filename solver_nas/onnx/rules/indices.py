"""How neurons pass through ONNX operators that pick by positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from solver_nas.labels import Block, Tensor
from solver_nas.onnx.operator import operator, values
from solver_nas.rules.primitives import take, whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.graph import Vertex
    from solver_nas.onnx.operator import Op, Slot
    from solver_nas.rules import Resized


def _repositioned(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    """Where the neurons that take the place of each gathered one stand now."""
    slots = cast("Sequence[Slot | None]", vertex.attributes["slots"])
    onnx = cast("Mapping[str, object]", vertex.attributes["onnx"])
    index = slots[1].value if slots[1] is not None else None
    if index is None or len(index.shape) != 1 or not resized.before:
        return {}
    tensor = resized.before[0]
    axis = int(str(onnx.get("axis", 0))) % len(tensor.shape)
    block = tensor.block_of(axis)
    if block is None or block.axes[0] != axis or slots[0] is None or slots[0].edge is None:
        return {}
    line = block.lines(axis)[0]
    now = {neuron.tobytes(): place for place, neuron in enumerate(resized.moved(line))}
    places = [int(place or 0) % len(line) for place in index.elements]
    taken = (resized.moved(line[place : place + 1]) for place in places)
    return values(vertex, {1: [now[neuron.tobytes()] for part in taken for neuron in part]})


@operator(
    "Gather",
    note="positions known beforehand are followed; an axis picked from by data is pinned",
    values=(1,),
    rewrite=_repositioned,
)
def _gather(op: Op) -> Tensor:
    x = op.tensor(0)
    rank = len(x.shape)
    axis = op.integer("axis", 0) % rank
    index, block = op.value(1), x.block_of(axis)
    picks = op.edge(1)
    if picks is not None and picks.blocks:
        op.scope.pin(picks, "positions are taken from here", report=False)
    elif picks is not None:
        op.scope.speak(picks)
    elif index is None:
        op.freeze(1, "positions are taken from here")
    known = index is not None and len(index.shape) == 1 and None not in index.elements
    if block is not None and block.axes[0] == axis and known and index is not None and op.edge(0) is not None:
        size = x.shape[axis] or 0
        return take(op.scope, x, axis, np.array([int(cast("int", place)) % size for place in index.elements], np.int64))
    x = whole(op.scope, x, [axis], "positions of this axis are picked")
    shift = len(op.shape) - rank
    blocks = tuple(
        Block(tuple(place + shift if place > axis else place for place in block.axes), block.levels)
        for block in x.blocks
    )
    return Tensor(op.shape, blocks)


@operator("Trilu", note="the last two axes are pinned", values=(1,))
def _triangle(op: Op) -> Tensor:
    x = op.tensor(0)
    return whole(op.scope, x, [-1, -2], "what remains depends on its place")


@operator("EyeLike", note="pinned")
def _eye(op: Op) -> Tensor:
    raise op.unsupported("what it makes depends on its place")


_PICKING = (
    *("Compress", "GatherElements", "GatherND", "NonMaxSuppression", "NonZero", "OneHot", "ReverseSequence", "Scatter"),
    *("ScatterElements", "ScatterND", "TensorScatter", "Unique", "CenterCropPad"),
)


@operator(*_PICKING, note="pinned: positions depend on data")
def _picking(op: Op) -> Tensor:
    raise op.unsupported("positions depend on data")
