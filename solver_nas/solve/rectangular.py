"""Problems that are nothing but rectangles over the same rows: attention heads, groups of a convolution.

Once it is said how many rows live and how many columns each rectangle has, every row is worth its own sum, and
the best rows are those of the highest worth. So all shapes are tried, which are few, instead of all selections.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.solve.solution import Counts, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.labels import IntArray
    from solver_nas.problem import Count, Wish
    from solver_nas.solve.parts import Part
    from solver_nas.utility import FloatArray

_MOST_SHAPES = 2_000_000  # more are left to CP-SAT: memory, and by then it is no slower


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """One rectangle: a bucket per row.

    Args:
        buckets: the bucket of every row's cells.
        slots: the insertion slot of every row, or none.
        most: the largest number of columns worth looking at.
        gain: shape (rows, columns + 1), utility of the best cells of a row, by how many.
    """

    buckets: tuple[int, ...]
    slots: tuple[int, ...]
    most: int
    gain: FloatArray

    @property
    def columns(self) -> int:
        """How many columns there are now."""
        return int(self.gain.shape[1]) - 1


def solve_rectangular(part: Part) -> Counts | None:
    """Find the best counts by trying all shapes; `None` where the part is of another kind, or too large."""
    found = _shapes(part)
    if found is None:
        return None
    rows, grids, shapes = found
    allowed = np.ones(shapes.shape[1], bool)
    deviation, short = np.zeros(shapes.shape[1], np.int64), np.zeros(shapes.shape[1], np.int64)
    for wish in part.wishes:
        size, target = _size(wish.count, shapes, rows, grids), wish.target
        if target.exact:
            allowed &= size == target.size
            continue
        deviation += np.abs(size - target.size)
        if target.size != target.before:
            short += size < target.size if target.size > target.before else size > target.size
        if target.must_change:
            allowed &= size != target.before
    if not allowed.any():
        return Counts(Status.INFEASIBLE)
    cost = deviation * (len(part.wishes) + 1) + short
    best = np.flatnonzero(allowed & (cost == cost[allowed].min()))
    return _choose(part, rows, grids, shapes[:, best], int(deviation[best[0]]))


def reachable_sizes(part: Part, wish: Wish) -> tuple[int, ...] | None:
    """The nearest sizes below and above one of the part's wishes, the other exact ones being kept.

    Returns:
        At most two sizes, ascending; `None` where the part is of another kind, or too large.
    """
    found = _shapes(part)
    if found is None:
        return None
    rows, grids, shapes = found
    sizes = _size(wish.count, shapes, rows, grids)
    for other in part.wishes:
        if other is not wish and other.target.exact:
            met = _size(other.count, shapes, rows, grids) == other.target.size
            sizes, shapes = sizes[met], shapes[:, met]
    below, above = sizes[sizes <= wish.target.size], sizes[sizes >= wish.target.size]
    return tuple(sorted({int(size) for size in (*below[below == below.max(initial=0)], *_least(above))}))


def _least(sizes: IntArray) -> IntArray:
    return sizes[sizes == sizes.min()] if len(sizes) else sizes


def _shapes(part: Part) -> tuple[tuple[int, ...], list[_Grid], IntArray] | None:
    """Rows, rectangles, and all shapes: how many rows live, and how many columns each rectangle has."""
    rows = part.rectangles[0].rows if part.rectangles else ()
    grids = _grids(part, rows)
    if not grids or not _fits(part, rows, grids):
        return None
    if len(rows) * math.prod(grid.most for grid in grids) > _MOST_SHAPES:
        return None
    numbers = (len(rows), *(grid.most for grid in grids))
    axes = np.meshgrid(*(np.arange(1, most + 1) for most in numbers), indexing="ij")
    shapes = np.stack([axis.reshape(-1) for axis in axes])
    # New columns only where no row goes.
    grows = np.any([shapes[1 + place] > grid.columns for place, grid in enumerate(grids)], axis=0)
    return rows, grids, shapes[:, ~grows | (shapes[0] == len(rows))]


def _grids(part: Part, rows: tuple[int, ...]) -> list[_Grid] | None:
    """The rectangles, if every row of each is one bucket and all of them have the same rows."""
    if (
        part.shared
        or part.balances
        or part.budgets
        or part.grids
        or part.slot_gains
        or any(bucket.forced is not None for bucket in part.buckets)
        or part.most_new is not None
        or len(set(rows)) != len(rows)
        or min(rows, default=-1) < 0
    ):
        return None
    found = []
    for rectangle in part.rectangles:
        if rectangle.rows != rows or any(c.constant or len(c.keep) != 1 or len(c.new) > 1 for c in rectangle.cells):
            return None
        factors = {factor for c in rectangle.cells for factor in (*c.keep.values(), *c.new.values())}
        buckets = tuple(bucket for c in rectangle.cells for bucket in c.keep)
        slots = tuple(slot for c in rectangle.cells for slot in c.new)
        widths = {len(part.buckets[bucket].classes) for bucket in buckets}
        if len(factors) != 1 or len(widths) != 1 or len(set(buckets)) != len(rows) or len(slots) not in (0, len(rows)):
            return None
        gain = np.stack([np.concatenate([[0.0], np.cumsum(part.buckets[b].utilities)]) for b in buckets])
        found.append(_Grid(buckets, slots, _most(part.wishes, buckets, slots, widths.pop()), gain))
    every = [*rows, *(bucket for grid in found for bucket in grid.buckets)]
    return found if sorted(every) == list(range(len(part.buckets))) else None


def _most(wishes: Sequence[Wish], buckets: tuple[int, ...], slots: tuple[int, ...], columns: int) -> int:
    """More columns than now can only be wanted by a wish, and no more than bring all rows to its size."""
    goals = [wish.target.size // len(buckets) + 1 for wish in wishes if buckets[0] in wish.count.keep]
    return max([columns, *goals]) if slots else columns


def _fits(part: Part, rows: tuple[int, ...], grids: Sequence[_Grid]) -> bool:
    """Whether sizes and wishes speak of whole rectangles only."""
    groups = [set(rows), *(set(grid.buckets) for grid in grids)]
    for size in part.sizes:
        if not any(group <= set(size.keep) for group in groups):
            return False
    for wish in part.wishes:
        for group in groups:
            if len({wish.count.keep.get(bucket, 0) for bucket in group}) != 1:
                return False
    return True


def _size(count: Count, shapes: IntArray, rows: tuple[int, ...], grids: Sequence[_Grid]) -> IntArray:
    """A size for every shape: (rows that live, columns of each rectangle)."""
    total = count.constant + count.keep.get(rows[0], 0) * shapes[0]
    for place, grid in enumerate(grids):
        total = total + count.keep.get(grid.buckets[0], 0) * shapes[0] * shapes[1 + place]
    return np.asarray(total)


def _choose(
    part: Part, rows: tuple[int, ...], grids: Sequence[_Grid], shapes: IntArray, deviation: int
) -> Counts | None:
    """The best of these shapes, and in it the best rows."""
    if shapes.shape[1] * len(rows) > 8 * _MOST_SHAPES:
        return None
    whole = shapes[0] == len(rows)
    own = np.array([part.buckets[row].utilities[0] for row in rows])
    worth = np.broadcast_to(own, (shapes.shape[1], len(rows))).copy()
    kept = []
    for place, grid in enumerate(grids):
        columns = shapes[1 + place][:, None]
        # With all rows there, a cell may make room for a new one where it is worth less than nothing.
        best = _best_up_to(grid.gain) if grid.slots else np.broadcast_to(np.arange(grid.columns + 1), grid.gain.shape)
        capped = np.minimum(columns, grid.columns)
        count = np.where(whole[:, None], best.T[capped[:, 0]], capped)
        kept.append(count)
        worth += np.take_along_axis(grid.gain[None], count[:, :, None], axis=2)[:, :, 0]
    order = np.argsort(-worth, axis=1, kind="stable")
    lives = np.argsort(order, axis=1) < shapes[0][:, None]
    utility = np.where(lives, worth, 0.0).sum(axis=1)
    neurons = np.where(lives, np.array([part.buckets[row].neurons for row in rows]), 0).sum(axis=1)
    inserted = np.zeros(shapes.shape[1], np.int64)
    for place, (grid, count) in enumerate(zip(grids, kept, strict=True)):
        each = part.buckets[grid.buckets[0]].neurons
        neurons = neurons + each * np.where(lives, count, 0).sum(axis=1)
        inserted += each * np.where(lives, shapes[1 + place][:, None] - count, 0).sum(axis=1)
    winner = np.lexsort((inserted, -neurons, -utility))[0]
    return _counts(part, rows, grids, shapes[:, winner], lives[winner], [count[winner] for count in kept], deviation)


def _best_up_to(gain: FloatArray) -> IntArray:
    """For every row and limit, how many cells (at least one) are worth most; of equals the larger number."""
    best = np.ones(gain.shape, np.int64)
    for limit in range(2, gain.shape[1]):
        here = best[:, limit - 1]
        before = np.take_along_axis(gain, here[:, None], axis=1)[:, 0]
        best[:, limit] = np.where(gain[:, limit] >= before, limit, here)
    return best


def _counts(
    part: Part,
    rows: tuple[int, ...],
    grids: Sequence[_Grid],
    shape: IntArray,
    lives: IntArray,
    counts: Sequence[IntArray],
    deviation: int,
) -> Counts:
    kept, new = [0] * len(part.buckets), [0] * part.slots
    for place, row in enumerate(rows):
        kept[row] = int(lives[place])
    for j, (grid, count) in enumerate(zip(grids, counts, strict=True)):
        for place, bucket in enumerate(grid.buckets):
            if lives[place]:
                kept[bucket] = int(count[place])
                if grid.slots:
                    new[grid.slots[place]] = int(shape[1 + j] - count[place])
    return Counts(Status.OPTIMAL, tuple(kept), tuple(new), deviation)
