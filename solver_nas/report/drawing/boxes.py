"""What stands in the boxes of a picture: each is a vertex, or a vertex with what is computed from it alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from solver_nas.errors import RequestError
from solver_nas.graph import Port
from solver_nas.groups import classes_by_vertex, shares

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.change import Plan
    from solver_nas.frontend import Model
    from solver_nas.graph import Graph, Vertex
    from solver_nas.groups import Shares
    from solver_nas.labels import IntArray, Tensor


class Resize(NamedTuple):
    """What a plan does to a vertex: neurons before and after, and how many of them are old ones."""

    before: int
    after: int
    kept: int

    @property
    def changed(self) -> bool:
        """Whether anything becomes of it."""
        return not self.before == self.after == self.kept


@dataclass(frozen=True, slots=True)
class Box:
    """One box.

    Args:
        vertices: name and kind of what it stands for; the first one's output is what the others work on.
        inputs: the boxes that it reads, by slot.
        shares: its neurons by group.
        shape: of its output.
        pinned: why it cannot be resized.
        resize: what becomes of its neurons, if there is a plan.
        terminal: whether data enters or leaves the network here.
    """

    vertices: tuple[tuple[str, str], ...]
    inputs: tuple[int, ...]
    shares: Shares
    shape: tuple[int | None, ...]
    pinned: tuple[str, ...] = ()
    resize: Resize | None = None
    terminal: bool = False

    @property
    def neurons(self) -> int:
        """How many there are now."""
        return sum(neurons for _, neurons in self.shares)


def boxes(model: Model, plan: Plan | None, *, fold: bool) -> list[Box]:
    """The boxes of a model, producers first.

    Raises:
        RequestError: the plan was made for something else, or there is nothing to draw.
    """
    graph, labels = model.graph, model.labels
    if not len(graph):
        raise RequestError("this network has no vertices, so that there is nothing to draw")
    classes, count = classes_by_vertex(labels, graph.order)
    groups, resizes = shares(classes, count), _resizes(model, plan, classes)
    pinned: dict[str, list[str]] = {}
    for vertex, rule in labels.pinned:
        pinned.setdefault(vertex, []).append(rule)
    ends = {port.vertex for port in graph.returned}
    alike = _followers(model, classes) - pinned.keys() - ends if fold else set[str]()
    made, place = list[Box](), dict[str, int]()
    for names in _folded(graph, alike):
        head = graph.vertex(names[0])
        box = Box(
            tuple((name, shown_kind(graph.vertex(name))) for name in names),
            tuple(place[port.vertex] for port in head.inputs),
            groups[head.name],
            labels.tensors[Port(head.name)].shape,
            tuple(pinned.get(head.name, ())),
            resizes.get(head.name),
            head.is_input or head.name in ends,
        )
        place.update(dict.fromkeys(names, len(made)))
        made.append(box)
    return made


def shown_kind(vertex: Vertex) -> str:
    """What the operation is, without the name of its front end."""
    return vertex.kind.removeprefix("onnx.")


def _resizes(model: Model, plan: Plan | None, classes: Mapping[str, IntArray]) -> dict[str, Resize]:
    if plan is None:
        return {}
    if plan.model is not model:
        raise RequestError("this plan was made for another model than the one to draw")
    found = {}
    for name, (before, after) in plan.sizes.items():
        if name not in classes or len(classes[name]) not in (before, after):
            raise RequestError(f"the model has changed since this plan was made: {name!r} had {before} neurons")
        index = plan.indices[name]
        kept = before if np.array_equal(index, np.arange(before)) else int((index >= 0).sum())
        found[name] = Resize(before, after, kept)
    return found


def _followers(model: Model, classes: Mapping[str, IntArray]) -> set[str]:
    """The vertices that work on each entry of one tensor: activations, biases, products of a tensor with itself.

    They are told by what they do to neurons, not by their kinds, since anybody can add kinds.
    """
    graph = model.graph
    found = set()
    for vertex in graph.vertices:
        tensors = [model.tensor(name) for name in (vertex.name, *(port.vertex for port in vertex.inputs))]
        if not vertex.inputs or any(not _alike(tensors[0], other) for other in tensors[1:]):
            continue
        if any(not np.array_equal(classes[vertex.name], classes[port.vertex]) for port in vertex.inputs):
            continue
        # A depthwise convolution keeps the neurons too, but has a window for each.
        neurons = len(classes[vertex.name])
        if all(prod(parameter.shape) <= max(neurons, 1) for parameter in vertex.parameters.values()):
            found.add(vertex.name)
    return found


def _alike(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and [one.axes for one in left.blocks] == [one.axes for one in right.blocks]


def _folded(graph: Graph, alike: set[str]) -> list[list[str]]:
    """The vertices of each box, producers first; only the last one of a box is read outside of it."""
    place = {name: position for position, name in enumerate(graph.order)}
    taken: set[str] = set()
    found = []
    for head in graph.order:
        if head not in taken:
            names = _box(graph, head, alike, place)
            taken.update(names)
            found.append(names)
    return found


def _box(graph: Graph, head: str, alike: set[str], place: Mapping[str, int]) -> list[str]:
    """A vertex, and as many of those behind it as have no other input and leave through one exit."""
    ready, names, inside = [head], dict[str, None](), {head}
    waiting: list[str] = []  # those inside that something else still has to read
    best = 1
    while ready:
        ready.sort(key=place.__getitem__, reverse=True)
        name = ready.pop()
        names[name] = None
        for other in graph.consumers(name):
            sources = (port.vertex for port in graph.vertex(other).inputs)
            if other in alike and other not in inside and all(source in names for source in sources):
                inside.add(other)
                ready.append(other)
        waiting = [one for one in (*waiting, name) if any(other not in names for other in graph.consumers(one))]
        if not set(waiting) - {name}:
            best = len(names)
    return list(names)[:best]
