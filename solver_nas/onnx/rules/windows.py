"""How neurons pass through ONNX operators with windows: convolutions, pooling, resizing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from solver_nas.labels import Tensor
from solver_nas.onnx.operator import operator, settings, values
from solver_nas.rules.contract import einsum
from solver_nas.rules.primitives import whole
from solver_nas.rules.windows import Style, convolution, per_channel, style_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.graph import Vertex
    from solver_nas.onnx.op import Op, Slot
    from solver_nas.onnx.operator import Reading
    from solver_nas.rules import Resized
    from solver_nas.rules.scope import Weight

SINGLE = "one number for all channels"
_WHERE = "positions are taken from here"


class _Slots(NamedTuple):
    """Which inputs of a convolution are what.

    Args:
        kernel: its weight.
        channels: one number for every channel that it makes: biases, scales, zero points.
        single: numbers that are the same for all channels.
    """

    kernel: int = 1
    channels: tuple[int, ...] = (2,)
    single: tuple[int, ...] = ()


_SLOTS = {
    "Conv": _Slots(),
    "ConvTranspose": _Slots(),
    "ConvInteger": _Slots(channels=(3,), single=(2,)),
    "DeformConv": _Slots(channels=(3,)),
    "QLinearConv": _Slots(kernel=3, channels=(4, 5, 8), single=(1, 2, 6, 7)),
}


def _style(reading: Reading) -> Mapping[str, object]:
    """Whether a convolution sees all channels, one, or a group of them."""
    groups = int(str(reading.attributes.get("group", 1)))
    found = reading.inputs[_SLOTS[reading.operator].kernel]
    return {"style": style_of(None if found is None else found.shape, groups)}


def _regrouped(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    """The number of groups after a change: the outermost axis under which the weight is seen."""
    role = next((role for role in ("W", "w") if role in vertex.parameters), None)
    if vertex.attributes["style"] is Style.PLAIN or role is None:
        return {}
    return settings(vertex, group=resized.views[role][0])


def _per_channel(op: Op, y: Tensor, slot: int) -> Tensor:
    """Add to, or multiply with, one number for every channel, or one for all of them."""
    if not op.has(slot):
        return y
    single = op.sizes(slot) == () or (op.sizes(slot) == (1,) and y.shape[1] != 1)
    if op.scope.tape.choose((op.scope.vertex.name, "single", slot), int(single)):
        op.hold(slot, SINGLE)
        return y
    return per_channel(op.scope, y, op.operand(slot))


@operator(
    "Conv",
    note="makes new channels; grouped ones keep the best of each group; depthwise ones follow",
    rewrite=_regrouped,
    prepare=_style,
)
def _conv(op: Op) -> Tensor:
    return _convolution(op, transposed=False)


@operator(
    "ConvInteger",
    "QLinearConv",
    note="as Conv; scales and zero points of single channels follow",
    rewrite=_regrouped,
    prepare=_style,
)
def _quantised(op: Op) -> Tensor:
    return _convolution(op, transposed=False)


@operator("DeformConv", note="as Conv, as long as all channels are moved alike", rewrite=_regrouped, prepare=_style)
def _deformed(op: Op) -> Tensor:
    if op.integer("offset_group", 1) != 1:
        raise op.unsupported("groups of channels that are moved in different ways")
    for slot in (2, 4):
        op.hold(slot, _WHERE)
    return _convolution(op, transposed=False)


@operator("ConvTranspose", note="as Conv", rewrite=_regrouped, prepare=_style)
def _conv_transpose(op: Op) -> Tensor:
    return _convolution(op, transposed=True)


def _convolution(op: Op, *, transposed: bool) -> Tensor:
    style, slots = cast("Style", op.extra("style")), _SLOTS[op.operator]

    def kernel(view: Sequence[Sequence[int]] | None) -> Tensor | Weight:
        # What sees single channels, or groups of them, has to be a constant; `op.weight` checks that.
        return op.operand(slots.kernel) if style is Style.PLAIN else op.weight(slots.kernel, view)

    y = convolution(
        op.scope,
        op.tensor(0),
        kernel,
        op.shape[2:],
        style=style,
        kernel_shape=op.sizes(slots.kernel),
        groups=op.integer("group", 1),
        transposed=transposed,
    )
    for slot in slots.single:
        op.hold(slot, SINGLE)
    for slot in slots.channels:
        y = _per_channel(op, y, slot)
    return y


@operator(
    "AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", note="channel by channel"
)
def _pool(op: Op) -> Tensor:
    if op.output:
        raise op.unsupported("positions of the largest values count through all channels")
    x = op.tensor(0)
    return whole(op.scope, x, range(2, len(x.shape)), "a window slides along this axis")


def _resized(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    """Sizes that are written down for axes that are not resized."""
    slots = cast("Sequence[Slot | None]", vertex.attributes["slots"])
    slot = slots[_SIZES] if len(slots) > _SIZES else None
    sizes = None if slot is None else slot.value
    if sizes is None or len(sizes.elements) != len(resized.outputs[0]):
        return {}
    pairs = zip(cast("Sequence[int | None]", sizes.elements), resized.outputs[0], strict=True)
    return values(vertex, {_SIZES: [now if size is None or now is None else size for now, size in pairs]})


_SIZES = 3  # the input of Resize that says how large the result is


@operator(
    "Resize",
    "Upsample",
    note="channel by channel; axes that are resized stay as they are",
    values=(1, 2, 3),
    rewrite=_resized,
)
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
        op.hold(slot, _WHERE)
    return whole(op.scope, x, range(2, len(x.shape)), "this axis is sampled")


@operator("CausalConvWithState", note="channel by channel; earlier tokens follow")
def _causal(op: Op) -> Tensor:
    x = whole(op.scope, op.tensor(0), [2], "a window slides along this axis")
    y = einsum(op.scope, "nct,cik->nct", x, op.operand(1), fixed="ik", why="convolution: equal channels", repeats="nt")
    y = _per_channel(op, y, 2)
    if op.has(3):
        past = whole(op.scope, op.tensor(3), [2], "earlier tokens")
        y = einsum(op.scope, "nct,nck->nct", y, past, why="one state per channel", repeats=None)
    return Tensor(op.shape, y.blocks)
