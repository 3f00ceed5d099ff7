"""The original model without the neurons that go, although they are still there: what a smaller model has to equal.

Behind every node, what goes is set to zero. Where neurons are taken together (a mean, a softmax, a normalisation),
the node sees only those that stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from solver_nas.errors import VerificationError
from solver_nas.graph import Port
from solver_nas.onnx.flatten import bodies, flatten
from solver_nas.onnx.nodes import prepend_constants, replace_nodes
from solver_nas.onnx.operator import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from solver_nas.graph import Graph, Vertex
    from solver_nas.labels import Block, Labels, Tensor
    from solver_nas.onnx.op import Slot
    from solver_nas.onnx.structure import Structure

Array = NDArray[Any]
IntArray = NDArray[np.intp]
_Number = TypeVar("_Number", bound=np.generic)

_WHERE = 9  # the version of the standard since which there is an operator Where
_GATHER_ELEMENTS = 11
_LINEAR, _ZERO_POINT = frozenset({"QLinearConv", "QLinearMatMul"}), 7  # whose results say with that input what zero is
_PER_CHANNEL = frozenset({"GroupNormalization", "InstanceNormalization"})  # scales stand for the second axis
_RECURRENT = frozenset({"RNN", "GRU", "LSTM"})
_FLOATS = frozenset({1, 10, 11, 16})  # float, half, double, bfloat16
#: What is counted or chosen; smaller integers are quantised, and nothing is not zero among them.
_COUNTS = frozenset({TensorProto.BOOL, TensorProto.INT32, TensorProto.INT64})


class Removal(NamedTuple):
    """Which neurons of a model are to be left out.

    Args:
        graph: of the model.
        labels: of that graph.
        stays: vertex name -> for every block of its tensor, which neurons stay, in the shape of the block.
        after: attributes that nodes have without them, by vertex.
    """

    graph: Graph
    labels: Labels
    stays: Mapping[str, Sequence[NDArray[np.bool_]]]
    after: Mapping[str, Mapping[str, object]]


def masked(model: ModelProto, structure: Structure, removal: Removal, arrays: Mapping[str, Array]) -> ModelProto:
    """A model in which some neurons are there, and make no difference.

    Args:
        model: with all neurons; stays as it is.
        structure: how its steps are numbered.
        removal: what is left out.
        arrays: all parameters, by key.
    """
    made = ModelProto()
    made.CopyFrom(model)
    _Masking(made, structure, removal, arrays).run()
    return made


class _Masking:
    def __init__(self, made: ModelProto, structure: Structure, removal: Removal, arrays: Mapping[str, Array]) -> None:
        self._made, self._structure, self._removal, self._arrays = made, structure, removal, arrays
        self._maker = {name: step for step in flatten(made).steps for name in step.outputs if name}
        self._around: dict[int, tuple[list[NodeProto], list[NodeProto]]] = {}
        self._constants: list[tuple[str, Array]] = []
        versions = {entry.domain: entry.version for entry in made.opset_import}
        self._opset = versions.get("", versions.get("ai.onnx", 1))
        self._count = 0

    def run(self) -> None:
        for vertex in self._removal.graph.vertices:
            step = self._maker.get(str(vertex.attributes.get("value")))
            if step is not None and step.node is not None:
                self._vertex(vertex, step.node, self._removal.stays.get(vertex.name))
        self._insert(self._made.graph)
        prepend_constants(self._made.graph, self._constants)
        del self._made.graph.value_info[:]

    def _vertex(self, vertex: Vertex, node: NodeProto, stays: Sequence[NDArray[np.bool_]] | None) -> None:
        if vertex.kind.removeprefix(PREFIX) in _RECURRENT:
            self._silence(vertex, node)
        self._mask(vertex, node, stays)
        self._together(vertex, node)

    def _mask(self, vertex: Vertex, node: NodeProto, stays: Sequence[NDArray[np.bool_]] | None) -> None:
        if stays is None or all(mask.all() for mask in stays):
            return
        value = str(vertex.attributes["value"])
        nothing = node.input[_ZERO_POINT] if _of(vertex) in _LINEAR else None
        dtype = self._structure.facts[value].dtype
        counted = dtype in _COUNTS and self._opset >= _WHERE
        if dtype not in _FLOATS and not counted and nothing is None:
            return
        tensor = self._removal.labels.tensors[Port(vertex.name)]
        mask = np.ones([1] * len(tensor.shape), bool)
        for block, kept in zip(tensor.blocks, stays, strict=True):
            mask = mask & _spread(kept, block, len(tensor.shape))
        output = int(cast("int", vertex.attributes["output"]))
        name = node.output[output]
        raw = self._fresh(f"{name}.raw")
        node.output[output] = raw
        after = self._around.setdefault(id(node), ([], []))[1]
        after.append(self._select(mask, raw, name, dtype, nothing))

    def _select(self, mask: Array, raw: str, name: str, dtype: int, nothing: str | None) -> NodeProto:
        kind = helper.tensor_dtype_to_np_dtype(dtype)
        if nothing is not None:
            return helper.make_node("Where", [self._constant(mask), raw, nothing], [name])
        if dtype == TensorProto.BOOL:
            # onnxruntime has no Where for these.
            return helper.make_node("And", [raw, self._constant(mask)], [name])
        if self._opset < _WHERE:
            return helper.make_node("Mul", [raw, self._constant(mask.astype(kind))], [name])
        zero = self._constant(np.zeros((), kind))
        return helper.make_node("Where", [self._constant(mask), raw, zero], [name])

    def _silence(self, vertex: Vertex, node: NodeProto) -> None:
        """No mask reaches the inside of a recurrence: its weights get zeros."""
        kept = self._kept(vertex.name)
        if kept is None:
            return
        slots = cast("Sequence[Slot | None]", vertex.attributes["slots"])
        record = self._removal.labels
        for place in (1, 2, 3, 7):
            slot = slots[place] if place < len(slots) else None
            if slot is None or slot.role is None:
                continue
            key = vertex.parameters[slot.role].key
            array, view = np.array(self._arrays[key]), record.parameters[key].view
            # (directions, gates, hidden, ...): whoever is dropped neither speaks nor is heard.
            table = array.reshape(view)
            hidden = kept.reshape(kept.shape[0], 1, kept.shape[1])
            shape = (*hidden.shape, *[1] * (table.ndim - 3))
            table = table * hidden.reshape(shape)
            if place == 2:
                table = table * kept.reshape(kept.shape[0], 1, 1, kept.shape[1])
            node.input[place] = self._constant(table.reshape(array.shape).astype(array.dtype))

    def _kept(self, name: str) -> NDArray[np.bool_] | None:
        """(directions, hidden) of a recurrent vertex."""
        stays = self._removal.stays.get(name)
        if stays is None:
            return None
        tensor = self._removal.labels.tensors[Port(name)]
        for block, kept in zip(tensor.blocks, stays, strict=True):
            if kept.ndim == 2 and not kept.all():
                return kept
            del block
        return None

    def _together(self, vertex: Vertex, node: NodeProto) -> None:
        """A node that takes neurons together sees only those that stay."""
        axes = taken_together(vertex, self._removal.labels)
        if not axes or not vertex.inputs:
            return
        source = vertex.inputs[0]
        stays, tensor = self._removal.stays.get(source.vertex), self._removal.labels.tensors[source]
        if stays is None:
            return
        for block, kept in zip(tensor.blocks, stays, strict=True):
            if not kept.all():
                for cut in _cuts(block, kept, axes):
                    self._cut(vertex, node, cut, len(tensor.shape))
        if any(not kept.all() for kept in stays):
            for setting, value in self._removal.after.get(vertex.name, {}).items():
                for attribute in [attribute for attribute in node.attribute if attribute.name == setting]:
                    node.attribute.remove(attribute)
                    made = list(value) if isinstance(value, tuple) else value
                    node.attribute.append(helper.make_attribute(setting, made))

    def _cut(self, vertex: Vertex, node: NodeProto, cut: _Cut, rank: int) -> None:
        """Let a node see a part of an axis, and put what it makes of that back to where it was."""
        before, after = self._around.setdefault(id(node), ([], []))
        node.input[0] = self._picked(node.input[0], cut.there, cut, rank, before)
        slots = cast("Sequence[Slot | None]", vertex.attributes["slots"])
        for place, slot in enumerate(slots):
            if place and slot is not None and slot.role is not None:
                shape = self._arrays[vertex.parameters[slot.role].key].shape
                seen = shape if slot.order is None else [1 if axis is None else shape[axis] for axis in slot.order]
                along = cut.axis - 1 if _of(vertex) in _PER_CHANNEL else cut.axis - (rank - len(seen))
                if 0 <= along < len(seen) and seen[along] == cut.back.shape[-1]:
                    name = self._fresh("kept")
                    before.append(self._gather(node.input[place], cut, along, name))
                    node.input[place] = name
        if _of(vertex).startswith("Reduce"):
            return
        whole, small, made = node.output[0], self._fresh("small"), cast("list[NodeProto]", [])
        node.output[0] = small
        made.append(helper.make_node("Identity", [self._picked(small, cut.back, cut, rank, made)], [whole]))
        after[:0] = made

    def _gather(self, source: str, cut: _Cut, axis: int, name: str) -> NodeProto:
        if cut.outer:
            raise VerificationError("what goes from a rectangle is scaled position by position; this is not supported")
        return helper.make_node("Gather", [source, self._constant(cut.there)], [name], axis=axis)

    def _picked(self, source: str, index: IntArray, cut: _Cut, rank: int, nodes: list[NodeProto]) -> str:
        """Positions of an axis, the same ones everywhere or others in every row of a rectangle."""
        name = self._fresh("picked")
        if not cut.outer:
            nodes.append(helper.make_node("Gather", [source, self._constant(index)], [name], axis=cut.axis))
            return name
        if self._opset < _GATHER_ELEMENTS:
            raise VerificationError(
                f"each row of a rectangle keeps other neurons; to try that out, the model has to be of version "
                f"{_GATHER_ELEMENTS} of the standard: convert it with onnx.version_converter first"
            )
        spread = _over(index, (*cut.outer, cut.axis), rank)
        mine = self._constant(np.arange(rank) == cut.axis)
        length = self._constant(np.full(rank, index.shape[-1], np.int64))
        sizes, shape, places = (self._fresh("sizes") for _ in range(3))
        nodes += [
            helper.make_node("Shape", [source], [sizes]),
            helper.make_node("Where", [mine, length, sizes], [shape]),
            helper.make_node("Expand", [self._constant(spread), shape], [places]),
            helper.make_node("GatherElements", [source, places], [name], axis=cut.axis),
        ]
        return name

    def _constant(self, array: Array) -> str:
        name = self._fresh("constant")
        self._constants.append((name, array))
        return name

    def _fresh(self, name: str) -> str:
        self._count += 1
        return f"{name}.masking.{self._count}"

    def _insert(self, graph: GraphProto) -> None:
        for node in graph.node:
            for _, body in bodies(node):
                del body.value_info[:]
                self._insert(body)
        nodes = []
        for node in graph.node:
            before, after = self._around.get(id(node), ([], []))
            nodes += [*before, node, *after]
        replace_nodes(graph, nodes)


def _spread(kept: NDArray[np.bool_], block: Block, rank: int) -> NDArray[np.bool_]:
    """A mask over the axes of a block, with the rank of the tensor."""
    return _over(kept, block.axes, rank)


def _over(array: NDArray[_Number], axes: Sequence[int], rank: int) -> NDArray[_Number]:
    """An array over some axes of a tensor, with the rank of the tensor."""
    shape = [1] * rank
    for axis, size in zip(axes, array.shape, strict=True):
        shape[axis] = size
    return array.transpose(np.argsort(axes)).reshape(shape)


def _of(vertex: Vertex) -> str:
    return vertex.kind.removeprefix(PREFIX)


class _Cut(NamedTuple):
    """Which positions of an axis a node sees.

    Args:
        axis: which axis.
        outer: axes on which it depends which ones; none if they are the same everywhere.
        there: positions that are seen, for every position of the outer axes.
        back: for every position, where it is among those that are seen; anywhere for those that are not.
    """

    axis: int
    outer: tuple[int, ...]
    there: IntArray
    back: IntArray


def _cuts(block: Block, kept: NDArray[np.bool_], axes: Sequence[int]) -> list[_Cut]:
    """How axes of a block are cut so that only neurons that stay are seen, outermost first."""
    found = []
    for depth, axis in enumerate(block.axes):
        if axis not in axes:
            continue
        lives = kept.any(axis=tuple(range(depth + 1, kept.ndim)))
        rows = lives.reshape(-1, lives.shape[-1])
        # Rows that go as a whole are masked: what is seen of them does not matter.
        first = rows[rows.any(axis=1)][0]
        rows = np.where(rows.any(axis=1, keepdims=True), rows, first)
        alike = bool((rows == first).all())
        outer = () if alike else block.axes[:depth]
        rows = first[None] if alike else rows
        there = np.stack([np.flatnonzero(row) for row in rows])
        back = np.maximum(np.cumsum(rows, axis=1) - 1, 0)
        front = () if alike else lives.shape[:-1]
        found.append(_Cut(axis, outer, there.reshape(*front, -1), back.reshape(*front, -1)))
        if alike:
            kept = kept.compress(first, axis=depth)
    return found


def taken_together(vertex: Vertex, labels: Labels, *, sums: bool = False) -> tuple[int, ...]:
    """The axes of its first input along which a vertex takes neurons together, so that each depends on the others.

    Args:
        vertex: any.
        labels: of its graph.
        sums: whether sums count too, on which neurons of zero have no effect, but new ones have.
    """
    kind = vertex.kind.removeprefix(PREFIX)
    onnx = cast("Mapping[str, object]", vertex.attributes.get("onnx", {}))
    if not vertex.inputs or (kind not in _TOGETHER and not (sums and kind in _SUMS)):
        return ()
    tensor: Tensor = labels.tensors[vertex.inputs[0]]
    rank = len(tensor.shape)
    return tuple(axis % rank for axis in _TOGETHER.get(kind, _reduced)(vertex, onnx, rank))


def _reduced(vertex: Vertex, onnx: Mapping[str, object], rank: int) -> Sequence[int]:
    axes = onnx.get("axes")
    slots = cast("Sequence[Slot | None]", vertex.attributes["slots"])
    if len(slots) > 1 and slots[1] is not None and slots[1].value is not None:
        axes = slots[1].value.elements
    if not axes:
        return () if onnx.get("noop_with_empty_axes") else range(rank)
    return [int(axis) for axis in cast("Sequence[int]", axes)]


def _soft(vertex: Vertex, onnx: Mapping[str, object], rank: int) -> Sequence[int]:
    if int(cast("int", vertex.attributes["opset"])) < 13:  # the version since which only one axis counts
        return range(int(cast("int", onnx.get("axis", 1))) % rank, rank)
    return [int(cast("int", onnx.get("axis", -1)))]


def _from_axis(_: Vertex, onnx: Mapping[str, object], rank: int) -> Sequence[int]:
    return range(int(cast("int", onnx.get("axis", -1))) % rank, rank)


def _channels(_: Vertex, __: Mapping[str, object], ___: int) -> Sequence[int]:
    return [1]


def _pixels(_: Vertex, __: Mapping[str, object], rank: int) -> Sequence[int]:
    return range(2, rank)


def _one_axis(_: Vertex, onnx: Mapping[str, object], __: int) -> Sequence[int]:
    return [int(cast("int", onnx.get("axis", -1)))]


def _mean_variance(_: Vertex, onnx: Mapping[str, object], __: int) -> Sequence[int]:
    return [int(axis) for axis in cast("Sequence[int]", onnx.get("axes", (0, 2, 3)))]


_SUMS = frozenset({"ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare"})
_TOGETHER: dict[str, Callable[[Vertex, Mapping[str, object], int], Sequence[int]]] = {
    **dict.fromkeys(
        ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp"), _reduced
    ),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _soft),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _from_axis),
    **dict.fromkeys(("GroupNormalization", "LRN"), _channels),
    "InstanceNormalization": _pixels,
    "LpNormalization": _one_axis,
    "MeanVarianceNormalization": _mean_variance,
}
