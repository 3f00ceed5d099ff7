"""The structure of a network: which operation feeds which, with shapes and without arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import networkx as nx

from solver_nas.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TypeAlias

    # Generic only in its stubs, hence not at run time.
    Digraph: TypeAlias = nx.MultiDiGraph[str]


class Port(NamedTuple):
    """One output tensor of one vertex."""

    vertex: str
    output: int = 0


@dataclass(frozen=True, slots=True)
class Parameter:
    """One array that a vertex owns.

    Args:
        key: which array it is; vertices that share a weight share its key.
        shape: its present shape.
    """

    key: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Vertex:
    """One operation of the network, as a value.

    Args:
        name: unique in its graph.
        kind: what the operation is; rules are registered under it.
        inputs: the tensors that it reads, by slot.
        attributes: what the rule has to know: groups, axes, literal shapes.
        parameters: the arrays that it owns, by role.
    """

    name: str
    kind: str
    inputs: tuple[Port, ...] = ()
    attributes: Mapping[str, object] = field(default_factory=dict)
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    @property
    def is_input(self) -> bool:
        """Whether it stands for what the network is given; front ends put their name before the kind."""
        return self.kind.rpartition(".")[2] == "input"


class Graph:
    """Vertices and the numbered edges between them.

    The structure lives in a `networkx.MultiDiGraph`: a node is a vertex name, an edge goes from the
    producer to the consumer and its key is the consumer's input slot, so that one tensor may be
    read twice by one vertex.

    >>> graph = Graph([Vertex("x", "input"), Vertex("twice", "add", (Port("x"), Port("x")))])
    >>> graph.order
    ('x', 'twice')
    >>> sorted(graph.digraph.edges(keys=True))
    [('x', 'twice', 0), ('x', 'twice', 1)]
    """

    def __init__(self, vertices: Iterable[Vertex] = (), outputs: Sequence[Port] = ()) -> None:
        """Build the graph; vertices may come in any order.

        Raises:
            GraphError: a repeated name, an unknown input, a cycle.
        """
        self.digraph: Digraph = nx.MultiDiGraph()
        vertices = tuple(vertices)
        for vertex in vertices:
            if vertex.name in self.digraph:
                raise GraphError(f"vertex {vertex.name!r} stands twice in the graph; names must be unique")
            self.digraph.add_node(vertex.name, vertex=vertex, place=len(self.digraph))
        for vertex in vertices:
            self._join(vertex)
        self.outputs = tuple(outputs)
        for port in self.outputs:
            self.vertex(port.vertex)
        self._order: tuple[str, ...] | None = None
        #: Goes up with everything that is added, so that plans for an earlier state can be told.
        self.revision = 0

    def _join(self, vertex: Vertex) -> None:
        for slot, port in enumerate(vertex.inputs):
            if port.vertex not in self.digraph:
                raise GraphError(
                    f"input {slot} of vertex {vertex.name!r} is {port.vertex!r}, which is not in the graph"
                )
            self.digraph.add_edge(port.vertex, vertex.name, key=slot, output=port.output)

    def add(self, vertex: Vertex) -> None:
        """Append one vertex whose inputs are there already.

        Raises:
            GraphError: the name is taken, or an input is unknown; the graph is as before.
        """
        if vertex.name in self.digraph:
            raise GraphError(f"vertex {vertex.name!r} is there already; names must be unique")
        for slot, port in enumerate(vertex.inputs):
            if port.vertex not in self.digraph:
                raise GraphError(
                    f"input {slot} of vertex {vertex.name!r} is {port.vertex!r}, which is not in the graph"
                )
        self.digraph.add_node(vertex.name, vertex=vertex, place=len(self.digraph))
        self._join(vertex)
        self.revision += 1
        # The inputs are older than the vertex, so that appending keeps any order topological.
        self._order = None if self._order is None else (*self._order, vertex.name)

    @property
    def returned(self) -> tuple[Port, ...]:
        """The tensors that leave the network: those that were named, or else all that nothing reads."""
        return self.outputs or tuple(Port(name) for name in self.order if not self.consumers(name))

    def set_outputs(self, ports: Iterable[Port]) -> None:
        """Say which tensors leave the network.

        Raises:
            GraphError: a vertex is not in the graph.
        """
        outputs = tuple(ports)
        for port in outputs:
            self.vertex(port.vertex)
        self.outputs = outputs
        self.revision += 1

    @property
    def order(self) -> tuple[str, ...]:
        """Vertex names, producers first; among equals, the one that was added first.

        Raises:
            GraphError: the vertices form a cycle; the message names one.
        """
        if self._order is None:
            try:
                order = nx.lexicographical_topological_sort(
                    self.digraph, key=lambda name: int(self.digraph.nodes[name]["place"])
                )
                self._order = tuple(order)
            except nx.NetworkXUnfeasible as error:
                cycle = " -> ".join(edge[0] for edge in nx.find_cycle(self.digraph))
                raise GraphError(f"the vertices form a cycle: {cycle}; remove one of these edges") from error
        return self._order

    @property
    def vertices(self) -> tuple[Vertex, ...]:
        """Every vertex, producers first."""
        return tuple(self.digraph.nodes[name]["vertex"] for name in self.order)

    def __contains__(self, name: object) -> bool:
        """Whether a vertex of that name is here."""
        return name in self.digraph

    def __len__(self) -> int:
        """How many vertices there are."""
        return len(self.digraph)

    def vertex(self, name: str) -> Vertex:
        """The vertex of that name.

        Raises:
            GraphError: there is none; the message lists near misses.
        """
        if name not in self.digraph:
            from difflib import get_close_matches

            near = get_close_matches(name, self.digraph, n=3)
            hint = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
            raise GraphError(f"there is no vertex {name!r}{hint}")
        vertex: Vertex = self.digraph.nodes[name]["vertex"]
        return vertex

    def consumers(self, name: str) -> tuple[str, ...]:
        """Names of the vertices that read `name`, each once, in topological order."""
        found = tuple(self.digraph.successors(name))
        if len(found) < 2:
            return found
        place = {vertex: position for position, vertex in enumerate(self.order)}
        return tuple(sorted(found, key=place.__getitem__))

    def ancestors(self, name: str) -> tuple[str, ...]:
        """Names of the vertices from which a path leads to `name`, each once, in topological order.

        Raises:
            GraphError: there is no such vertex.
        """
        self.vertex(name)
        return self._sorted(nx.ancestors(self.digraph, name))

    def descendants(self, name: str) -> tuple[str, ...]:
        """Names of the vertices to which a path leads from `name`, each once, in topological order.

        Raises:
            GraphError: there is no such vertex.
        """
        self.vertex(name)
        return self._sorted(nx.descendants(self.digraph, name))

    def _sorted(self, names: set[str]) -> tuple[str, ...]:
        return tuple(name for name in self.order if name in names)

    def renamed(self, old: str, new: str) -> Graph:
        """A new graph in which one vertex has another name."""

        def rename(port: Port) -> Port:
            return Port(new, port.output) if port.vertex == old else port

        vertices = (
            replace(
                vertex,
                name=new if vertex.name == old else vertex.name,
                inputs=tuple(map(rename, vertex.inputs)),
            )
            for vertex in self.vertices
        )
        return Graph(vertices, tuple(map(rename, self.outputs)))

    def replaced(self, changed: Mapping[str, Vertex], outputs: Sequence[Port] | None = None) -> Graph:
        """A new graph with some vertices exchanged for others of the same name."""
        return Graph(
            (changed.get(vertex.name, vertex) for vertex in self.vertices),
            self.outputs if outputs is None else outputs,
        )
