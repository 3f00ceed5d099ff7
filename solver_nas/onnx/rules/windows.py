"""How neurons pass through ONNX operators with windows: convolutions, pooling, resizing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solver_nas.onnx.operator import operator, settings
from solver_nas.rules.contract import einsum
from solver_nas.rules.primitives import whole
from solver_nas.rules.reshape import merge_axes, split_axis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.graph import Vertex
    from solver_nas.labels import Tensor
    from solver_nas.onnx.operator import Op, Reading
    from solver_nas.rules import Resized


_PLAIN, _DEPTHWISE, _GROUPED = "plain", "depthwise", "grouped"


def _style(reading: Reading) -> Mapping[str, object]:
    """Whether a convolution sees all channels, one, or a group of them."""
    groups = int(str(reading.attributes.get("group", 1)))
    kernel = reading.inputs[1].shape if reading.inputs[1] is not None else None
    if groups == 1 or kernel is None:
        return {"style": _PLAIN}
    # Both kinds have channels of a group on the second axis: those that are read, or those that are made.
    return {"style": _DEPTHWISE if kernel[:2] == (groups, 1) else _GROUPED}


def _regrouped(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    """The number of groups after a change: the outermost axis under which the weight is seen."""
    if vertex.attributes["style"] == _PLAIN or "W" not in vertex.parameters:
        return {}
    return settings(vertex, group=resized.views["W"][0])


def _bias(op: Op, y: Tensor, slot: int, rank: int) -> Tensor:
    """Add one number for every channel."""
    if not op.has(slot):
        return y
    spatial = "xyz"[:rank]
    return einsum(
        op.scope, f"nc{spatial},c->nc{spatial}", y, op.operand(slot), why="one bias per channel", repeats=None
    )


@operator(
    "Conv",
    note="makes new channels; grouped ones keep the best of each group; depthwise ones follow",
    rewrite=_regrouped,
    prepare=_style,
)
def _conv(op: Op) -> Tensor:
    return _convolution(op, transposed=False)


@operator("ConvTranspose", note="as Conv", rewrite=_regrouped, prepare=_style)
def _conv_transpose(op: Op) -> Tensor:
    return _convolution(op, transposed=True)


def _convolution(op: Op, *, transposed: bool) -> Tensor:
    x = op.tensor(0)
    rank = len(x.shape) - 2
    if not 1 <= rank <= len("xyz"):
        raise op.unsupported(f"{rank} spatial axes")
    x = whole(op.scope, x, range(2, 2 + rank), "a window slides along this axis")
    before, after, inside = "xyz"[:rank], "XYZ"[:rank], "uvw"[:rank]
    sizes = dict(zip(after, op.shape[2:], strict=True))
    why = "convolution: equal channels"
    # Every position of the smaller side is multiplied with the whole kernel.
    repeats = f"n{before}" if transposed else f"n{after}"
    style = op.extra("style")
    if style == _PLAIN:
        kernel = "co" if transposed else "oc"
        spec = f"nc{before},{kernel}{inside}->no{after}"
        y = einsum(op.scope, spec, x, op.operand(1), fixed=inside, sizes=sizes, why=why, repeats=repeats)
    elif style == _DEPTHWISE:
        spec = f"nc{before},ci{inside}->nc{after}"
        y = einsum(op.scope, spec, x, op.weight(1), fixed=f"i{inside}", sizes=sizes, why=why, repeats=repeats)
    else:
        y = _grouped(op, x, spec=(before, inside, after), repeats=repeats, transposed=transposed)
    return _bias(op, y, 2, rank)


def _grouped(op: Op, x: Tensor, *, spec: tuple[str, str, str], repeats: str, transposed: bool) -> Tensor:
    before, inside, after = spec
    groups, shape = op.integer("group", 1), [size or 0 for size in op.sizes(1)]
    split = op.weight(1, [(groups, shape[0] // groups), *((size,) for size in shape[1:])])
    x = split_axis(op.scope, x, 1, (groups, (x.shape[1] or 0) // groups))
    kernel = "gio" if transposed else "goi"
    sizes = dict(zip(after, op.shape[2:], strict=True))
    y = einsum(
        op.scope,
        f"ngi{before},{kernel}{inside}->ngo{after}",
        x,
        split,
        fixed=inside,
        sizes=sizes,
        why="convolution: equal channels",
        repeats=repeats,
    )
    return merge_axes(op.scope, y, 1, 2)


@operator(
    "AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", note="channel by channel"
)
def _pool(op: Op) -> Tensor:
    if op.output:
        raise op.unsupported("positions of the largest values count through all channels")
    x = op.tensor(0)
    return whole(op.scope, x, range(2, len(x.shape)), "a window slides along this axis")


@operator("Resize", "Upsample", note="channel by channel; axes that are resized stay as they are", values=(1, 2, 3))
def _resize(op: Op) -> Tensor:
    x = op.tensor(0)
    changing = [
        axis for axis, (one, other) in enumerate(zip(x.shape, op.shape, strict=True)) if one is None or one != other
    ]
    spatial = sorted({*changing, *range(2, len(x.shape))})
    if any(x.block_of(axis) is not None and axis < 2 for axis in changing):
        raise op.unsupported("the channels themselves are resized")
    return whole(op.scope, x, spatial, "this axis is resized")


@operator("GridSample", "RoiAlign", "MaxRoiPool", note="channel by channel")
def _sample(op: Op) -> Tensor:
    x = op.tensor(0)
    for slot in range(1, op.count):
        where = op.edge(slot)
        if where is not None:
            op.scope.pin(where, "positions are taken from here", report=False)
        elif op.has(slot):
            raise op.unsupported("constant positions")
    return whole(op.scope, x, range(2, len(x.shape)), "this axis is sampled")


@operator("Col2Im", note="pinned", values=(1, 2))
def _col2im(op: Op) -> Tensor:
    raise op.unsupported("channels and window are one axis")
