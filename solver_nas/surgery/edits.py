"""Edits of a structure: which vertices read what from now on, and in place of what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from solver_nas.errors import GraphError
from solver_nas.graph import Port
from solver_nas.requests import is_whole
from solver_nas.rules import Takes, rule_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.graph import Graph, Vertex
    from solver_nas.labels import Labels, Tensor

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


def behind(graph: Graph, name: str, new: Port, readers: Sequence[str]) -> Wiring:
    """Let some readers of a vertex read another one instead."""
    inputs = {
        reader: tuple(
            Input(new if port.vertex == name else port, slot) for slot, port in enumerate(graph.vertex(reader).inputs)
        )
        for reader in readers
    }
    return Wiring(inputs, graph.outputs)


def without(graph: Graph, labels: Labels, name: str, reconnect: Reconnect, *, implied: bool = False) -> Wiring:
    """Take a vertex out; what read it reads what it had read (`"all"`), or one input less (`"none"`).

    Args:
        graph: the structure.
        labels: of that structure.
        name: the vertex.
        reconnect: what comes in its place.
        implied: whether the outputs were never named: then what something else reads does not become one.

    Raises:
        GraphError: an input of the network, or a vertex that something cannot do without.
    """
    vertex = graph.vertex(name)
    if vertex.is_input:
        raise GraphError(f"vertex {name!r} is an input of the network; it cannot be removed, only what reads it")
    heirs = vertex.inputs if reconnect == "all" else ()
    outputs: list[Port] = []
    for port in graph.outputs:
        if port.vertex != name:
            outputs.append(port)
        elif (
            implied and len(graph.outputs) > 1 and all(len(graph.consumers(heir.vertex)) > 1 for heir in vertex.inputs)
        ):
            continue
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
            stacked = takes(graph.vertex(reader)) is Takes.STACKED
            mine = port.vertex == name
            wired += _spliced(labels, vertex, heirs, slot, stacked=stacked) if mine else [Input(port, slot)]
        _check_number(graph, reader, len(wired), f"removing {name!r}")
        inputs[reader] = tuple(wired)
    return Wiring(inputs, tuple(outputs), frozenset((name,)))


def _spliced(labels: Labels, vertex: Vertex, heirs: Sequence[Port], slot: int, *, stacked: bool) -> list[Input]:
    if len(heirs) == 1:
        return [Input(heirs[0], slot)]
    if stacked and takes(vertex) is Takes.STACKED:
        start, found = 0, []
        for port in heirs:
            found.append(Input(port, slot, start, whole=False))
            start += _size(labels.tensors[port], labels.tensors[Port(vertex.name)])
        return found
    size = labels.tensors[Port(vertex.name)].shape
    # Of several that take one's place, the first of its shape does; the others come in addition.
    first = next((place for place, port in enumerate(heirs) if labels.tensors[port].shape == size), None)
    if not stacked:
        first = first or 0
    return [Input(port, slot if place == first else None, whole=not stacked) for place, port in enumerate(heirs)]


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
    if not is_whole(where) or not 0 <= where <= count:
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
        between = [p.vertex for p in vertex.inputs if source in {q.vertex for q in graph.vertex(p.vertex).inputs}]
        hint = f"; of these, {', '.join(map(repr, between))} read {source!r}" if between else ""
        raise GraphError(f"there is no edge from {source!r} to {target!r}, which reads {_names(vertex)}{hint}")
    number = 0 if which is None else which
    if not is_whole(number) or not 0 <= number < len(slots):
        raise GraphError(f"there are {len(slots)} edges from {source!r} to {target!r}, numbered from 0, not {which!r}")
    _check_number(graph, target, len(vertex.inputs) - 1, f"removing the edge from {source!r}")
    gone = slots[int(number)]
    inputs = tuple(Input(port, slot) for slot, port in enumerate(vertex.inputs) if slot != gone)
    return Wiring({target: inputs}, graph.outputs)


def _names(vertex: Vertex) -> str:
    return ", ".join(repr(port.vertex) for port in vertex.inputs) or "nothing"


def takes(vertex: Vertex) -> Takes:
    """How many inputs a vertex takes."""
    rule = rule_of(vertex.kind)
    return Takes.FIXED if rule is None else rule.takes


def _check_number(graph: Graph, target: str, count: int, what: str) -> None:
    vertex = graph.vertex(target)
    have = len(vertex.inputs)
    if count == have:
        return
    if takes(vertex) is Takes.FIXED:
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
