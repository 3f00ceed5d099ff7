"""How neurons pass through ONNX's normalisations."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from solver_nas.onnx.operator import operator, settings
from solver_nas.rules.contract import elementwise
from solver_nas.rules.normalising import group_norm
from solver_nas.rules.primitives import mingled
from solver_nas.rules.windows import per_channel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.graph import Vertex
    from solver_nas.labels import Tensor
    from solver_nas.onnx.op import Op
    from solver_nas.rules import Resized


def _per_channel(op: Op, y: Tensor, slots: range) -> Tensor:
    """Multiply with, or add, one number for every channel."""
    for slot in slots:
        if op.has(slot):
            y = per_channel(op.scope, y, op.operand(slot))
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
    return _per_channel(op, mingled(op.scope, x, range(2, len(x.shape))), range(1, 3))


@operator(
    "LayerNormalization", "RMSNormalization", note="over the neurons that remain; scale and bias follow", exact=False
)
def _layer(op: Op) -> Tensor:
    if op.output:
        raise op.unsupported("statistics as outputs")
    operands = [op.operand(slot) for slot in range(1, op.count) if op.has(slot)]
    x = op.tensor(0)
    x = mingled(op.scope, x, range(op.integer("axis", -1) % len(x.shape), len(x.shape)))
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
    weights = [partial(op.weight, slot) for slot in (1, 2)]
    return group_norm(op.scope, op.tensor(0), op.integer("num_groups", 1), weights)


@operator("LpNormalization", note="over the neurons that remain", exact=False)
def _lp(op: Op) -> Tensor:
    return mingled(op.scope, op.tensor(0), [op.integer("axis", -1)])


@operator("MeanVarianceNormalization", note="over the neurons that remain", exact=False)
def _mean_variance(op: Op) -> Tensor:
    return mingled(op.scope, op.tensor(0), op.integers("axes") or (0, 2, 3))


@operator("LRN", note="over the neighbours that remain", exact=False)
def _response(op: Op) -> Tensor:
    return mingled(op.scope, op.tensor(0), [1])
