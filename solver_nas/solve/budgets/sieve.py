"""States of a field that can be left out: a limit rules them out, or another one is as good in everything."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.problem import Count
from solver_nas.solve.budgets.field import Field, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from solver_nas.solve.parts import Part
    from solver_nas.utility import FloatArray

_ROUNDING = 1e-9  # relative to a limit, which is scaled to one


def sifted(field: Field, part: Part, value: Callable[[Count], tuple[FloatArray, float]]) -> Field:
    """Without the states that a limit on one choice rules out, and the shapes that others dominate.

    Args:
        field: all states.
        part: what it was made from.
        value: a count's factors for all features, and its constant.
    """
    stay = [np.ones(len(choice.gain), bool) for choice in field.choices]

    def of(vector: FloatArray, constant: float) -> tuple[int, FloatArray] | None:
        owners = set(field.owner[np.flatnonzero(vector)].tolist())
        if len(owners) != 1:
            return None
        one = owners.pop()
        mine = field.choices[one]
        return one, mine.features @ vector[mine.inside] + constant

    for grid in part.grids:
        found = of(*value(grid.size))
        if found is not None:
            one, size = found
            stay[one] &= ((size % grid.step == 0) & (size >= grid.step)) | np.isin(size, list(grid.also))
    for count in part.sizes:
        found = of(*value(Count(0, count.keep, {})))
        if found is not None:
            one, size = found
            stay[one] &= size + count.constant >= 1
    rows = []
    for row in field.rows:
        alone = not (row.pairs or row.unary or row.meters)
        found = of(row.linear, 0.0) if alone else None
        if found is None:
            rows.append(row)
        else:
            one, size = found
            stay[one] &= size <= row.high + _ROUNDING
    for place, choice in enumerate(field.choices):
        if choice.blocks:
            stay[place] &= _undominated(field, rows, place, stay[place])
    return replace(field, rows=tuple(rows)).only([np.flatnonzero(keep) for keep in stay])


def _undominated(field: Field, rows: Sequence[Row], place: int, stay: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The shapes of a block for which no other one is worth as much and costs no more, whatever the prices."""
    choice = field.choices[place]
    inside = choice.inside
    used = field.sizes[:, inside].any(axis=0)
    for row in rows:
        used |= row.linear[inside] != 0
        if any(field.sizes[size, inside].any() for meter in row.meters for size in meter.sizes):
            return np.ones(len(stay), bool)
        products = [field.sizes[size, inside] for pair in row.pairs for size in (pair.left, pair.right)]
        falls = (row.linear[inside] < 0).any() or any(pair.factor < 0 for pair in row.pairs)
        if place in row.unary or falls or any((product < 0).any() for product in products):
            return np.ones(len(stay), bool)
    columns = np.flatnonzero(used)
    if len(columns) > 2 or not stay.any():
        return np.ones(len(stay), bool)
    ranks = [np.unique(choice.features[:, column], return_inverse=True)[1].reshape(-1) for column in columns]
    while len(ranks) < 2:
        ranks.append(np.zeros(len(stay), np.int64))
    table = np.full((int(ranks[0].max()) + 1, int(ranks[1].max()) + 1), -np.inf)
    np.maximum.at(table, (ranks[0][stay], ranks[1][stay]), choice.gain[stay])
    best = np.maximum.accumulate(np.maximum.accumulate(table, axis=0), axis=1)
    below = np.full_like(table, -np.inf)
    below[1:] = best[:-1]
    below[:, 1:] = np.maximum(below[:, 1:], best[:, :-1])
    good = stay & (choice.gain >= table[ranks[0], ranks[1]]) & (choice.gain > below[ranks[0], ranks[1]])
    # Of shapes that are alike in everything, the first one.
    _, first = np.unique(np.stack([ranks[0], ranks[1], ~good]), axis=1, return_index=True)
    once = np.zeros(len(stay), bool)
    once[first] = True
    return good & once
