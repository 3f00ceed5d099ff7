"""A problem cut into parts that have nothing to do with each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from solver_nas.problem import Budget, Count, Gauge, Grid, Monomial, Rectangle, SharedColumns, Wish

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from solver_nas.problem import Bucket, Problem
    from solver_nas.utility import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Buckets and what relates them; numbers in expressions are local to the part.

    Args:
        buckets: the part's buckets; `numbers` says which ones of the problem they are.
        slots: how many insertion slots there are; `slot_numbers` likewise.
        slot_neurons: neurons per insertion, by slot.
        sizes: sizes that must not become empty.
        wishes: sizes that are asked for.
        rectangles: rows that keep equally many cells.
        shared: rectangles with shared columns.
        balances: expressions that have to be zero.
        most_new: how many new neurons a slot may get; `None` for no limit.
        budgets: sums of products of sizes that stay between two numbers.
        grids: sizes that are multiples.
        slot_gains: what new neurons are worth, by slot, descending.
        numbers: the problem's bucket numbers.
        slot_numbers: the problem's slot numbers.
    """

    buckets: tuple[Bucket, ...]
    slots: int
    slot_neurons: tuple[int, ...]
    sizes: tuple[Count, ...]
    wishes: tuple[Wish, ...]
    rectangles: tuple[Rectangle, ...]
    shared: tuple[SharedColumns, ...]
    balances: tuple[Count, ...]
    most_new: int | None
    budgets: tuple[Budget, ...]
    grids: tuple[Grid, ...]
    slot_gains: tuple[FloatArray, ...]
    numbers: tuple[int, ...]
    slot_numbers: tuple[int, ...]

    @property
    def counts(self) -> tuple[Count, ...]:
        """Every size that a wish, a balance, a limit or a grid speaks of."""
        return (
            *(wish.count for wish in self.wishes),
            *self.balances,
            *(count for budget in self.budgets for count in budget.counts),
            *(grid.size for grid in self.grids),
        )

    @property
    def single(self) -> bool:
        """Whether one number says it all."""
        return (
            len(self.buckets) == 1
            and self.buckets[0].forced is None
            and not (self.rectangles or self.shared or self.balances or self.budgets or self.grids)
            and not any(map(len, self.slot_gains))
        )


def parts(problem: Problem) -> list[Part]:
    """Cut a problem into independent parts, in the order of their first bucket.

    Wishes and balances about sizes that are fixed belong to no bucket; they come in a part without buckets.
    """
    of_slot: dict[int, set[int]] = {}
    for place, member in enumerate(problem.buckets):
        of_slot.setdefault(member.slot, set()).add(place)
    hubs = [
        *(set(size.keep) for size in problem.sizes),
        *(set(wish.count.keep) for wish in problem.wishes),
        *(_of_rectangle(rectangle) for rectangle in problem.rectangles),
        *(_of_shared(shared) for shared in problem.shared),
        *(_reach(balance, of_slot) for balance in problem.balances),
        *(set[int]().union(*(_reach(count, of_slot) for count in budget.counts)) for budget in problem.budgets),
        *(_reach(grid.size, of_slot) for grid in problem.grids),
    ]
    hubs += [of_slot.get(slot, set()) for slot in range(len(problem.slots))]
    component = _components(len(problem.buckets), hubs)
    members: dict[int, list[int]] = {}
    for bucket, which in enumerate(component):
        members.setdefault(which, []).append(bucket)
    found = [_part(problem, tuple(numbers)) for numbers in members.values()]
    stuck = tuple(wish for wish in problem.wishes if not wish.count.keep)
    rigid = tuple(balance for balance in problem.balances if not balance.keep and not balance.new)
    flat = tuple(budget for budget in problem.budgets if all(count.rigid for count in budget.counts))
    still = tuple(grid for grid in problem.grids if grid.size.rigid)
    if not (stuck or rigid or flat or still):
        return found
    return [*found, Part((), 0, (), (), stuck, (), (), rigid, None, flat, still, (), (), ())]


