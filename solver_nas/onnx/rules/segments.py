"""How neurons pass through ONNX operators that put parts side by side or take parts: Concat, Split, Slice, Pad."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from solver_nas.labels import Tensor
from solver_nas.onnx.op import Op
from solver_nas.onnx.operator import operator, settings, values
from solver_nas.rules import Takes
from solver_nas.rules.guarding import UnsupportedError
from solver_nas.rules.primitives import pad, take, whole
from solver_nas.rules.segmenting import concatenated, line, part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.graph import Vertex
    from solver_nas.onnx.operator import Reading
    from solver_nas.rules import Resized


@operator("Concat", note="neurons one after the other; all other axes are tied", takes=Takes.STACKED)
def _concat(op: Op) -> Tensor:
    axis = op.integer("axis", 1) % len(op.shape)
    parts = [op.tensor(slot) for slot in range(op.count)]
    fixed = cast("tuple[str, ...]", op.scope.vertex.attributes.get("constants", ()))
    beside = [port.vertex in fixed for port in op.scope.vertex.inputs]
    growing = any(one.block_of(axis) is not None and not constant for one, constant in zip(parts, beside, strict=True))
    if len({len(one.shape) for one in parts}) > 1:
        raise op.unsupported("inputs of different ranks")
    return concatenated(op.scope, parts, axis, growing=growing)


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


def _resplit(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    parts = cast("tuple[int, ...] | None", vertex.attributes["parts"])
    onnx = cast("Mapping[str, object]", vertex.attributes["onnx"])
    if not resized.before:
        return {}
    before = resized.before[0]
    axis = int(str(onnx.get("axis", 0))) % len(before.shape)
    along = line(resized, before, axis)
    if along is None or parts is None:
        return {}
    ends = np.cumsum(parts)
    return {"parts": tuple(len(resized.moved(along[end - size : end])) for end, size in zip(ends, parts, strict=True))}


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
    return part(op.scope, x, axis, start, start + parts[op.output])


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
        along = line(resized, before, axis)
        bounds = _bounds(starts, ends, steps, place, len(along)) if along is not None else None
        if along is None or bounds is None:
            continue
        if steps[place] < 0:
            new_starts[place], new_ends[place] = -1, _BEGINNING
            continue
        start = len(resized.moved(along[: bounds[0]]))
        new_starts[place] = start
        # An end far behind the last neuron stays there.
        if bounds[1] < len(along) or ends[place] == len(along):
            new_ends[place] = start + len(resized.moved(along[bounds[0] : bounds[1]]))
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
            x = part(op.scope, x, axis, *bounds[:2])
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
