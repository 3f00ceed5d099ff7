"""How neurons pass through ONNX operators that arrange elements anew: reshapes, transposes, joints and parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from solver_nas.labels import Block, Tensor
from solver_nas.onnx.axes import Pairs, paired, refined
from solver_nas.onnx.operator import Op, UnsupportedError, operator, settings, values
from solver_nas.rules import Takes
from solver_nas.rules.primitives import concat, pad, take, transpose, whole
from solver_nas.rules.reshape import regroup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.graph import Vertex
    from solver_nas.labels import Neurons, Shape
    from solver_nas.onnx.operator import Reading
    from solver_nas.rules import Resized


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


# -- joints and parts -----------------------------------------------------------------------------


@operator("Concat", note="neurons one after the other; all other axes are tied", takes=Takes.STACKED)
def _concat(op: Op) -> Tensor:
    axis = op.integer("axis", 1) % len(op.shape)
    parts = [op.tensor(slot) for slot in range(op.count)]
    fixed = cast("tuple[str, ...]", op.scope.vertex.attributes.get("constants", ()))
    beside = [port.vertex in fixed for port in op.scope.vertex.inputs]
    growing = any(
        part.block_of(axis) is not None and not constant for part, constant in zip(parts, beside, strict=True)
    )
    if not growing:
        # Positions of a constant beside positions that never change.
        parts = [whole(op.scope, part, [axis], "constants beside positions that stay") for part in parts]
    if len({len(part.shape) for part in parts}) > 1:
        raise op.unsupported("inputs of different ranks")
    if growing and any(part.shape[axis] is None for part in parts):
        why = "how many positions come before these is not known beforehand"
        parts = [whole(op.scope, part, [axis], why) for part in parts]
    return concat(op.scope, parts, axis)


def _parts(reading: Reading) -> Mapping[str, object]:
    """How large all the parts are at the beginning."""
    given = reading.inputs[0]
    axis = int(str(reading.attributes.get("axis", 0)))
    sizes = reading.attributes.get("split")
    if sizes is None and len(reading.inputs) > 1 and reading.inputs[1] is not None:
        sizes = reading.inputs[1].numbers
    if given is None or given.shape is None:
        raise UnsupportedError("Split: the input's shape is not known beforehand")
    if sizes is None:
        total, piece = given.shape[axis], None if reading.output.shape is None else reading.output.shape[axis]
        count = int(str(reading.attributes["outputs"]))
        if total is None or piece is None:
            return {"parts": None}
        width = -(-total // int(str(reading.attributes.get("num_outputs", count))))
        sizes = tuple(min(width, max(total - place * width, 0)) for place in range(count))
    return {"parts": tuple(cast("tuple[int, ...]", sizes))}


def _line(resized: Resized, tensor: Tensor, axis: int) -> Neurons | None:
    """The neurons along an axis, in a row that is left."""
    block = tensor.block_of(axis)
    if block is None:
        return None
    lines = block.lines(axis)
    found: Neurons = next((line for line in lines if len(resized.moved(line))), lines[0])
    return found


def _resplit(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    parts = cast("tuple[int, ...] | None", vertex.attributes["parts"])
    onnx = cast("Mapping[str, object]", vertex.attributes["onnx"])
    if not resized.before:
        return {}
    before = resized.before[0]
    axis = int(str(onnx.get("axis", 0))) % len(before.shape)
    line = _line(resized, before, axis)
    if line is None or parts is None:
        return {}
    ends = np.cumsum(parts)
    return {"parts": tuple(len(resized.moved(line[end - size : end])) for end, size in zip(ends, parts, strict=True))}


@operator("Split", note="parts of the neurons; their sizes follow", values=(1,), prepare=_parts, rewrite=_resplit)
def _split(op: Op) -> Tensor:
    x, parts = op.tensor(0), cast("tuple[int, ...] | None", op.extra("parts"))
    axis = op.integer("axis", 0) % len(x.shape)
    if op.edge(0) is None:
        x = whole(op.scope, x, [axis], "parts of a table are read")
    if x.block_of(axis) is None:
        op.scope.speak(x)
        return Tensor(op.shape, x.blocks)
    if parts is None:
        raise op.unsupported("the sizes are not known beforehand")
    start = sum(parts[: op.output])
    # One start for all rows of a rectangle: what stands before the part is equally long in each.
    take(op.scope, x, axis, slice(0, start))
    return take(op.scope, x, axis, slice(start, start + parts[op.output]))


def _bounds(
    starts: Sequence[int | None], ends: Sequence[int | None], steps: Sequence[int], place: int, size: int
) -> tuple[int, int, int] | None:
    """Start, stop and step of one axis as non-negative numbers; `None` if they are not known."""
    start, end = starts[place], ends[place]
    if start is None or end is None:
        return None
    return (
        slice(start, end, steps[place]).indices(size)
        if steps[place] > 0
        else _backwards(start, end, steps[place], size)
    )


def _backwards(start: int, end: int, step: int, size: int) -> tuple[int, int, int]:
    # An end far below zero means the beginning, which a Python slice cannot say with a number.
    first = min(start + size if start < 0 else start, size - 1)
    last = -1 if end < -size else (end + size if end < 0 else end)
    return first, last, step


def _sliced(
    op_values: Sequence[tuple[object, ...] | None], rank: int, given: Mapping[str, object]
) -> tuple[Sequence[int | None], Sequence[int | None], list[int], list[int]]:
    starts = cast("Sequence[int | None]", op_values[0] if op_values[0] is not None else given["starts"])
    ends = cast("Sequence[int | None]", op_values[1] if op_values[1] is not None else given["ends"])
    axes = op_values[2] if op_values[2] is not None else given.get("axes", range(len(starts)))
    steps = op_values[3] if op_values[3] is not None else [1] * len(starts)
    return starts, ends, [axis % rank for axis in cast("Sequence[int]", axes)], list(cast("Sequence[int]", steps))


def _slots(vertex: Vertex) -> list[tuple[object, ...] | None]:
    slots = cast("Sequence[object]", vertex.attributes["slots"])
    found: list[tuple[object, ...] | None] = []
    for place in range(1, 5):
        slot = slots[place] if place < len(slots) else None
        value = getattr(slot, "value", None)
        found.append(None if value is None else value.elements)
    return found


_BEGINNING = -(2**31) + 1  # where a slice that walks backwards ends: before the first neuron, however many there are


def _recut(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    if not resized.before:
        return {}
    before = resized.before[0]
    given = cast("Mapping[str, object]", vertex.attributes["onnx"])
    starts, ends, axes, steps = _sliced(_slots(vertex), len(before.shape), given)
    new_starts, new_ends = list(starts), list(ends)
    for place, axis in enumerate(axes):
        line = _line(resized, before, axis)
        bounds = _bounds(starts, ends, steps, place, len(line)) if line is not None else None
        if line is None or bounds is None:
            continue
        if steps[place] < 0:
            new_starts[place], new_ends[place] = -1, _BEGINNING
            continue
        start = len(resized.moved(line[: bounds[0]]))
        new_starts[place] = start
        # An end far behind the last neuron stays there.
        if bounds[1] < len(line) or ends[place] == len(line):
            new_ends[place] = start + len(resized.moved(line[bounds[0] : bounds[1]]))
    if _slots(vertex)[0] is None:
        return settings(vertex, starts=tuple(new_starts), ends=tuple(new_ends))
    return values(vertex, {1: new_starts, 2: new_ends})


@operator("Slice", note="a part of the neurons; its limits follow", values=(1, 2, 3, 4), rewrite=_recut)
def _slice(op: Op) -> Tensor:
    x = op.tensor(0)
    labelled = {axis for block in x.blocks for axis in block.axes}
    for slot in range(1, op.count):
        if op.has(slot) and op.value(slot) is None:
            raise op.unsupported("its limits are not known beforehand")
    given = {name: op.integers(name) for name in ("starts", "ends", "axes") if op.integers(name) is not None}
    starts, ends, axes, steps = _sliced(_slots(op.scope.vertex), len(x.shape), given)
    if op.edge(0) is None:
        x, labelled = whole(op.scope, x, axes, "parts of a table are read"), set()
    for place, axis in enumerate(axes):
        size = x.shape[axis]
        if axis not in labelled or size is None:
            continue
        bounds = _bounds(starts, ends, steps, place, size)
        if bounds is None:
            x = whole(op.scope, x, [axis], "how much of it is read is not known beforehand")
            continue
        if bounds[2] not in (1, -1):
            raise op.unsupported(f"every {abs(steps[place])}th neuron")
        if bounds[2] == -1:
            if bounds != (size - 1, -1, -1):
                raise op.unsupported("a part of the neurons in reverse")
            x = take(op.scope, x, axis, np.arange(size)[::-1])
        elif bounds[:2] != (0, size):
            take(op.scope, x, axis, slice(0, bounds[0]))
            x = take(op.scope, x, axis, slice(bounds[0], bounds[1]))
    op.scope.speak(x)
    return Tensor(op.shape, x.blocks)


@operator("Pad", note="constants beside the neurons stay", values=(1, 2, 3))
def _pad(op: Op) -> Tensor:
    x = op.tensor(0)
    labelled = sorted({axis for block in x.blocks for axis in block.axes})
    value = op.value(1)
    literal = op.integers("pads") or op.integers("paddings")
    pads = value.elements if value is not None else literal
    axes = op.numbers(3) if op.has(3) else range(len(x.shape))
    if labelled and (pads is None or (op.has(1) and value is None)):
        raise op.unsupported("how much is not known beforehand")
    places = {axis % len(x.shape): place for place, axis in enumerate(axes or ())}
    for axis in labelled:
        if axis not in places or pads is None:
            continue
        before, after = pads[places[axis]], pads[places[axis] + len(places)]
        if before is None or after is None or before < 0 or after < 0:
            raise op.unsupported("how much is not known beforehand, or is cut off")
        if before or after:
            if op.text("mode", "constant") != "constant":
                raise op.unsupported("neurons are repeated at the border")
            x = pad(op.scope, x, axis, int(before), int(after))
    op.scope.speak(x)
    return Tensor(op.shape, x.blocks)


# -- pixels ---------------------------------------------------------------------------------------


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
