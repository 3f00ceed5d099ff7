"""Batches on their way through a network of NumPy layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from autograd.core import make_vjp

from solver_nas.errors import CalibrationError, LayerError
from solver_nas.nn.forward import compute, evaluate
from solver_nas.passage import Batch, Course, Passage, memory_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from solver_nas.frontend import Array
    from solver_nas.graph import Graph


class NetworkCourse(Course):
    """One state of a network.

    Args:
        graph: its structure.
        arrays: its parameters by key.
    """

    def __init__(self, graph: Graph, arrays: Mapping[str, Array]) -> None:
        """Find out when what is let go."""
        self.graph, self.arrays = graph, dict(arrays)
        self.vertices = tuple(graph.vertices)
        self.places = {vertex.name: place for place, vertex in enumerate(self.vertices)}
        self.outputs = tuple(port.vertex for port in graph.returned)
        last = {port.vertex: vertex.name for vertex in self.vertices for port in vertex.inputs}
        self.done: dict[str, list[str]] = {}
        for name, reader in last.items():
            if name not in self.outputs:
                self.done.setdefault(reader, []).append(name)

    def start(self, batch: Batch) -> NetworkPassage:
        """Let a batch begin."""
        return NetworkPassage(self, batch.inputs)

    def slopes(
        self, batch: Batch, vertices: Sequence[str], loss: Callable[[Any, Any], Any]
    ) -> Iterator[tuple[str, Array, Array]]:
        """What some vertices compute, and the gradient of a loss with respect to it."""
        rng = np.random.default_rng(0)  # nothing is drawn from it outside training
        values: dict[str, Any] = evaluate(self.graph, self.arrays, batch.inputs, rng)
        probes = {name: np.zeros_like(values[name]) for name in vertices}

        def objective(added: Mapping[str, Any]) -> Any:
            found = evaluate(self.graph, self.arrays, batch.inputs, rng, probes=added)
            returned = tuple(found[name] for name in self.outputs)
            return loss(returned[0] if len(returned) == 1 else returned, batch.target)

        backward, value = make_vjp(objective, probes)
        if np.ndim(value):
            raise CalibrationError(f"the loss is one number, the function returned shape {np.shape(value)}")
        gradients = backward(np.ones_like(value))
        for name in vertices:
            yield name, np.asarray(values[name]), np.asarray(gradients[name])

    def findable(self, vertex: str) -> None:
        """Everything that a network computes can be looked at."""

    def exchange(self, key: str, array: Array) -> None:
        """Let all passages go on with another array of the same shape in the place of a parameter."""
        self.arrays[key] = np.asarray(array, self.arrays[key].dtype)


class NetworkPassage(Passage):
    """A batch on its way through a network, not in training mode."""

    def __init__(self, course: NetworkCourse, inputs: Mapping[str, Array]) -> None:
        """Begin with these arrays, by name of the input vertex."""
        self._course, self.place = course, 0
        self._inputs = dict(inputs)
        self.known: dict[str, Array] = {}

    def reach(self, vertex: str) -> None:
        """Compute everything before a vertex, and not the vertex itself."""
        self._advance(self._course.places[vertex])

    def value(self, vertex: str) -> Array:
        """What a vertex has computed; it is computed, and everything before it, if it has not been."""
        stop = self._course.places[vertex] + 1
        if stop > self.place:
            self._advance(stop)
        if vertex not in self.known:
            raise CalibrationError(f"nobody reads vertex {vertex!r} any more")
        return self.known[vertex]

    def put(self, vertex: str, value: Array) -> None:
        """Let all that comes later read something else in the place of what a vertex has computed."""
        self.known[vertex] = np.asarray(value, self.known[vertex].dtype)

    def finish(self) -> dict[str, Array]:
        """Compute everything that is left; what the network returns, by name."""
        self._advance(len(self._course.vertices))
        return {name: self.known[name] for name in self._course.outputs}

    def fork(self) -> Self:
        """Another one at the same place; what happens to one does not reach the other."""
        twin = type(self)(self._course, self._inputs)
        twin.place, twin.known = self.place, dict(self.known)
        return twin

    @property
    def nbytes(self) -> int:
        """How much memory the tensors take that are to be read."""
        return memory_of(self.known.values())

    def _advance(self, stop: int) -> None:
        course = self._course
        if stop < self.place:
            raise CalibrationError("a passage only goes forward")
        rng = np.random.default_rng(0)  # nothing is drawn from it outside training
        for vertex in course.vertices[self.place : stop]:
            if vertex.kind == "input":
                self.known[vertex.name] = self._inputs[vertex.name]
            else:
                given = [self.known[port.vertex] for port in vertex.inputs]
                try:
                    self.known[vertex.name] = np.asarray(compute(vertex, course.arrays, given, rng))
                except LayerError as error:
                    raise CalibrationError(f"the network cannot be run with these samples: {error}") from error
            for name in course.done.get(vertex.name, ()):
                del self.known[name]
            self.place += 1
