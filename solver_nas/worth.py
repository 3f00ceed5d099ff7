"""What a neuron is worth: utilities to choose by, from activations that were recorded."""

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
from solver_nas.magnitude import magnitude, names_of, own_labels, rows_of
from solver_nas.observe import observed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from solver_nas.frontend import Handle, Model
    from solver_nas.graph import Graph, Vertex
    from solver_nas.labels import IntArray, Labels, Use
    from solver_nas.observe import ActivationStatistics, Floats

_HAIR = 1e-12  # relative; far above the rounding of a 64-bit sum, far below any utility that counts
_WINDOWED = frozenset(
    {"conv", "conv_transpose", "onnx.Conv", "onnx.ConvTranspose"}
)  # kinds whose weights slide over positions
_NOBODY = -1  # stands for the class of positions that are of no concern


def activation_times_outgoing(handle: Handle) -> Floats | float:
    """The root mean square of what each neuron adds to the vertices that read it.

    For a neuron read by one dense layer this is RMS(activation) times the L2 norm of its outgoing
    weights. It says how much a neuron matters alone; `contribution` also sees which neurons stand in for
    each other.

    Args:
        handle: a vertex whose readers were observed (`fit`, `calibrate`).

    Returns:
        Shape (nout,); 0.0 for a vertex that makes no neurons of its own.

    Raises:
        UtilityError: activations were not recorded.
    """
    found = _found(handle.model.labels, handle.vertex)
    if found is None:
        return 0.0
    square = np.zeros(len(found.members))
    for reader in _needed(handle, found):
        square += reader.squares(found.members)
    return found.spread(np.sqrt(square))


def contribution(handle: Handle) -> Floats | float:
    """What removing each neuron changes for the vertices that read it, when worse ones went before.

    If the neurons R are removed, the input of a reading layer with weights W changes by W[:, R] a[R],
    whose mean square is the sum of Q over all pairs in R, with

        Q = E[a a'] * (W' W)         (element-wise product)

    Starting with R empty, the neuron j with the least Q[j, j] + 2 * sum(Q[i, j] for i in R) goes next.
    Its utility is that increase, and never less than that of a neuron that went before it, as a fraction
    of the mean square of all that the reader reads, so that layers can be compared: what goes of a
    reader's input is at most the sum of the utilities of what goes, if the worst go. Several readers are
    added up. A neuron that several vertices make (the sides of an addition) is shared among them.

    What a network returns counts as read with weight 1; so do neurons that no parameter reads (the
    factors of an attention map). Dead neurons are worth 0.

    Limits: it looks one layer ahead; the places of a convolution's window count as uncorrelated but for
    the mean of each channel, which they share; it does not see what a normalisation does to the neurons that
    remain. Above `GRAM_LIMIT` neurons, pairs are not known and only the diagonal of Q is used.

    Measured on convolutional networks for digits (8 seeds, half of all channels of 4 layers, no training
    afterwards): accuracy 0.73, and 0.66 with `magnitude`, 0.65 with `activation_times_outgoing`, 0.40 with
    random choices.

    Source: the error to be kept small is that of ThiNet (Luo et al. 2017, arXiv 1707.06342, equation 6),
    which adds neurons to R greedily too. We use exact moments instead of sampled positions, and turn the
    order into utilities that a solver can weigh across layers.

    Args:
        handle: a vertex whose readers were observed (`fit`, `calibrate`).

    Returns:
        Shape (nout,); 0.0 for a vertex that makes no neurons of its own.

    Raises:
        UtilityError: activations were not recorded.
    """
    found = _found(handle.model.labels, handle.vertex)
    if found is None:
        return 0.0
    total = np.zeros((len(found.members), len(found.members)))
    for reader in _needed(handle, found):
        total += reader.pairs(found.members)
    makers = _makers(handle.model.labels, handle.model.graph)
    return found.spread(_eliminate(total) / makers[found.members])


def default_utility(handle: Handle) -> Floats | float:
    """What is used when the caller says nothing.

    The metric of `ActivationContribution` where a vertex is wrapped in it and was trained; `contribution`
    where activations were recorded; otherwise `magnitude`.

    Returns:
        Shape (nout,), or 0.0 for a vertex that makes no neurons of its own and is not wrapped.
    """
    metric = observed(handle).metric
    if metric is not None:
        return metric.copy()
    found = _found(handle.model.labels, handle.vertex)
    if found is None:
        return 0.0
    recorded = getattr(handle.model, "observers", {})
    return contribution(handle) if recorded and _readers(handle, found) is not None else magnitude(handle)


def worth_watching(model: Model) -> dict[str, bool]:
    """The vertices whose activations say what neurons are worth, and whether pairs of neurons matter."""
    vertices = model.graph.vertices
    wanted = {vertex.name: False for vertex in vertices if _found(model.labels, vertex) is not None}
    for reading in _index(model.labels, model.graph, model.graph.outputs)[0]:
        wanted[reading.vertex] = wanted.get(reading.vertex, False) or reading.use is not None
    return wanted


