"""Problems with a single count, which need no solver: the common case of one layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from solver_nas.solve.solution import Counts, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.problem import Bucket, Count, Wish


def solve_single(bucket: Bucket, sizes: Sequence[Count], wishes: Sequence[Wish], most_new: int | None = None) -> Counts:
    """Find the best count of one bucket and of its insertion slot.

    All sizes are `constant + factor * (kept + new)`, so that only the sum and the number kept matter.

    Args:
        bucket: the only bucket, number 0 of the expressions; its slot, if any, is number 0 too.
        sizes: sizes that must not become empty.
        wishes: sizes that are asked for.
        most_new: how many neurons may be inserted.
    """
    total = len(bucket.classes)
    least = 1 if sizes else 0
    gain = np.concatenate([[0.0], np.cumsum(bucket.utilities)])
    grows = bucket.slot >= 0

    def best_kept(most: int) -> int:
        # Of equal gains the larger count: neurons that cost nothing stay.
        window = gain[least : most + 1]
        return least + len(window) - 1 - int(np.argmax(window[::-1]))

    if not wishes:
        return Counts(Status.OPTIMAL, (best_kept(total),), (0,) * grows)
    best: tuple[tuple[float, ...], int, int] | None = None
    for size in _candidates(wishes, total, least, grows=grows, most_new=most_new):
        if any(not _meets(wish, size) for wish in wishes) or (most_new is not None and size > total + most_new):
            continue
        kept = best_kept(min(total, size)) if grows else size
        if most_new is not None:
            kept = max(kept, size - most_new)
        if kept > size or kept < least:
            continue
        cost: tuple[float, ...] = (*_deviation(wishes, size), -float(gain[kept]), -kept, size - kept)
        if best is None or cost < best[0]:
            best = (cost, kept, size - kept)
    if best is None:
        return Counts(Status.INFEASIBLE)
    cost, kept, new = best
    return Counts(Status.OPTIMAL, (kept,), (new,) * grows, int(cost[0]))


def _factor(wish: Wish) -> int:
    return next(iter(wish.count.keep.values()))


def _candidates(wishes: Sequence[Wish], total: int, least: int, *, grows: bool, most_new: int | None) -> list[int]:
    """Counts at which the deviation can be least: next to a wish, the present one, and the ends."""
    # A wish may exclude one of them, if that is the present size.
    found = {least, least + 1, total, total - 1}
    if most_new is not None:
        found |= {total + most_new, total + most_new - 1}
    for wish in wishes:
        exact = (wish.target.size - wish.count.constant) / _factor(wish)
        present = (wish.target.before - wish.count.constant) // _factor(wish)
        # One more on each side, since a wish may exclude the present size.
        for near in (int(np.floor(exact)), int(np.ceil(exact)), present):
            found |= {near - 1, near, near + 1}
    return sorted(size for size in found if size >= least and (grows or size <= total))


def _size(wish: Wish, count: int) -> int:
    return wish.count.constant + _factor(wish) * count


def _meets(wish: Wish, count: int) -> bool:
    size = _size(wish, count)
    if wish.target.exact:
        return size == wish.target.size
    return not (wish.target.must_change and size == wish.target.before)


def _deviation(wishes: Sequence[Wish], count: int) -> tuple[int, int]:
    """Summed distance from the wishes, and how many fall short of what was asked for."""
    distance = short = 0
    for wish in wishes:
        size, target = _size(wish, count), wish.target
        distance += abs(size - target.size)
        short += size < target.size if target.size > target.before else size > target.size < target.before
    return distance, short
