"""What a neuron is worth if the weights that remain are refitted when it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from solver_nas.readers import found_of, makers_of, needed, rising

if TYPE_CHECKING:
    from solver_nas.frontend import Handle
    from solver_nas.labels import IntArray
    from solver_nas.observe import Floats
    from solver_nas.readers import Reader, rising

_STEPS = 256  # in which neurons go; of more neurons, several at once


def reconstruction(handle: Handle) -> Floats | float:
    """What removing each neuron costs the vertices that read it, if their weights are refitted by least squares.

    For one reading layer with weights W, whose input a has the covariance C, removing neuron j and refitting W and
    the bias costs ||W[:, j]||^2 / P[j, j] of mean square, where P is the inverse of C: the part of the neuron's
    variance that the others cannot stand in for, times its outgoing weights. The one that costs least goes first;
    then W and P are those of the refitted layer without it, and so on. Its utility is what it costs in that moment,
    and never less than that of a neuron that went before it, as a fraction of the variance of all that the reader
    computes, so that layers can be compared. Several readers are added up. A neuron that several vertices make is
    shared among them.

    What a network returns counts as read with weight 1 and cannot be refitted; so do neurons that no parameter reads.
    Dead and constant neurons are worth 0, and so are copies of others.

    Limits: it looks one layer ahead. The places of a convolution's window count as if each had to be stood in for by
    itself, from the other channels at that place: the true cost is less. Of more than 2,048 neurons, only their
    variances are known, and none can stand in for another.

    Args:
        handle: a vertex whose readers were observed (`calibrate`).

    Returns:
        Shape (nout,); 0.0 for a vertex that makes no neurons of its own.

    Raises:
        UtilityError: activations were not recorded.

    Source: the step is that of Optimal Brain Surgeon (Hassibi and Stork 1993, equations 5 and 6) for the squared
    error of a linear layer, whose Hessian is C.
    """
    found = found_of(handle.model.labels, handle.vertex)
    if found is None:
        return 0.0
    readers = [_Refitted(reader, found.members) for reader in needed(handle, found)]
    makers = makers_of(handle.model.labels, handle.model.graph)
    return found.spread(_eliminate(readers, len(found.members)) / makers[found.members])


def _eliminate(readers: list[_Refitted], members: int) -> Floats:
    """What each neuron costs in the moment when it goes, in the order that is cheapest step by step."""
    paid, left = np.zeros(members), np.ones(members, bool)
    order: list[int] = []
    at_once = max(1, -(-members // _STEPS))
    while left.any():
        cost = np.sum([reader.costs() for reader in readers], axis=0) if readers else np.zeros(members)
        cost[~left] = np.inf
        going = np.argsort(cost, kind="stable")[: min(at_once, int(left.sum()))]
        paid[going] = cost[going]
        order += going.tolist()
        left[going] = False
        for reader in readers:
            reader.remove(going)
    return rising(order, paid)


class _Refitted:
    """A reader, as it is refitted while neurons go.

    Args:
        reader: as it was.
        members: the classes that may go, ascending.
    """

    def __init__(self, reader: Reader, members: IntArray) -> None:
        statistics = reader.statistics
        known, weights = statistics.covariance, reader.weights
        together = reader.group[:, None] == reader.group[None, :]
        self._refits = weights is not None and known is not None
        if weights is None:
            # It is returned as it is: what is missing is missing, the mean included.
            self._squares, variance = np.ones(len(statistics.mean)), statistics.power
            total = float(variance.sum())
        else:
            flat = weights.reshape(len(weights), -1)
            variance = statistics.deviation**2
            self._squares = (flat**2).sum(axis=1)
            total = float(self._squares @ variance)
        self._variance, self._ridge = variance, 0.0
        if self._refits:
            assert known is not None, "that is what refitting needs"
            assert weights is not None, "likewise"
            flat = weights.reshape(len(weights), -1)
            covariance = np.where(together, known, 0.0)
            self._outgoing = np.where(together, flat @ flat.T, 0.0)
            total = float((covariance * self._outgoing).sum())
            self._ridge = statistics.ridge * float(variance.mean()) or 1.0
            self._precision = np.linalg.inv(covariance + self._ridge * np.eye(len(covariance)))
        self._scale = 1.0 / total if total > 0 else 0.0
        self._positions = _positions(reader.classes, members)
        self._single = all(len(one) == 1 for one in self._positions)
        self._first = np.array([one[0] if len(one) else -1 for one in self._positions], np.int64)

    def costs(self) -> Floats:
        """What each neuron would cost now; anything for those that have gone."""
        if not self._refits:
            own = self._squares * self._variance
            return self._scale * np.array([own[one].sum() for one in self._positions])
        if self._single or not len(self._positions):
            inside = self._first >= 0
            place = self._first[inside]
            found = np.zeros(len(self._first))
            alone = np.maximum(1.0 / self._precision[place, place] - self._ridge, 0.0)
            found[inside] = self._outgoing[place, place] * alone
            return self._scale * found
        return self._scale * np.array([self._cost(one) for one in self._positions])

    def _cost(self, block: IntArray) -> float:
        if not len(block):
            return 0.0
        square = np.ix_(block, block)
        alone = np.linalg.inv(self._precision[square]) - self._ridge * np.eye(len(block))
        return max(float((self._outgoing[square] * alone).sum()), 0.0)

    def remove(self, neurons: IntArray) -> None:
        """Refit without some neurons."""
        block = np.concatenate([self._positions[neuron] for neuron in neurons])
        if not self._refits or not len(block):
            return
        square = np.ix_(block, block)
        into = np.linalg.solve(self._precision[square], self._precision[block])
        rows = self._outgoing[block].copy()
        inner = self._outgoing[square].copy()
        mixed = rows.T @ into
        self._outgoing += into.T @ inner @ into - mixed - mixed.T
        self._precision -= self._precision[:, block] @ into
        # What has gone is apart from all others from now on.
        self._outgoing[block] = self._outgoing[:, block] = 0.0
        self._precision[block] = self._precision[:, block] = 0.0
        self._precision[block, block] = 1.0


def _positions(classes: IntArray, members: IntArray) -> list[IntArray]:
    """Where each class stands."""
    order = np.argsort(classes, kind="stable")
    begin = np.searchsorted(classes[order], members)
    end = np.searchsorted(classes[order], members, side="right")
    return [order[low:high] for low, high in zip(begin, end, strict=True)]
