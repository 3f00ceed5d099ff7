"""The original model without the neurons that go, although they are still there: what a smaller model has to equal.

Behind every node, what goes is set to zero. Where neurons are taken together (a mean, a softmax, a normalisation),
the node sees only those that stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper

from solver_nas.graph import Port
from solver_nas.onnx import tensors
from solver_nas.onnx.flatten import bodies, flatten
from solver_nas.onnx.operator import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from solver_nas.graph import Graph, Vertex
    from solver_nas.labels import Block, Labels, Tensor
    from solver_nas.onnx.operator import Slot
    from solver_nas.onnx.structure import Structure

Array = NDArray[Any]


_WHERE = 9  # the version of the standard since which there is an operator Where
_RECURRENT = frozenset({"RNN", "GRU", "LSTM"})
_FLOATS = frozenset({1, 10, 11, 16})  # float, half, double, bfloat16


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
        graph = self._made.graph
        nodes = [
            helper.make_node("Constant", [], [name], value=tensors.write(array, name))
            for name, array in self._constants
        ]
        copies = [NodeProto.FromString(node.SerializeToString()) for node in graph.node]
        del graph.node[:]
        graph.node.extend([*nodes, *copies])
        del graph.value_info[:]

    def _vertex(self, vertex: Vertex, node: NodeProto, stays: Sequence[NDArray[np.bool_]] | None) -> None:
        if vertex.kind.removeprefix(PREFIX) in _RECURRENT:
            self._silence(vertex, node)
        self._mask(vertex, node, stays)
        self._together(vertex, node)

    def _mask(self, vertex: Vertex, node: NodeProto, stays: Sequence[NDArray[np.bool_]] | None) -> None:
        if stays is None or all(mask.all() for mask in stays):
            return
        value = str(vertex.attributes["value"])
        if self._structure.facts[value].dtype not in _FLOATS:
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
        after.append(self._select(mask, raw, name, self._structure.facts[value].dtype))

    def _select(self, mask: Array, raw: str, name: str, dtype: int) -> NodeProto:
        kind = helper.tensor_dtype_to_np_dtype(dtype)
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
        before, after = self._around.setdefault(id(node), ([], []))
        for block, kept in zip(tensor.blocks, stays, strict=True):
            if kept.all() or not set(block.axes) & set(axes):
                continue
            if kept.ndim > 1:
                raise NotImplementedError(f"vertex {vertex.name!r}: neurons of a rectangle are taken together")
            self._cut(vertex, node, block.axes[0], kept, before, after)

    def _cut(
        self,
        vertex: Vertex,
        node: NodeProto,
        axis: int,
        kept: NDArray[np.bool_],
        before: list[NodeProto],
        after: list[NodeProto],
    ) -> None:
        places = np.flatnonzero(kept)
        name = self._fresh("kept")
        before.append(helper.make_node("Gather", [node.input[0], self._constant(places)], [name], axis=axis))
        node.input[0] = name
        slots = cast("Sequence[Slot | None]", vertex.attributes["slots"])
        rank = len(self._removal.labels.tensors[vertex.inputs[0]].shape)
        for place, slot in enumerate(slots):
            if place and slot is not None and slot.role is not None:
                array = self._arrays[vertex.parameters[slot.role].key]
                along = axis - (rank - array.ndim) if vertex.kind != f"{PREFIX}GroupNormalization" else 0
                if 0 <= along < array.ndim and array.shape[along] == len(kept):
                    node.input[place] = self._constant(np.take(array, places, axis=along))
        for setting, value in self._removal.after.get(vertex.name, {}).items():
            for attribute in [attribute for attribute in node.attribute if attribute.name == setting]:
                node.attribute.remove(attribute)
                node.attribute.append(
                    helper.make_attribute(setting, list(value) if isinstance(value, tuple) else value)
                )
        if vertex.kind.removeprefix(PREFIX).startswith("Reduce"):
            return
        back = np.maximum(np.cumsum(kept) - 1, 0)
        whole = node.output[0]
        small = self._fresh("small")
        node.output[0] = small
        after.insert(0, helper.make_node("Gather", [small, self._constant(back)], [whole], axis=axis))

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
        copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)


def _spread(kept: NDArray[np.bool_], block: Block, rank: int) -> NDArray[np.bool_]:
    """A mask over the axes of a block, with the rank of the tensor."""
    order = np.argsort(block.axes)
    shape = [1] * rank
    for axis, size in zip(block.axes, kept.shape, strict=True):
        shape[axis] = size
    return np.asarray(kept.transpose(order).reshape(shape))


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
    "LpNormalization": _one_axis,
    "MeanVarianceNormalization": _mean_variance,
}
