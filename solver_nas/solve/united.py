"""Buckets of which equally many stay, as one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from solver_nas.problem import Bucket, Count, Monomial, Wish

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from solver_nas.problem import Budget
    from solver_nas.solve.parts import Part


def united(part: Part) -> tuple[Part, tuple[int, ...]]:
    """The part with one bucket for all that balances keep equal, whatever else goes.

    Prices see one choice then, instead of several and what keeps them equal: their bounds are far closer.

    Returns:
        The part, and for each of the given buckets the one that it is in now.
    """
    place_of = _places(part)
    buckets = [
        _together([b for b, at in zip(part.buckets, place_of, strict=True) if at == p]) for p in sorted({*place_of})
    ]
    if len(buckets) == len(part.buckets):
        return part, tuple(range(len(buckets)))

    def count(given: Count) -> Count:
        keep: dict[int, int] = {}
        for bucket, often in given.keep.items():
            keep[place_of[bucket]] = keep.get(place_of[bucket], 0) + often
        return replace(given, keep={bucket: often for bucket, often in keep.items() if often})

    balances = tuple(map(count, part.balances))
    return (
        replace(
            part,
            buckets=tuple(buckets),
            sizes=tuple(map(count, part.sizes)),
            wishes=tuple(Wish(count(wish.count), wish.target) for wish in part.wishes),
            rectangles=tuple(
                r._replace(
                    rows=tuple(place_of[row] if row >= 0 else row for row in r.rows), cells=tuple(map(count, r.cells))
                )
                for r in part.rectangles
            ),
            balances=tuple(one for one in balances if not one.rigid or one.constant),
            budgets=tuple(_budget(budget, count) for budget in part.budgets),
            grids=tuple(grid._replace(size=count(grid.size)) for grid in part.grids),
            numbers=tuple(range(len(buckets))),
        ),
        tuple(place_of),
    )


def _places(part: Part) -> list[int]:
    """The new place of every bucket."""
    apart = {row for rectangle in part.rectangles for row in rectangle.rows}
    apart |= {place for place, bucket in enumerate(part.buckets) if bucket.forced is not None}
    pairs = []
    if not part.slots and not part.shared:
        for balance in part.balances:
            plain = not balance.constant and len(balance.keep) == 2 and not sum(balance.keep.values())
            if plain and apart.isdisjoint(balance.keep):
                pairs.append(tuple(balance.keep))
    left, right = np.array(pairs, np.int64).reshape(-1, 2).T
    many = len(part.buckets)
    matrix = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(many, many))
    component = connected_components(matrix, directed=False)[1].tolist()
    order = {which: place for place, which in enumerate(dict.fromkeys(component))}
    return [order[which] for which in component]


def _together(buckets: Sequence[Bucket]) -> Bucket:
    if len(buckets) == 1:
        return buckets[0]
    most = min(len(bucket.classes) for bucket in buckets)
    utilities = np.sum([bucket.utilities[:most] for bucket in buckets], axis=0)
    return Bucket(buckets[0].classes[:most], utilities, sum(bucket.neurons for bucket in buckets), -1)


def _budget(budget: Budget, count: Callable[[Count], Count]) -> Budget:
    terms = (Monomial(t.factor, tuple(map(count, t.over)), tuple(map(count, t.under))) for t in budget.terms)
    gauges = (gauge._replace(sizes=tuple(map(count, gauge.sizes))) for gauge in budget.gauges)
    return replace(budget, terms=tuple(terms), gauges=tuple(gauges))
