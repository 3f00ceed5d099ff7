"""Residual sums: where what one branch lost can be made good by the other one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from solver_nas.errors import CalibrationError
from solver_nas.regression import straight

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from solver_nas.frontend import Array, Model
    from solver_nas.graph import Graph
    from solver_nas.linear import Floats
    from solver_nas.passage import Passage

_FAR = 4  # vertices between one that is fitted and the sum that it goes into
_SUMMANDS = 2
_STRONG = 0.1  # deviation, as a fraction of that of the other summand


class Joint(NamedTuple):
    """A sum of two.

    Args:
        other: the vertex that computes the other summand.
        gain: what each neuron is multiplied with on its way to the sum.
        strong: which neurons vary enough beside those of the other summand to make good what these lose.
    """

    other: str
    gain: Floats
    strong: NDArray[np.bool_]


def joint_of(
    model: Model,
    indices: Mapping[str, NDArray[np.intp]],
    vertex: str,
    passage: Passage,
    x: Floats,
    rows: Callable[[Array], Floats],
) -> Joint | None:
    """The sum that what a vertex computes goes into, if that is all it does.

    So it can make good what is missing in the other summand.

    Args:
        model: as it is.
        indices: which neurons of each vertex stay.
        vertex: its name.
        passage: of the model as it is, where it has come to the vertex; it stays there.
        x: what it computes, or reads, before whatever comes with that; a column for each neuron.
        rows: makes the same rows of other tensors.
    """
    found = _sum_behind(model.graph, vertex)
    if found is None:
        return None
    end, other = found
    if not np.array_equal(indices[other], indices[vertex]):
        return None
    trial = passage.fork()
    try:
        apart = rows(np.array(trial.value(other)))
        total = rows(np.array(trial.value(end)))
    except (CalibrationError, ValueError):
        return None
    if not total.shape == apart.shape == x.shape:
        return None
    # Whatever the vertices on the way are called: if it is no sum, or anything but a scale and a shift is on the way,
    # there is no line.
    gain = straight(x, total - apart)
    if gain is None:
        return None
    # A branch that hardly adds to a neuron would need huge weights to make anything good.
    return Joint(other, gain, np.abs(gain) * x.std(axis=0) > _STRONG * apart.std(axis=0))


def _sum_behind(graph: Graph, vertex: str) -> tuple[str, str] | None:
    """What reads two tensors, of which one depends on this vertex alone, and the vertex that made the other one before.

    The way there has no branches, and nothing on it is returned.
    """
    place = {name: number for number, name in enumerate(graph.order)}
    returned = {port.vertex for port in graph.returned}
    name = vertex
    for _ in range(_FAR):
        readers = list(graph.consumers(name))
        if len(readers) != 1 or name in returned:
            return None
        sources = [port.vertex for port in graph.vertex(readers[0]).inputs]
        if len(sources) == _SUMMANDS:
            other = sources[sources[0] == name]
            return (readers[0], other) if place[other] < place[vertex] else None
        if len(sources) != 1:
            return None
        name = readers[0]
    return None
