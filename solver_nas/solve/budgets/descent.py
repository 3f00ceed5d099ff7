"""A good solution of a field, and the prices that go with it.

Products of sizes are replaced by their tangents at the present solution, which leaves a linear program over the states
near it; its solution is the next one. A linear program is solved by column generation: every choice offers the state
that is best at the present prices, until no offer is better. Its dual solution are the prices of the rows.

Source: sequential linear programming with a trust region, Griffith and Stewart 1961, Fletcher 1987 (chapter 12);
column generation, Dantzig and Wolfe 1960.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csc_array

from solver_nas.solve.budgets.swaps import fit
from solver_nas.solve.linear import is_solved, linear_solver

if TYPE_CHECKING:
    from solver_nas.labels import IntArray
    from solver_nas.solve.budgets.field import Field
    from solver_nas.utility import FloatArray

_MOST_STEPS = 40
_MOST_ROUNDS = 60  # of column generation
_FIRST_REACH = 0.5  # of a size: how far a step may go
_LEAST_REACH = 1e-3
_SHARE = 1e-9  # a smaller share of a state is rounding
_NEIGHBOURS = 2  # steps of a coarse size that are always within reach


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """A state for every choice, and what it comes to.

    Args:
        states: of every choice.
        gain: what it is worth.
        excess: by how much every row is exceeded (negative: what is left).
        prices: of the rows.
    """

    states: IntArray
    gain: float
    excess: FloatArray
    prices: FloatArray

    @property
    def violation(self) -> float:
        """The sum of what is exceeded."""
        return float(np.maximum(self.excess, 0.0).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """Shares of states for every choice: a solution of the relaxation.

    Args:
        shares: for every choice, state -> share.
        features: the mean.
        gain: the mean.
        unary: what every row's costs by state come to.
        excess: by how much every row is exceeded.
    """

    shares: list[dict[int, float]]
    features: FloatArray
    gain: float
    unary: FloatArray
    excess: FloatArray

    @property
    def violation(self) -> float:
        """The sum of what is exceeded."""
        return float(np.maximum(self.excess, 0.0).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Descent:
    """Where the way has led: states, and the mixture that they are rounded from."""

    point: Point
    mixed: Mixture


class Landscape:
    """A field with its rows as arrays, to be evaluated quickly."""

    def __init__(self, field: Field) -> None:
        """Collect the rows."""
        self.field = field
        self.linear = np.array([row.linear for row in field.rows]).reshape(len(field.rows), field.width)
        self.high = np.array([row.high for row in field.rows])
        self.ranks = [
            np.stack([np.unique(column, return_inverse=True)[1].reshape(-1) for column in choice.features.T], axis=1)
            for choice in field.choices
        ]
        pairs = [(number, pair) for number, row in enumerate(field.rows) for pair in row.pairs]
        self.pair_row = np.array([number for number, _ in pairs], np.int64)
        self.left = np.array([pair.left for _, pair in pairs], np.int64)
        self.right = np.array([pair.right for _, pair in pairs], np.int64)
        self.factor = np.array([pair.factor for _, pair in pairs])
        self.meters = [(number, meter) for number, row in enumerate(field.rows) for meter in row.meters]
        #: The meters that a choice has a part in.
        self.meters_of = [
            [
                (number, meter)
                for number, meter in self.meters
                if any(field.sizes[size, choice.inside].any() for size in meter.sizes)
            ]
            for choice in field.choices
        ]

    def sizes(self, features: FloatArray) -> FloatArray:
        """All sizes that stand in products or are measured."""
        field = self.field
        return np.asarray(field.sizes @ features + field.offsets) if len(field.offsets) else np.zeros(0)

    def metered(self, place: int, states: IntArray, features: FloatArray) -> FloatArray:
        """What measured costs come to if one choice moves, shape (states, rows); the others stand at `features`."""
        choice, total = self.field.choices[place], np.zeros((len(states), len(self.high)))
        if not self.meters_of[place]:
            return total
        inside, sizes = choice.inside, self.sizes(features)
        moved = choice.features[states] - features[inside]
        for number, meter in self.meters_of[place]:
            at = [sizes[size] + moved @ self.field.sizes[size, inside] for size in meter.sizes]
            total[:, number] += meter.factor * meter.function(*at)
        return total

    def features(self, states: IntArray) -> FloatArray:
        """All features at these states."""
        parts = [choice.features[state] for choice, state in zip(self.field.choices, states, strict=True)]
        return np.asarray(np.concatenate([np.zeros(0), *parts]))

    def gain(self, states: IntArray) -> float:
        """What these states are worth."""
        return self.field.base + float(
            sum(choice.gain[state] for choice, state in zip(self.field.choices, states, strict=True))
        )

    def excess(self, states: IntArray) -> FloatArray:
        """By how much every row is exceeded."""
        unary = np.zeros(len(self.high))
        for number, row in enumerate(self.field.rows):
            for place, costs in row.unary.items():
                unary[number] += costs[states[place]]
        return self._excess(self.features(states), unary)

    def _excess(self, features: FloatArray, unary: FloatArray) -> FloatArray:
        total = self.linear @ features - self.high + unary
        if len(self.factor):
            sizes = self.sizes(features)
            np.add.at(total, self.pair_row, self.factor * sizes[self.left] * sizes[self.right])
        if self.meters:
            sizes = self.sizes(features)
            for number, meter in self.meters:
                total[number] += meter.factor * float(meter.function(*(sizes[size] for size in meter.sizes)))
        result: FloatArray = total
        return result

    def mixture(self, shares: list[dict[int, float]]) -> Mixture:
        """A mixture of states."""
        features = np.zeros(self.field.width)
        gain, unary = self.field.base, np.zeros(len(self.high))
        for choice, mine in zip(self.field.choices, shares, strict=True):
            inside = choice.inside
            for state, share in mine.items():
                features[inside] += share * choice.features[state]
                gain += share * float(choice.gain[state])
        for number, row in enumerate(self.field.rows):
            for place, costs in row.unary.items():
                unary[number] += sum(share * float(costs[state]) for state, share in shares[place].items())
        return Mixture(shares, features, gain, unary, self._excess(features, unary))

    def slopes(self, features: FloatArray, *, metered: bool = True) -> FloatArray:
        """The derivative of every row, shape (rows, features); without measured costs if so wanted."""
        result = self.linear.copy()
        if len(self.factor):
            sizes = self.sizes(features)
            pull = np.zeros((len(self.high), len(sizes)))
            np.add.at(pull, (self.pair_row, self.left), self.factor * sizes[self.right])
            np.add.at(pull, (self.pair_row, self.right), self.factor * sizes[self.left])
            result += pull @ self.field.sizes
        if self.meters and metered:
            sizes = self.sizes(features)
            for number, meter in self.meters:
                at = [sizes[size] for size in meter.sizes]
                for place, size in enumerate(meter.sizes):
                    up, down = list(at), list(at)
                    up[place], down[place] = at[place] + 1, max(at[place] - 1, 0)
                    slope = float(meter.function(*up) - meter.function(*down)) / (up[place] - down[place])
                    result[number] += meter.factor * slope * self.field.sizes[size]
        return result

    def point(self, states: IntArray, prices: FloatArray) -> Point:
        """These states as a point."""
        return Point(states, self.gain(states), self.excess(states), prices)


def descend(landscape: Landscape, deadline: float, start: Point | None = None) -> Descent:
    """A point that keeps the rows as far as that was found, and is about as good as any.

    Args:
        landscape: the field.
        deadline: on the clock of `time.perf_counter`.
        start: where to begin; by default, at sizes that are all the same fraction of what they are.
    """
    point = _start(landscape) if start is None else start
    scale = max(abs(point.gain), sum(float(np.abs(c.gain).max()) for c in landscape.field.choices), 1e-12)
    mixed, prices = landscape.mixture([{int(state): 1.0} for state in point.states]), point.prices
    reach = _FIRST_REACH
    for _ in range(_MOST_STEPS):
        if reach < _LEAST_REACH or time.perf_counter() > deadline:
            break
        found, prices = _step(landscape, mixed, prices, reach, scale)
        # A price above those of the rows makes any violation a loss.
        penalty = 2 * float(prices.max(initial=0.0)) + scale * 1e-3
        merit, before = (one.gain - penalty * one.violation for one in (found, mixed))
        if merit > before + 1e-9 * scale:
            mixed = found
        else:
            reach /= 3
    states = np.array([_between(landscape, place, shares, mixed, prices) for place, shares in enumerate(mixed.shares)])
    rounded = landscape.point(states.astype(np.int64), prices)
    return Descent(fit(landscape, rounded, deadline), mixed)


def _start(landscape: Landscape) -> Point:
    """All sizes the same fraction of what they are now: the largest that keeps the rows as far as possible."""
    field = landscape.field
    prices = np.zeros(len(field.rows))
    tops = [choice.features.max(axis=0) for choice in field.choices]

    def at(fraction: float) -> IntArray:
        found = []
        for choice, top in zip(field.choices, tops, strict=True):
            far = np.abs(choice.features / np.maximum(top, 1.0) - fraction).max(axis=1)
            found.append(int(far.argmin()))
        return np.array(found, np.int64)

    low, high = 0.0, 1.0
    if landscape.point(at(1.0), prices).violation == 0:
        return landscape.point(at(1.0), prices)
    for _ in range(12):
        middle = (low + high) / 2
        nonlinear = [number for number, row in enumerate(field.rows) if row.pairs or row.unary or row.high > 0]
        fits = not (landscape.excess(at(middle))[nonlinear] > 0).any()
        low, high = (middle, high) if fits else (low, middle)
    return landscape.point(at(low), prices)


def _step(
    landscape: Landscape, mixed: Mixture, before: FloatArray, reach: float, scale: float
) -> tuple[Mixture, FloatArray]:
    """The best mixture of the linearised field within reach, and the prices of the rows."""
    field = landscape.field
    slopes = landscape.slopes(mixed.features)
    room = -mixed.excess + slopes @ mixed.features + mixed.unary
    middles = [max(shares, key=lambda state: (shares[state], -state)) for shares in mixed.shares]
    near = [
        np.union1d(_near(ranks, choice.features, state, reach), np.array([*shares], np.int64))
        for ranks, choice, state, shares in zip(landscape.ranks, field.choices, middles, mixed.shares, strict=True)
    ]
    costs = [_costs(slopes[:, choice.inside], field, place, near[place]) for place, choice in enumerate(field.choices)]
    solver = linear_solver()
    rows = [solver.RowConstraint(-solver.infinity(), float(high), "") for high in room]
    penalty = scale * 10
    for row in rows:
        over = solver.NumVar(0, solver.infinity(), "")
        row.SetCoefficient(over, -1.0)
        solver.Objective().SetCoefficient(over, -penalty)
    one = [solver.RowConstraint(1.0, 1.0, "") for _ in field.choices]
    solver.Objective().SetMaximization()
    columns: list[dict[int, object]] = [{} for _ in field.choices]

    def add(place: int, at: int) -> None:
        if at in columns[place]:
            return
        variable = solver.NumVar(0, solver.infinity(), "")
        columns[place][at] = variable
        solver.Objective().SetCoefficient(variable, float(field.choices[place].gain[near[place][at]]))
        one[place].SetCoefficient(variable, 1.0)
        column = costs[place][at]
        for number in np.flatnonzero(column):
            rows[number].SetCoefficient(variable, float(column[number]))

    def offer(prices: FloatArray) -> bool:
        fresh = False
        for place, choice in enumerate(field.choices):
            worth = choice.gain[near[place]] - costs[place] @ prices
            at = int(worth.argmax())
            known = max((worth[other] for other in columns[place]), default=-np.inf)
            if worth[at] > known + 1e-12 * scale:
                add(place, at)
                fresh = True
        return fresh

    for place in range(len(field.choices)):
        for state in mixed.shares[place]:
            for at in np.flatnonzero(near[place] == state):
                add(place, int(at))
        add(place, 0)
    offer(before)
    offer(np.zeros(len(rows)))
    prices = before
    for _ in range(_MOST_ROUNDS):
        if not is_solved(solver):
            return mixed, before
        prices = np.maximum(np.array([row.dual_value() for row in rows]), 0.0)
        if not offer(prices):
            break
    shares = []
    for place in range(len(field.choices)):
        found = {int(near[place][at]): variable.solution_value() for at, variable in columns[place].items()}  # type: ignore[attr-defined]
        total = sum(share for share in found.values() if share > _SHARE)
        shares.append({state: share / total for state, share in found.items() if share > _SHARE})
    return landscape.mixture(shares), prices


def _between(landscape: Landscape, place: int, shares: dict[int, float], mixed: Mixture, prices: FloatArray) -> int:
    """The state whose price is next below the mean of a mixture."""
    if len(shares) == 1:
        return next(iter(shares))
    choice = landscape.field.choices[place]
    inside = choice.inside
    paid = choice.features @ (prices @ landscape.slopes(mixed.features)[:, inside])
    for price, row in zip(prices, landscape.field.rows, strict=True):
        if price and place in row.unary:
            paid = paid + price * row.unary[place]
    mean = sum(share * float(paid[state]) for state, share in shares.items())
    low, high = (end(float(paid[state]) for state in shares) for end in (min, max))
    below = np.flatnonzero((paid <= mean + 1e-12 * abs(mean)) & (paid >= low) & (paid <= high))
    if not len(below):
        return min(shares)
    worth = choice.gain[below] - paid[below]
    return int(below[np.lexsort((-paid[below], -worth))[0]])


def _near(ranks: IntArray, features: FloatArray, state: int, reach: float) -> IntArray:
    """States whose features are within reach of a state's, and its neighbours."""
    at = features[state]
    far = np.abs(features - at) > reach * at + 1e-9
    return np.flatnonzero(~(far & (np.abs(ranks - ranks[state]) > _NEIGHBOURS)).any(axis=1))


