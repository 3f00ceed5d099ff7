"""Buckets of which equally many stay, or some multiple, as one."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import gcd, lcm
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from solver_nas.problem import Bucket, Count, Monomial, Wish

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from solver_nas.problem import Budget
    from solver_nas.solve.parts import Part


def living(part: Part) -> Part:
    """The part if no row of a rectangle goes: then all rows have to keep equally many cells, and at least one.

    Its solutions are solutions of the part.
    """
    held = {row for rectangle in part.rectangles for row in rectangle.rows if row >= 0}
    held |= {place for place, bucket in enumerate(part.buckets) if bucket.forced}
    pairs = [(r.cells[0], cells) for r in part.rectangles for cells in r.cells[1:]]
    balances = [*part.balances, *(_difference(one, other) for one, other in pairs)]
    while True:
        # What has to stay as a whole is a number, by which others may be settled.
        balances = [_settled(balance, part, held) for balance in balances]
        whole = {bucket for balance in balances if (bucket := _whole(balance, part)) is not None}
        if not whole - held:
            break
        held |= whole
    return replace(
        part,
        buckets=tuple(replace(b, forced=True) if place in held else b for place, b in enumerate(part.buckets)),
        sizes=(*part.sizes, *(r.cells[0] for r in part.rectangles)),
        rectangles=(),
        balances=tuple(balance for balance in balances if balance.keep or balance.constant),
    )


def _settled(balance: Count, part: Part, held: Collection[int]) -> Count:
    """A balance in which the buckets that stay are numbers."""
    constant = sum(
        often * len(part.buckets[bucket].classes) for bucket, often in balance.keep.items() if bucket in held
    )
    keep = {bucket: often for bucket, often in balance.keep.items() if bucket not in held}
    return replace(balance, constant=balance.constant + constant, keep=keep)


def _whole(balance: Count, part: Part) -> int | None:
    """The bucket of which a balance asks that all of it stays."""
    if len(balance.keep) != 1:
        return None
    ((bucket, often),) = balance.keep.items()
    return bucket if balance.constant + often * len(part.buckets[bucket].classes) == 0 else None


def _difference(one: Count, other: Count) -> Count:
    keep = {bucket: one.keep.get(bucket, 0) - other.keep.get(bucket, 0) for bucket in {**one.keep, **other.keep}}
    return Count(one.constant - other.constant, {bucket: often for bucket, often in keep.items() if often}, {})


class Share(NamedTuple):
    """What a bucket is in the smaller part: `often` of its classes go with one of a bucket there."""

    place: int
    often: int


def united(part: Part) -> tuple[Part, tuple[Share, ...]]:
    """The part with one bucket for all that balances keep equal, or in proportion, whatever else goes.

    Prices see one choice then, instead of several and what keeps them equal: their bounds are far closer.

    Returns:
        The part, and what each of the given buckets is in it.
    """
    shares = _shares(part)
    places = sorted({share.place for share in shares})
    if len(places) == len(part.buckets):
        return part, shares

    def count(given: Count) -> Count:
        keep: dict[int, int] = {}
        for bucket, often in given.keep.items():
            place, times = shares[bucket]
            keep[place] = keep.get(place, 0) + often * times
        return replace(given, keep={bucket: often for bucket, often in keep.items() if often})

    members: list[list[tuple[Bucket, int]]] = [[] for _ in places]
    for bucket, share in zip(part.buckets, shares, strict=True):
        members[share.place].append((bucket, share.often))
    balances = tuple(map(count, part.balances))
    budgets = (_budget(budget, count) for budget in part.budgets)
    small = replace(
        part,
        buckets=tuple(map(_together, members)),
        sizes=tuple(map(count, part.sizes)),
        wishes=tuple(Wish(count(wish.count), wish.target) for wish in part.wishes),
        rectangles=tuple(
            r._replace(
                rows=tuple(shares[row].place if row >= 0 else row for row in r.rows), cells=tuple(map(count, r.cells))
            )
            for r in part.rectangles
        ),
        balances=tuple(one for one in balances if not one.rigid or one.constant),
        budgets=tuple(budget for budget in budgets if _equation(budget) != {}),
        grids=tuple(grid._replace(size=count(grid.size)) for grid in part.grids),
        numbers=tuple(range(len(places))),
    )
    return small, shares


def _shares(part: Part) -> tuple[Share, ...]:
    apart = {row for rectangle in part.rectangles for row in rectangle.rows}
    apart |= {place for place, bucket in enumerate(part.buckets) if bucket.forced is not None}
    ratios: dict[int, dict[int, Fraction]] = {place: {} for place in range(len(part.buckets))}
    equations: list[dict[int, Fraction]] = [
        {bucket: Fraction(often) for bucket, often in balance.keep.items()}
        for balance in part.balances
        if not balance.constant and not balance.new
    ]
    equations += [known for budget in part.budgets if (known := _equation(budget))]
    for equation in equations if not part.slots and not part.shared else ():
        if len(equation) == 2 and apart.isdisjoint(equation):
            (one, factor), (other, against) = equation.items()
            if factor * against < 0:
                ratios[one].setdefault(other, -factor / against)
                ratios[other].setdefault(one, -against / factor)
    groups: list[dict[int, Fraction]] = []
    seen: set[int] = set()
    for first in ratios:
        if first not in seen:
            group = {first: Fraction(1)}
            queue = [first]
            for place in queue:
                for other, ratio in ratios[place].items():
                    if other not in group:
                        group[other] = group[place] * ratio
                        queue.append(other)
            seen |= group.keys()
            groups.append(group)
    found: dict[int, Share] = {}
    for number, group in enumerate(groups):
        unit = Fraction(
            gcd(*(amount.numerator for amount in group.values())),
            lcm(*(amount.denominator for amount in group.values())),
        )
        found |= {place: Share(number, int(amount / unit)) for place, amount in group.items()}
    return tuple(found[place] for place in range(len(part.buckets)))


def _equation(budget: Budget) -> dict[int, Fraction] | None:
    """How often each bucket counts in a sum that has to be zero; `None` for any other budget."""
    if budget.low is None or budget.low != budget.high or budget.gauges:
        return None
    total, found = budget.constant - budget.low, dict[int, Fraction]()
    for term in budget.terms:
        if len(term.over) != 1 or term.under or term.over[0].new:
            return None
        total += term.factor * term.over[0].constant
        for bucket, often in term.over[0].keep.items():
            found[bucket] = found.get(bucket, Fraction(0)) + term.factor * often
    return None if total else {bucket: factor for bucket, factor in found.items() if factor}


def _together(members: Sequence[tuple[Bucket, int]]) -> Bucket:
    """One bucket, of which each class is so many of each of the others."""
    if len(members) == 1 and members[0][1] == 1:
        return members[0][0]
    most = min(len(bucket.classes) // often for bucket, often in members)
    steps = [bucket.utilities[: most * often].reshape(most, often).sum(axis=1) for bucket, often in members]
    neurons = sum(bucket.neurons * often for bucket, often in members)
    return Bucket(members[0][0].classes[:most], np.sum(steps, axis=0), neurons, -1)


def _budget(budget: Budget, count: Callable[[Count], Count]) -> Budget:
    terms = (Monomial(t.factor, tuple(map(count, t.over)), tuple(map(count, t.under))) for t in budget.terms)
    gauges = (gauge._replace(sizes=tuple(map(count, gauge.sizes))) for gauge in budget.gauges)
    return replace(budget, terms=tuple(terms), gauges=tuple(gauges))