def whole(problem: Problem) -> Part:
    """The problem as one part."""
    return _part(problem, tuple(range(len(problem.buckets))), everything=True)


def _components(size: int, hubs: Sequence[set[int]]) -> list[int]:
    left = [bucket for hub in hubs for bucket in hub]
    right = [size + place for place, hub in enumerate(hubs) for _ in hub]
    nodes = size + len(hubs)
    matrix = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(nodes, nodes))
    _, component = connected_components(matrix, directed=False)
    return [int(which) for which in component[:size]]


def _reach(count: Count, of_slot: Mapping[int, set[int]]) -> set[int]:
    """The buckets that an expression has to do with."""
    return set(count.keep).union(*(of_slot.get(slot, set()) for slot in count.new))


def _of_rectangle(rectangle: Rectangle) -> set[int]:
    found = {row for row in rectangle.rows if row >= 0}
    return found.union(*(count.keep for count in rectangle.cells))


def _of_shared(shared: SharedColumns) -> set[int]:
    found = {*shared.rows, *shared.columns, *(cell for cells in shared.cells for cell in cells)}
    return found - {-1}


def _part(problem: Problem, numbers: tuple[int, ...], *, everything: bool = False) -> Part:
    inside = set(numbers)
    bucket_at = {number: place for place, number in enumerate(numbers)}
    slots = tuple(slot for slot in range(len(problem.slots)) if any(problem.buckets[n].slot == slot for n in numbers))
    slot_at = {slot: place for place, slot in enumerate(slots)}

    def count(outer: Count) -> Count:
        keep = {bucket_at[b]: often for b, often in outer.keep.items()}
        return Count(outer.constant, keep, {slot_at[s]: often for s, often in outer.new.items()})

    def touches(*counts: Count) -> bool:
        return any(set(one.keep) & inside or set(one.new) & set(slots) for one in counts)

    def place(buckets: Iterable[int]) -> tuple[int, ...]:
        return tuple(bucket_at.get(b, -1) for b in buckets)

    return Part(
        tuple(problem.buckets[number] for number in numbers),
        len(slots),
        tuple(int(problem.slot_neurons[slot]) for slot in slots),
        tuple(count(size) for size in problem.sizes if set(size.keep) <= inside),
        tuple(
            Wish(count(wish.count), wish.target)
            for wish in problem.wishes
            if (set(wish.count.keep) & inside) or (everything and not wish.count.keep)
        ),
        tuple(
            Rectangle(place(r.rows), tuple(map(count, r.cells)), r.reason)
            for r in problem.rectangles
            if _of_rectangle(r) & inside
        ),
        tuple(
            SharedColumns(
                place(s.rows),
                place(s.columns),
                tuple(map(place, s.cells)),
                count(s.new_columns),
                tuple(map(count, s.new_cells)),
                s.reason,
            )
            for s in problem.shared
            if _of_shared(s) & inside
        ),
        tuple(
            count(balance)
            for balance in problem.balances
            if set(balance.keep) & inside
            or set(balance.new) & set(slots)
            or (everything and not balance.keep and not balance.new)
        ),
        problem.most_new,
        tuple(
            Budget(
                tuple(Monomial(t.factor, tuple(map(count, t.over)), tuple(map(count, t.under))) for t in budget.terms),
                tuple(Gauge(gauge.function, tuple(map(count, gauge.sizes))) for gauge in budget.gauges),
                budget.constant,
                budget.low,
                budget.high,
                budget.limit,
            )
            for budget in problem.budgets
            if touches(*budget.counts) or (everything and all(one.rigid for one in budget.counts))
        ),
        tuple(
            Grid(count(grid.size), grid.step, grid.also)
            for grid in problem.grids
            if touches(grid.size) or (everything and grid.size.rigid)
        ),
        tuple(problem.slot_gains[slot] for slot in slots) if problem.slot_gains else (),
        numbers,
        slots,
    )
