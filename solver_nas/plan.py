"""From a selection to a blueprint of the changed network: new attributes and index lists, all checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solver_nas.errors import PlanError
from solver_nas.graph import Graph, Parameter, Port
from solver_nas.moves import Moves, locate
from solver_nas.order import DisorderError, relabel
from solver_nas.rules import Resized, rule_of
from solver_nas.weights import Pick

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from solver_nas.graph import Vertex
    from solver_nas.labels import (
        IntArray,
        Labels,
        Memory,
        Neurons,
        ParameterLabels,
        Shape,
        Tensor,
        Use,
    )
    from solver_nas.solve import Certificate, Selection


@dataclass(frozen=True, slots=True, eq=False)
class ArrayPlan:
    """How one parameter becomes its successor.

    Args:
        view: the shape under which it is picked from.
        picks: what to take, over the axes of the view.
        shape: the shape in which the result is stored.
    """

    view: tuple[int, ...]
    picks: tuple[Pick, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Blueprint:
    """Everything that a change does, without any weights.

    Args:
        before: the graph that it starts from.
        after: the graph that it leads to, with new attributes and shapes.
        arrays: how every parameter that changes is made, by key.
        sizes: vertex -> (neurons before, neurons after).
        indices: vertex -> old index of every neuron that it will have, -1 for a new one.
        certificate: how good the selection is.
        moves: where every label goes.
        revision: of the graph that it starts from.
        memory: what the rules decided by looking at the sizes before.
    """

    before: Graph
    after: Graph
    arrays: Mapping[str, ArrayPlan]
    sizes: Mapping[str, tuple[int, int]]
    indices: Mapping[str, NDArray[np.intp]]
    certificate: Certificate
    moves: Moves
    revision: int
    memory: Memory

    @property
    def empty(self) -> bool:
        """Whether nothing changes."""
        return not self.arrays and all(one == other for one, other in self.sizes.values())


def draw(graph: Graph, labels: Labels, class_of: IntArray, selection: Selection, certificate: Certificate) -> Blueprint:
    """Work out the changed network by running the rules over it again.

    Args:
        graph: the network's structure.
        labels: its labels.
        class_of: label -> class.
        selection: which classes live, and where new neurons stand.
        certificate: passed on.

    Raises:
        DisorderError: the operations of the changed network would bring neurons together that do not belong
            together, or tell others apart.
    """
    moves = Moves(class_of, selection)
    drawn = _Draft(graph, labels, moves)
    after = drawn.graph()
    relabelled = relabel(after, labels, moves)
    indices, sizes = {}, {}
    for port, tensor in labels.tensors.items():
        index = _check_tensor(port, tensor, relabelled.tensors[port], moves, labels.count)
        index.flags.writeable = False
        indices[port.vertex], sizes[port.vertex] = index, (len(tensor.neurons), len(index))
    arrays = {}
    for key, parameter in labels.parameters.items():
        planned = _array_plan(parameter, relabelled.parameters[key], drawn.storage[key], moves, labels)
        if planned is not None:
            arrays[key] = planned
    return Blueprint(graph, after, arrays, sizes, indices, certificate, moves, graph.revision, labels.memory)


class _Draft:
    """New shapes and attributes, vertex by vertex."""

    def __init__(self, graph: Graph, labels: Labels, moves: Moves) -> None:
        self._graph, self._labels, self._moves = graph, labels, moves
        self._shapes: dict[Port, Shape] = {}
        self._views: dict[str, tuple[int, ...]] = {}
        self.storage: dict[str, tuple[int, ...]] = {}
        for key, parameter in labels.parameters.items():
            view = list(parameter.view)
            for use in parameter.uses:
                for axis, size in zip(use.axes, moves.shape(use.levels[-1]), strict=True):
                    view[axis] = size
            self._views[key] = tuple(view)
            self.storage[key] = tuple(math.prod(view[axis] for axis in axes) for axes in parameter.storage)
        self._numbers: dict[str, dict[Hashable, int]] = {}
        for measure in labels.measures:
            if measure.argument is not None:
                number = measure.counting(lambda array: len(moves.flat(array)[0]))
                self._numbers.setdefault(measure.reason.vertex, {})[measure.argument] = number

    def graph(self) -> Graph:
        changed = {}
        for vertex in self._graph.vertices:
            new = self._vertex(vertex)
            if new is not vertex:
                changed[vertex.name] = new
        return self._graph.replaced(changed) if changed else self._graph

    def _vertex(self, vertex: Vertex) -> Vertex:
        parameters = {
            role: Parameter(parameter.key, self.storage.get(parameter.key, parameter.shape))
            for role, parameter in vertex.parameters.items()
        }
        before = tuple(self._labels.tensors[port] for port in vertex.inputs)
        rule = rule_of(vertex.kind)
        assert rule is not None, "the graph was labelled with it"
        resized = Resized(
            tuple(map(self._shape, vertex.inputs)),
            (self._shape(Port(vertex.name)),),
            {role: self._views[p.key] for role, p in vertex.parameters.items() if p.key in self._views},
            before,
            lambda array: self._moves.flat(array)[0],
            self._numbers.get(vertex.name, {}),
        )
        attributes = rule.rewrite(vertex, resized)
        if not attributes and parameters == vertex.parameters:
            return vertex
        return replace(vertex, parameters=parameters, attributes={**vertex.attributes, **attributes})

    def _shape(self, port: Port) -> Shape:
        if port not in self._shapes:
            tensor = self._labels.tensors[port]
            shape = list(tensor.shape)
            for block in tensor.blocks:
                for axis, size in zip(block.axes, self._moves.shape(block.neurons), strict=True):
                    shape[axis] = size
            self._shapes[port] = tuple(shape)
        return self._shapes[port]


def _check_tensor(port: Port, before: Tensor, after: Tensor, moves: Moves, old_labels: int) -> NDArray[np.intp]:
    """Compare what the changed network computes with what the selection promised."""
    index = np.zeros(0, np.intp)
    if [block.axes for block in before.blocks] != [block.axes for block in after.blocks]:
        raise DisorderError(f"vertex {port.vertex!r}: its axes are grouped in another way after the change")
    for old, new in zip(before.blocks, after.blocks, strict=True):
        index = _index(old.neurons, new.neurons, moves, old_labels, port.vertex)
    return index


def _index(old: Neurons, new: Neurons, moves: Moves, old_labels: int, where: str) -> NDArray[np.intp]:
    promised, index = moves.flat(old)
    found = new.reshape(-1)
    if len(found) != len(promised):
        raise DisorderError(f"{where!r} would have {len(found)} neurons instead of {len(promised)}")
    if found is promised or np.array_equal(found, promised):
        return index
    try:
        moved = locate(old.reshape(-1), found, old_labels)
    except DisorderError:
        raise
    except PlanError as error:
        raise DisorderError(f"{where!r}: {error}") from error
    if not np.array_equal(np.sort(moved), np.sort(index)):
        raise DisorderError(f"{where!r} would lose neurons that were to be kept")
    return moved


def _array_plan(
    before: ParameterLabels,
    after: ParameterLabels,
    shape: tuple[int, ...],
    moves: Moves,
    labels: Labels,
) -> ArrayPlan | None:
    picks: dict[int, Pick] = {}
    old_labels, silent = labels.count, labels.silent
    for old, new in zip(before.uses, after.uses, strict=True):
        rows = np.zeros(1, np.intp)
        for depth, axis in enumerate(old.axes):
            index = _index(old.levels[depth], new.levels[depth], moves, old_labels, f"axis {axis} of a parameter")
            size = old.levels[depth].shape[-1]
            _check_rows(index, rows, size)
            rows = index
            if axis in picks:
                continue
            if len(index) == old.levels[depth].size and (index == np.arange(len(index))).all():
                continue
            column = np.where(index < 0, -1, index % size).reshape(new.levels[depth].shape)
            picks[axis] = Pick(axis, old.axes[:depth], column, _role(old, depth, silent))
    return ArrayPlan(before.view, tuple(picks.values()), shape) if picks else None


def _check_rows(index: NDArray[np.intp], rows: NDArray[np.intp], size: int) -> None:
    """Every old cell has to stay in its row, since a parameter is picked from row by row."""
    row = np.repeat(rows, len(index) // max(len(rows), 1))
    if ((index >= 0) & (row >= 0) & (index // size != row)).any():
        raise DisorderError("a neuron would move to another row of a parameter")


def _role(use: Use, depth: int, silent: IntArray) -> str:
    """What new entries start with; those of a neuron that has to be silent, like outgoing ones, with zero."""
    if depth < len(use.axes) - 1:
        return "follow"
    return "contract" if use.role == "fresh" and np.isin(use.levels[depth]["label"], silent).any() else use.role
