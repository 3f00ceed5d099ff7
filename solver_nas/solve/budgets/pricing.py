"""The best prices of a field's rows: those whose bound is lowest.

Source: Lagrangian duality, Geoffrion 1974; the prices are found by cutting planes, Kelley 1960.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.solve.budgets.cells import Cells
from solver_nas.solve.budgets.descent import Descent, Landscape, Point, descend, settle
from solver_nas.solve.budgets.swaps import better_solution
from solver_nas.solve.linear import is_solved, linear_solver

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from solver_nas.labels import IntArray
    from solver_nas.utility import FloatArray

_ROUNDS = 16
_FIRST_REACH = 0.03  # of a price: how far the next one may be from the best one so far (a box, Marsten 1975)
_LEAST_REACH = 1e-5
_LEAST_ROOM = 1e-2  # of the highest price: how far a price of zero can go


@dataclass(frozen=True, slots=True, eq=False)
class Priced:
    """What prices have shown.

    Args:
        point: the best states that keep all rows; `None` if none were found.
        bound: no states that keep all rows are worth more.
        open: for every choice, which of its states can be part of something better.
        method: how the bound was found.
        prices: of the rows, at which the bound holds.
        exact: whether no variable had to be split.
    """

    point: Point | None
    bound: float
    open: tuple[IntArray, ...]
    method: str
    prices: FloatArray
    exact: bool


def price(
    landscape: Landscape,
    start: Descent,
    gap: float,
    deadline: float,
    known: float = -np.inf,
    solves: Callable[[Point], bool] = lambda _: True,
) -> Priced:
    """Look for good states and for prices that show how good they are.

    Args:
        landscape: the choices.
        start: where to begin.
        gap: a bound that is so close, as a fraction, is good enough.
        deadline: on the clock of `time.perf_counter`.
        known: what some solution is worth that was found in another way.
        solves: whether a point is a solution: there may be rules that the field does not know.
    """
    field = landscape.field
    best = better_solution(landscape, start.point, -np.inf, solves, deadline)
    prices, points = start.point.prices, [start.point]
    bound = field.base + float(sum(choice.gain.max() for choice in field.choices))
    opened, method = tuple(np.arange(len(choice.gain)) for choice in field.choices), "the sum of all utilities"
    middle, reach, exact = prices, _FIRST_REACH, True
    for _ in range(_ROUNDS):
        centre = max(points, key=lambda point: point.gain - float(prices @ point.excess))
        states = settle(landscape, centre.states, prices)
        reached = max(known, best.gain if best is not None else -np.inf)
        floor = reached if np.isfinite(reached) else _floor(landscape)
        found = Cells(field, prices, states).bound(floor, gap * abs(floor) / 4, deadline)
        opened = tuple(np.intersect1d(old, new) for old, new in zip(opened, found.open, strict=True))
        exact = exact and found.exact
        if found.bound < bound:
            bound, method, middle = found.bound, found.method, prices
        else:
            reach /= 3
        if bound - reached <= gap * max(abs(bound), 1e-300):
            break
        if time.perf_counter() > deadline or reach < _LEAST_REACH:
            break
        other = settle(landscape, found.best, prices)
        points += [landscape.point(states, prices), landscape.point(found.best, prices), landscape.point(other, prices)]
        # Where the prices lead elsewhere, something better may be found there.
        elsewhere = descend(landscape, deadline, landscape.point(other, prices))
        found_there = better_solution(
            landscape, elsewhere.point, -np.inf if best is None else best.gain, solves, deadline
        )
        moved = best is not None and found_there is not None and not np.array_equal(prices, elsewhere.point.prices)
        best = best if found_there is None else found_there
        if best is not None:
            points.append(best)
        prices = elsewhere.point.prices if moved else _next_prices(points, middle, reach)
    return Priced(best, max(bound, best.gain if best else bound), opened, method, middle, exact)


def _floor(landscape: Landscape) -> float:
    """Less than anything is worth."""
    field = landscape.field
    return field.base + float(sum(choice.gain.min() for choice in field.choices)) - 1.0


def _next_prices(points: Sequence[Point], middle: FloatArray, reach: float) -> FloatArray:
    """The prices near the best ones so far at which the best of all points seen is worth least."""
    solver = linear_solver()
    usual = float(middle.max(initial=0.0)) or 1e-3 * max(abs(point.gain) for point in points)
    rooms = reach * np.maximum(middle, _LEAST_ROOM * usual)
    ends = zip(np.maximum(middle - rooms, 0.0).tolist(), (middle + rooms).tolist(), strict=True)
    prices = [solver.NumVar(low, high, "") for low, high in ends]
    top = solver.NumVar(-solver.infinity(), solver.infinity(), "")
    most = max(point.gain for point in points)
    for point in points:
        row = solver.RowConstraint(point.gain - most, solver.infinity(), "")
        row.SetCoefficient(top, 1.0)
        for variable, excess in zip(prices, point.excess, strict=True):
            row.SetCoefficient(variable, float(excess))
    solver.Minimize(top)
    if not is_solved(solver):
        return middle
    return np.array([variable.solution_value() for variable in prices])
