"""From an edit of the structure to the structure that is to be, with bridges where sizes do not fit yet.

An edit says, for the vertices whose inputs change, what they read from now on and in place of what
(`Wiring`). Where the new input has another size than what stood there, a *bridge* takes its place until the
solver has made both equally long; then it goes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from solver_nas.classes import classify
from solver_nas.errors import GraphError, PlanError, RuleError
from solver_nas.graph import Graph, Port, Vertex
from solver_nas.labels import FIXED
from solver_nas.plan import draw
from solver_nas.rules import Takes, Tape, label_vertex, rule_of
from solver_nas.rules.bridge import KIND as BRIDGE
from solver_nas.rules.bridge import bridge
from solver_nas.solve import Certificate, Selection, Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.labels import Labels, Memory, Tensor
    from solver_nas.plan import Blueprint

Reconnect = Literal["all", "none"]


class Input(NamedTuple):
    """What a vertex reads at one slot of the new structure.

    Args:
        port: the tensor.
        slot: the slot of the old structure in whose place it comes; `None` for an additional input.
        offset: where among the neurons of that slot its own ones begin, for a part of a concatenation.
        whole: whether it takes that slot's place alone.
    """

    port: Port
    slot: int | None = None
    offset: int = 0
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Wiring:
    """An edit of a structure.

    Args:
        inputs: what vertices read from now on, for those for which that changes.
        removed: vertices that go.
        outputs: what leaves the network.
    """

    inputs: Mapping[str, tuple[Input, ...]]
    outputs: tuple[Port, ...]
    removed: frozenset[str] = frozenset()


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
        touched: vertices that read something else than before.
    """

    graph: Graph
    gaps: Mapping[str, Gap] = field(default_factory=dict)
    touched: frozenset[str] = frozenset()


# -- edits ---------------------------------------------------------------------------------------------


def behind(graph: Graph, name: str, new: Port, readers: Sequence[str]) -> Wiring:
    """Let some readers of a vertex read another one instead."""
    inputs = {
        reader: tuple(
            Input(new if port.vertex == name else port, slot) for slot, port in enumerate(graph.vertex(reader).inputs)
        )
        for reader in readers
    }
    return Wiring(inputs, graph.outputs)


def without(graph: Graph, labels: Labels, name: str, reconnect: Reconnect) -> Wiring:
    """Take a vertex out; what read it reads what it had read (`"all"`), or one input less (`"none"`).

    Raises:
        GraphError: an input of the network, or a vertex that something cannot do without.
    """
    vertex = graph.vertex(name)
    if vertex.kind == "input":
        raise GraphError(f"vertex {name!r} is an input of the network; it cannot be removed, only what reads it")
    heirs = vertex.inputs if reconnect == "all" else ()
    outputs: list[Port] = []
    for port in graph.outputs:
        if port.vertex != name:
            outputs.append(port)
        elif len(heirs) == 1:
            outputs.append(heirs[0])
        else:
            what = "nothing would come" if not heirs else f"{len(heirs)} tensors would come"
            raise GraphError(
                f"vertex {name!r} is an output of the network, and {what} in its place; "
                f"choose other outputs with net.output(...) first"
            )
    inputs = {}
    for reader in graph.consumers(name):
        wired: list[Input] = []
        for slot, port in enumerate(graph.vertex(reader).inputs):
            wired += _spliced(labels, vertex, heirs, slot) if port.vertex == name else [Input(port, slot)]
        _check_number(graph, reader, len(wired), f"removing {name!r}")
        inputs[reader] = tuple(wired)
    return Wiring(inputs, tuple(outputs), frozenset((name,)))


def _spliced(labels: Labels, vertex: Vertex, heirs: Sequence[Port], slot: int) -> list[Input]:
    if len(heirs) == 1:
        return [Input(heirs[0], slot)]
    if _takes(vertex) is Takes.STACKED:
        start, found = 0, []
        for port in heirs:
            found.append(Input(port, slot, start, whole=False))
            start += _size(labels.tensors[port], labels.tensors[Port(vertex.name)])
        return found
    size = labels.tensors[Port(vertex.name)].shape
    # Of several that take one's place, the first of its shape does; the others come in addition.
    first = next((place for place, port in enumerate(heirs) if labels.tensors[port].shape == size), None)
    return [Input(port, slot if place == first else None, whole=False) for place, port in enumerate(heirs)]


