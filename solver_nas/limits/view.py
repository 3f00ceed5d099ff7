"""What every limit is, and how it looks up vertices in a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from solver_nas.costs import buffers_of
from solver_nas.errors import GraphError, RequestError
from solver_nas.frontend import Handle, Model, owner
from solver_nas.graph import Port
from solver_nas.requests import is_row

if TYPE_CHECKING:
    from fractions import Fraction

    from solver_nas.bounds import Restriction
    from solver_nas.graph import Graph
    from solver_nas.labels import IntArray, Labels

#: Which vertices are meant: all of them, a name or pattern, a vertex, or several of these.
Of = None | str | Handle | Iterable[Any]


_SAID = 3  # vertices that are named in a limit's title

#: Limits for a verb; lists in the list are taken apart, so that `equal(a, b)` fits in.
Limits = Iterable["Limit | Iterable[Any]"]


def titled(title: str, of: Of) -> str:
    """What a limit is called that speaks of some vertices."""
    if of is None:
        return title
    some = list(of) if isinstance(of, list | tuple) else [of]
    said = [f"{one.name}" if isinstance(one, Handle) else f"{one}" for one in some[:_SAID]]
    return f"{title} of {', '.join([*said, '...'] if len(some) > _SAID else said)}"


class View(NamedTuple):
    """A network as limits are looked up in it.

    Args:
        model: the one that the caller speaks of.
        graph: the structure that is to keep the limits; another one than the model's while it is being changed.
        labels: of that structure.
        names: name in the model -> name in the structure, for the vertices that are still there.
        before: structure and labels that `now` refers to.
    """

    model: Model
    graph: Graph
    labels: Labels
    names: Mapping[str, str]
    before: tuple[Graph, Labels]

    @classmethod
    def of(cls, model: Model) -> View:
        """A network as it is."""
        graph, labels = model.graph, model.labels
        return cls(model, graph, labels, {name: name for name in graph.order}, (graph, labels))

    @property
    def past(self) -> View:
        """The network that `now` refers to."""
        graph, labels = self.before
        return View(self.model, graph, labels, {name: name for name in graph.order}, self.before)

    def labels_of(self, handle: Handle) -> IntArray:
        """The labels of a vertex's output neurons.

        Raises:
            GraphError: a vertex of another network.
            RequestError: it is not there any more.
        """
        array: IntArray = self.labels.tensors[Port(self.name(handle))].neurons["label"]
        return array

    def name(self, handle: Handle) -> str:
        """The name of a vertex in the structure."""
        if owner(handle) is not self.model:
            raise GraphError(f"a limit speaks of vertex {handle.name!r} of another network")
        if handle.name not in self.names:
            raise RequestError(f"a limit speaks of vertex {handle.name!r}, which this edit removes")
        return self.names[handle.name]

    def size_before(self, name: str) -> int:
        """How many output neurons a vertex had before the change; a new one, how many it has."""
        old = {inside: outside for outside, inside in self.names.items()}.get(name)
        labels = self.before[1] if old is not None and Port(old) in self.before[1].tensors else self.labels
        return len(labels.tensors[Port(name if old is None else old)].neurons)

    def chosen(self, of: Of, title: str) -> list[str]:
        """The names of the vertices that are meant.

        Raises:
            RequestError: a pattern that fits no vertex.
        """
        if of is None:
            return list(self.graph.order)
        if isinstance(of, str):
            found = [handle.name for handle in self.model.find(of)]
            if not found:
                raise RequestError(f"{title} names no vertex: nothing fits {of!r}; names are in list(net.graph.order)")
            return [self.names[name] for name in found if name in self.names]
        if isinstance(of, Handle):
            return [self.name(of)]
        if not is_row(of):
            raise RequestError(f"{title}: expected vertices or a pattern of their names, got {of!r}")
        names = [name for one in of for name in self.chosen(one, title)]
        if not names:
            raise RequestError(f"{title} names no vertex")
        return list(dict.fromkeys(names))

    def inner(self, names: Iterable[str]) -> list[str]:
        """Those of these vertices that the network does not return: their sizes are for its reader to say."""
        returned = {port.vertex for port in self.graph.returned}
        # Front ends have a vertex for what is returned; the neurons are those of the layer before it.
        before = [
            port
            for name in returned
            for port in self.graph.vertex(name).inputs
            if self.graph.vertex(name).kind.rpartition(".")[2] == "output"
        ]
        gone = np.concatenate([np.zeros(0, np.int64), *(self._neurons(port.vertex) for port in before)])

        def inside(name: str) -> bool:
            labels = self._neurons(name)
            return name not in returned and not (len(labels) and np.isin(labels, gone).all())

        return [name for name in names if inside(name)]

    def _neurons(self, name: str) -> IntArray:
        return self.labels.tensors[Port(name)].neurons["label"]

    def sources(self) -> list[str]:
        """Vertices whose output neurons are made by an array of theirs that is learned."""
        found = []
        for vertex in self.graph.vertices:
            tensor = self.labels.tensors[Port(vertex.name)]
            mine = [tensor.neurons["label"]]
            held = buffers_of(vertex)
            learned = [parameter.key for role, parameter in vertex.parameters.items() if role not in held]
            uses = [use for key in learned for use in self.labels.parameters[key].uses]
            made = [use.levels[-1]["label"].reshape(-1) for use in uses if use.role == "fresh"]
            if any(np.isin(array, np.concatenate(made)).any() for array in mine if made):
                found.append(vertex.name)
        return found


class Limit(ABC):
    """Something that a changed network has to keep; limits are given to verbs as a list."""

    #: Whether it speaks of neurons by their places before the change, and cannot be looked up after it.
    of_old_neurons = False

    @property
    def subject(self) -> Any:
        """What it limits that a plan can say the amount of: a cost, or nothing."""
        return None

    @abstractmethod
    def resolve(self, view: View) -> list[Restriction]:
        """What it says about the sizes of a network."""

    def stage(self, view: View, share: Fraction) -> list[Limit]:  # noqa: ARG002 - for those that can be
        """This limit for a part of the way to a smaller network, in numbers that do not speak of the present.

        Args:
            view: of the network before the first step.
            share: how much of the way is gone; 1 at the end.

        Raises:
            RequestError: it speaks of neurons or sizes in a way that is lost on the way.
        """
        raise RequestError(f"{self} speaks of what there is before the change, and cannot be kept in several rounds")

    def __repr__(self) -> str:
        """As it is written."""
        return str(self)

    def __bool__(self) -> bool:
        """A limit is neither true nor false; asked for by chained comparisons, of which Python would lose one."""
        raise RequestError(
            f"a limit has no truth value: {self}; write 8 <= sizes[v] <= 64 as two limits: "
            f"sizes[v] >= 8, sizes[v] <= 64"
        )


def listed(limits: object) -> tuple[Limit, ...]:
    """All limits of a request, one after the other.

    Raises:
        RequestError: something that is no limit.
    """
    if isinstance(limits, Limit):
        return (limits,)
    if isinstance(limits, str) or not is_row(limits):
        raise RequestError(f"a limit is written as in params(net) <= 0.5 * now or multiple_of(8), got {limits!r}")
    return tuple(limit for inner in limits for limit in listed(inner))


def resolved(limits: Iterable[Limit], view: View) -> tuple[Restriction, ...]:
    """Limits, looked up in a network.

    Raises:
        RequestError: one names no vertex.
    """
    return tuple(restriction for limit in limits for restriction in limit.resolve(view))
