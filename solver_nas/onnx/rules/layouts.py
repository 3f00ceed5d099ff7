"""How neurons pass through ONNX operators that arrange elements anew: reshapes, transposes, repetition."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from solver_nas.labels import Block, Tensor
from solver_nas.onnx.op import Op
from solver_nas.onnx.operator import operator
from solver_nas.rules.guarding import UnsupportedError
from solver_nas.rules.pairing import paired
from solver_nas.rules.primitives import transpose, whole
from solver_nas.rules.rearranging import rearranged
from solver_nas.rules.stretching import even, expanded, placed, squeezed, tiled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.labels import Shape
    from solver_nas.onnx.operator import Reading
    from solver_nas.rules.pairing import Pairs


# -- reshapes -------------------------------------------------------------------------------------


def _pairs(reading: Reading) -> Mapping[str, object]:
    """Which axes hold the same elements before and after."""
    given = reading.inputs[0]
    assert given is not None, "a reshape has an input"
    for trials in ((0, 1), (2, 3)):
        found = [_paired(given.at(trial).shape, reading.output.at(trial).shape) for trial in trials]
        if found[0] is not None and found[0] == found[1]:
            return {"pairs": found[0]}
    raise UnsupportedError(
        f"{reading.operator}: which axes become which depends on sizes that are not known beforehand"
    )


def _paired(before: Shape | None, after: Shape | None) -> Pairs | None:
    if before is None or after is None or None in before or None in after:
        return None
    return paired([size or 0 for size in before], [size or 0 for size in after])


@operator(
    "Reshape",
    note="axes merge and split; a split axis becomes a rectangle; literal sizes follow",
    values=(1,),
    prepare=_pairs,
)
@operator("Flatten", note="axes merge; the copies of a neuron go together", prepare=_pairs)
def _reshape(op: Op) -> Tensor:
    return rearranged(op.scope, op.tensor(0), op.shape, cast("Pairs", op.extra("pairs")))


@operator("Transpose", note="axes change places")
def _transpose(op: Op) -> Tensor:
    x = op.tensor(0)
    return transpose(op.scope, x, op.integers("perm") or tuple(reversed(range(len(x.shape)))))


def _squeezed(reading: Reading) -> Mapping[str, object]:
    """Which axes go: those of size 1 at the beginning, if the node does not name them."""
    given = reading.inputs[0]
    axes = reading.attributes.get("axes")
    if axes is None and len(reading.inputs) > 1 and reading.inputs[1] is not None:
        axes = reading.inputs[1].numbers
    if given is None or given.shape is None or (axes is not None and None in cast("tuple[int | None, ...]", axes)):
        raise UnsupportedError(f"{reading.operator}: its axes are not known beforehand")
    if axes is None:
        if None in given.shape:
            raise UnsupportedError(f"{reading.operator}: which sizes are 1 is not known beforehand")
        return {"axes": tuple(axis for axis, size in enumerate(given.shape) if size == 1)}
    rank = len(given.shape)
    return {"axes": tuple(sorted(axis % rank for axis in cast("tuple[int, ...]", axes)))}


@operator("Squeeze", note="axes of size 1 go", values=(1,), prepare=_squeezed)
def _squeeze(op: Op) -> Tensor:
    return squeezed(op.scope, op.tensor(0), cast("tuple[int, ...]", op.extra("axes")))


@operator("Unsqueeze", note="new axes of size 1", values=(1,))
def _unsqueeze(op: Op) -> Tensor:
    rank = len(op.shape)
    new = {axis % rank for axis in op.numbers(1, "axes") or ()}
    old = iter(range(rank))
    return placed(op.scope, op.tensor(0), [None if axis in new else next(old) for axis in range(rank)])


def _widened(reading: Reading) -> Mapping[str, object]:
    """Which axes were of size 1, or not there, before they were expanded."""
    given = reading.inputs[0]
    if given is None or given.shape is None or reading.output.shape is None:
        raise UnsupportedError("Expand: the shape is not known beforehand")
    before, after = given.shape, reading.output.shape
    lead = len(after) - len(before)
    wide = (axis for axis, size in enumerate(after) if axis < lead or (before[axis - lead] == 1 and size != 1))
    return {"widened": tuple(wide)}


@operator("Expand", note="neurons stay; axes that are expanded follow what they meet", values=(1,), prepare=_widened)
def _expand(op: Op) -> Tensor:
    return expanded(op.scope, op.tensor(0), op.shape, cast("tuple[int, ...]", op.extra("widened")))


@operator("ConstantOfShape", note="equal numbers follow what they meet", values=(0,))
def _filled(op: Op) -> Tensor:
    return even(op.scope, Tensor(op.shape), op.shape, range(len(op.shape)))


@operator("Tile", note="neurons are repeated", values=(1,))
def _tile(op: Op) -> Tensor:
    x = op.tensor(0)
    labelled = [axis for axis in range(len(x.shape)) if x.block_of(axis) is not None]
    repeats = op.value(1)
    if repeats is None and labelled:
        raise op.unsupported("how often is not known beforehand")
    for axis in labelled:
        times = repeats.elements[axis] if repeats is not None else 1
        if times is None:
            raise op.unsupported("how often is not known beforehand")
        if times != 1:
            x = tiled(op.scope, x, axis, int(times))
    op.scope.speak(x)
    return Tensor(op.shape, x.blocks)


@operator("DepthToSpace", note="the channels of one output channel go together")
def _depth(op: Op) -> Tensor:
    size, x = op.integer("blocksize", 1), op.tensor(0)
    x = whole(op.scope, x, [2, 3], "pixels beside each other")
    block = x.block_of(1)
    op.scope.speak(x)
    if block is None:
        return Tensor(op.shape)
    if block.axes != (1,):
        raise op.unsupported("channels that are grouped")
    inner = size * size
    reason = op.scope.reason("the pixels of one channel")
    if op.text("mode", "DCR") == "DCR":
        cells = block.neurons.reshape(inner, -1)
        op.scope.tape.tie(cells[1:], cells[:1], reason)
        made = cells[0]
    else:
        cells = block.neurons.reshape(-1, inner)
        op.scope.tape.tie(cells[:, 1:], cells[:, :1], reason)
        made = cells[:, 0]
    return Tensor(op.shape, (Block((1,), (made,)),))


@operator("SpaceToDepth", note="every channel becomes several that go together")
def _space(op: Op) -> Tensor:
    size, x = op.integer("blocksize", 1), op.tensor(0)
    x = whole(op.scope, x, [2, 3], "pixels beside each other")
    if x.block_of(1) is None:
        op.scope.speak(x)
        return Tensor(op.shape)
    return Tensor(op.shape, tiled(op.scope, x, 1, size * size).blocks)
