"""From a changed graph and its arrays back to an ONNX model.

The model is a copy of the one that was read, in which tensors, attributes and literal numbers are replaced. Shapes
that the model computes from others follow by themselves; where they do not come out as the graph says (a number of
heads that is written down somewhere), that number is replaced.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TypeProto, helper

from solver_nas.errors import VerificationError
from solver_nas.onnx import tensors
from solver_nas.onnx.facts import TRIALS, Facts, Source
from solver_nas.onnx.flatten import Program, Step, bodies, flatten
from solver_nas.onnx.inference import context_of
from solver_nas.onnx.literals import Literals
from solver_nas.onnx.operator import CONSTANT, OPAQUE
from solver_nas.onnx.rewiring import rewire, same_wiring
from solver_nas.onnx.trials import constant_fact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.graph import Graph, Vertex
    from solver_nas.labels import Shape
    from solver_nas.onnx.facts import Fact
    from solver_nas.onnx.literals import Numbers
    from solver_nas.onnx.op import Slot
    from solver_nas.onnx.source import Origin
    from solver_nas.onnx.structure import Structure

Array = NDArray[Any]


def written(origin: Origin, structure: Structure, graph: Graph, arrays: Mapping[str, Array]) -> ModelProto:
    """The model that a graph and its arrays describe.

    Args:
        origin: the model that was read.
        structure: its structure as it was read.
        graph: the structure now.
        arrays: all parameters now.

    Raises:
        VerificationError: the shapes of the changed model do not come out as the graph says.
    """
    made = ModelProto()
    same = all(array is structure.arrays.get(key) for key, array in arrays.items())
    if same and (graph is structure.graph or graph.vertices == structure.graph.vertices):
        made.CopyFrom(origin.whole)
        return made
    made.CopyFrom(origin.proto)
    _Writer(origin, structure, graph, arrays, made).run()
    return made


class _Writer:
    def __init__(
        self, origin: Origin, structure: Structure, graph: Graph, arrays: Mapping[str, Array], made: ModelProto
    ) -> None:
        self._origin, self._structure, self._graph, self._arrays, self._made = origin, structure, graph, arrays, made
        self._used_before = _used(made.graph)
        self._rewired = not same_wiring(structure, graph)
        renamed = rewire(made, structure, graph, arrays) if self._rewired else {}
        self._program: Program = flatten(made)
        self._dirty = {key for key, array in arrays.items() if array is not structure.arrays.get(key)}
        self._was = {value: name for name, value in structure.values.items()}
        self._literals = Literals(made)
        self._several = {view.key for view in structure.views.values() if view.twin}
        self._shared: dict[str, str] = {}
        self._vertices = {
            renamed.get(value, value): vertex
            for vertex in graph.vertices
            if vertex.kind != CONSTANT and isinstance(value := vertex.attributes.get("value"), str)
        }

    def run(self) -> None:
        """Change the copy."""
        for key in sorted(self._dirty):
            self._store(key)
        facts = self._facts()
        for step in self._program.steps:
            self._walk(step, facts)
        if not self._rewired:
            self._check(facts)
        # Nodes are copied from here on: what is said about their bodies has to be right before that.
        self._describe(facts)
        self._literals.finish()
        self._sweep(self._made.graph)

    # -- arrays ------------------------------------------------------------------------------------

    def _store(self, key: str) -> None:
        """Put a changed array where the old one was."""
        array = self._arrays[key]
        tensor = self._program.constants.get(key)
        if tensor is None:
            return
        tensor.CopyFrom(tensors.write(array, tensor.name, tensor))
        for value in self._made.graph.input:
            if value.name == tensor.name:
                _set_shape(value.type, array.shape)

    def _facts(self) -> Facts:
        constants = {name: constant_fact(tensor, name) for name, tensor in self._program.constants.items()}
        inputs = {name: self._structure.facts[name] for name in self._program.inputs}
        return Facts(context_of(self._made), constants, inputs)

    # -- step by step ------------------------------------------------------------------------------

    def _walk(self, step: Step, facts: Facts) -> None:
        vertices = [self._vertices[name] for name in step.outputs if name in self._vertices]
        for vertex in vertices:
            step = self._adjust(step, vertex, facts)
        if not vertices:
            step = self._adjust_view(step, facts)
        if not vertices and any(name in self._dirty for name in step.inputs):
            self._dirty.update(name for name in step.outputs if name)
        held = [name for name in step.outputs if self._holder(name) in self._arrays]
        if held and not vertices:
            self._hold(step, held, facts)
        else:
            facts.learn(step)

    def _holder(self, name: str) -> str:
        """The key of the array that a constant is; the first one's where several are computed alike."""
        view = self._structure.views.get(name)
        return view.key if view is not None and view.twin else name

    def _hold(self, step: Step, names: Sequence[str], facts: Facts) -> None:
        """Constants that the model computes have to be what their readers were planned with."""
        arrays = {name: self._arrays[self._holder(name)] for name in names}
        if not any(name in self._dirty or self._holder(name) in self._dirty for name in names):
            facts.learn(step)
            if all(_is(facts[name], array) for name, array in arrays.items()):
                return
        node = step.node
        assert node is not None, "constants are computed by nodes"
        local = dict(zip(step.outputs, node.output, strict=True))
        if len(node.output) == 1 and self._holder(names[0]) not in self._several:
            (name,) = names
            value = tensors.write(arrays[name], local[name])
            node.CopyFrom(helper.make_node("Constant", [], [local[name]], name=node.name, value=value))
            facts.learn(replace(step, operator="Constant", inputs=(), attributes={}))
            return
        made: list[NodeProto] = []
        for name, array in arrays.items():
            # One array for all that are computed alike, and not one in each branch.
            key = self._holder(name)
            if key not in self._shared:
                self._shared[key] = self._literals.constant(key, array)
            shared = self._shared[key]
            facts.known[shared] = facts.known[name] = constant_fact(tensors.write(array, shared), shared)
            made.append(helper.make_node("Identity", [shared], [local[name]], name=node.name if not made else ""))
        self._literals.put_before(node, made[1:])
        node.CopyFrom(made[0])

    def _adjust(self, step: Step, vertex: Vertex, facts: Facts) -> Step:
        node = step.node
        if node is None:
            return step
        if vertex.attributes["primary"] and vertex.name != self._was.get(str(vertex.attributes["value"]), vertex.name):
            node.name = vertex.name
        onnx = cast("Mapping[str, object]", vertex.attributes["onnx"])
        for name, value in onnx.items():
            if step.attributes.get(name) != value:
                _set_attribute(node, name, value)
        step = replace(step, attributes={**step.attributes, **onnx})
        for slot, wanted in self._wanted(step, vertex, facts).items():
            step = self._literals.read_by(step, slot, wanted, facts)
        added = tuple(node.input[len(step.inputs) :])
        self._literals.learn(added, facts)
        return replace(step, inputs=(*step.inputs, *added))

    def _adjust_view(self, step: Step, facts: Facts) -> Step:
        """Literal shapes of constants that are seen in another shape follow the constant."""
        if step.operator != "Reshape" or not step.outputs[0] or len(step.inputs) < 2:
            return step
        view = self._structure.views.get(step.outputs[0])
        if view is None or view.key not in self._dirty:
            return step
        shape = self._arrays[view.key].shape
        order = view.order if view.order is not None else tuple(range(len(shape)))
        target = tuple(1 if axis is None else shape[axis] for axis in order)
        return self._literals.read_by(step, 1, self._target(step, 1, target, facts), facts)

    def _wanted(self, step: Step, vertex: Vertex, facts: Facts) -> dict[int, Numbers]:
        """The numbers that a node has to read, by input."""
        if vertex.kind == OPAQUE:
            return {}
        shape = self._open(vertex)
        match step.operator:
            case "Reshape" if len(step.inputs) > 1:
                return {1: self._target(step, 1, shape, facts)}
            case "Reshape":
                self._old_reshape(step, shape)
                return {}
            case "Expand":
                return {1: self._filled(step, 1, shape, facts)}
            case "ConstantOfShape":
                return {0: self._filled(step, 0, shape, facts)}
            case "Split":
                return self._parts(step, vertex)
            case "Squeeze":
                return self._squeezed(step, vertex, facts)
            case _:
                slots = cast("Sequence[Slot | None]", vertex.attributes["slots"])
                return {
                    place: slot.value.elements
                    for place, slot in enumerate(slots)
                    if slot is not None and slot.value is not None and place < len(step.inputs)
                }

    def _open(self, vertex: Vertex) -> Shape:
        """The shape of a vertex's output, with the sizes open that the model leaves open."""
        shape = cast("Shape", vertex.attributes["shape"])
        known = self._structure.facts.known.get(str(vertex.attributes.get("value")))
        if known is None or known.shape is None or known.sized is None or len(known.shape) != len(shape):
            return shape
        # For the caller's input sizes, an axis may have another size than for the model's own; what changes has not.
        sizes = zip(known.shape, known.sized, shape, strict=True)
        return tuple(was if size == then or was is None else size for was, then, size in sizes)

    def _target(self, step: Step, slot: int, shape: Shape, facts: Facts) -> Numbers:
        """What a Reshape has to read so that its result has a shape; what is 0, -1 or computed stays if it can."""
        current, given = facts[step.inputs[slot]].numbers, facts[step.inputs[0]]
        if current is None or len(current) != len(shape):
            return ()
        sizes, zero = given.shape, not step.attributes.get("allowzero", 0)
        found: list[int | float | bool | None] = []
        for axis, (now, size) in enumerate(zip(current, shape, strict=True)):
            copied = now == 0 and zero and sizes is not None and axis < len(sizes) and sizes[axis] == size
            found.append(cast("int | None", now) if size is None or now in (-1, None) or copied else size)
        return self._inferred(step, slot, tuple(found), facts)

    def _inferred(self, step: Step, slot: int, target: Numbers, facts: Facts) -> Numbers:
        """Let a size that is computed from other sizes be inferred where it would not come out right."""
        if -1 in target or None not in target:
            return target
        for trial in range(TRIALS):
            seen, given = facts[step.inputs[slot]].at(trial), facts[step.inputs[0]].at(trial).shape
            if seen.number is None or given is None or None in given:
                return target
            row = seen.number.reshape(-1).tolist()
            sizes = [
                (given[axis] if one == 0 and axis < len(given) else one)
                for axis, one in enumerate(now if want is None else want for want, now in zip(target, row, strict=True))
            ]
            if prod(int(size or 0) for size in sizes) != prod(size or 0 for size in given):
                place = next(axis for axis, one in enumerate(target) if one is None)
                return tuple(-1 if axis == place else one for axis, one in enumerate(target))
        return target

    def _old_reshape(self, step: Step, shape: Shape) -> None:
        """Before version 5 of the standard, the shape is an attribute."""
        now = cast("Sequence[int]", step.attributes.get("shape", ()))
        found = tuple(one if size is None or one in (0, -1) else size for one, size in zip(now, shape, strict=True))
        if step.node is not None and found != tuple(now):
            _set_attribute(step.node, "shape", found)

    def _filled(self, step: Step, slot: int, shape: Shape, facts: Facts) -> Numbers:
        """What is read as a shape that results have, whole or in part."""
        current = facts[step.inputs[slot]].numbers
        if current is None:
            return ()
        tail = shape[len(shape) - len(current) :]
        # A one stands for any size of what is expanded.
        return tuple(
            cast("int | None", now) if size is None or (now == 1 and step.operator == "Expand") else size
            for now, size in zip(current, tail, strict=True)
        )

    def _parts(self, step: Step, vertex: Vertex) -> dict[int, Numbers]:
        parts = cast("tuple[int, ...] | None", vertex.attributes["parts"])
        name = self._was.get(str(vertex.attributes["value"]))
        before = self._structure.graph.vertex(name).attributes["parts"] if name is not None else None
        if parts is None or step.node is None or before == parts:
            return {}
        if len(step.inputs) > 1:
            return {1: parts}
        if self._program_opset("") >= 13:  # the version in which the sizes became an input
            if "num_outputs" in step.attributes:
                _drop_attribute(step.node, "num_outputs")
            name = self._literals.constant(f"{step.node.output[0]}.split", np.array(parts, np.int64))
            step.node.input.append(name)
        else:
            _set_attribute(step.node, "split", parts)
        return {}

    def _squeezed(self, step: Step, vertex: Vertex, facts: Facts) -> dict[int, Numbers]:
        """A node that drops all axes of size 1 would drop too many where another one has become 1."""
        given = facts[step.inputs[0]].shape
        axes = cast("tuple[int, ...]", vertex.attributes["axes"])
        named = "axes" in step.attributes or (len(step.inputs) > 1 and step.inputs[1])
        if named or step.node is None or given is None or tuple(a for a, s in enumerate(given) if s == 1) == axes:
            return {}
        if self._program_opset("") >= 13:  # the version in which the axes became an input
            step.node.input.append(self._literals.constant(f"{step.node.output[0]}.axes", np.array(axes, np.int64)))
        else:
            _set_attribute(step.node, "axes", axes)
        return {}

    def _program_opset(self, domain: str) -> int:
        return context_of(self._made).opsets.get(domain, 1)

    # -- putting it together -----------------------------------------------------------------------

    def _check(self, facts: Facts) -> None:
        """What comes out has to be what was planned."""
        for vertex in self._graph.vertices:
            value = vertex.attributes.get("value")
            if not isinstance(value, str) or value not in facts.known:
                continue
            known = self._structure.facts.known.get(value)
            planned, found = self._open(vertex), facts[value].shape
            if known is not None and known.shape is not None and found != planned:
                raise VerificationError(
                    f"vertex {vertex.name!r} ({vertex.attributes['operator']}) would have the shape {found} instead of "
                    f"{planned}: a number that its shape is computed from cannot be changed; nothing was changed"
                )

    def _sweep(self, graph: GraphProto) -> None:
        """Drop what nobody reads any more."""
        for node in graph.node:
            for _, body in bodies(node):
                self._sweep(body)
        while True:
            used = _used(graph)
            idle = [node for node in graph.node if node.output and not any(name in used for name in node.output)]
            idle = [node for node in idle if any(name in self._used_before for name in node.output)]
            if not idle:
                break
            for node in idle:
                graph.node.remove(node)
        gone = [t.name for t in graph.initializer if t.name not in used and t.name in self._used_before]
        for name in gone:
            graph.initializer.remove(next(tensor for tensor in graph.initializer if tensor.name == name))
            for value in [value for value in graph.input if value.name == name]:
                graph.input.remove(value)

    def _describe(self, facts: Facts) -> None:
        """Shapes that are written down follow."""
        graph = self._made.graph
        there = {name for node in graph.node for name in node.output} | {value.name for value in graph.input}
        for value in [value for value in graph.value_info if value.name not in there]:
            graph.value_info.remove(value)
        for value in [*graph.value_info, *graph.output]:
            if value.name in facts.known:
                _update_shape(value.type, facts[value.name].shape)
        for step in self._program.steps:
            if step.node is None:
                continue
            for (_, body), entered in zip(bodies(step.node), step.bodies, strict=True):
                del body.value_info[:]
                for values, names in ((body.input, entered.inputs), (body.output, entered.outputs)):
                    for value, name in zip(values, names, strict=True):
                        if name in facts.known:
                            _update_shape(value.type, facts[name].shape)


