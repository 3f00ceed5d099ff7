"""A bound for selections in which a row of an irregular rectangle goes, which prices do not look at otherwise."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from solver_nas.problem import Monomial
from solver_nas.solve.budgets.cells import Cells
from solver_nas.solve.budgets.descent import Landscape, descend, settle
from solver_nas.solve.budgets.field import TooComplexError, survey

if TYPE_CHECKING:
    from solver_nas.solve.budgets.field import Field
    from solver_nas.solve.parts import Part


def dead_bound(part: Part, field: Field, known: float, deadline: float) -> float:
    """Nothing in which one of the rows goes that were taken to live is worth more.

    The rectangles are given up, so that more is possible. If in everything that is worth more than what is known
    some cell of each row lives, no row can go.

    Args:
        part: what to choose.
        field: in which the rows were taken to live.
        known: less than that is not told apart.
        deadline: on the clock of `time.perf_counter`.

    Returns:
        The bound; minus infinity if it is at most what is known.
    """
    assumed = set(field.assumed)
    irregular = [rectangle for rectangle in part.rectangles if assumed & set(rectangle.rows)]
    budgets = tuple(
        replace(budget, terms=tuple(_lightest(term, assumed) for term in budget.terms)) for budget in part.budgets
    )
    rectangles = tuple(rectangle for rectangle in part.rectangles if rectangle not in irregular)
    try:
        loose = survey(replace(part, rectangles=rectangles, budgets=budgets), 0)
    except TooComplexError:
        return math.inf
    landscape = Landscape(loose)
    point = descend(landscape, deadline).point
    found = Cells(loose, point.prices, settle(landscape, point.states, point.prices)).bound(known, 0.0, deadline)
    empty = {
        bucket
        for choice, states in zip(loose.choices, found.open, strict=True)
        if choice.kept is not None
        for place, bucket in enumerate(choice.buckets)
        if len(states) and (choice.kept[states, place] == 0).any()
    }
    for rectangle in irregular:
        for row, cells in zip(rectangle.rows, rectangle.cells, strict=True):
            if row in assumed and not cells.constant and set(cells.keep) <= empty:
                return found.bound
    return -math.inf


def _lightest(term: Monomial, assumed: set[int]) -> Monomial:
    """A product by as many rows as there can be, so that it is no more than it will be."""
    factor, under = term.factor, []
    for count in term.under:
        if assumed & set(count.keep):
            factor /= Fraction(count.constant + sum(count.keep.values()))
        else:
            under.append(count)
    return Monomial(factor, term.over, tuple(under))
