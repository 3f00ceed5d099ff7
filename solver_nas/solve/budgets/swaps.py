"""Better states near a point that keeps all rows: one choice moves, or two at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from solver_nas.labels import IntArray
    from solver_nas.solve.budgets.descent import Landscape, Point
    from solver_nas.utility import FloatArray

_REACH = 3  # steps of a choice that are tried
_TRIES = 60  # pairs of moves that are looked at exactly, per step
_MOST_STEPS = 400
_ASTRAY = 10  # steps on which nothing gets better
_PAIRED = 1500  # moves of which all pairs are looked at; more would take seconds
_FEASIBLE = 1e-11  # relative to a limit, which is scaled to one


def better_solution(
    landscape: Landscape, point: Point, worth: float, solves: Callable[[Point], bool], deadline: float
) -> Point | None:
    """What a point can be improved to, or else the point itself, if that is a solution and worth more.

    Args:
        landscape: the field.
        point: anything.
        worth: what is known already.
        solves: whether a point is a solution: there may be rules that the field does not know.
        deadline: on the clock of `time.perf_counter`.
    """
    if (point.excess > _FEASIBLE).any():
        return None
    tries = (improve(landscape, point, deadline), point)
    return next((one for one in tries if one.gain > worth and solves(one)), None)


def improve(landscape: Landscape, point: Point, deadline: float) -> Point:
    """Move until no move of one or two choices is better.

    Args:
        landscape: the field.
        point: keeps all rows.
        deadline: on the clock of `time.perf_counter`.
    """
    for _ in range(_MOST_STEPS):
        if time.perf_counter() > deadline:
            break
        states = _better(landscape, point)
        if states is None:
            break
        point = landscape.point(states, point.prices)
    return point


def fit(landscape: Landscape, point: Point, deadline: float) -> Point:
    """Give up what is worth least for its room until all rows are kept, as far as that succeeds.

    Args:
        landscape: the field.
        point: anything.
        deadline: on the clock of `time.perf_counter`.
    """
    best, moved, astray = point, set[int](), 0
    for _ in range(_MOST_STEPS):
        if not (point.excess > _FEASIBLE).any() or time.perf_counter() > deadline:
            break
        where, to, gains, costs = _moves(landscape, point)
        relief = np.maximum(point.excess, 0.0) - np.maximum(point.excess + costs, 0.0)
        freed, free = relief.sum(axis=1), ~np.isin(where, [*moved])
        if not (free & (freed > _ROUNDING)).any():
            freed = relief[:, point.excess > _FEASIBLE].sum(axis=1)
        useful = np.flatnonzero(free & (freed > _ROUNDING))
        lost = -gains[useful] / freed[useful]
        moves: dict[int, int] = {}
        left = point.excess.copy()
        # As many at once as seem to do, one for each choice; what that comes to is seen in the next turn.
        for at in useful[np.argsort(lost, kind="stable")]:
            if not (left > _FEASIBLE).any():
                break
            if int(where[at]) not in moves:
                moves[int(where[at])] = int(to[at])
                left += costs[at]
        if not moves:
            break
        point = landscape.point(_moved(point.states, [*moves.items()]), point.prices)
        if point.violation < best.violation:
            best, astray = point, 0
            moved.clear()
        else:
            # What helps one row may be at the cost of another, for which others make room; these stay where they are.
            moved |= moves.keys()
            astray += 1
            if astray > _ASTRAY:
                break
    return best


def _better(landscape: Landscape, point: Point) -> IntArray | None:
    where, to, gains, costs = _moves(landscape, point)
    if not len(where):
        return None
    room = -point.excess + _ROUNDING
    fits = (costs <= room).all(axis=1) & (gains > 0)
    if fits.any():
        # A move that costs next to nothing first, then the best for its price.
        paid = np.maximum(costs[fits] @ point.prices, 0.0)
        order = np.argsort(-gains[fits] / (paid + 1e-12 * (1 + paid.max())), kind="stable")
        for at in np.flatnonzero(fits)[order[:_TRIES]]:
            states = _moved(point.states, [(where[at], to[at])])
            if (landscape.excess(states) <= _ROUNDING).all():
                return states
    if len(where) > _PAIRED:
        # Those that gain most for what they cost; among so many, there are pairs enough.
        best = np.argsort(-(gains - costs @ point.prices), kind="stable")[:_PAIRED]
        where, to, gains, costs = where[best], to[best], gains[best], costs[best]
    both = gains[:, None] + gains[None, :]
    apart = where[:, None] < where[None, :]
    tiny = 1e-12 * max(abs(point.gain), 1.0)
    # What two moves cost together differs a little from the sum, so that near misses are looked at as well.
    near = np.ones(both.shape, bool)
    for row in range(costs.shape[1]):
        total = costs[:, None, row] + costs[None, :, row]
        slack = 0.02 * (np.abs(costs[:, None, row]) + np.abs(costs[None, :, row]))
        near &= total - slack <= room[row]
    first, second = np.nonzero(apart & near & (both > tiny))
    order = np.argsort(-both[first, second], kind="stable")[:_TRIES]
    for one, other in zip(first[order], second[order], strict=True):
        states = _moved(point.states, [(where[one], to[one]), (where[other], to[other])])
        if (landscape.excess(states) <= _ROUNDING).all() and landscape.gain(states) > point.gain + tiny:
            return states
    return None


_ROUNDING = 1e-12  # relative to a limit, which is scaled to one


def _moved(states: IntArray, moves: list[tuple[int, int]]) -> IntArray:
    found = states.copy()
    for place, state in moves:
        found[place] = state
    return found


def _moves(landscape: Landscape, point: Point) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    """Every choice's neighbouring states: the choice, the state, what it gains and what it costs in every row."""
    features = landscape.features(point.states)
    # For the move of one choice, tangents of products are exact unless both sizes depend on it; measured costs are
    # looked up.
    field, products = landscape.field, landscape.slopes(features, metered=False)
    where, to, gains, costs = [], [], [], []
    for place, choice in enumerate(field.choices):
        now, ranks = int(point.states[place]), landscape.ranks[place]
        near = np.flatnonzero((np.abs(ranks - ranks[now]) <= _REACH).all(axis=1))
        near = near[near != now]
        inside = choice.inside
        cost = (choice.features[near] - choice.features[now]) @ products[:, inside].T
        if landscape.meters_of[place]:
            both = landscape.metered(place, np.append(near, now), features)
            cost = cost + both[:-1] - both[-1]
        for number, row in enumerate(field.rows):
            if place in row.unary:
                cost[:, number] += row.unary[place][near] - row.unary[place][now]
        where.append(np.full(len(near), place))
        to.append(near)
        gains.append(choice.gain[near] - choice.gain[now])
        costs.append(cost)
    return np.concatenate(where), np.concatenate(to), np.concatenate(gains), np.concatenate(costs)
