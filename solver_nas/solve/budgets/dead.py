"""A bound for selections in which a row of an irregular rectangle goes, which prices do not look at otherwise."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from solver_nas.problem import Monomial
from solver_nas.solve.budgets.cells import Cells
from solver_nas.solve.budgets.descent import Landscape, descend, settle
from solver_nas.solve.budgets.survey import TooComplexError, survey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.problem import Rectangle
    from solver_nas.solve.budgets.field import Field
    from solver_nas.solve.parts import Part


_CELLS = 24  # of a choice: what loses a whole row is far from the best, so that a loose bound will do


def dead_bound(part: Part, field: Field, most: int, known: float, deadline: float) -> float:
    """Nothing in which one of the rows goes that were taken to live is worth more.

    For each of these rows: its cells go, and the other rectangles need not be rectangles any more.

    Args:
        part: what to choose.
        field: in which the rows were taken to live.
        most: how many new neurons a slot may get.
        known: less than that is not told apart.
        deadline: on the clock of `time.perf_counter`.

    Returns:
        The bound; minus infinity if it is at most what is known, infinity if there was no time to find out.
    """
    assumed = set(field.assumed)
    irregular = [rectangle for rectangle in part.rectangles if assumed & set(rectangle.rows)]
    deaths = _deaths(part.rectangles, assumed)
    if not deaths:
        return -math.inf
    budgets = tuple(
        replace(budget, terms=tuple(_lightest(term, assumed) for term in budget.terms))
        for budget in part.budgets
        # What may not be too little is given up where it depends on the rows.
        if budget.low is None or not any(_by_rows(term, assumed) for term in budget.terms)
    )
    rectangles = tuple(rectangle for rectangle in part.rectangles if rectangle not in irregular)
    worst = -math.inf
    for gone in deaths:
        if any(part.buckets[bucket].forced for bucket in gone):
            continue
        if time.perf_counter() > deadline:
            return math.inf
        buckets = tuple(replace(b, forced=False) if place in gone else b for place, b in enumerate(part.buckets))
        try:
            dead = survey(replace(part, buckets=buckets, rectangles=rectangles, budgets=budgets), most)
        except TooComplexError:
            return math.inf
        if not dead.choices:
            return math.inf
        if any(not len(choice.gain) for choice in dead.choices):
            continue
        landscape = Landscape(dead)
        point = descend(landscape, deadline).point
        states = settle(landscape, point.states, point.prices)
        found = Cells(dead, point.prices, states, _CELLS).bound(known, 0.0, deadline)
        if found.bound > known:
            worst = max(worst, found.bound)
    return worst


def _deaths(rectangles: Sequence[Rectangle], assumed: set[int]) -> list[frozenset[int]]:
    """For every row that may go, the buckets that go with it; without those that contain another one."""
    cells_of: dict[int, set[frozenset[int]]] = {}
    lives: set[frozenset[int]] = set()
    for rectangle in rectangles:
        for row, cells in zip(rectangle.rows, rectangle.cells, strict=True):
            if row in assumed and not cells.constant:
                cells_of.setdefault(row, set()).add(frozenset(cells.keep))
            elif row < 0 and not cells.constant:
                lives.add(frozenset(cells.keep))
    # Cells of a row that lives are not empty, and where cells are not empty, their row lives.
    grown = True
    while grown:
        grown = False
        for row, sets in list(cells_of.items()):
            if any(known <= mine for mine in sets for known in lives):
                lives |= cells_of.pop(row)
                grown = True
    found = {mine for sets in cells_of.values() for mine in sets}
    return sorted((one for one in found if not any(other < one for other in found)), key=sorted)


def _by_rows(term: Monomial, assumed: set[int]) -> bool:
    """Whether a product is divided by rows that may go."""
    return any(assumed & set(count.keep) for count in term.under)


def _lightest(term: Monomial, assumed: set[int]) -> Monomial:
    """A product by as many rows as there can be, so that it is no more than it will be."""
    factor, under = term.factor, []
    for count in term.under:
        if assumed & set(count.keep):
            most = count.constant + sum(count.keep.values())
            factor /= Fraction(most if factor > 0 else max(count.constant, 1))
        else:
            under.append(count)
    return Monomial(factor, term.over, tuple(under))