def _size(part: Tensor, whole: Tensor) -> int:
    axis = whole.blocks[-1].axes[-1] if whole.blocks else len(whole.shape) - 1
    return part.shape[axis] or 0


def with_edge(graph: Graph, source: str, target: str, slot: int | None) -> Wiring:
    """Let a vertex read one more, at a slot or behind its other inputs.

    Raises:
        GraphError: the target takes no further input, there is no such slot, or the edge would close a cycle.
    """
    vertex = graph.vertex(target)
    graph.vertex(source)
    count = len(vertex.inputs)
    where = count if slot is None else slot
    if where not in range(count + 1):
        raise GraphError(
            f"vertex {target!r} has {count} inputs; a new one can stand at slots 0 to {count}, not {slot!r}"
        )
    _check_number(graph, target, count + 1, f"an edge from {source!r}")
    if source == target or source in graph.descendants(target):
        raise GraphError(
            f"an edge from {source!r} to {target!r} would close a cycle, since {source!r} is computed from {target!r}"
        )
    inputs = [Input(port, place) for place, port in enumerate(vertex.inputs)]
    inputs.insert(int(where), Input(Port(source)))
    return Wiring({target: tuple(inputs)}, graph.outputs)


def without_edge(graph: Graph, source: str, target: str, which: int | None) -> Wiring:
    """Let a vertex read one less.

    Args:
        graph: the structure.
        source: what is not read any more.
        target: what reads it.
        which: which of several edges between the two, counted from 0; by default the only one or the first.

    Raises:
        GraphError: there is no such edge, or the target cannot do without.
    """
    vertex = graph.vertex(target)
    graph.vertex(source)
    slots = [slot for slot, port in enumerate(vertex.inputs) if port.vertex == source]
    if not slots:
        raise GraphError(f"there is no edge from {source!r} to {target!r}, which reads {_names(vertex)}")
    number = 0 if which is None else which
    if number not in range(len(slots)):
        raise GraphError(f"there are {len(slots)} edges from {source!r} to {target!r}, numbered from 0, not {which!r}")
    _check_number(graph, target, len(vertex.inputs) - 1, f"removing the edge from {source!r}")
    gone = slots[int(number)]
    inputs = tuple(Input(port, slot) for slot, port in enumerate(vertex.inputs) if slot != gone)
    return Wiring({target: inputs}, graph.outputs)


def _names(vertex: Vertex) -> str:
    return ", ".join(repr(port.vertex) for port in vertex.inputs) or "nothing"


def _takes(vertex: Vertex) -> Takes:
    rule = rule_of(vertex.kind)
    return Takes.FIXED if rule is None else rule.takes


def _check_number(graph: Graph, target: str, count: int, what: str) -> None:
    vertex = graph.vertex(target)
    have = len(vertex.inputs)
    if count == have:
        return
    if _takes(vertex) is Takes.FIXED:
        more = "no further input" if count > have else "no input less"
        raise GraphError(
            f"vertex {target!r} ({vertex.kind}) takes {have} inputs and {more}, but {what} would give it {count}; "
            f"edges come and go at vertices such as add, multiply and concat"
        )
    if not count:
        raise GraphError(
            f"{what} would leave vertex {target!r} without any input: it is the only path; remove {target!r} too, "
            f"or connect it to something else first"
        )


# -- bringing together ---------------------------------------------------------------------------------


class UntrackedError(PlanError):
    """Which neurons of a concatenation are which cannot be followed through what reads it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the neurons of a concatenation stand before and after its inputs change.

    Args:
        gaps: (place, how many): new neurons before the neuron that stood at this place.
        positions: for every neuron that readers know, gaps included, where it stands now; -1 for gone.
        origins: for every neuron that stands there now, where it stood; -1 for a new one.
        sizes: of the new inputs, which must not change before the positions are used.
    """

    gaps: tuple[tuple[int, int], ...]
    positions: tuple[int, ...]
    origins: tuple[int, ...]
    sizes: tuple[tuple[Port, int], ...]


def stacks(graph: Graph, wiring: Wiring) -> list[str]:
    """The concatenations that get another number of inputs."""
    return [
        name
        for name, inputs in wiring.inputs.items()
        if _takes(graph.vertex(name)) is Takes.STACKED
        and [one.slot for one in inputs if one.whole] != list(range(len(graph.vertex(name).inputs)))
    ]


