"""From an edit to the structure that is to be, with bridges where sizes do not fit yet.

Where a new input has another size than what stood there, a *bridge* takes its place until the solver has made
both equally long; then it goes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from solver_nas.errors import GraphError
from solver_nas.graph import Graph, Port, Vertex
from solver_nas.rules import Takes, Tape, label_vertex
from solver_nas.rules.bridge import KIND as BRIDGE
from solver_nas.rules.bridge import bridge
from solver_nas.surgery.edits import takes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.labels import Labels, Memory, Tensor
    from solver_nas.surgery.edits import Input, Wiring
    from solver_nas.surgery.stacking import Layout


@dataclass(frozen=True, slots=True)
class Gap:
    """A bridge between two sizes.

    Args:
        there: the size of what is there.
        expected: the size that its readers expect.
        known_as: the tensor that they used to read; `None` for an additional input.
    """

    there: int
    expected: int
    known_as: Port | None


@dataclass(frozen=True, slots=True)
class Prospect:
    """The structure that is to be.

    Args:
        graph: with bridges.
        gaps: by name of the bridge, for those between two sizes.
        labels: of that graph.
        touched: vertices that read something else than before.
    """

    graph: Graph
    labels: Labels
    gaps: Mapping[str, Gap]
    touched: frozenset[str]


class Rewiring:
    """Carries out a wiring on a graph and puts bridges where sizes do not fit; lives for one edit."""

    def __init__(self, graph: Graph, labels: Labels, wiring: Wiring, memory: Memory) -> None:
        """Take the old structure.

        Args:
            graph: the old structure; concatenations that change may have bridges already.
            labels: of that structure.
            wiring: the edit.
            memory: what rules decided by looking at sizes.
        """
        self._old, self._labels, self._wiring = graph, labels, wiring
        self._touched = frozenset(wiring.inputs)
        self._tape = Tape(memory=memory.without(self._touched))
        self._tensors: dict[Port, Tensor] = {}
        self._vertices: list[Vertex] = []
        self._bridges: dict[tuple[object, ...], str] = {}
        self._gaps: dict[str, Gap] = {}

    def prospect(self, layouts: Mapping[str, Layout], *, title: str) -> Prospect:
        """The new structure.

        Args:
            layouts: by name of the bridge behind a concatenation, where its neurons stand now.
            title: the edit in words.

        Raises:
            GraphError: shapes that no change of sizes could bring together; a cycle.
        """
        wanted = self._wiring.inputs
        vertices = [
            replace(vertex, inputs=tuple(one.port for one in wanted[vertex.name])) if vertex.name in wanted else vertex
            for vertex in self._old.vertices
            if vertex.name not in self._wiring.removed
        ]
        for vertex in Graph(vertices, self._wiring.outputs).vertices:
            made = vertex
            if vertex.name in layouts:
                places = layouts[vertex.name].positions
                made = replace(vertex, attributes={**vertex.attributes, "positions": places, "size": len(places)})
            elif vertex.kind == BRIDGE:
                made = self._loose(vertex, title)
            elif vertex.name in wanted:
                made = self._fitted(vertex, wanted[vertex.name], title)
            self._add(made)
        order = {vertex.name: place for place, vertex in enumerate(self._old.vertices)}
        self._vertices.sort(key=lambda vertex: order.get(vertex.name, len(order)))
        graph = Graph(self._vertices, self._wiring.outputs)
        return Prospect(graph, self._tape.labels(self._tensors), self._gaps, self._touched)

    def _add(self, vertex: Vertex) -> None:
        inputs = tuple(self._tensors[port] for port in vertex.inputs)
        outputs = label_vertex(vertex, inputs, self._tape)
        self._tensors.update({Port(vertex.name, place): tensor for place, tensor in enumerate(outputs)})
        self._vertices.append(vertex)

    def _loose(self, vertex: Vertex, title: str) -> Vertex:
        """A bridge behind a concatenation whose neurons cannot be followed."""
        (port,) = vertex.inputs
        size = int(str(vertex.attributes["size"]))
        axis = int(str(vertex.attributes["axis"]))
        self._gaps[vertex.name] = Gap(self._tensors[port].shape[axis] or 0, size, port)
        return replace(vertex, attributes={**vertex.attributes, "why": f"{title}: equal sizes"})

    def _fitted(self, vertex: Vertex, inputs: Sequence[Input], title: str) -> Vertex:
        old = self._old.vertex(vertex.name)
        ports = []
        for slot, one in enumerate(inputs):
            expected = self._expected(old, one)
            if expected is None:
                ports.append(one.port)
                continue
            known_as, tensor = expected
            ports.append(self._fit(one.port, tensor, known_as, (vertex.name, slot), title))
        return replace(vertex, inputs=tuple(ports))

    def _expected(self, old: Vertex, one: Input) -> tuple[Port | None, Tensor] | None:
        """What a vertex expects to read at a slot, and under which name it knew it."""
        if one.slot is not None:
            known = old.inputs[one.slot]
            return None if known == one.port or not one.whole else (known, self._labels.tensors[known])
        if takes(old) is Takes.ALIKE:
            return None, self._labels.tensors[Port(old.name)]
        return None

    def _free(self, name: str) -> str:
        while name in self._old or Port(name) in self._tensors:
            name += "~"
        return name

    def _fit(self, port: Port, expected: Tensor, known_as: Port | None, where: tuple[str, int], title: str) -> Port:
        tensor = self._tensors[port]
        axis = _odd_axis(tensor, expected, additional=known_as is None)
        if axis is None:
            return port
        place = f"input {where[1]} of {where[0]!r}"
        if axis < 0:
            raise GraphError(
                f"{title}: {port.vertex!r} has shape {tensor.shape}, {place} has to have shape {expected.shape}; "
                f"only the number of neurons can be aligned"
            )
        key: tuple[object, ...] = (port, known_as) if known_as is not None else where
        if key not in self._bridges:
            size = expected.shape[axis] or 0
            name = self._free(f"input {where[1]} of {where[0]}")
            made = bridge(name, port, axis - len(tensor.shape), size, f"{title}: equal sizes")
            self._gaps[name] = Gap(tensor.shape[axis] or 0, size, known_as)
            self._add(made)
            self._bridges[key] = name
        return Port(self._bridges[key])


def _odd_axis(tensor: Tensor, expected: Tensor, *, additional: bool) -> int | None:
    """The axis of neurons along which two shapes differ; `None` if they fit, -1 if they never will."""
    if len(tensor.shape) != len(expected.shape):
        # NumPy broadcasts shorter shapes.
        short, long = tensor.shape, expected.shape[len(expected.shape) - len(tensor.shape) :]
        fits = additional and len(short) < len(expected.shape) and _broadcast(short, long)
        return None if fits else -1
    odd = [axis for axis, (one, other) in enumerate(zip(tensor.shape, expected.shape, strict=True)) if one != other]
    axes = {block.axes[0] for t in (tensor, expected) for block in t.blocks if len(block.axes) == 1}
    rigid = [axis for axis in odd if axis not in axes]
    if additional:
        rigid = [axis for axis in rigid if tensor.shape[axis] != 1]
        odd = [axis for axis in odd if axis in axes]
    if rigid or len(odd) > 1:
        return -1
    return odd[0] if odd else None


def _broadcast(short: Sequence[int | None], long: Sequence[int | None]) -> bool:
    return all(one in (1, other) for one, other in zip(short, long, strict=True))


def finished(graph: Graph) -> Graph:
    """The same structure without its bridges."""
    behind_bridge = {vertex.name: vertex.inputs[0] for vertex in graph.vertices if vertex.kind == BRIDGE}

    def real(port: Port) -> Port:
        while port.vertex in behind_bridge:
            port = behind_bridge[port.vertex]
        return port

    return Graph(
        (replace(vertex, inputs=tuple(map(real, vertex.inputs))) for vertex in graph.vertices if vertex.kind != BRIDGE),
        tuple(map(real, graph.outputs)),
    )
