"""How neurons pass through PyTorch operations that put parts side by side or take parts."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np

from solver_nas.labels import Tensor
from solver_nas.rules import Takes
from solver_nas.rules.contract import elementwise
from solver_nas.rules.guarding import UnsupportedError
from solver_nas.rules.primitives import held, pad, take, whole
from solver_nas.rules.segmenting import concatenated, line, part
from solver_nas.rules.stretching import placed, squeezed
from solver_nas.torch.operator import operator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.graph import Vertex
    from solver_nas.rules import Resized
    from solver_nas.torch.op import Op
    from solver_nas.torch.operator import Reading

# -- side by side ---------------------------------------------------------------------------------------


@operator(
    "cat", "concat", "concatenate", note="neurons one after the other; all other axes are tied", takes=Takes.FIXED
)
def _concat(op: Op) -> Tensor:
    axis = op.integer("dim") % len(op.shape)
    # What is empty and has one axis is left out, as PyTorch does for the sake of old code.
    places = [place for place in range(op.count("tensors")) if op.sizes("tensors", place) != (0,)]
    parts = [op.tensor("tensors", place) for place in places]
    growing = any(part.block_of(axis) is not None for part in parts)
    return concatenated(op.scope, parts, axis, growing=growing)


@operator("stack", note="all tensors have equal neurons; the new axis stays")
def _stack(op: Op) -> Tensor:
    tensors = [op.operand("tensors", place) for place in range(op.count("tensors"))]
    y = elementwise(op.scope, *tensors, why="stacked: equal sizes")
    new = op.integer("dim") % len(op.shape)
    y = placed(op.scope, y, [None if axis == new else axis - (axis > new) for axis in range(len(op.shape))])
    return Tensor(op.shape, y.blocks)


# -- parts ------------------------------------------------------------------------------------------------


def _cut(reading: Reading) -> Mapping[str, object]:
    """How large all the parts are at the beginning."""
    shape = next(iter(reading.shapes.values()))[0]
    total = shape[int(cast("int", reading.arguments.get("dim", 0)))]
    sizes = reading.arguments.get("split_sizes")
    if reading.operator == "tensor_split":
        sizes = _tensor_split(total, reading.arguments)
    if sizes is None:
        width = reading.arguments.get("split_size")
        chunks = reading.arguments.get("chunks")
        width = int(cast("int", width)) if width is not None else -(-total // int(cast("int", chunks)))
        sizes = [min(width, total - start) for start in range(0, total, max(width, 1))]
    return {"parts": tuple(int(size) for size in cast("Sequence[int]", sizes))}


def _tensor_split(total: int, arguments: Mapping[str, object]) -> Sequence[int]:
    """The first parts are larger by one where the axis cannot be divided; or what stands between some places."""
    sections = arguments.get("sections")
    if sections is not None:
        count = int(cast("int", sections))
        return [total // count + (place < total % count) for place in range(count)]
    if "indices" not in arguments:
        raise UnsupportedError("tensor_split: where it is cut is not written down")
    given = cast("Sequence[int]", arguments["indices"])
    places = [min(max(int(one) + (total if one < 0 else 0), 0), total) for one in given]
    return [end - start for start, end in pairwise((0, *places, total))]


def _recut(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    """How large they are after a change."""
    arguments = cast("Mapping[str, object]", vertex.attributes["arguments"])
    row = line(resized, resized.before[0], int(cast("int", arguments.get("dim", 0))) % len(resized.before[0].shape))
    if row is None:
        return {}
    parts = cast("tuple[int, ...]", vertex.attributes["parts"])
    ends = np.cumsum(parts)
    return {"parts": tuple(len(resized.moved(row[end - size : end])) for end, size in zip(ends, parts, strict=True))}


@operator(
    *("split", "split_with_sizes", "split_copy", "split_with_sizes_copy", "chunk", "unsafe_split", "unsafe_chunk"),
    *("unsafe_split_with_sizes", "tensor_split"),
    note="parts of the neurons; their sizes follow where they are computed; those that are counted stay equal",
    prepare=_cut,
    rewrite=_recut,
)
def _split(op: Op) -> Tensor:
    x, parts = op.x, cast("tuple[int, ...]", op.extra("parts"))
    axis = op.integer("dim") % len(x.shape)
    block = x.block_of(axis)
    if block is None:
        op.scope.speak(x)
        return Tensor(op.shape, x.blocks)
    depth = block.axes.index(axis)
    level = block.levels[depth]
    rows = block.levels[depth - 1] if depth else None
    ends = np.cumsum(parts)
    pieces = [level[..., end - size : end] for end, size in zip(ends, parts, strict=True)]
    if op.argument("split_sizes") is not None:
        for place, piece in enumerate(pieces):
            op.counted("split_sizes", place, piece, rows)
    elif op.argument("indices") is not None:
        x = whole(op.scope, x, [axis], "where it is cut is written down")
    elif len(set(parts)) > 1:
        x = whole(op.scope, x, [axis], "it is cut into parts of which the last one is smaller")
    elif op.argument("split_size") is not None:
        for piece in pieces:
            op.counted("split_size", 0, piece, rows)
    else:
        for piece in pieces[1:]:
            op.scope.tape.balance(pieces[0], piece, op.scope.reason("parts of equal size"))
    start = int(ends[op.output]) - parts[op.output]
    return part(op.scope, x, axis, start, int(ends[op.output]))


def parts_of(op: Op, x: Tensor, axis: int, count: int) -> list[Tensor]:
    """Equal parts of a tensor, which stay equal."""
    axis %= len(x.shape)
    size = (x.shape[axis] or 0) // count
    found = [part(op.scope, x, axis, place * size, (place + 1) * size) for place in range(count)]
    blocks = [one.block_of(axis) for one in found]
    for other in blocks[1:]:
        if blocks[0] is not None and other is not None:
            op.scope.tape.balance(blocks[0].neurons, other.neurons, op.scope.reason("parts of equal size"))
    return found


@operator("unbind", note="each position of an axis by itself; the axis stays as long as it is")
def _unbind(op: Op) -> Tensor:
    return picked(op, op.x, op.integer("dim"), op.output)


@operator("select", note="one position of an axis, which stays as long as it is")
def _select(op: Op) -> Tensor:
    return picked(op, op.x, op.integer("dim"), op.integer("index"))


def picked(op: Op, x: Tensor, axis: int, place: int) -> Tensor:
    """One position of an axis."""
    axis %= len(x.shape)
    size = x.shape[axis] or 1
    x = held(op.scope, x, axis, "single positions of this axis are read")
    if x.block_of(axis) is not None:
        x = take(op.scope, x, axis, np.array([place % size]))
    else:
        x = Tensor((*x.shape[:axis], 1, *x.shape[axis + 1 :]), x.blocks)
    return squeezed(op.scope, x, [axis])


def _bounds(reading: Reading) -> Mapping[str, object]:
    """Start, stop and step as they are at the beginning."""
    shape, given = next(iter(reading.shapes.values()))[0], reading.arguments
    size = shape[int(cast("int", given.get("dim", 0)))]
    if reading.operator == "narrow":
        first = int(cast("int", given["start"])) % size
        return {"bounds": (first, first + int(cast("int", given["length"])), 1)}
    start, end = (cast("int | None", given.get(name)) for name in ("start", "end"))
    return {"bounds": slice(start, end, int(cast("int", given.get("step", 1)))).indices(size)}


def _moved(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    arguments = cast("Mapping[str, object]", vertex.attributes["arguments"])
    row = line(resized, resized.before[0], int(cast("int", arguments.get("dim", 0))) % len(resized.before[0].shape))
    start, stop, step = cast("tuple[int, int, int]", vertex.attributes["bounds"])
    if row is None or step != 1:
        return {}
    first = len(resized.moved(row[:start]))
    return {"bounds": (first, first + len(resized.moved(row[start:stop])), step)}


@operator(
    "slice",
    "narrow",
    note="a part of the neurons; its limits follow where they are computed",
    prepare=_bounds,
    rewrite=_moved,
)
def _slice(op: Op) -> Tensor:
    x, (start, stop, step) = op.x, cast("tuple[int, int, int]", op.extra("bounds"))
    axis = op.integer("dim") % len(x.shape)
    block, size = x.block_of(axis), x.shape[axis] or 0
    if block is None:
        op.scope.speak(x)
        return Tensor(op.shape, x.blocks)
    if step != 1:
        x = held(op.scope, x, axis, f"one of every {step} positions is read")
        return take(op.scope, x, axis, slice(start, stop, step))
    names = ("start", "length") if op.operator == "narrow" else ("start", "end")
    # What the code says is compared with the sizes at the beginning, once.
    everything = _once(op, "everything", found=(start, stop) == (0, size))
    open_ended = [_once(op, f"open {name}", found=_open(op, name, size)) for name in names]
    written = all(one or op.literal(name, 0) for one, name in zip(open_ended, names, strict=True))
    if block.axes == (axis,) and not everything and written:
        # The part, and what stands before it, stay; what comes behind is free.
        op.scope.speak(x)
        said = names[0] if open_ended[1] else names[1]
        op.scope.tape.pin(block.neurons[:stop], op.scope.reason(op.written(said, 0)))
        return Tensor(op.shape, tuple(one for one in x.blocks if one is not block))
    depth = block.axes.index(axis)
    level, rows = block.levels[depth], block.levels[depth - 1] if depth else None
    for name, place, is_open in zip(names, (start, stop), open_ended, strict=True):
        number = op.argument(name)
        if is_open or number == 0:
            # From the beginning, or up to the end, however many there are.
            continue
        if name == "length":
            op.counted(name, 0, level[..., start:stop], rows)
        elif isinstance(number, int) and number < 0:
            op.counted(name, 0, level[..., place:], rows, times=-1)
        else:
            op.counted(name, 0, level[..., :place], rows)
    if everything:
        op.scope.speak(x)
        return x
    return part(op.scope, x, axis, start, stop)


def _once(op: Op, key: str, *, found: bool) -> bool:
    return bool(op.scope.tape.choose(op.scope.key(key), int(found)))


def _open(op: Op, name: str, size: int) -> bool:
    """Whether there is no limit of a part on this side."""
    number = op.argument(name)
    return number is None or (isinstance(number, int) and number > size)


@operator("pad", "constant_pad_nd", note="constants beside the neurons stay")
def _pad(op: Op) -> Tensor:
    x, amounts = op.x, op.integers("pad") or ()
    mode = str(op.argument("mode", "constant"))
    for place in range(len(amounts) // 2):
        axis = len(x.shape) - 1 - place
        before, after = amounts[2 * place : 2 * place + 2]
        if (before, after) == (0, 0) or x.block_of(axis) is None:
            continue
        if mode != "constant" or min(before, after) < 0:
            raise op.unsupported("neurons are repeated at the border, or cut off")
        x = pad(op.scope, x, axis, before, after)
    op.scope.speak(x)
    return Tensor(op.shape, x.blocks)


@operator(
    "reflection_pad1d",
    "reflection_pad2d",
    "reflection_pad3d",
    "replication_pad1d",
    "replication_pad2d",
    "replication_pad3d",
    note="channel by channel; axes that are padded stay as they are",
)
def _padded(op: Op) -> Tensor:
    x = op.x
    spatial = int(op.operator[-2])
    y = whole(op.scope, x, range(len(x.shape) - spatial, len(x.shape)), "positions are repeated at the border")
    return Tensor(op.shape, y.blocks)


@operator("slice_scatter", "select_scatter", note="what is written into another tensor has its neurons")
def _written(op: Op) -> Tensor:
    x, new = op.tensor("self"), op.tensor("src")
    axis = op.integer("dim") % len(x.shape)
    why = "positions of this axis are written to"
    x = whole(op.scope, x, [axis], why)
    if op.operator == "select_scatter":
        new = placed(op.scope, new, [None if one == axis else one - (one > axis) for one in range(len(x.shape))])
    new = whole(op.scope, new, [axis], why)
    new = Tensor(tuple(1 if one == axis else size for one, size in enumerate(new.shape)), new.blocks)
    return elementwise(op.scope, x, new, why="written into another tensor")
