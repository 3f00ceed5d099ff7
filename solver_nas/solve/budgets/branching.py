"""Branch and bound over the states of a field: the open states of one choice are divided, and each half is priced.

It closes what prices leave open where few states are left: near the best solution, all that is wrong with prices is
that states are whole.

Source: Land and Doig 1960; with Lagrangian bounds, Fisher 1981; steps of the prices, Polyak 1969.
"""

from __future__ import annotations

import heapq
import itertools
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from solver_nas.solve.budgets.cells import Cells
from solver_nas.solve.budgets.descent import Landscape, settle
from solver_nas.solve.budgets.swaps import better_solution

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from solver_nas.labels import IntArray
    from solver_nas.solve.budgets.descent import Point
    from solver_nas.solve.budgets.pricing import Priced
    from solver_nas.utility import FloatArray

_STEPS = 4  # of the prices at every node


class _Node(NamedTuple):
    """Some of the states of every choice.

    Args:
        bound: nothing in it is worth more.
        states: of every choice, ascending.
        prices: at which that was found.
        seen: what was best at one price or another, shape (points, choices).
    """

    bound: float
    states: tuple[IntArray, ...]
    prices: FloatArray
    seen: IntArray


class Branching:
    """The search; `run` may be called again, to go on where it stopped."""

    def __init__(
        self, landscape: Landscape, priced: Priced, known: float, gap: float, solves: Callable[[Point], bool]
    ) -> None:
        """Start with what prices have left open.

        Args:
            landscape: the choices.
            priced: what prices have shown.
            known: what some solution is worth.
            gap: a bound that is so close, as a fraction, is good enough.
            solves: whether a point is a solution.
        """
        self._landscape, self._field, self._solves = landscape, landscape.field, solves
        self._gap, self.known = gap, known
        #: The best point found here that is better than what was known.
        self.point: Point | None = None
        self._ticket = itertools.count()
        self._heap: list[tuple[float, int, _Node]] = []
        self._push(_Node(priced.bound, priced.open, priced.prices, np.zeros((0, len(priced.open)), np.int64)))

    @property
    def bound(self) -> float:
        """Nothing is worth more."""
        return max(self.known, -self._heap[0][0] if self._heap else self.known)

    def run(self, deadline: float) -> float:
        """Divide the most promising node until the bound is close enough; the bound.

        Args:
            deadline: on the clock of `time.perf_counter`.
        """
        while self._heap and self.bound - self.known > self._gap * abs(self.bound):
            if time.perf_counter() > deadline:
                break
            _, _, node = heapq.heappop(self._heap)
            for states in self._halves(node):
                child = self._look(states, node, deadline)
                if child is not None:
                    self._push(child)
        return self.bound

    def _push(self, node: _Node) -> None:
        heapq.heappush(self._heap, (-node.bound, next(self._ticket), node))

    def _halves(self, node: _Node) -> list[tuple[IntArray, ...]]:
        """The states of the choice about which prices cannot decide, in two; a single point as it is."""
        spreads, costs, middles = [], [], []
        middle = self._landscape.features(np.array([states[len(states) // 2] for states in node.states]))
        slopes = node.prices @ self._landscape.slopes(middle)
        for place, (choice, states) in enumerate(zip(self._field.choices, node.states, strict=True)):
            cost = choice.features[states] @ slopes[choice.inside]
            for price, row in zip(node.prices, self._field.rows, strict=True):
                if price and place in row.unary:
                    cost = cost + price * row.unary[place][states]
            among = cost[np.isin(states, node.seen[:, place])]
            apart = float(np.ptp(among)) if len(among) else 0.0
            spreads.append((len(states) > 1, apart, float(np.ptp(cost)) + float(np.ptp(choice.gain[states]))))
            costs.append(cost)
            middles.append(float(among.min() + among.max()) / 2 if apart else np.inf)
        place = max(range(len(spreads)), key=lambda one: spreads[one])
        states = node.states[place]
        if len(states) < 2:
            return [node.states]
        order = states[np.argsort(costs[place], kind="stable")]
        half = int((costs[place] <= middles[place]).sum())
        half = half if half < len(order) else len(order) // 2
        return [
            (*node.states[:place], np.sort(part), *node.states[place + 1 :]) for part in (order[:half], order[half:])
        ]

    def _look(self, states: tuple[IntArray, ...], parent: _Node, deadline: float) -> _Node | None:
        """Bound some states; nothing if none of them is worth more than what is known."""
        field = self._field.only(states)
        landscape = Landscape(field)
        centre = np.array([int(choice.gain.argmax()) for choice in field.choices], np.int64)
        best, prices, at = parent.bound, parent.prices, parent.prices
        remaining = [np.arange(len(one)) for one in states]
        seen = []
        for _ in range(_STEPS):
            centre = settle(landscape, centre, prices)
            found = Cells(field, prices, centre).bound(self.known, self._gap * abs(self.known) / 4, deadline)
            remaining = [np.intersect1d(old, new) for old, new in zip(remaining, found.open, strict=True)]
            if not all(map(len, remaining)):
                return None
            point = landscape.point(found.best, prices)
            seen.append([int(one[state]) for one, state in zip(states, found.best, strict=True)])
            self._offer(landscape, point, states, deadline)
            if found.bound < best:
                best, at = found.bound, prices
            if best - self.known <= self._gap * abs(best):
                break
            centre = found.best
            # Where a row is exceeded it becomes dearer, where something is left, cheaper.
            slope = np.where((prices > 0) | (point.excess > 0), point.excess, 0.0)
            length = float(slope @ slope)
            if not length or not np.isfinite(self.known):
                break
            prices = np.maximum(prices + (found.bound - self.known) / length * slope, 0.0)
        if all(len(one) == 1 for one in remaining):
            # A single point: it is better than what was known, or no solution.
            alone = landscape.point(np.array([int(one[0]) for one in remaining]), prices)
            self._offer(landscape, alone, states, deadline)
            return None
        open_states = tuple(one[keep] for one, keep in zip(states, remaining, strict=True))
        return _Node(best, open_states, at, np.array(seen, np.int64))

    def _outside(self, point: Point, states: Sequence[IntArray]) -> Point:
        """A point of some states as one of all of them."""
        places = [int(mine[state]) for mine, state in zip(states, point.states, strict=True)]
        return self._landscape.point(np.array(places, np.int64), point.prices)

    def _offer(self, landscape: Landscape, point: Point, states: Sequence[IntArray], deadline: float) -> None:
        """Take a point of some states if it is a solution, and better."""
        found = better_solution(
            landscape, point, self.known, lambda one: self._solves(self._outside(one, states)), deadline
        )
        if found is not None:
            self.point, self.known = self._outside(found, states), found.gain
