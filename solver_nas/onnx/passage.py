"""Batches on their way through an ONNX model: one session of onnxruntime for each stretch between two stops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto, helper

from solver_nas.errors import CalibrationError, StoreError
from solver_nas.onnx import runtime
from solver_nas.onnx.flatten import bodies
from solver_nas.passage import Batch, Course, Passage, memory_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from onnx import GraphProto, NodeProto

    from solver_nas.graph import Graph
    from solver_nas.onnx.op import Slot

Array = NDArray[Any]


class _Stretch(NamedTuple):
    """Nodes of a model that run at once.

    Args:
        runner: their session.
        inputs: what they read.
        outputs: what they compute that is read later, or returned.
    """

    runner: runtime.Session
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class OnnxCourse(Course):
    """One state of a model.

    Args:
        proto: the model; not written to.
        graph: its structure.
        inputs: names of what the caller gives.
    """

    def __init__(self, proto: ModelProto, graph: Graph, inputs: Sequence[str]) -> None:
        """Find the nodes of vertices, and when what is let go."""
        self.graph, self.inputs = graph, tuple(inputs)
        self.outputs = tuple(value.name for value in proto.graph.output)
        self._proto = proto
        self._nodes = tuple(proto.graph.node)
        self._constants = {tensor.name for tensor in proto.graph.initializer}
        self._constants |= {tensor.values.name for tensor in proto.graph.sparse_initializer}
        self._made = {name: place for place, node in enumerate(self._nodes) for name in node.output if name}
        self._reads = tuple(tuple(dict.fromkeys(_read(node))) for node in self._nodes)
        self._last = {name: place for place, names in enumerate(self._reads) for name in names}
        self._last.update(dict.fromkeys(self.outputs, len(self._nodes)))
        self._stretches: dict[tuple[int, int], _Stretch] = {}
        self._watching: dict[tuple[str, ...], runtime.Session] = {}
        self.exchanged: dict[str, Array] = {}

    @property
    def end(self) -> int:
        """How many nodes there are."""
        return len(self._nodes)

    def start(self, batch: Batch) -> OnnxPassage:
        """Let a batch begin."""
        return OnnxPassage(self, {name: np.asarray(batch.inputs[name]) for name in self.inputs})

    def slopes(
        self,
        batch: Batch,  # noqa: ARG002 - there is nothing to do with it
        vertices: Sequence[str],  # noqa: ARG002 - likewise
        loss: Callable[[Any, Any], Any],  # noqa: ARG002 - likewise
    ) -> Iterator[tuple[str, Array, Array]]:
        """ONNX models have no gradients."""
        raise CalibrationError(
            "ONNX models have no gradients: calibrate without a loss, or calibrate the module that it comes from"
        )

    def findable(self, vertex: str) -> None:
        """What is computed inside of loops and branches cannot be looked at."""
        self.value(vertex)

    def exchange(self, key: str, array: Array) -> None:
        """Let all passages go on with another array of the same shape in the place of a parameter.

        That is done where nodes read it, each in the order of axes in which it does.
        """
        for vertex in self.graph.vertices:
            roles = {role for role, parameter in vertex.parameters.items() if parameter.key == key}
            if not roles:
                continue
            node = self._nodes[self.place(vertex.name)]
            for place, slot in enumerate(_slots(vertex.attributes)):
                if slot is not None and slot.role in roles:
                    self.exchanged[node.input[place]] = _seen(array, slot)
        # What is exchanged enters a stretch like any other tensor.
        self._stretches.clear()

    def place(self, vertex: str) -> int:
        """Which node computes a vertex.

        Raises:
            CalibrationError: none of the main graph does.
        """
        name = self.value(vertex)
        if name not in self._made:
            raise CalibrationError(f"vertex {vertex!r} is an input")
        return self._made[name]

    def value(self, vertex: str) -> str:
        """The value of the main graph that a vertex computes.

        Raises:
            CalibrationError: none.
        """
        found = self.graph.vertex(vertex)
        while "value" not in found.attributes and "name" not in found.attributes and found.inputs:
            found = self.graph.vertex(found.inputs[0].vertex)
        name = str(found.attributes.get("value", found.attributes.get("name")))
        if name not in self._made and name not in self.inputs:
            raise CalibrationError(f"vertex {vertex!r} is computed inside the body of a loop or branch, or not at all")
        return name

    def watch(self, batch: Batch, vertices: Sequence[str]) -> Iterator[tuple[str, Array]]:
        """What some vertices compute, in their order; all of them in one run."""
        names = {vertex: self.value(vertex) for vertex in vertices}
        wanted = tuple(dict.fromkeys(name for name in names.values() if name not in self.inputs))
        if wanted not in self._watching:
            model = ModelProto()
            model.CopyFrom(self._proto)
            shown = {value.name for value in model.graph.output}
            model.graph.output.extend(ValueInfoProto(name=name) for name in wanted if name not in shown)
            self._watching[wanted] = runtime.session(model)
        inputs = {name: np.asarray(batch.inputs[name]) for name in self.inputs}
        try:
            found = {**inputs, **runtime.run(self._watching[wanted], inputs)}
        except StoreError as error:
            raise CalibrationError(f"the model cannot be run with these samples: {error}") from error
        for vertex, name in names.items():
            yield vertex, found[name]

    def lives(self, name: str, place: int) -> bool:
        """Whether a value is read by a node from some place on, or returned."""
        return self._last.get(name, -1) >= place

    def run(self, known: Mapping[str, Array], start: int, stop: int) -> dict[str, Array]:
        """What nodes compute that is read later, or returned."""
        if (start, stop) not in self._stretches:
            self._stretches[start, stop] = self._stretch(known, start, stop)
        stretch = self._stretches[start, stop]
        if not stretch.outputs:
            return {}
        try:
            return runtime.run(stretch.runner, {name: known[name] for name in stretch.inputs})
        except StoreError as error:
            raise CalibrationError(f"the model cannot be run with these samples: {error}") from error

    def _stretch(self, known: Mapping[str, Array], start: int, stop: int) -> _Stretch:
        # What was exchanged may be made by nodes as well, which then are not needed.
        made = [name for node in self._nodes[start:stop] for name in node.output if name and name not in self.exchanged]
        outputs = [name for name in made if self.lives(name, stop)]
        wanted, nodes = set(outputs), []
        for place in reversed(range(start, stop)):
            if wanted.intersection(self._nodes[place].output).difference(self.exchanged):
                wanted.update(self._reads[place])
                nodes.append(self._nodes[place])
        nodes.reverse()
        inside = {name for node in nodes for name in node.output}
        needed = wanted - inside
        inputs = sorted(name for name in needed if name in known)
        model = ModelProto()
        model.CopyFrom(_without_graph(self._proto))
        model.graph.name = "stretch"
        model.graph.node.extend(nodes)
        constants = (needed & self._constants) - set(inputs)
        model.graph.initializer.extend(one for one in self._proto.graph.initializer if one.name in constants)
        sparse = [one for one in self._proto.graph.sparse_initializer if one.values.name in constants]
        model.graph.sparse_initializer.extend(sparse)
        for name in inputs:
            kind = helper.np_dtype_to_tensor_dtype(known[name].dtype)
            model.graph.input.append(helper.make_tensor_value_info(name, kind, [None] * known[name].ndim))
        model.graph.output.extend(ValueInfoProto(name=name) for name in outputs)
        try:
            runner = runtime.session(model) if outputs else None
        except StoreError as error:
            raise CalibrationError(f"a part of the model cannot be run by itself: {error}") from error
        return _Stretch(runner, tuple(inputs), tuple(outputs))


class OnnxPassage(Passage):
    """A batch on its way through an ONNX model."""

    def __init__(self, course: OnnxCourse, inputs: Mapping[str, Array]) -> None:
        """Begin with these arrays, by name of the input."""
        self._course, self.place = course, 0
        self.known = dict(inputs)

    def reach(self, vertex: str) -> None:
        """Compute everything before a vertex, and not the vertex itself."""
        self._advance(self._course.place(vertex))

    def value(self, vertex: str) -> Array:
        """What a vertex has computed; it is computed, and everything before it, if it has not been."""
        name = self._course.value(vertex)
        if name not in self._course.inputs:
            stop = self._course.place(vertex) + 1
            if stop > self.place:
                self._advance(stop)
        found = self.known.get(name)
        if not isinstance(found, np.ndarray):
            raise CalibrationError(f"vertex {vertex!r} computes no tensor, or nobody reads it any more")
        return found

    def put(self, vertex: str, value: Array) -> None:
        """Let all that comes later read something else in the place of what a vertex has computed."""
        name = self._course.value(vertex)
        self.known[name] = np.asarray(value, self.known[name].dtype)

    def finish(self) -> dict[str, Array]:
        """Compute everything that is left; what the model returns, by name."""
        self._advance(self._course.end)
        return {name: self.known[name] for name in self._course.outputs if name in self.known}

    def fork(self) -> Self:
        """Another one at the same place; what happens to one does not reach the other."""
        twin = type(self)(self._course, self.known)
        twin.place = self.place
        return twin

    @property
    def nbytes(self) -> int:
        """How much memory the tensors take that are to be read."""
        held = {id(array) for array in self._course.exchanged.values()}
        return memory_of(array for array in self.known.values() if id(array) not in held)

    def _advance(self, stop: int) -> None:
        course = self._course
        if stop < self.place:
            raise CalibrationError("a passage only goes forward")
        if stop > self.place:
            self.known.update(course.exchanged)
            self.known.update(course.run(self.known, self.place, stop))
            self.known = {name: value for name, value in self.known.items() if course.lives(name, stop)}
            self.place = stop


def _read(node: NodeProto) -> Iterator[str]:
    """What a node reads of its graph, also inside its bodies."""
    yield from (name for name in node.input if name)
    for _, body in bodies(node):
        yield from _outside(body)


def _outside(graph: GraphProto) -> Iterator[str]:
    """What a body reads of the graphs around it."""
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {tensor.values.name for tensor in graph.sparse_initializer}
    for node in graph.node:
        yield from (name for name in _read(node) if name not in own)
        own.update(node.output)
    yield from (value.name for value in graph.output if value.name not in own)


def _without_graph(proto: ModelProto) -> ModelProto:
    """Versions and domains of a model."""
    return helper.make_model(
        helper.make_graph([], "", [], []),
        ir_version=proto.ir_version,
        opset_imports=list(proto.opset_import),
        functions=list(proto.functions),
    )


def _slots(attributes: Mapping[str, object]) -> Sequence[Slot | None]:
    found: Any = attributes.get("slots", ())
    return tuple(found)


def _seen(array: Array, slot: Slot) -> Array:
    """A parameter as a node sees it."""
    if slot.order is None:
        return array
    axes = [axis for axis in slot.order if axis is not None]
    found = array.transpose(axes)
    for place, axis in enumerate(slot.order):
        if axis is None:
            found = np.expand_dims(found, place)
    return np.ascontiguousarray(found)
