"""How the neurons of a concatenation stand before and after its inputs change, and room for new ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.classes import classify
from solver_nas.errors import PlanError, RuleError
from solver_nas.graph import Graph, Port, Vertex
from solver_nas.labels import FIXED
from solver_nas.plan import draw
from solver_nas.rules import Takes
from solver_nas.rules.bridge import bridge
from solver_nas.solve import Certificate, Selection, Status
from solver_nas.surgery.edits import takes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.labels import Labels, Tensor
    from solver_nas.plan import Blueprint
    from solver_nas.surgery.edits import Input, Wiring


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


def is_stack(graph: Graph, name: str) -> bool:
    """Whether a vertex puts its inputs one after the other."""
    return takes(graph.vertex(name)) is Takes.STACKED


def downstream(graph: Graph, wiring: Wiring) -> list[str]:
    """Everything that is computed from what an edit changes and stays, producers first."""
    reached = {name for changed in wiring.inputs for name in graph.descendants(changed)}
    return [name for name in graph.order if name in reached and name not in wiring.removed]


def stacks(graph: Graph, wiring: Wiring) -> list[str]:
    """The concatenations that get another number of inputs."""
    return [
        name
        for name, inputs in wiring.inputs.items()
        if is_stack(graph, name)
        and [one.slot for one in inputs if one.whole] != list(range(len(graph.vertex(name).inputs)))
    ]


def cut(graph: Graph, labels: Labels, name: str) -> tuple[Graph, str]:
    """Put a bridge between a vertex and everything that reads it; the graph and the bridge's name."""
    tensor = labels.tensors[Port(name)]
    axis = _neuron_axis(labels, name)
    free = f"what reads {name}"
    while free in graph:
        free += "~"
    made = bridge(free, Port(name), axis - len(tensor.shape), tensor.shape[axis] or 0, "concatenation")
    changed = {reader: _reading(graph.vertex(reader), {name: made.name}) for reader in graph.consumers(name)}
    vertices = [changed.get(vertex.name, vertex) for vertex in graph.vertices]
    return Graph([*vertices, made], graph.outputs), made.name


def _reading(vertex: Vertex, renamed: Mapping[str, str]) -> Vertex:
    ports = tuple(Port(renamed.get(port.vertex, port.vertex), port.output) for port in vertex.inputs)
    return replace(vertex, inputs=ports)


def on_one_axis(labels: Labels, name: str) -> bool:
    """Whether the neurons of a vertex stand along a single axis, so that a bridge can stand behind it."""
    blocks = labels.tensors[Port(name)].blocks
    return len(blocks) == 1 and len(blocks[0].axes) == 1


def _neuron_axis(labels: Labels, name: str) -> int:
    if not on_one_axis(labels, name):
        raise UntrackedError(f"the neurons of {name!r} do not stand along a single axis")
    return labels.tensors[Port(name)].blocks[0].axes[0]


def layout(graph: Graph, labels: Labels, name: str, inputs: Sequence[Input]) -> Layout:
    """Which neurons of a concatenation stay, go and come.

    Args:
        graph: the old structure, in which `name` has its old inputs.
        labels: of that structure.
        name: the concatenation.
        inputs: what it is to read.
    """
    axis = _neuron_axis(labels, name)
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