def _eliminate(pairs: Floats) -> Floats:
    """The increase of cost at which each neuron goes, in the order that is cheapest step by step."""
    increase = np.diagonal(pairs).copy()
    worth = np.zeros(len(pairs))
    left = np.ones(len(pairs), bool)
    highest = 0.0
    for _ in range(len(pairs)):
        neuron = int(np.argmin(np.where(left, increase, np.inf)))
        # A later one that costs no more is put a hair above, so that the order in which they go is kept.
        highest = max(float(increase[neuron]), highest * (1 + _HAIR))
        worth[neuron] = highest
        left[neuron] = False
        increase += 2 * pairs[:, neuron]
    return worth


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
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
class _Reading:
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
class _Reader:
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

    def _quadratic(self) -> Floats:
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
        quadratic = self._quadratic()
        total = float(quadratic.sum())
        sums = self._sums(members)
        one_sided = sums @ quadratic
        summed = np.diag(one_sided) if quadratic.ndim == 1 else np.asarray(sums @ one_sided.T)
        return summed / total if total > 0 else summed

    def squares(self, members: IntArray) -> Floats:
        """The diagonal of Q, summed over the positions of each class, (members,)."""
        outgoing = 1.0 if self.weights is None else (self.weights**2).sum(axis=(1, 2))
        return np.asarray(self._sums(members) @ (self.statistics.power * outgoing))

    def _sums(self, members: IntArray) -> csr_array:
        """The matrix that sums over the positions of each class, (members, positions)."""
        index = np.minimum(np.searchsorted(members, self.classes), len(members) - 1)
        mine = members[index] == self.classes
        entries = (mine.astype(np.float64), (index, np.arange(len(index))))
        return csr_array(entries, shape=(len(members), len(index)))


def _found(labels: Labels, vertex: Vertex) -> _Found | None:
    """The classes of the neurons that a vertex makes; `None` if it makes none."""
    names = names_of(labels, vertex.name)
    mine = np.isin(names, own_labels(labels, vertex))
    if not mine.any():
        return None
    classes = _classes(labels)[names]
    members = np.unique(classes[mine])
    return _Found(np.where(mine, np.searchsorted(members, classes), _NOBODY), members)


# Labels are values, and every vertex of a network asks for the classes of the same ones.
@lru_cache(maxsize=2)
def _classes(labels: Labels) -> IntArray:
    """The class of each label; unlike for the solver, what is always kept is told apart."""
    ties = []
    for tie in labels.ties:
        loose = (tie.left != FIXED) & (tie.right != FIXED)
        ties.append(Tie(tie.left[loose], tie.right[loose], tie.reason))
    return classify(labels, ties)[0]


# A graph that grows gets other labels.
@lru_cache(maxsize=2)
def _makers(labels: Labels, graph: Graph) -> IntArray:
    """For each class, how many (vertex, position) pairs make it."""
    total = np.zeros(int(_classes(labels).max()) + 1, np.int64)
    for vertex in graph.vertices:
        found = _found(labels, vertex)
        if found is not None:
            made = found.members[found.place[found.place >= 0]]
            total += np.bincount(made, minlength=len(total))
    return total


def _readings(model: Model, members: IntArray) -> list[_Reading]:
    """What reads neurons of these classes (ascending) with parameters of its own, or as an output of the network."""
    readings, classes, readers = _index(model.labels, model.graph, model.graph.outputs)
    low, high = np.searchsorted(classes, members), np.searchsorted(classes, members, side="right")
    found = {int(reader) for begin, end in zip(low, high, strict=True) for reader in readers[begin:end]}
    return [readings[reader] for reader in sorted(found)]


@lru_cache(maxsize=2)
def _index(labels: Labels, graph: Graph, outputs: tuple[Port, ...]) -> tuple[tuple[_Reading, ...], IntArray, IntArray]:
    """All readings, and who reads which class: classes ascending, and the number of the reading beside each."""
    readings = tuple(_all_readings(labels, graph, outputs))
    classes = np.concatenate([np.zeros(0, np.int64), *(reading.classes for reading in readings)])
    readers = np.repeat(np.arange(len(readings)), [len(reading.classes) for reading in readings])
    order = np.argsort(classes, kind="stable")
    return readings, classes[order], readers[order]


def _all_readings(labels: Labels, graph: Graph, outputs: tuple[Port, ...]) -> Iterator[_Reading]:
    classes = _classes(labels)
    ends = [port.vertex for port in outputs] or [name for name in graph.order if not graph.consumers(name)]
    for name in ends:
        if labels.tensors[Port(name)].blocks:
            yield _Reading(name, classes[names_of(labels, name)])
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
                        yield _Reading(name, wanted, parameter.key, use, window)


def _readers(handle: Handle, found: _Found) -> list[_Reader] | None:
    """Who reads the neurons that a vertex makes; `None` if some readers were not recorded."""
    model = handle.model
    readings = _readings(model, found.members)
    read = np.concatenate([reading.classes for reading in readings] or [found.members[:0]])
    unread = np.setdiff1d(found.members, read)
    if len(unread):
        own = _classes(model.labels)[names_of(model.labels, handle.name)]
        readings.append(_Reading(handle.name, np.where(np.isin(own, unread), own, _NOBODY)))
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
        readers.append(_Reader(reading.classes, statistics, weights, group))
    return readers


def _needed(handle: Handle, found: _Found) -> list[_Reader]:
    readers = _readers(handle, found)
    if readers is None:
        raise UtilityError(
            f"vertex {handle.name!r}: the activations of its readers were not recorded; call nn.calibrate(net, x) first"
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
