"""How neurons pass through PyTorch's normalisations."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from solver_nas.rules.contract import elementwise
from solver_nas.rules.normalising import group_norm
from solver_nas.rules.primitives import mingled
from solver_nas.rules.windows import per_channel
from solver_nas.torch.operator import operator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.graph import Vertex
    from solver_nas.labels import Neurons, Tensor
    from solver_nas.rules import Resized
    from solver_nas.torch.op import Op
    from solver_nas.torch.operator import Reading

_FILLS = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}


def _without_statistics(vertex: Vertex, rank: int) -> Sequence[int]:
    """All axes but that of the channels, where a batch is normalised by itself."""
    arguments = cast("Mapping[str, object]", vertex.attributes["arguments"])
    return () if arguments.get("running_mean") is not None else [axis for axis in range(rank) if axis != 1]


@operator(
    "batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "native_batch_norm",
    weights=True,
    note="each channel by itself; scale, bias and statistics follow",
    together=_without_statistics,
    exact=True,
    buffers=("running_mean", "running_var"),
    fills=_FILLS,
)
def _batch(op: Op) -> Tensor:
    if op.output:
        raise op.unsupported("statistics as outputs")
    if len(op.x.shape) == 1:
        raise op.unsupported("an input without channels")
    y = mingled(op.scope, op.x, _without_statistics(op.scope.vertex, len(op.x.shape)))
    for name in ("weight", "bias", "running_mean", "running_var"):
        if op.has(name):
            y = per_channel(op.scope, y, op.operand(name))
    return y


def _pixels(_: Vertex, rank: int) -> Sequence[int]:
    return range(2, rank)


@operator(
    "instance_norm",
    weights=True,
    note="each channel by itself, over the neurons that remain in it; scale and bias follow",
    together=_pixels,
    buffers=("running_mean", "running_var"),
    fills=_FILLS,
)
def _instance(op: Op) -> Tensor:
    x = op.x
    y = mingled(op.scope, x, range(2, len(x.shape)))
    for name in ("weight", "bias", "running_mean", "running_var"):
        if op.has(name):
            y = per_channel(op.scope, y, op.operand(name))
    return y


def _normalised(vertex: Vertex, rank: int) -> Sequence[int]:
    shape = cast("Mapping[str, object]", vertex.attributes["arguments"])["normalized_shape"]
    return range(rank - len(cast("Sequence[int]", shape)), rank)


@operator(
    "layer_norm",
    "rms_norm",
    "_fused_rms_norm",
    "native_layer_norm",
    weights=True,
    note="over the neurons that remain; scale and bias follow",
    together=_normalised,
    fills=_FILLS,
)
def _layer(op: Op) -> Tensor:
    if op.output:
        raise op.unsupported("statistics as outputs")
    x = op.x
    axes = _normalised(op.scope.vertex, len(x.shape))
    for place, axis in enumerate(axes):
        x = op.sized("normalized_shape", place, x, axis)
    x = mingled(op.scope, x, axes)
    operands = [op.operand(name) for name in ("weight", "bias") if op.has(name)]
    return elementwise(op.scope, x, *operands, why="normalisation: scale and bias follow")


@operator("_weight_norm", note="directions and lengths of weights; over the entries that remain", exact=False)
def _weight_norm(op: Op) -> Tensor:
    return elementwise(op.scope, op.tensor("v"), op.tensor("g"), why="a length for each direction")


def _channels(_: Vertex, __: int) -> Sequence[int]:
    return [1]


def _groups(reading: Reading) -> Mapping[str, object]:
    return {"groups": int(cast("int", reading.arguments["num_groups"]))}


def _regrouped(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    block = resized.before[0].block_of(1)
    if block is None:
        return {}
    return {"groups": resized.rows(block.lines(1)[0], cast("int", vertex.attributes["groups"]))}


@operator(
    "group_norm",
    weights=True,
    note="each group keeps equally many channels; scale and bias follow",
    together=_channels,
    fills=_FILLS,
    prepare=_groups,
    rewrite=_regrouped,
)
def _group(op: Op) -> Tensor:
    def grouped(rows: Neurons) -> None:
        op.counted("num_groups", 0, rows)

    weights = [partial(op.viewed, name) for name in ("weight", "bias") if op.has(name)]
    return group_norm(op.scope, op.x, cast("int", op.extra("groups")), weights, grouped=grouped)
