"""How neurons pass through ONNX operators that arrange elements anew: reshapes, transposes, repetition."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from solver_nas.labels import Block, Tensor
from solver_nas.onnx.axes import Pairs, paired, refined
from solver_nas.onnx.op import Op, UnsupportedError
from solver_nas.onnx.operator import operator
from solver_nas.rules.primitives import take, transpose, whole
from solver_nas.rules.reshape import regroup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.labels import Shape
    from solver_nas.onnx.operator import Reading


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
    x, pairs = op.tensor(0), cast("Pairs", op.extra("pairs"))
    alone = [pair.old[0] for pair in pairs if not pair.new]
    mixed = [axis for pair in pairs if len(pair.old) > 1 for axis in pair.old]
    if alone or mixed:
        x = whole(
            op.scope, x, [*alone, *mixed], "axes of sizes that do not divide each other are merged, or this one goes"
        )
    x = _settled(op, x, pairs)
    sizes = refined(pairs, x.shape, op.shape)
    places = range(len(pairs))
    first = _groups([pair.old for pair in pairs], places)
    second = [(inner, outer) for outer, inner in _groups([pair.new for pair in pairs], places)]
    middle = regroup(op.scope, x, sizes, first)
    return regroup(op.scope, middle, op.shape, second)


def _settled(op: Op, x: Tensor, pairs: Pairs) -> Tensor:
    """An axis along which all is equal, merged with other neurons, stays: it says how often each of them is there."""
    held = set()
    for new in {pair.new for pair in pairs}:
        merged = {axis for pair in pairs if pair.new == new for axis in pair.old}
        blocks = [block for block in x.blocks if set(block.axes) & merged]
        if len(blocks) > 1:
            held |= {axis for block in blocks if op.scope.tape.is_idle(block.neurons) for axis in block.axes}
    return whole(op.scope, x, sorted(held), "it says how often a neuron is there") if held else x


def _groups(axes: Sequence[tuple[int, ...]], places: range) -> list[tuple[list[int], list[int]]]:
    """Runs of places with the same axes: those axes, and the places."""
    found: list[tuple[list[int], list[int]]] = []
    for place in places:
        mine = list(axes[place])
        if found and mine and found[-1][0] == mine:
            found[-1][1].append(place)
        else:
            found.append((mine, [place]))
    return found


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
    return squeezed(op, op.tensor(0), cast("tuple[int, ...]", op.extra("axes")))


def squeezed(op: Op, x: Tensor, gone: Sequence[int]) -> Tensor:
    """The same neurons without some axes of size 1."""
    op.scope.speak(x)
    why = op.scope.reason("this axis of size 1 goes")
    blocks = []
    for block in x.blocks:
        levels, depth = list(block.levels), 0
        for axis in block.axes:
            if axis not in gone:
                depth += 1
                continue
            # What has size 1 stays; the axes inside of it are on their own from now on.
            op.scope.tape.pin(levels.pop(depth), why)
            levels = [level.squeeze(depth) if place >= depth else level for place, level in enumerate(levels)]
        if levels:
            blocks.append(Block(tuple(axis for axis in block.axes if axis not in gone), tuple(levels)))
    kept = [axis for axis in range(len(x.shape)) if axis not in gone]
    place = {old: new for new, old in enumerate(kept)}
    renamed = (Block(tuple(place[axis] for axis in block.axes), block.levels) for block in blocks)
    return Tensor(tuple(x.shape[axis] for axis in kept), tuple(renamed))


def _renamed(op: Op, x: Tensor, kept: Sequence[int | None]) -> Tensor:
    """The same neurons on other axes: for every axis of the result, which one it was."""
    op.scope.speak(x)
    place = {old: new for new, old in enumerate(kept) if old is not None}
    blocks = tuple(Block(tuple(place[axis] for axis in block.axes), block.levels) for block in x.blocks)
    return Tensor(tuple(1 if old is None else x.shape[old] for old in kept), blocks)


@operator("Unsqueeze", note="new axes of size 1", values=(1,))
def _unsqueeze(op: Op) -> Tensor:
    rank = len(op.shape)
    new = {axis % rank for axis in op.numbers(1, "axes") or ()}
    old = iter(range(rank))
    return _renamed(op, op.tensor(0), [None if axis in new else next(old) for axis in range(rank)])


def _even(op: Op, tensor: Tensor, axes: Sequence[int]) -> Tensor:
    """Let axes along which all is equal follow whatever they meet."""
    blocks = list(tensor.blocks)
    for axis in axes:
        size = op.shape[axis]
        if size is None or size < 2:
            continue
        reason = op.scope.reason("all positions of this axis are equal")
        made = op.scope.tape.fresh(op.scope.key(f"even {axis}"), (size,), reason)
        op.scope.tape.idle(made, reason)
        blocks.append(Block((axis,), (made,)))
    return Tensor(op.shape, tuple(blocks))


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
    x, widened = op.tensor(0), cast("tuple[int, ...]", op.extra("widened"))
    lead = len(op.shape) - len(x.shape)
    x = whole(op.scope, x, [axis - lead for axis in widened if axis >= lead], "this axis of size 1 is expanded")
    y = _renamed(op, x, [*[None] * lead, *range(len(x.shape))])
    return _even(op, y, widened)


@operator("ConstantOfShape", note="equal numbers follow what they meet", values=(0,))
def _filled(op: Op) -> Tensor:
    return _even(op, Tensor(op.shape), range(len(op.shape)))


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
            x = take(op.scope, x, axis, np.tile(np.arange(x.shape[axis] or 0), int(times)))
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
    return Tensor(op.shape, take(op.scope, x, 1, np.tile(np.arange(x.shape[1] or 0), size * size)).blocks)
