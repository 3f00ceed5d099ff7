"""A bridge stands where a changed structure does not fit yet: between a tensor and what a reader expects there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from solver_nas.graph import Vertex
from solver_nas.labels import FIXED, Block, Tensor, neurons
from solver_nas.rules.registry import changed, rule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.graph import Port
    from solver_nas.labels import Neurons
    from solver_nas.rules.registry import Resized
    from solver_nas.rules.scope import Scope

KIND = "bridge"


def bridge(name: str, source: Port, axis: int, size: int, why: str, positions: Sequence[int] | None = None) -> Vertex:
    """A vertex with as many neurons as its readers expect; it exists only while a change is planned.

    Args:
        name: of the vertex.
        source: the tensor that is there.
        axis: the axis that does not fit, counted from the end.
        size: how long the readers expect it to be.
        why: the relation in words.
        positions: for every neuron that is expected, where it stands in the source, or -1 if it is gone.
            Without them, any neurons may be brought together, as long as they are equally many in the end.
    """
    places = None if positions is None else tuple(positions)
    return Vertex(name, KIND, (source,), {"axis": axis, "size": size, "why": why, "positions": places})


def _resized(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    size = resized.outputs[0][int(str(vertex.attributes["axis"]))] or 0
    places = vertex.attributes["positions"]
    return changed(vertex, size=size, positions=places if places is None else tuple(range(size)))


@rule(KIND, rewrite=_resized)
def _flow(scope: Scope) -> Tensor:
    (x,) = scope.inputs
    axis = scope.attribute("axis", int) % len(x.shape)
    size, why = scope.attribute("size", int), scope.reason(scope.attribute("why", str))
    scope.speak(x)
    block = x.block_of(axis)
    if block is not None and len(block.axes) > 1:
        raise scope.fail(f"axis {axis} of {scope.vertex.inputs[0].vertex!r} is part of a rectangle")
    mine = scope.tape.fresh(scope.key("expected"), (size,), why)
    theirs = block.neurons if block is not None else _fixed(x.shape[axis] or 0)
    if scope.vertex.attributes["positions"] is None:
        scope.tape.balance(theirs, mine, why)
    else:
        places = np.array(scope.integers("positions"), np.intp)
        there = places >= 0
        if places.max(initial=-1) >= len(theirs):
            raise scope.fail(f"axis {axis} has {len(theirs)} positions, more are expected behind it")
        scope.tape.tie(theirs[places[there]], mine[there], why)
        if not there.all():
            scope.tape.dismiss(mine[~there], scope.reason("what made these is not read any more"))
    new = Block((axis,), (mine,))
    blocks = tuple(new if old is block else old for old in x.blocks)
    return Tensor((*x.shape[:axis], size, *x.shape[axis + 1 :]), blocks if block is not None else (*blocks, new))


def _fixed(size: int) -> Neurons:
    return neurons(np.full(size, FIXED, np.int64), np.arange(size, dtype=np.uint64))
