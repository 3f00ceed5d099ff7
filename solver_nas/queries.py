"""Which vertices a change of size would reach."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solver_nas.classes import classify, reached
from solver_nas.errors import GraphError
from solver_nas.frontend import Handle, owner
from solver_nas.graph import Port

if TYPE_CHECKING:
    from solver_nas.frontend import Model
    from solver_nas.labels import Labels

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Spread:
    """How far a change of size can spread; all vertices producers first.

    Args:
        sizes: the vertices whose outputs can change their sizes.
        sources: those of them whose own weights make neurons that can change: new ones get new weights there.
        ends: the vertices that read what can change, or hold weights that go with it, while their own outputs
            keep their shapes: the spread ends there.
    """

    sizes: tuple[Handle, ...] = ()
    sources: tuple[Handle, ...] = ()
    ends: tuple[Handle, ...] = ()

    @property
    def vertices(self) -> tuple[Handle, ...]:
        """All vertices that can be affected; every other one stays exactly as it is."""
        found = {*self.sizes, *self.ends}
        return tuple(handle for handle in next(iter(found)).model if handle in found) if found else ()


def affected_by(vertices: Handle | Iterable[Handle]) -> Spread:
    """The vertices that a change of these vertices' sizes can affect.

    A change spreads along ties, rectangles and shared columns, as far as a request for these sizes can reach.
    Whether a certain request is possible is another question: see `explain`.

    Args:
        vertices: one vertex, or several that may change together.

    Returns:
        The vertices by what can become of them. Where no size can change, as for an input, nothing is affected.

    Raises:
        GraphError: this is no vertex, or they belong to several networks.

    >>> from solver_nas import Network, nn
    >>> net = Network()
    >>> a = nn.dense(net.input("in", 2), 4, name="a")
    >>> total = (a + nn.dense(a, 4, name="b")).named("total")
    >>> net.output(nn.dense(total, 1, name="out"))
    >>> spread = affected_by(total)
    >>> [v.name for v in spread.sizes], [v.name for v in spread.sources], [v.name for v in spread.ends]
    (['a', 'b', 'total'], ['a', 'b'], ['out'])
    """
    handles = _handles(vertices)
    if not handles:
        return Spread()
    model = _model_of(handles)
    reached = _reached(model.labels, [Port(handle.name) for handle in handles])
    return _spread(model, reached)


def _handles(vertices: object) -> list[Handle]:
    if isinstance(vertices, Handle):
        return [vertices]
    if isinstance(vertices, str) or not isinstance(vertices, Iterable):
        raise GraphError(f"expected a vertex such as net['hidden'], or several, got {vertices!r}")
    return list(vertices)


def _model_of(handles: list[Handle]) -> Model:
    models = [owner(handle) for handle in handles]
    for handle, model in zip(handles, models, strict=True):
        if model is not models[0]:
            raise GraphError(f"vertex {handle.name!r} belongs to another network than {handles[0].name!r}")
    return models[0]


def _reached(labels: Labels, ports: list[Port]) -> BoolArray:
    """For every label, whether a request for the sizes of these tensors can reach it."""
    class_of, classes = classify(labels)
    starts = [labels.tensors[port].neurons["label"] for port in ports]
    return reached(labels, class_of, classes, starts)[class_of]


def _spread(model: Model, reached: BoolArray) -> Spread:
    labels = model.labels
    resized = {port for port, level in labels.arrays() if reached[level["label"]].any()}
    names = {port.vertex for port in resized}
    sizes, sources, ends = list[Handle](), list[Handle](), list[Handle]()
    for handle in model:
        vertex = handle.vertex
        keys = {parameter.key for parameter in vertex.parameters.values()} & labels.parameters.keys()
        uses = [use for key in keys for use in labels.parameters[key].uses]
        changing = [use for use in uses if any(reached[level["label"]].any() for level in use.levels)]
        if vertex.name not in names:
            if changing or not resized.isdisjoint(vertex.inputs):
                ends.append(handle)
            continue
        sizes.append(handle)
        if any(use.role == "fresh" and reached[use.levels[-1]["label"]].any() for use in changing):
            sources.append(handle)
    return Spread(tuple(sizes), tuple(sources), tuple(ends))
