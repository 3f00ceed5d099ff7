"""How neurons pass through attention that is one node: heads go with all that is their own, and so do inner sizes."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, cast

import numpy as np

from solver_nas.onnx.operator import operator, settings
from solver_nas.rules.attention import attention
from solver_nas.rules.contract import einsum
from solver_nas.rules.guarding import UnsupportedError
from solver_nas.rules.primitives import concat, take, transpose
from solver_nas.rules.reshape import merge_axes, split_axis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.graph import Vertex
    from solver_nas.labels import Neurons, Tensor
    from solver_nas.onnx.op import Op
    from solver_nas.onnx.operator import Reading
    from solver_nas.rules import Resized

_HEADS_LAST = (0, 2, 1, 3)  # from (batch, heads, tokens, size) to (batch, tokens, heads, size), and back


def _head_size(reading: Reading) -> Mapping[str, object]:
    """How large a head is at the beginning: what is divided by its root stays as it was."""
    shape = reading.inputs[0].shape if reading.inputs[0] is not None else None
    last = None if shape is None else shape[-1]
    if shape is None or last is None:
        raise UnsupportedError(f"{reading.operator}: the size of a head is not known beforehand")
    heads = int(str(reading.attributes.get("q_num_heads", 1))) if len(shape) == 3 else 1
    return {"head size": last // heads}


def _line(resized: Resized, slot: int) -> Neurons | None:
    """The neurons of all heads, one head after the other, where heads are not an axis of their own."""
    tensor = resized.before[slot]
    block = tensor.block_of(2)
    return None if block is None or len(tensor.shape) != 3 else cast("Neurons", block.lines(2)[0])


def _rescaled(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    """How many heads there are, and by what scores are divided if nothing is said."""
    onnx = cast("Mapping[str, object]", vertex.attributes["onnx"])
    found: dict[str, object] = {}
    for slot, name in enumerate(("q_num_heads", "kv_num_heads")):
        line = _line(resized, slot)
        if line is not None:
            found[name] = resized.rows(line, int(str(onnx[name])))
    size = (resized.inputs[0][-1] or 0) // int(str(found.get("q_num_heads", onnx.get("q_num_heads", 1))))
    before = int(str(vertex.attributes["head size"]))
    if size != before and "scale" not in onnx:
        found["scale"] = 1 / sqrt(before)
    return settings(vertex, **found)


@operator(
    "Attention",
    note="heads go with their queries, keys and values; queries and keys have equal sizes; values have their own",
    prepare=_head_size,
    rewrite=_rescaled,
)
def _attention(op: Op) -> Tensor:
    q, k, v = (_headed(op, op.tensor(slot), name) for slot, name in enumerate(_COUNTS))
    k, v = _remembered(op, k, _PAST_KEY), _remembered(op, v, _PAST_VALUE)
    _lengths(op)
    mask = op.operand(_MASK) if op.has(_MASK) else None
    y, scores = attention(op.scope, q, k, v, mask=mask, repeats="nhts" if op.primary else None)
    match op.output:
        case 0:
            return merge_axes(op.scope, y, 2, 2) if len(op.shape) == 3 else transpose(op.scope, y, _HEADS_LAST)
        case 3:
            return scores
        case place:
            return transpose(op.scope, (k, v)[place - 1], _HEADS_LAST)


_COUNTS = ("q_num_heads", "kv_num_heads", "kv_num_heads")
_MASK, _PAST_KEY, _PAST_VALUE, _LENGTHS = 3, 4, 5, 6


def _headed(op: Op, x: Tensor, count: str) -> Tensor:
    """Queries, keys or values as (batch, tokens, heads, size)."""
    if len(x.shape) == 4:
        return transpose(op.scope, x, _HEADS_LAST)
    heads = op.integer(count, 0)
    if not heads or x.shape[2] is None:
        raise op.unsupported("how many heads there are is not known beforehand")
    return split_axis(op.scope, x, 2, (heads, x.shape[2] // heads))


def _remembered(op: Op, x: Tensor, slot: int) -> Tensor:
    """Keys or values behind those of earlier tokens."""
    if not op.has(slot):
        return x
    past = transpose(op.scope, op.tensor(slot), _HEADS_LAST)
    return concat(op.scope, [past, x], 1)


def _lengths(op: Op) -> None:
    """How many tokens count says nothing about neurons."""
    op.hold(_LENGTHS, "how many tokens count")


def _rotation(reading: Reading) -> Mapping[str, object]:
    """How many neurons of a head are rotated."""
    shape = reading.inputs[0].shape if reading.inputs[0] is not None else None
    heads = int(str(reading.attributes.get("num_heads", 0))) if shape is not None and len(shape) == 3 else 1
    if shape is None or shape[-1] is None or not heads:
        raise UnsupportedError(f"{reading.operator}: the size of a head is not known beforehand")
    partial = int(str(reading.attributes.get("rotary_embedding_dim", 0)))
    return {"rotated": partial or shape[-1] // heads, "partial": bool(partial)}


def _rerotated(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    tensor, before = resized.before[0], int(str(vertex.attributes["rotated"]))
    onnx = cast("Mapping[str, object]", vertex.attributes["onnx"])
    block = tensor.block_of(len(tensor.shape) - 1)
    if block is None:
        return {}
    heads = int(str(onnx["num_heads"])) if len(tensor.shape) == 3 else 1
    rows = block.lines(len(tensor.shape) - 1).reshape(-1, block.neurons.shape[-1] // heads)
    row = next((row for row in rows if len(resized.moved(row))), rows[0])
    rotated = len(resized.moved(row[:before]))
    counts: dict[str, object] = {}
    if len(tensor.shape) == 3:
        counts["num_heads"] = resized.rows(block.lines(2)[0], heads)
    if vertex.attributes["partial"]:
        counts["rotary_embedding_dim"] = rotated
    return {**settings(vertex, **counts), "rotated": rotated}


@operator(
    "RotaryEmbedding",
    note="heads go; of a head, the two neurons of a plane go together, the same ones in every head",
    prepare=_rotation,
    rewrite=_rerotated,
)
def _rotary(op: Op) -> Tensor:
    x = _headed(op, op.tensor(0), "num_heads")
    rotated = cast("int", op.extra("rotated"))
    # What is not rotated is as large in every head, too.
    start, _ = take(op.scope, x, 3, slice(0, rotated)), take(op.scope, x, 3, slice(rotated, None))
    block = start.block_of(3)
    apart = bool(op.integer("interleaved", 0))
    if block is not None:
        cells = block.levels[-1]
        planes = cells.reshape(*cells.shape[:-1], *((-1, 2) if apart else (2, -1)))
        planes = np.moveaxis(planes, -1 if apart else -2, 0)
        op.scope.tape.tie(planes[1], planes[0], op.scope.reason("the two neurons of a plane are rotated together"))
    half = take(op.scope, start, 3, slice(0, None, 2) if apart else slice(0, rotated // 2))
    for slot in (1, 2):
        angles = "nts"[: len(op.sizes(slot)) - 1] if len(op.sizes(slot)) == 3 else "m"
        einsum(op.scope, f"nthp,{angles}p->nthp", half, op.operand(slot), fixed="m", why=_PLANE, repeats=None)
    op.hold(3, "positions of tokens")
    return merge_axes(op.scope, x, 2, 2) if len(op.shape) == 3 else transpose(op.scope, x, _HEADS_LAST)


_PLANE = "one angle for each plane"