def _is(fact: Fact, array: Array) -> bool:
    """Whether a constant is this array, as far as that is known: large ones only change with what they are made of."""
    known = fact.constant
    if known is None:
        return array.size > 0 and fact.source is Source.CONSTANT
    return known.dtype == array.dtype and np.array_equal(known, array, equal_nan=array.dtype.kind == "f")


def _used(graph: GraphProto) -> set[str]:
    """Names that nodes of a graph or of the bodies in it read, or that are returned."""
    found = {value.name for value in graph.output}
    for node in graph.node:
        found.update(node.input)
        for _, body in bodies(node):
            found |= _used(body)
    return found


def _set_attribute(node: NodeProto, name: str, value: object) -> None:
    _drop_attribute(node, name)
    node.attribute.append(helper.make_attribute(name, list(value) if isinstance(value, tuple) else value))


def _drop_attribute(node: NodeProto, name: str) -> None:
    for attribute in [attribute for attribute in node.attribute if attribute.name == name]:
        node.attribute.remove(attribute)


def _set_shape(kind: TypeProto, shape: Sequence[int]) -> None:
    for dim, size in zip(kind.tensor_type.shape.dim, shape, strict=False):
        dim.dim_value = size


def _update_shape(kind: TypeProto, shape: Shape | None) -> None:
    """Correct the sizes that are written down and have changed."""
    if shape is None or not kind.HasField("tensor_type") or len(kind.tensor_type.shape.dim) != len(shape):
        return
    for dim, size in zip(kind.tensor_type.shape.dim, shape, strict=True):
        if size is not None and dim.HasField("dim_value") and dim.dim_value != size and dim.dim_value > 0:
            dim.dim_value = size
