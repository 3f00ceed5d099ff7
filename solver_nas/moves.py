"""Where every neuron goes: the order of survivors and new ones along each axis."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solver_nas.errors import PlanError

if TYPE_CHECKING:
    from solver_nas.labels import IntArray, Neurons
    from solver_nas.solve import Selection

Index = NDArray[np.intp]

_OLD = -1  # the rank of a neuron that was there before


class Moves:
    """Follows neurons through a change.

    A new neuron that stands beside an old one gets a label of its own; two new neurons belong to one
    class iff they are the same in number beside old neurons of one class. Their *rank* is that number: from 0
    on after the old one, up to -2 before it; the old one's own is -1.
    """

    def __init__(self, class_of: IntArray, selection: Selection) -> None:
        """Number the new labels.

        Args:
            class_of: label -> class, before the change.
            selection: which classes live and how many neurons are inserted after each.
        """
        self._lives = selection.lives[class_of]
        self._inserted = selection.inserted[class_of]
        before = np.zeros_like(selection.inserted) if selection.leading is None else selection.leading
        self._leading = before[class_of]
        labels, classes = len(class_of), len(selection.lives)
        # Every label's new ones are numbered together: those before it, then those after it.
        both, both_of_class = self._leading + self._inserted, before + selection.inserted
        self._grows = bool(both.any())
        self._first = labels + np.cumsum(both) - both
        self.count = labels + int(both.sum())
        self._old = labels
        self._beside = np.repeat(np.arange(labels), both)
        number = _counting(both)
        self._rank = np.where(
            number < self._leading[self._beside],
            number - self._leading[self._beside] + _OLD,
            number - self._leading[self._beside],
        )
        start = classes + np.cumsum(both_of_class) - both_of_class
        new_classes = np.repeat(start[class_of], both) + number
        self.class_of = np.concatenate([class_of, new_classes])
        self._known: dict[int, tuple[Neurons, Neurons, Index]] = {}

    def inserted(self, array: Neurons) -> IntArray:
        """How many new neurons stand after each of these."""
        found: IntArray = self._inserted[array["label"]]
        return found

    def origin(self, array: Neurons) -> tuple[Neurons, IntArray]:
        """Where neurons of the changed network come from.

        Returns:
            For every neuron itself, or the one that it was inserted beside; and its rank.
        """
        old = array.copy()
        new = array["label"] >= self._old
        rank = np.full(array.shape, _OLD, np.int64)
        place = array["label"][new] - self._old
        old["label"][new], rank[new] = self._beside[place], self._rank[place]
        return old, rank

    def descendant(self, labels: IntArray, rank: IntArray) -> IntArray:
        """The inverse of `origin` on labels."""
        start = self._first[labels] + self._leading[labels]
        return np.where(rank == _OLD, labels, start + rank - np.where(rank < _OLD, _OLD, 0))

    def flat(self, array: Neurons) -> tuple[Neurons, Index]:
        """What takes the place of these neurons, in row-major order, and which old position each one had (-1: new)."""
        known = self._known.get(id(array))
        if known is None:
            # The array itself is kept too, so that its id stays taken.
            known = (array, *self._move(array.reshape(-1)))
            self._known[id(array)] = known
        return known[1], known[2]

    def _move(self, flat: Neurons) -> tuple[Neurons, Index]:
        labels = flat["label"]
        lives = self._lives[labels]
        if not self._grows:
            index = np.flatnonzero(lives)
            return (flat, index) if len(index) == len(flat) else (flat[index], index)
        both = self._leading[labels] + self._inserted[labels]
        # New neurons stand beside the run of their class: a new row of pixels after the last pixel of a row.
        run = np.cumsum(np.r_[True, self.class_of[labels[1:]] != self.class_of[labels[:-1]]])
        old, new = np.flatnonzero(lives), np.repeat(np.arange(len(flat)), both)
        made = self._first[labels[new]] + _counting(both)
        where = np.r_[old, new]
        order = np.lexsort((where, np.r_[np.full(len(old), _OLD), self._rank[made - self._old]], run[where]))
        moved = flat[where]
        moved["label"][len(old) :] = made
        index = np.r_[old, np.full(len(new), -1)]
        return moved[order], index[order]

    def shape(self, array: Neurons) -> tuple[int, ...]:
        """The shape of a level after the change: rows without any cells are gone."""
        if array.ndim == 1:
            return (len(self.flat(array)[0]),)
        labels = array["label"]
        classes = self.class_of[labels]
        if (classes == classes[..., :1]).all():
            # Cells that stand or fall with their row (a row of one cell does): new cells are new rows.
            return (*self.shape(array[..., 0]), array.shape[-1])
        there = self._lives[labels] | (self._leading[labels] + self._inserted[labels] > 0)
        outer = [int(there.any(axis=tuple(range(depth, array.ndim))).sum()) for depth in range(1, array.ndim)]
        counts = [1, *outer, len(self.flat(array)[0])]
        if 0 in counts[:-1]:
            return (0,) * array.ndim
        return tuple(after // before for before, after in pairwise(counts))

    def level(self, array: Neurons) -> Neurons:
        """A level after the change."""
        moved, _ = self.flat(array)
        shape = self.shape(array)
        if int(np.prod(shape)) != len(moved):
            raise PlanError(f"{array.shape} neurons become {len(moved)}, which are no rectangle")
        return moved.reshape(shape)


def carried(values: NDArray[Any], moved: Index, new: float) -> NDArray[Any]:
    """What neurons take along when they move, and what new ones get.

    Args:
        values: one for every old neuron.
        moved: the old position of every neuron, -1 for a new one.
        new: for new neurons, and for all where the neurons stood along another axis before.
    """
    if moved.max(initial=-1) >= len(values):
        return np.full(len(moved), new, values.dtype)
    return np.where(moved >= 0, np.append(values, np.array(new, values.dtype))[moved], new).astype(values.dtype)


def _counting(counts: IntArray) -> IntArray:
    """0 .. c - 1 for every c, one after the other."""
    total = int(counts.sum())
    return np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)


def locate(before: Neurons, after: Neurons, old_labels: int) -> Index:
    """Old positions of neurons that stand in a new order.

    Args:
        before: neurons, one axis, before the change.
        after: the same tensor's neurons after it.
        old_labels: labels from here on are new.

    Returns:
        For every neuron of `after`, its position in `before`, or -1 if it is new.

    Raises:
        PlanError: a neuron was not there before.
    """
    order = np.lexsort((before["copy"], before["label"]))
    ranked = before[order]
    if len(ranked) > 1 and (ranked[1:] == ranked[:-1]).any():
        raise PlanError("two positions of one tensor cannot be told apart")
    place = np.searchsorted(words(ranked), words(after))
    place = np.minimum(place, len(ranked) - 1)
    found = ranked[place] == after
    new = after["label"] >= old_labels
    if not (found | new).all():
        raise PlanError("a tensor would hold neurons that were not in it before")
    return np.where(new, -1, order[place])


def words(array: Neurons) -> NDArray[np.void]:
    """Neurons as big-endian bytes, whose order is that of (label, copy)."""
    words = np.empty((len(array), 2), ">u8")
    words[:, 0] = array["label"].astype(np.uint64)
    words[:, 1] = array["copy"]
    return words.view(np.dtype((np.void, 16))).reshape(-1)
