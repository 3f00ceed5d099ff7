"""Who reads the neurons that a vertex makes, and what is known about what they read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from solver_nas.classes import classify
from solver_nas.errors import UtilityError
from solver_nas.graph import Port
from solver_nas.labels import FIXED, Tie
from solver_nas.magnitude import names_of, own_labels, rows_of
from solver_nas.observe import observed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from solver_nas.frontend import Handle, Model
    from solver_nas.graph import Graph, Vertex
    from solver_nas.labels import IntArray, Labels, Use
    from solver_nas.observe import ActivationStatistics, Floats

#: Kinds whose weights slide over positions.
_WINDOWED = frozenset(
    {
        *("conv", "conv_transpose", "onnx.Conv", "onnx.ConvTranspose", "torch.convolution", "torch._convolution"),
        *(f"torch.conv{rank}d" for rank in (1, 2, 3)),
        *(f"torch.conv_transpose{rank}d" for rank in (1, 2, 3)),
    }
)
_HAIR = 1e-12  # relative; far above the rounding of a 64-bit sum, far below any utility that counts
NOBODY = -1  # stands for the class of positions that are of no concern


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The neurons that a vertex makes.

    Args:
        place: for each position of its output, the index of its class in `members`, or -1.
        members: classes, ascending.
    """

    place: IntArray
    members: IntArray

    def spread(self, worth: Floats) -> Floats:
        """From classes to positions; what the vertex does not make is worth nothing here."""
        return np.where(self.place >= 0, worth[self.place], 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """That a parameter contracts the neurons of a vertex's output, or that they are read as they are.

    Args:
        vertex: whose output is read.
        classes: the class of each position of it.
        key: of the parameter.
        use: the axes that are contracted.
        window: how many of the parameter's last axes slide over positions.
    """

    vertex: str
    classes: IntArray
    key: str | None = None
    use: Use | None = None
    window: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Reader:
    """A reading with its numbers.

    Args:
        classes: the class of each position that is read.
        statistics: of what is read.
        weights: outgoing weights, shape (positions, any, places of the window); `None` for the identity.
        group: which positions are added up with each other, shape (positions,).
    """

    classes: IntArray
    statistics: ActivationStatistics
    weights: Floats | None
    group: IntArray

    def quadratic(self) -> Floats:
        """Q, shape (positions, positions), or its diagonal where no more is known or all else is zero."""
        power, gram, mean = self.statistics.power, self.statistics.gram, self.statistics.mean
        if self.weights is None:
            return power
        # A channel's mean is the same at all places of the window, so that there the weights add up.
        flat, summed = self.weights.reshape(len(self.weights), -1), self.weights.sum(axis=2)
        if gram is None:
            steady = mean**2
            return np.asarray(steady * (summed**2).sum(axis=1) + (power - steady) * (flat**2).sum(axis=1))
        constant = np.outer(mean, mean)
        together = self.group[:, None] == self.group[None, :]
        both = constant * (summed @ summed.T) + (gram - constant) * (flat @ flat.T)
        return np.asarray(both * together)

    def pairs(self, members: IntArray) -> Floats:
        """Q as a fraction of its sum, summed over the positions of each class, (members, members)."""
        quadratic = self.quadratic()
        total = float(quadratic.sum())
        sums = self.sums(members)
        one_sided = sums @ quadratic
        summed = np.diag(one_sided) if quadratic.ndim == 1 else np.asarray(sums @ one_sided.T)
        return summed / total if total > 0 else summed

    def squares(self, members: IntArray, moment: Floats) -> Floats:
        """A moment of each position times its squared outgoing weights, summed over those of each class, (members,)."""
        outgoing = 1.0 if self.weights is None else (self.weights**2).sum(axis=(1, 2))
        return np.asarray(self.sums(members) @ (moment * outgoing))

    def sums(self, members: IntArray) -> csr_array:
        """The matrix that sums over the positions of each class, (members, positions)."""
        index = np.minimum(np.searchsorted(members, self.classes), len(members) - 1)
        mine = members[index] == self.classes
        entries = (mine.astype(np.float64), (index, np.arange(len(index))))
        return csr_array(entries, shape=(len(members), len(index)))


def found_of(labels: Labels, vertex: Vertex) -> Found | None:
    """The classes of the neurons that a vertex makes; `None` if it makes none."""
    names = names_of(labels, vertex.name)
    mine = np.isin(names, own_labels(labels, vertex))
    if not mine.any():
        return None
    classes = classes_of(labels)[names]
    members = np.unique(classes[mine])
    return Found(np.where(mine, np.searchsorted(members, classes), NOBODY), members)


# Labels are values, and every vertex of a network asks for the classes of the same ones.
@lru_cache(maxsize=2)
def classes_of(labels: Labels) -> IntArray:
    """The class of each label; unlike for the solver, what is always kept is told apart."""
    ties = []
    for tie in labels.ties:
        loose = (tie.left != FIXED) & (tie.right != FIXED)
        ties.append(Tie(tie.left[loose], tie.right[loose], tie.reason))
    return classify(labels, ties)[0]


# A graph that grows gets other labels.
@lru_cache(maxsize=2)
def makers_of(labels: Labels, graph: Graph) -> IntArray:
    """For each class, how many (vertex, position) pairs make it."""
    total = np.zeros(int(classes_of(labels).max()) + 1, np.int64)
    for vertex in graph.vertices:
        found = found_of(labels, vertex)
        if found is not None:
            made = found.members[found.place[found.place >= 0]]
            total += np.bincount(made, minlength=len(total))
    return total


def readings_of(model: Model, members: IntArray) -> list[Reading]:
    """What reads neurons of these classes (ascending) with parameters of its own, or as an output of the network."""
    readings, classes, readers = index_of(model.labels, model.graph, model.graph.outputs)
    low, high = np.searchsorted(classes, members), np.searchsorted(classes, members, side="right")
    found = {int(reader) for begin, end in zip(low, high, strict=True) for reader in readers[begin:end]}
    return [readings[reader] for reader in sorted(found)]


@lru_cache(maxsize=2)
def index_of(labels: Labels, graph: Graph, outputs: tuple[Port, ...]) -> tuple[tuple[Reading, ...], IntArray, IntArray]:
    """All readings, and who reads which class: classes ascending, and the number of the reading beside each."""
    readings = tuple(_all_readings(labels, graph, outputs))
    classes = np.concatenate([np.zeros(0, np.int64), *(reading.classes for reading in readings)])
    readers = np.repeat(np.arange(len(readings)), [len(reading.classes) for reading in readings])
    order = np.argsort(classes, kind="stable")
    return readings, classes[order], readers[order]


def _all_readings(labels: Labels, graph: Graph, outputs: tuple[Port, ...]) -> Iterator[Reading]:
    classes = classes_of(labels)
    ends = [port.vertex for port in outputs] or [name for name in graph.order if not graph.consumers(name)]
    for name in ends:
        if labels.tensors[Port(name)].blocks:
            yield Reading(name, classes[names_of(labels, name)])
    for vertex in graph.vertices:
        # A recurrent layer contracts its own output.
        sources = dict.fromkeys([*(port.vertex for port in vertex.inputs), vertex.name])
        for parameter in vertex.parameters.values():
            for use in labels.parameters[parameter.key].uses:
                if use.role != "contract":
                    continue
                wanted = classes[use.levels[-1]["label"].reshape(-1)]
                for name in sources:
                    if np.array_equal(classes[names_of(labels, name)], wanted):
                        # Convolutions of all kinds store (channels, channels, *window).
                        window = len(parameter.shape) - 2 if vertex.kind in _WINDOWED else 0
                        yield Reading(name, wanted, parameter.key, use, window)


def readers_of(handle: Handle, found: Found) -> list[Reader] | None:
    """Who reads the neurons that a vertex makes; `None` if some readers were not recorded.

    In the place of readers that cannot be looked at, and of none at all, stands what the vertex itself computes.
    """
    model = handle.model
    readings = [one for one in readings_of(model, found.members) if not observed(model[one.vertex]).unseen]
    read = np.concatenate([reading.classes for reading in readings] or [found.members[:0]])
    unread = np.setdiff1d(found.members, read)
    if len(unread):
        own = classes_of(model.labels)[names_of(model.labels, handle.name)]
        readings.append(Reading(handle.name, np.where(np.isin(own, unread), own, NOBODY)))
    readers = []
    for reading in readings:
        statistics = observed(model[reading.vertex]).statistics
        if statistics is None or not statistics.count:
            return None
        weights, group = None, np.zeros(len(reading.classes), np.int64)
        if reading.use is not None and reading.key is not None:
            record = model.labels.parameters[reading.key]
            array = np.asarray(model.arrays[reading.key], np.float64).reshape(record.view)
            places = int(np.prod(array.shape[array.ndim - reading.window :]))
            weights = rows_of(array, reading.use).reshape(len(group), -1, places)
            group = _group(array.shape, reading.use, record.uses)
        readers.append(Reader(reading.classes, statistics, weights, group))
    return readers


def needed(handle: Handle, found: Found) -> list[Reader]:
    """Who reads the neurons that a vertex makes.

    Raises:
        UtilityError: activations of some readers were not recorded.
    """
    readers = readers_of(handle, found)
    if readers is None:
        unseen = observed(handle).unseen
        if unseen:
            raise UtilityError(
                f"vertex {handle.name!r}: what it is worth is not known, since neither it nor what reads it can be "
                f"looked at: {unseen}; give a utility that needs no samples, or keep it (`limits.fixed`)"
            )
        raise UtilityError(
            f"vertex {handle.name!r}: the activations of its readers were not recorded; call calibrate(model, batches) "
            f"first"
        )
    return readers


def _group(view: tuple[int, ...], use: Use, uses: Sequence[Use]) -> IntArray:
    """Which neurons of a use are added up with each other: those of one group of a grouped convolution."""
    outer = {axis for other in uses if other.role != "contract" for axis in other.axes}
    groups = [axis for axis in use.axes if axis in outer]
    index = np.arange(int(np.prod([view[axis] for axis in groups]))).reshape(
        [view[axis] if axis in groups else 1 for axis in use.axes]
    )
    return np.broadcast_to(index, [view[axis] for axis in use.axes]).reshape(-1)


def rising(order: Iterable[int], costs: Floats) -> Floats:
    """What neurons cost that go in some order, each no less than those before it.

    One that costs no more is put a hair above, so that the order is kept.

    Args:
        order: of all neurons.
        costs: of each neuron when it went, none negative.
    """
    found, highest = np.zeros(len(costs)), 0.0
    for neuron in order:
        found[neuron] = highest = max(float(costs[neuron]), highest * (1 + _HAIR))
    return found