def cut(graph: Graph, labels: Labels, name: str) -> tuple[Graph, str]:
    """Put a bridge between a vertex and everything that reads it; the graph and the bridge's name."""
    tensor = labels.tensors[Port(name)]
    axis = _neuron_axis(tensor, name)
    made = bridge(f"{name}~", Port(name), axis - len(tensor.shape), tensor.shape[axis] or 0, "concatenation")
    changed = {reader: _reading(graph.vertex(reader), {name: made.name}) for reader in graph.consumers(name)}
    vertices = [changed.get(vertex.name, vertex) for vertex in graph.vertices]
    return Graph([*vertices, made], graph.outputs), made.name


def _reading(vertex: Vertex, renamed: Mapping[str, str]) -> Vertex:
    ports = tuple(Port(renamed.get(port.vertex, port.vertex), port.output) for port in vertex.inputs)
    return replace(vertex, inputs=ports)


def _neuron_axis(tensor: Tensor, name: str) -> int:
    if len(tensor.blocks) != 1 or len(tensor.blocks[0].axes) != 1:
        raise UntrackedError(f"the neurons of {name!r} do not stand along a single axis")
    return tensor.blocks[0].axes[0]


def layout(graph: Graph, labels: Labels, name: str, inputs: Sequence[Input]) -> Layout:
    """Which neurons of a concatenation stay, go and come.

    Args:
        graph: the old structure, in which `name` has its old inputs.
        labels: of that structure.
        name: the concatenation.
        inputs: what it is to read.
    """
    whole = labels.tensors[Port(name)]
    axis = _neuron_axis(whole, name)
    old_ports = graph.vertex(name).inputs
    starts = np.cumsum([0, *(_along(labels.tensors[port], axis) for port in old_ports)])
    gaps: list[tuple[int, int]] = []
    positions: list[int] = []
    origins: list[int] = []
    place = there = 0
    for one in inputs:
        size = _along(labels.tensors[one.port], axis)
        if one.slot is None:
            gaps.append((place, size))
            origins += [-1] * size
        else:
            # What is aligned before it comes here has the size of what it replaces.
            size = int(starts[one.slot + 1] - starts[one.slot]) if one.whole else size
            start = int(starts[one.slot]) + one.offset
            if start < place:
                raise UntrackedError(f"the inputs of {name!r} change their order")
            positions += [-1] * (start - place)
            place = start + size
            origins += range(start, place)
        positions += range(there, there + size)
        there += size
    positions += [-1] * (int(starts[-1]) - place)
    sizes = tuple((one.port, _along(labels.tensors[one.port], axis)) for one in inputs)
    return Layout(tuple(gaps), tuple(positions), tuple(origins), sizes)


def _along(tensor: Tensor, axis: int) -> int:
    return tensor.shape[axis] or 0


def padded(graph: Graph, labels: Labels, name: str, planned: Layout) -> Blueprint:
    """Make room for new neurons of a concatenation in everything that reads its bridge.

    Args:
        graph: with the bridge.
        labels: of that graph.
        name: of the bridge.
        planned: where there has to be room.

    Raises:
        UntrackedError: the room cannot be made in one place only, or not at all.
    """
    class_of, classes = classify(labels)
    along = class_of[labels.tensors[Port(name)].neurons["label"]]
    inserted, leading = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    for place, size in planned.gaps:
        neighbour = along[max(place - 1, 0)]
        if neighbour == class_of[FIXED] or (along == neighbour).sum() != 1:
            raise UntrackedError(f"beside neuron {max(place - 1, 0)} of {name!r} nothing can be inserted")
        (inserted if place else leading)[neighbour] += size
    selection = Selection(np.ones(classes, bool), inserted, leading)
    nothing = Certificate(Status.FEASIBLE, 0.0, 0.0, 0, 0, 0, 0, {})
    try:
        return draw(graph, labels, class_of, selection, nothing)
    except (PlanError, RuleError) as error:
        raise UntrackedError(str(error)) from error


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
        return Prospect(Graph(self._vertices, self._wiring.outputs), self._gaps, self._touched)

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
        if _takes(old) is Takes.ALIKE:
            return None, self._labels.tensors[Port(old.name)]
        return None

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
            name = f"{where[0]}[{where[1]}]~"
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
