"""How neurons pass through ONNX operators that pick by positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from solver_nas.labels import Block, Tensor
from solver_nas.onnx.operator import operator, values
from solver_nas.rules.primitives import concat, take, whole
from solver_nas.rules.stretching import squeezed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.graph import Vertex
    from solver_nas.onnx.op import Op, Slot
    from solver_nas.rules import Resized


def _repositioned(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    """Where the neurons that take the place of each gathered one stand now."""
    slots = cast("Sequence[Slot | None]", vertex.attributes["slots"])
    onnx = cast("Mapping[str, object]", vertex.attributes["onnx"])
    index = slots[1].value if slots[1] is not None else None
    if index is None or len(index.shape) > 1 or not resized.before:
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
    if index is None:
        op.hold(1, "positions are taken from here")
    if index is None or len(index.shape) > 1 or None in index.elements or op.edge(0) is None:
        block = None
    if block is not None and block.axes[0] == axis and index is not None:
        size = x.shape[axis] or 0
        places = np.array([int(cast("int", place)) % size for place in index.elements], np.int64)
        x = take(op.scope, x, axis, places)
        return x if index.shape else squeezed(op.scope, x, [axis])
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


@operator("ReverseSequence", note="other axes than those of samples and steps are left alone")
def _reversed(op: Op) -> Tensor:
    x = op.tensor(0)
    op.hold(1, "how long sequences are")
    axes = [op.integer("batch_axis", 1), op.integer("time_axis", 0)]
    return whole(op.scope, x, axes, "what stands where depends on the lengths of sequences")


@operator("TensorScatter", note="what is written into another tensor has its neurons; the axis of positions stays")
def _written(op: Op) -> Tensor:
    axis = op.integer("axis", -2) % len(op.shape)
    why = "positions of this axis are written to"
    past, new = (whole(op.scope, op.tensor(slot), [axis], why) for slot in (0, 1))
    op.hold(2, "positions are taken from here")
    return Tensor(op.shape, concat(op.scope, [past, new], axis).blocks)
