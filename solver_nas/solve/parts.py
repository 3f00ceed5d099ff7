"""A problem cut into parts that have nothing to do with each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from solver_nas.problem import Count, Rectangle, SharedColumns, Wish

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from solver_nas.problem import Bucket, Problem


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
    numbers: tuple[int, ...]
    slot_numbers: tuple[int, ...]

    @property
    def single(self) -> bool:
        """Whether one number says it all."""
        return len(self.buckets) == 1 and not self.rectangles and not self.shared and not self.balances


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
        *(set(balance.keep).union(*(of_slot.get(slot, set()) for slot in balance.new)) for balance in problem.balances),
    ]
    hubs += [of_slot.get(slot, set()) for slot in range(len(problem.slots))]
    component = _components(len(problem.buckets), hubs)
    members: dict[int, list[int]] = {}
    for bucket, which in enumerate(component):
        members.setdefault(which, []).append(bucket)
    found = [_part(problem, tuple(numbers)) for numbers in members.values()]
    stuck = tuple(wish for wish in problem.wishes if not wish.count.keep)
    rigid = tuple(balance for balance in problem.balances if not balance.keep and not balance.new)
    return [*found, Part((), 0, (), (), stuck, (), (), rigid, None, (), ())] if stuck or rigid else found


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
        numbers,
        slots,
    )
