"""Nodes that come, go or read something else: a changed structure carried over into an ONNX model."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, cast

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from solver_nas.errors import VerificationError
from solver_nas.onnx import tensors
from solver_nas.onnx.flatten import bodies, flatten
from solver_nas.onnx.nodes import replace_nodes
from solver_nas.onnx.op import fitting
from solver_nas.onnx.operator import CONSTANT, PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.frontend import Array
    from solver_nas.graph import Graph, Port, Vertex
    from solver_nas.onnx.op import Slot
    from solver_nas.onnx.structure import Structure


NO_INPUTS = 4  # the version of the format since which initializers need not be inputs as well


def same_wiring(structure: Structure, graph: Graph) -> bool:
    """Whether a graph has the vertices and edges that were read, whatever their sizes and names."""
    return _wiring(structure.graph) == _wiring(graph)


def _wiring(graph: Graph) -> dict[str, tuple[str, ...]]:
    values = {vertex.name: _value(vertex) for vertex in graph.vertices}
    return {values[vertex.name]: tuple(values[port.vertex] for port in vertex.inputs) for vertex in graph.vertices}


def _value(vertex: Vertex) -> str:
    """The value that a vertex computes; an output, by its name behind a mark."""
    value = vertex.attributes.get("value")
    if isinstance(value, str):
        return value
    name = vertex.attributes.get("name", vertex.name)
    return f"output {name}" if vertex.kind == f"{PREFIX}output" else f"input {name}"


def rewire(made: ModelProto, structure: Structure, graph: Graph, arrays: Mapping[str, Array]) -> dict[str, str]:
    """Give a copy of the model that was read the nodes and edges of a graph.

    Args:
        made: changed in place; sizes and attributes are not looked at.
        structure: what was read.
        graph: the structure now.
        arrays: all parameters; those that are new become initializers.

    Returns:
        The new names of values that had to give theirs to what the model returns.

    Raises:
        VerificationError: the change reaches into the body of a loop or a branch, or an output is gone.
    """
    return _Rewiring(made, structure, graph, arrays).run()


class _Rewiring:
    def __init__(self, made: ModelProto, structure: Structure, graph: Graph, arrays: Mapping[str, Array]) -> None:
        self._made, self._structure, self._graph, self._arrays = made, structure, graph, arrays
        program = flatten(made)
        self._maker = {name: step for step in program.steps for name in step.outputs if name}
        self._outside = {id(node) for node in made.graph.node}
        self._local = {
            value: local
            for step in program.steps
            if step.node is not None
            for value, local in zip(step.outputs, step.node.output, strict=True)
        }
        self._old = {_value(vertex): vertex for vertex in structure.graph.vertices}
        self._new = {_value(vertex): vertex for vertex in graph.vertices}

    def run(self) -> dict[str, str]:
        """Remove, add, connect, and put into order; the new names of values."""
        gone = [vertex for value, vertex in self._old.items() if value not in self._new]
        heirs = self._heirs(gone)
        for value, vertex in self._new.items():
            if value in self._old:
                self._connect(vertex, self._old[value])
        for value, vertex in self._new.items():
            if value not in self._old:
                self._add(vertex)
        self._remove(gone)
        self._rename(self._made.graph, heirs)
        renamed = self._outputs()
        self._sort()
        del self._made.graph.value_info[:]
        return renamed

    def _name(self, port: Port) -> str:
        """The name that a tensor has in the main graph."""
        vertex = self._graph.vertex(port.vertex)
        value = _value(vertex)
        if vertex.kind == f"{PREFIX}input":
            return str(vertex.attributes["name"])
        if value in self._maker and self._maker[value].node is not None:
            node = self._maker[value].node
            if vertex.kind != CONSTANT and id(node) not in self._outside:
                raise self._inside(vertex)
        return self._local.get(value, value)

    def _inside(self, vertex: Vertex) -> VerificationError:
        return VerificationError(
            f"vertex {vertex.name!r} is inside the body of a loop or a branch; only sizes can be changed there"
        )

    def _heirs(self, gone: Sequence[Vertex]) -> dict[str, str]:
        """What shapes are read of instead of what goes: its first input."""
        found = {}
        for vertex in gone:
            step = self._maker.get(_value(vertex))
            if step is not None and step.node is not None and id(step.node) not in self._outside:
                raise self._inside(vertex)
            if vertex.inputs and step is not None and step.node is not None:
                source = _value(self._structure.graph.vertex(vertex.inputs[0].vertex))
                found[self._local[_value(vertex)]] = self._local.get(source, source.removeprefix("input "))
        return found

    def _connect(self, vertex: Vertex, before: Vertex) -> None:
        ports = [_value(self._graph.vertex(port.vertex)) for port in vertex.inputs]
        if ports == [_value(self._structure.graph.vertex(port.vertex)) for port in before.inputs]:
            return
        step = self._maker.get(_value(vertex))
        if step is None or step.node is None:
            return
        old, new = _slots(before, len(before.inputs)), _slots(vertex, len(vertex.inputs))
        if step.bodies:
            raise VerificationError(
                f"vertex {vertex.name!r} returns what its bodies do; only sizes can be changed there"
            )
        known = {slot.role or place: step.node.input[place] for place, slot in enumerate(old) if slot is not None}
        stays = {
            port: step.node.input[place]
            for place, slot in enumerate(old)
            if slot is not None and slot.edge is not None
            for port in [_value(self._structure.graph.vertex(before.inputs[slot.edge].vertex))]
        }
        found = []
        for place, slot in enumerate(new):
            if slot is None:
                found.append("")
            elif slot.edge is not None:
                # What it reads already, it may go on reading, also inside of a body.
                found.append(stays.get(ports[slot.edge]) or self._name(vertex.inputs[slot.edge]))
            else:
                found.append(known[slot.role or place])
        del step.node.input[:]
        step.node.input.extend(found)
        _fit_operator(step.node)

    def _add(self, vertex: Vertex) -> None:
        """A node for a vertex that was not there before."""
        inputs = []
        for place, slot in enumerate(
            fitting(cast("Sequence[Slot | None]", vertex.attributes["slots"]), len(vertex.inputs))
        ):
            if slot is None:
                inputs.append("")
            elif slot.edge is not None:
                inputs.append(self._name(vertex.inputs[slot.edge]))
            elif slot.role is not None:
                key = vertex.parameters[slot.role].key
                inputs.append(self._initializer(tensors.write(self._arrays[key], key)))
            else:
                assert slot.value is not None, "an input is an edge, a parameter or numbers"
                name = f"{_value(vertex)}.{place}"
                inputs.append(self._initializer(tensors.write(slot.value.array, name)))
        operator = str(vertex.attributes["operator"])
        domain, _, kind = operator.rpartition("::")
        onnx = cast("Mapping[str, object]", vertex.attributes["onnx"])
        node = helper.make_node(kind, inputs, [_value(vertex)], name=vertex.name, domain=domain)
        node.attribute.extend(
            helper.make_attribute(name, list(one) if isinstance(one, tuple) else one) for name, one in onnx.items()
        )
        _fit_operator(node)
        self._made.graph.node.append(node)

    def _initializer(self, tensor: TensorProto) -> str:
        graph = self._made.graph
        graph.initializer.append(tensor)
        if self._made.ir_version < NO_INPUTS:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
        return tensor.name

    def _remove(self, gone: Sequence[Vertex]) -> None:
        nodes = {id(step.node): step.node for vertex in gone if (step := self._maker.get(_value(vertex))) is not None}
        kept = {id(step.node) for value in self._new if (step := self._maker.get(value)) is not None}
        for key, node in nodes.items():
            if node is not None and key not in kept:
                self._made.graph.node.remove(node)

    def _rename(self, graph: GraphProto, heirs: Mapping[str, str]) -> None:
        """Shapes that were read of what is gone are read of what comes in its place."""

        def last(name: str) -> str:
            while name in heirs:
                name = heirs[name]
            return name

        for node in graph.node:
            for place, name in enumerate(node.input):
                if name in heirs:
                    node.input[place] = last(name)
            for _, body in bodies(node):
                self._rename(body, heirs)

    def _outputs(self) -> dict[str, str]:
        """What the model returns keeps its names."""
        renamed = {}
        for known in self._structure.outputs:
            vertex = self._new.get(f"output {known}")
            if vertex is None:
                raise VerificationError(f"the model would not return {known!r} any more; outputs stay as they are")
            name = self._name(vertex.inputs[0])
            if name == known:
                continue
            # What had the name is read by others still, under another one.
            renamed[known] = f"{known}.inner"
            self._rename(self._made.graph, {known: renamed[known]})
            for node in self._made.graph.node:
                for place, output in enumerate(node.output):
                    if output == known:
                        node.output[place] = renamed[known]
            self._made.graph.node.append(helper.make_node("Identity", [name], [known], name=f"{known}.output"))
        return renamed

    def _sort(self) -> None:
        """Producers first; otherwise the order in which nodes stood."""
        graph = self._made.graph
        nodes = list(graph.node)
        maker = {name: place for place, node in enumerate(nodes) for name in node.output}
        waits = [{maker[name] for name in _reads(node) if name in maker} for node in nodes]
        readers: list[list[int]] = [[] for _ in nodes]
        for place, sources in enumerate(waits):
            for source in sources:
                readers[source].append(place)
        ready = [place for place, sources in enumerate(waits) if not sources]
        order: list[int] = []
        while ready:
            place = heappop(ready)
            order.append(place)
            for reader in readers[place]:
                waits[reader].discard(place)
                if not waits[reader]:
                    heappush(ready, reader)
        if len(order) < len(nodes):
            raise VerificationError("the nodes would form a cycle")
        replace_nodes(graph, (nodes[place] for place in order))


def _slots(vertex: Vertex, edges: int) -> tuple[Slot | None, ...]:
    return fitting(cast("Sequence[Slot | None]", vertex.attributes["slots"]), edges)


def _reads(node: NodeProto) -> set[str]:
    """Names that a node and its bodies read."""
    found = set(node.input)
    for _, body in bodies(node):
        for inner in body.node:
            found |= _reads(inner)
        found |= {value.name for value in body.output}
    return found - {""}


def _fit_operator(node: NodeProto) -> None:
    """Addition takes two inputs; more of them are a Sum, a single one is itself."""
    if node.op_type == "Add" and len(node.input) != 2:
        node.op_type = "Sum"