def _costs(slopes: FloatArray, field: Field, place: int, near: IntArray) -> FloatArray:
    costs = field.choices[place].features[near] @ slopes.T
    for number, row in enumerate(field.rows):
        if place in row.unary:
            costs[:, number] += row.unary[place][near]
    return np.asarray(costs)


def settle(landscape: Landscape, states: IntArray, prices: FloatArray) -> IntArray:
    """The states that are best at these prices, one choice after the other until none changes."""
    field, states = landscape.field, states.copy()
    weights = landscape.factor * prices[landscape.pair_row] if len(landscape.factor) else landscape.factor
    linear = prices @ landscape.linear
    paid = []
    for place, choice in enumerate(field.choices):
        own = choice.gain.copy()
        for price, row in zip(prices, field.rows, strict=True):
            if price and place in row.unary:
                own -= price * row.unary[place]
        paid.append(own)
    parts = csc_array(field.sizes) if len(field.offsets) else csc_array((0, field.width))
    matrix = csc_array((weights, (landscape.left, landscape.right)), shape=(len(field.offsets),) * 2)
    matrix = matrix + matrix.T
    features = landscape.features(states)
    pull = matrix @ landscape.sizes(features)
    ours = [parts[:, choice.inside] for choice in field.choices]
    for _ in range(50):
        changed = False
        for place, (choice, mine) in enumerate(zip(field.choices, ours, strict=True)):
            inside = choice.inside
            worth = paid[place] - choice.features @ (linear[inside] + mine.T @ pull)
            if landscape.meters_of[place]:
                worth = worth - landscape.metered(place, np.arange(len(worth)), features) @ prices
            at = int(worth.argmax())
            if worth[at] > worth[states[place]] + 1e-12 * max(1.0, float(np.abs(worth).max())):
                states[place], changed = at, True
                pull += matrix @ (mine @ (choice.features[at] - features[inside]))
                features[inside] = choice.features[at]
        if not changed:
            break
    return states
