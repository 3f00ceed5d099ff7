"""Select and insert along the axes of one array."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solver_nas.errors import PlanError, RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Array = NDArray[Any]
IndexArray = NDArray[np.intp]

#: Makes values for new weights: called with a generator, a shape, and the standard deviation of the weights that
#: are there.
Initialiser = Callable[[np.random.Generator, tuple[int, ...], float], Array]


@dataclass(frozen=True, slots=True, eq=False)
class Initialisers:
    """How new weights are made.

    Args:
        default: for every vertex that is not named; `None` for weights that keep the network's function.
        own: for some vertices, by name.
    """

    default: Initialiser | None = None
    own: Mapping[str, Initialiser | None] = field(default_factory=dict)

    def of(self, vertex: str) -> Initialiser | None:
        """What makes the new weights of a vertex."""
        return self.own.get(vertex, self.default)


@dataclass(frozen=True, slots=True, eq=False)
class Pick:
    """Which positions of one axis of an array to take.

    Args:
        axis: the axis.
        outer: axes on which the choice depends, outermost first; none for an ordinary axis. Where a row
            is picked, its own choice of columns goes with it.
        index: old positions, -1 for a new one; shape (new sizes of `outer`..., new size of `axis`).
        role: `fresh`, `contract` or `follow`: decides what new entries start with.
    """

    axis: int
    outer: tuple[int, ...]
    index: IndexArray
    role: str


def take(array: Array, picks: Sequence[Pick]) -> Array:
    """Reorder, drop and add positions along several axes; added ones hold zeros.

    Args:
        array: not written to.
        picks: for the axes that change; the others are taken as they are.

    Returns:
        A new array of the dtype of `array`.

    Raises:
        PlanError: an index lies outside `[-1, size)`.

    >>> matrix = np.arange(1.0, 13.0).reshape(4, 3).T
    >>> take(matrix, [Pick(0, (), np.array([-1, 0, 2]), "fresh")])
    array([[ 0.,  0.,  0.,  0.],
           [ 1.,  4.,  7., 10.],
           [ 3.,  6.,  9., 12.]])
    """
    for pick in picks:
        size = array.shape[pick.axis]
        if pick.index.size and not (pick.index.min() >= -1 and pick.index.max() < size):
            raise PlanError(f"axis {pick.axis} has size {size}, the index asks for {pick.index.tolist()}")
    result = array
    plain = [pick for pick in picks if not pick.outer]
    depending = [pick for pick in picks if pick.outer]
    if depending:
        # One gather over all axes: positions that depend on the row cannot be taken axis by axis.
        result = result[tuple(_grid(array, picks))]
    else:
        for pick in plain:
            result = np.take(result, pick.index, axis=pick.axis)
    result = np.array(result, copy=True)
    for pick in picks:
        if (pick.index < 0).any():
            result[_new(pick, result.ndim, result.shape)] = 0
    return result


def _grid(array: Array, picks: Sequence[Pick]) -> list[IndexArray]:
    grid = []
    by_axis = {pick.axis: pick for pick in picks}
    for axis, size in enumerate(array.shape):
        pick = by_axis.get(axis, Pick(axis, (), np.arange(size), "follow"))
        grid.append(_spread(pick, array.ndim))
    return grid


def kept(shape: tuple[int, ...], picks: Sequence[Pick]) -> NDArray[np.bool_]:
    """Which entries of an array are taken.

    Args:
        shape: of the array.
        picks: those of `take`.
    """
    if not any(pick.outer for pick in picks):
        found = np.ones(shape, bool)
        for pick in picks:
            line = np.zeros(shape[pick.axis], bool)
            line[pick.index[pick.index >= 0]] = True
            found &= line.reshape([-1 if axis == pick.axis else 1 for axis in range(len(shape))])
        return found
    found = np.zeros(shape, bool)
    grid = _grid(found, picks)
    there = np.logical_and.reduce(np.broadcast_arrays(*(index >= 0 for index in grid)))
    found[tuple(index[there] for index in np.broadcast_arrays(*grid))] = True
    return found


def _spread(pick: Pick, rank: int) -> IndexArray:
    """The index with one dimension per axis of the array, of size 1 where it does not depend on it."""
    axes = [*pick.outer, pick.axis]
    order = np.argsort(axes)
    shape = [1] * rank
    for axis, size in zip(axes, pick.index.shape, strict=True):
        shape[axis] = size
    return pick.index.transpose(order).reshape(shape)


def _new(pick: Pick, rank: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.broadcast_to(_spread(pick, rank) < 0, shape)


def fill(
    array: Array,
    picks: Sequence[Pick],
    value: float | None,
    init: Initialiser | None,
    rng: np.random.Generator,
    spread: float,
) -> Array:
    """Give the new entries of an array their first values, in place.

    Args:
        array: the result of `take`.
        picks: those of `take`.
        value: what a new entry holds, for norms and biases; `None` for weights, whose new neurons come in
            with random weights and go out with zeros, so that the network's function stays.
        init: makes the random weights, and with it those that go out too; `None` for the above.
        rng: randomness.
        spread: standard deviation of the weights that were there.
    """
    made = np.zeros(array.shape, bool)
    silent = np.zeros(array.shape, bool)
    for pick in picks:
        if (pick.index < 0).any():
            new = _new(pick, array.ndim, array.shape)
            made |= new
            if pick.role == "contract":
                silent |= new
    if not made.any():
        return array
    if init is not None:
        values = np.asarray(init(rng, array.shape, spread))
        if values.shape != array.shape or values.dtype.kind not in "biuf" or not np.isfinite(values[made]).all():
            raise RequestError(
                f"init has to return finite numbers of shape {array.shape}, got {values.dtype} of shape {values.shape}"
            )
        array[made] = values[made]
    elif value is not None:
        array[made] = value
    else:
        array[made] = rng.normal(0.0, spread, array.shape)[made]
        array[silent] = 0
    return array


def zeros(rng: np.random.Generator, shape: tuple[int, ...], spread: float) -> Array:  # noqa: ARG001 - an `Initialiser`
    """New weights of zero everywhere."""
    return np.zeros(shape)


def cuts_around_centre(before: Sequence[int], after: Sequence[int]) -> list[tuple[int, int]]:
    """For every axis, what to cut off at its beginning and at its end; negative for what is added there."""
    return [((old - 1) // 2 - (new - 1) // 2, old // 2 - new // 2) for old, new in zip(before, after, strict=True)]


def recentred(array: Array, shape: tuple[int, ...]) -> Array:
    """An array of another shape with the same centre: cut off all around, or with zeros all around.

    >>> recentred(np.arange(5.0), (3,)), recentred(np.arange(2.0), (4,))
    (array([1., 2., 3.]), array([0., 0., 1., 0.]))
    """
    cuts = cuts_around_centre(array.shape, shape)
    inner = tuple(slice(max(a, 0), size - max(b, 0)) for size, (a, b) in zip(array.shape, cuts, strict=True))
    return np.pad(array[inner], [(max(-a, 0), max(-b, 0)) for a, b in cuts])
