"""How neurons pass through ONNX's normalisations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solver_nas.onnx.operator import operator, settings
from solver_nas.onnx.rules.reductions import mingled
from solver_nas.rules.contract import einsum, elementwise
from solver_nas.rules.primitives import whole
from solver_nas.rules.reshape import merge_axes, split_axis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.graph import Vertex
    from solver_nas.labels import Tensor
    from solver_nas.onnx.op import Op
    from solver_nas.rules import Resized


def _per_channel(op: Op, y: Tensor, slots: range) -> Tensor:
    """Multiply with, or add, one number for every channel."""
    rest = "abcdefgh"[: len(y.shape) - 2]
    for slot in slots:
        if op.has(slot):
            y = einsum(
                op.scope, f"nx{rest},x->nx{rest}", y, op.operand(slot), why="one number per channel", repeats=None
            )
    return y


@operator(
    "BatchNormalization",
    note="each channel by itself; scale, bias and statistics follow",
    buffers=("mean", "var", "input_mean", "input_var"),
)
def _batch(op: Op) -> Tensor:
    if op.output:
        raise op.unsupported("statistics as outputs")
    x = op.tensor(0)
    if len(x.shape) == 1:
        raise op.unsupported("an input without channels")
    return _per_channel(op, x, range(1, 5))


@operator(
    "InstanceNormalization",
    note="each channel by itself, over the neurons that remain in it; scale and bias follow",
    exact=False,
)
def _instance(op: Op) -> Tensor:
    # Groups of channels that are seen as one channel are how exporters spell a group normalisation.
    x = op.tensor(0)
    return _per_channel(op, mingled(op, x, range(2, len(x.shape))), range(1, 3))


@operator(
    "LayerNormalization", "RMSNormalization", note="over the neurons that remain; scale and bias follow", exact=False
)
def _layer(op: Op) -> Tensor:
    if op.output:
        raise op.unsupported("statistics as outputs")
    operands = [op.operand(slot) for slot in range(1, op.count) if op.has(slot)]
    x = op.tensor(0)
    x = mingled(op, x, range(op.integer("axis", -1) % len(x.shape), len(x.shape)))
    return elementwise(op.scope, x, *operands, why="normalisation: scale and bias follow")


def _regrouped(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    block = resized.before[0].block_of(1)
    onnx = vertex.attributes["onnx"]
    assert isinstance(onnx, dict), "the attributes of a node"
    if block is None:
        return {}
    return settings(vertex, num_groups=resized.rows(block.lines(1)[0], int(onnx["num_groups"])))


@operator(
    "GroupNormalization",
    note="each group keeps equally many channels; scale and bias follow",
    exact=False,
    rewrite=_regrouped,
)
def _group(op: Op) -> Tensor:
    x = op.tensor(0)
    rank, groups, size = len(x.shape) - 2, op.integer("num_groups", 1), x.shape[1] or 0
    x = whole(op.scope, x, range(2, rank + 2), "all of this axis is normalised together")
    y, rest = split_axis(op.scope, x, 1, (groups, size // groups)), "abcdefgh"[:rank]
    for slot in (1, 2):
        weight = op.weight(slot, [(groups, size // groups)])
        y = einsum(op.scope, f"nyz{rest},yz->nyz{rest}", y, weight, why="scale and bias follow", repeats=None)
    return merge_axes(op.scope, y, 1, 2)


@operator("LpNormalization", note="over the neurons that remain", exact=False)
def _lp(op: Op) -> Tensor:
    return mingled(op, op.tensor(0), [op.integer("axis", -1)])


@operator("MeanVarianceNormalization", note="over the neurons that remain", exact=False)
def _mean_variance(op: Op) -> Tensor:
    return mingled(op, op.tensor(0), op.integers("axes") or (0, 2, 3))


@operator("LRN", note="over the neighbours that remain", exact=False)
def _response(op: Op) -> Tensor:
    return mingled(op, op.tensor(0), [1])
