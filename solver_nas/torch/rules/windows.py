"""How neurons pass through PyTorch operations with windows: convolutions, pooling, resizing."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from solver_nas.labels import Block, Tensor
from solver_nas.rules.primitives import take, whole
from solver_nas.rules.windows import Style, convolution, per_channel, style_of
from solver_nas.torch.operator import operator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.graph import Vertex
    from solver_nas.labels import Neurons
    from solver_nas.rules import Resized
    from solver_nas.torch.op import Op
    from solver_nas.torch.operator import Reading

_WHERE = "positions are taken from here"


def _style(reading: Reading) -> Mapping[str, object]:
    """Whether a convolution sees all channels, one, or a group of them; and how many groups there are."""
    groups = int(cast("int", reading.arguments.get("groups", 1)))
    return {"style": style_of(reading.given("weight"), groups), "groups": groups}


def _regrouped(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    """The number of groups after a change."""
    block = resized.before[0].block_of(1) if vertex.attributes["style"] is Style.GROUPED else None
    if block is None:
        return {}
    return {"groups": resized.rows(block.lines(1)[0], cast("int", vertex.attributes["groups"]))}


_CONV = {f"conv{rank}d": False for rank in (1, 2, 3)} | {f"conv_transpose{rank}d": True for rank in (1, 2, 3)}


@operator(
    *_CONV,
    "convolution",
    "_convolution",
    weights=True,
    note="makes new channels; grouped ones keep the best of each group; depthwise ones follow",
    prepare=_style,
    rewrite=_regrouped,
)
def _conv(op: Op) -> Tensor:
    x = op.x
    rank = len(op.sizes("weight")) - 2
    if len(x.shape) != rank + 2:
        raise op.unsupported("an input without a batch")
    transposed = _CONV.get(op.operator, op.flag("transposed"))

    def grouped(groups: Neurons, rows: Neurons | None) -> None:
        op.counted("groups", 0, groups, rows)

    y = convolution(
        op.scope,
        x,
        lambda view: op.viewed("weight", view),
        op.shape[2:],
        style=cast("Style", op.extra("style")),
        kernel_shape=op.sizes("weight"),
        groups=cast("int", op.extra("groups")),
        transposed=transposed,
        grouped=grouped,
    )
    return per_channel(op.scope, y, op.operand("bias")) if op.has("bias") else y


_POOLS = (
    *(f"{kind}_pool{rank}d" for kind in ("max", "avg", "adaptive_avg", "adaptive_max") for rank in (1, 2, 3)),
    *("max_pool2d_with_indices", "max_pool3d_with_indices", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"),
    *("fractional_max_pool2d", "fractional_max_pool3d"),
)


@operator(*_POOLS, note="channel by channel")
def _pool(op: Op) -> Tensor:
    x = op.x
    spatial = 3 if "3d" in op.operator else 2 if "2d" in op.operator else 1
    rank = len(x.shape)
    return whole(op.scope, x, range(rank - spatial, rank), "a window slides along this axis")


_RESIZED = tuple(
    f"{prefix}{kind}"
    for prefix in ("", "_")
    for kind in (
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d", "upsample_bilinear2d"),
        *("upsample_trilinear3d", "upsample_bicubic2d", "upsample_nearest_exact1d", "upsample_nearest_exact2d"),
        *("upsample_nearest_exact3d", "upsample_bilinear2d_aa", "upsample_bicubic2d_aa"),
    )
)


@operator(*_RESIZED, note="channel by channel; axes that are resized stay as they are")
def _resize(op: Op) -> Tensor:
    x = op.x
    return whole(op.scope, x, range(2, len(x.shape)), "this axis is resized")


@operator("grid_sampler", "grid_sampler_2d", "grid_sampler_3d", "torchvision::roi_align", note="channel by channel")
def _sample(op: Op) -> Tensor:
    x = op.x
    for name in op.given[1:]:
        op.hold(name, _WHERE)
    return whole(op.scope, x, range(2, len(x.shape)), "this axis is sampled")


@operator("pixel_shuffle", note="the channels of one output channel go together")
def _shuffled(op: Op) -> Tensor:
    x, inner = op.x, op.integer("upscale_factor", 1) ** 2
    x = whole(op.scope, x, [-1, -2], "pixels beside each other")
    return Tensor(op.shape, _together(op, x, len(x.shape) - 3, inner).blocks)


def _together(op: Op, x: Tensor, axis: int, inner: int) -> Tensor:
    """Every `inner` neighbours of an axis become one neuron."""
    block = x.block_of(axis)
    op.scope.speak(x)
    if block is None:
        return Tensor(x.shape)
    if block.axes != (axis,):
        raise op.unsupported("channels that are grouped")
    cells = block.neurons.reshape(-1, inner)
    op.scope.tape.tie(cells[:, 1:], cells[:, :1], op.scope.reason("the pixels of one channel"))
    kept = tuple(one for one in x.blocks if one is not block)
    return Tensor(x.shape, (*kept, Block((axis,), (cells[:, 0],))))


@operator("pixel_unshuffle", note="every channel becomes several that go together")
def _unshuffled(op: Op) -> Tensor:
    x = whole(op.scope, op.x, [-1, -2], "pixels beside each other")
    return Tensor(op.shape, _repeated(op, x, len(x.shape) - 3, op.integer("downscale_factor", 1) ** 2).blocks)


def _repeated(op: Op, x: Tensor, axis: int, inner: int) -> Tensor:
    if x.block_of(axis) is None:
        op.scope.speak(x)
        return x
    return take(op.scope, x, axis, np.repeat(np.arange(x.shape[axis] or 0), inner))


def _area(op: Op) -> int:
    return int(np.prod(op.integers("kernel_size") or (1,)))


@operator("im2col", note="every channel becomes several that go together: one for each place of the window")
def _unfolded(op: Op) -> Tensor:
    x = whole(op.scope, op.x, [2, 3], "a window slides along this axis")
    y = _repeated(op, x, 1, _area(op))
    return Tensor(op.shape, tuple(block for block in y.blocks if set(block.axes) <= {0, 1}))


@operator("col2im", note="the places of the window of one channel go together")
def _folded(op: Op) -> Tensor:
    x = whole(op.scope, op.x, [2], "windows beside each other")
    return Tensor(op.shape, _together(op, x, 1, _area(op)).blocks)


@operator("unfold", note="windows along one axis, which stays; the others are left alone")
def _slid(op: Op) -> Tensor:
    x = op.x
    return Tensor(op.shape, whole(op.scope, x, [op.integer("dimension")], "a window slides along this axis").blocks)
