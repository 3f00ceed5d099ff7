"""Whether counts keep everything that a part says: plain arithmetic, without a solver."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.bounds import MEASURED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.problem import Budget, Count, Rectangle
    from solver_nas.solve.parts import Part


def holds(part: Part, kept: Sequence[int], new: Sequence[int]) -> bool:
    """Whether these counts are a solution; relaxed wishes may be missed by any amount.

    Shared columns are not looked into: what has them is never asked.
    """
    size = _Sizes(kept, new)
    inside = all(b.least <= k <= b.most for b, k in zip(part.buckets, kept, strict=True))
    return (
        inside
        and all(size.old(one) >= 1 for one in part.sizes)
        and all(size(wish.count) == wish.target.size for wish in part.wishes if wish.target.exact)
        and all(size(balance) == 0 for balance in part.balances)
        and all(_rectangle(rectangle, size) for rectangle in part.rectangles)
        and all(_grid(size(grid.size), grid.step, grid.also) for grid in part.grids)
        and all(_budget(budget, size) for budget in part.budgets)
    )


def size_at(count: Count, kept: Sequence[int], new: Sequence[int]) -> int:
    """A size at given counts."""
    return _Sizes(kept, new)(count)


class _Sizes:
    """Sizes at given counts."""

    def __init__(self, kept: Sequence[int], new: Sequence[int]) -> None:
        self.kept, self.new = kept, new

    def old(self, count: Count) -> int:
        return count.constant + sum(factor * self.kept[bucket] for bucket, factor in count.keep.items())

    def __call__(self, count: Count) -> int:
        return self.old(count) + sum(factor * self.new[slot] for slot, factor in count.new.items())


def _rectangle(rectangle: Rectangle, size: _Sizes) -> bool:
    alive = [row < 0 or size.kept[row] > 0 for row in rectangle.rows]
    columns = [size(cells) for cells in rectangle.cells]
    living = {count for count, lives in zip(columns, alive, strict=True) if lives}
    grows = any(size.new[slot] for cells in rectangle.cells for slot in cells.new)
    return (
        len(living) <= 1
        and all(count >= 1 for count in living)
        and all(count == 0 for count, lives in zip(columns, alive, strict=True) if not lives)
        and all(size.old(c) >= 1 for c, lives in zip(rectangle.cells, alive, strict=True) if lives)
        and (all(alive) or not grows)
    )


def _grid(size: int, step: int, also: frozenset[int]) -> bool:
    return size in also or (size >= step and size % step == 0)


def _budget(budget: Budget, size: _Sizes) -> bool:
    total = budget.constant
    for term in budget.terms:
        product = term.factor
        for count in term.over:
            product *= size(count)
        for count in term.under:
            if not size(count):
                return False
            product /= size(count)
        total += product
    measured = sum(float(g.function(*(np.asarray(size(one)) for one in g.sizes))) for g in budget.gauges)
    low, high = budget.low, budget.high
    if not budget.gauges:
        return (low is None or total >= low) and (high is None or total <= high)
    whole = float(total) + measured
    slack = Fraction(MEASURED)
    return (low is None or whole >= float(low - slack * abs(low))) and (
        high is None or whole <= float(high + slack * abs(high))
    )
