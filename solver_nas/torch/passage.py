"""Batches on their way through a captured module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch

from solver_nas.errors import CalibrationError
from solver_nas.passage import Batch, Course, Passage, memory_of
from solver_nas.torch.flatten import no_autocast
from solver_nas.torch.nodes import mutates
from solver_nas.torch.running import Walk
from solver_nas.torch.tensors import to_array, to_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch.fx import Graph as FxGraph
    from torch.fx import Node

    from solver_nas.frontend import Array
    from solver_nas.graph import Graph
    from solver_nas.torch.structure import Structure


class TorchCourse(Course):
    """One state of a captured module, in evaluation mode.

    Args:
        structure: of the module.
        graph: of that state.
        nodes: its operations, with their present sizes.
        tensors: its parameters and buffers by key.
    """

    def __init__(self, structure: Structure, graph: Graph, nodes: FxGraph, tensors: Mapping[str, torch.Tensor]) -> None:
        """Find the nodes of vertices."""
        self.structure, self.graph, self.tensors = structure, graph, dict(tensors)
        self.walk = Walk(nodes)
        self.places = {node.name: place for place, node in enumerate(self.walk.nodes)}
        self.mutates = any(mutates(node) for node in self.walk.nodes if node.op == "call_function")
        self._holders: dict[str, list[str]] = {}
        for node, path in structure.tensors.items():
            self._holders.setdefault(structure.keys[path], []).append(node)
        #: Placeholder -> what has taken its place.
        self.exchanged: dict[str, torch.Tensor] = {}

    def start(self, batch: Batch) -> TorchPassage:
        """Let a batch begin."""
        return TorchPassage(self, batch.inputs)

    def slopes(
        self, batch: Batch, vertices: Sequence[str], loss: Callable[[Any, Any], Any]
    ) -> Iterator[tuple[str, Array, Array]]:
        """What some vertices compute, and the gradient of a loss with respect to it."""
        given = self.given()
        # Of buffers, such as the means of a batch normalisation, there need be no derivatives.
        for key in self._holders.keys() - self.structure.buffers:
            given |= {node: self.tensors[key].detach().requires_grad_() for node in self._holders[key]}
        copies = {name: one.clone() if isinstance(one, torch.Tensor) else one for name, one in batch.inputs.items()}
        given |= copies
        known: dict[Node, Any] = {}
        kept: dict[str, torch.Tensor] = {}
        wanted = {self.node(name): name for name in vertices}
        found: list[Any] | None = None
        with no_autocast(), torch.enable_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for place, node in enumerate(self.walk.nodes):
                found = self.walk.step(place, known, given)
                if node in wanted:
                    kept[wanted[node]] = known[node]
            assert found is not None, "a graph ends with what it returns"
            returned = tuple(found[place] for place in self.structure.returned)
            value: object = loss(returned[0] if len(returned) == 1 else returned, batch.target)
            if not isinstance(value, torch.Tensor) or value.numel() != 1 or not value.requires_grad:
                raise CalibrationError(f"the loss is one number that depends on the outputs, got {value!r}")
            gradients: Sequence[torch.Tensor | None] = torch.autograd.grad(
                value.reshape(()), list(kept.values()), allow_unused=True
            )
        for (name, tensor), gradient in zip(kept.items(), gradients, strict=True):
            yield name, to_array(tensor), to_array(torch.zeros_like(tensor) if gradient is None else gradient)

    def findable(self, vertex: str) -> None:
        """What is computed by an operation of the module can be looked at."""
        self.node(vertex)

    def exchange(self, key: str, array: Array) -> None:
        """Let all passages go on with another array of the same shape in the place of a parameter."""
        self.tensors[key] = to_tensor(array, self.tensors[key])
        for node in self._holders[key]:
            self.exchanged[node] = self.tensors[key]

    def given(self) -> dict[str, Any]:
        """Placeholder -> parameter, buffer, or what is written down in the code."""
        held = {node: self.tensors[key] for key, nodes in self._holders.items() for node in nodes}
        return {**held, **self.structure.fixed}

    def node(self, vertex: str) -> Node:
        """The node that computes a vertex.

        Raises:
            CalibrationError: none does.
        """
        found = self.places.get(self.structure.made.get(vertex, ""))
        if found is None:
            raise CalibrationError(f"vertex {vertex!r} is computed by no operation of its own")
        node: Node = self.walk.nodes[found]
        return node


class TorchPassage(Passage):
    """A batch on its way through a captured module."""

    def __init__(self, course: TorchCourse, inputs: Mapping[str, Any]) -> None:
        """Begin.

        Args:
            course: the way.
            inputs: placeholder -> value.
        """
        self._course, self.place = course, 0
        copies = {name: one.clone() if isinstance(one, torch.Tensor) else one for name, one in inputs.items()}
        self.given: dict[str, Any] = {**course.given(), **copies}
        self.known: dict[Node, Any] = {}

    def reach(self, vertex: str) -> None:
        """Compute everything before a vertex, and not the vertex itself."""
        self._advance(self._course.places[self._course.node(vertex).name])

    def value(self, vertex: str) -> Array:
        """What a vertex has computed; it is computed, and everything before it, if it has not been."""
        node = self._course.node(vertex)
        stop = self._course.places[node.name] + 1
        if stop > self.place:
            self._advance(stop)
        found = self.known.get(node)
        if not isinstance(found, torch.Tensor):
            raise CalibrationError(f"vertex {vertex!r} computes no tensor, or nobody reads it any more")
        return to_array(found)

    def put(self, vertex: str, value: Array) -> None:
        """Let all that comes later read something else in the place of what a vertex has computed."""
        node = self._course.node(vertex)
        self.known[node] = to_tensor(value, self.known[node])

    def finish(self) -> dict[str, Array]:
        """Compute everything that is left; what the model returns, by name."""
        found = self._advance(len(self._course.walk.nodes)) or []
        structure = self._course.structure
        names = {place: name for name, place in structure.outputs.items()}
        return {
            names.get(place, f"output {place}"): to_array(one)
            for place, one in enumerate(found[place] for place in structure.returned)
            if isinstance(one, torch.Tensor)
        }

    def fork(self) -> Self:
        """Another one at the same place; what happens to one does not reach the other."""
        twin = type(self)(self._course, {})
        twin.given, twin.place, twin.known = dict(self.given), self.place, dict(self.known)
        if self._course.mutates:
            held = {id(value) for value in self.given.values()}
            twin.known = {
                node: value.clone() if isinstance(value, torch.Tensor) and id(value) not in held else value
                for node, value in self.known.items()
            }
        return twin

    @property
    def nbytes(self) -> int:
        """How much memory the tensors take that are to be read."""
        held = {id(value) for value in self.given.values()}
        return memory_of(value for value in self.known.values() if id(value) not in held)

    def _advance(self, stop: int) -> list[Any] | None:
        course, found = self._course, None
        if stop < self.place:
            raise CalibrationError("a passage only goes forward")
        for node, tensor in course.exchanged.items():
            self.given[node] = tensor
            if (held := course.walk.nodes[course.places[node]]) in self.known:
                self.known[held] = tensor
        with no_autocast(), torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            try:
                while self.place < stop:
                    found = course.walk.step(self.place, self.known, self.given)
                    self.place += 1
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                told = str(error).strip().splitlines()
                raise CalibrationError(
                    f"the captured operations cannot be run with these samples: {told[0] if told else error!r}; they "
                    f"have to be of the shapes that the module was traced with"
                ) from error
        return found
