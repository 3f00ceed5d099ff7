"""A bound from prices: how much a part of a problem can be worth, and which counts can still be optimal.

The linear relaxation (any fraction of a neuron may be kept) puts a price on every constraint. With the
constraints paid for instead of enforced, every bucket chooses its count alone, so that the sum of these choices
bounds every solution, and a count whose own loss exceeds the distance between bound and best known solution
can be ruled out. The bound is recomputed here in float64 and holds for any prices, however inexact.

Source: Lagrangian relaxation and reduced-cost fixing, Geoffrion 1974; cutting planes for concave functions,
Kelley 1960.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.solve.linear import is_solved, linear_solver
from solver_nas.solve.model import most_new

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.solve.model import Window
    from solver_nas.solve.parts import Part
    from solver_nas.utility import FloatArray

_FIRST_CUTS = 17  # per bucket
_MOST_ROUNDS = 60  # of cutting planes; prices are good long before, and inexact ones only widen windows
_REFINED = 8  # counts on either side of the first answer that the second pass looks at
_TOLERANCE = 1e-12  # relative to the utility at stake; what float64 leaves of sums of that size


@dataclass(frozen=True, slots=True)
class _Row:
    """`low <= sum of factor * variable <= high` over kept, new and far variables."""

    kept: dict[int, int]
    new: dict[int, int]
    far: dict[int, int]
    low: float
    high: float


class Prices:
    """Prices of a part without rectangles, and what follows from them."""

    def __init__(self, part: Part, deviation: int) -> None:
        """Solve the linear relaxation.

        Args:
            part: buckets, sizes and wishes.
            deviation: the summed distance that the relaxed wishes may keep.
        """
        self._part = part
        self._curves = [np.concatenate([[0.0], np.cumsum(bucket.utilities)]) for bucket in part.buckets]
        self._rows = _rows(part, deviation)
        self._relaxed = sum(not wish.target.exact for wish in part.wishes)
        everything = [(0, len(curve) - 1) for curve in self._curves]
        self.center, self._prices = self._relax(self._curves, everything)
        self.bound, self._gains = self._price_out()
        # Once more with what is left after paying, near the answer: the numbers are small there, so that the
        # solver's relative precision goes much further. Source: iterative refinement, Gleixner et al. 2016.
        center, correction = self._relax(self._gains, self.near(_REFINED))
        self.center, before = center, (self.bound, self._prices, self._gains)
        self._prices = self._prices + correction
        self.bound, self._gains = self._price_out()
        if self.bound > before[0]:
            self.bound, self._prices, self._gains = before

    def _relax(self, curves: Sequence[FloatArray], windows: Sequence[Window]) -> tuple[FloatArray, FloatArray]:
        """Counts and prices of the linear relaxation with these values of counts, inside windows."""
        solver = linear_solver()
        most = most_new(self._part)
        kept = [solver.NumVar(low, high, "") for low, high in windows]
        new = [solver.NumVar(0, most, "") for _ in range(self._part.slots)]
        far = [solver.NumVar(0, solver.infinity(), "") for _ in range(self._relaxed)]
        claims = [solver.NumVar(-solver.infinity(), solver.infinity(), "") for _ in kept]
        rows = []
        for row in self._rows:
            constraint = solver.RowConstraint(row.low, row.high, "")
            for variables, terms in ((kept, row.kept), (new, row.new), (far, row.far)):
                for place, factor in terms.items():
                    constraint.SetCoefficient(variables[place], factor)
            rows.append(constraint)
        solver.Maximize(solver.Sum(claims))
        cuts: set[tuple[int, int]] = set()

        def cut(place: int, at: int) -> bool:
            """Bound a claim by the line through two neighbouring counts."""
            low, high = windows[place]
            at = min(max(at, low), high - 1)
            if (place, at) in cuts:
                return False
            cuts.add((place, at))
            curve = curves[place]
            slope = float(curve[at + 1] - curve[at]) if high > low else 0.0
            start = float(curve[max(at, low)])
            constraint = solver.RowConstraint(-solver.infinity(), start - slope * max(at, low), "")
            constraint.SetCoefficient(claims[place], 1)
            constraint.SetCoefficient(kept[place], -slope)
            return True

        for place, (low, high) in enumerate(windows):
            for at in np.unique(np.linspace(low, high - 1, _FIRST_CUTS).astype(int)):
                cut(place, int(at))
        counts = [(low + high) / 2 for low, high in windows]
        for _ in range(_MOST_ROUNDS):
            if not is_solved(solver):
                return np.array(counts), np.zeros(len(rows))
            counts = [variable.solution_value() for variable in kept]
            fresh = False
            for place, count in enumerate(counts):
                fresh |= cut(place, math.floor(count)) | cut(place, math.ceil(count) - 1)
            if not fresh:
                break
        return np.array(counts), np.array([row.dual_value() for row in rows])

    def _price_out(self) -> tuple[float, list[FloatArray]]:
        """The bound, and for every bucket and count what it gains after paying."""
        prices = np.where(
            [
                (p > 0 and math.isinf(r.high)) or (p < 0 and math.isinf(r.low))
                for p, r in zip(self._prices, self._rows, strict=True)
            ],
            0.0,
            self._prices,
        )
        bound = sum(p * (row.high if p > 0 else row.low) for p, row in zip(prices, self._rows, strict=True) if p)
        cost = np.zeros(len(self._curves))
        pay_new, pay_far = np.zeros(self._part.slots), np.zeros(self._relaxed)
        for price, row in zip(prices, self._rows, strict=True):
            for target, terms in ((cost, row.kept), (pay_new, row.new), (pay_far, row.far)):
                for place, factor in terms.items():
                    target[place] += price * factor
        gains = [curve - cost[place] * np.arange(len(curve)) for place, curve in enumerate(self._curves)]
        bound += sum(float(gain.max()) for gain in gains)
        # New neurons are worth nothing; they only pay where a price is negative, and then as much as they can.
        bound += float(np.maximum(-pay_new, 0).sum()) * most_new(self._part)
        bound += float(np.maximum(-pay_far, 0).sum()) * sum(row.high for row in self._rows if row.far and not row.kept)
        return float(bound), gains

    def near(self, reach: int) -> list[Window]:
        """Windows around the counts of the linear relaxation."""
        return [
            (max(0, math.floor(count) - reach), min(len(curve) - 1, math.ceil(count) + reach))
            for count, curve in zip(self.center, self._curves, strict=True)
        ]

    def optimal(self, known: float) -> list[Window]:
        """Windows outside of which nothing is as good as a known solution."""
        scale = max([1.0, abs(self.bound), *(float(np.abs(curve).max()) for curve in self._curves)])
        slack = max(0.0, self.bound - known) + _TOLERANCE * scale
        found = []
        for gain in self._gains:
            inside = np.flatnonzero(gain >= gain.max() - slack)
            found.append((int(inside[0]), int(inside[-1])))
        return found


def _rows(part: Part, deviation: int) -> list[_Row]:
    rows = [_Row(dict(size.keep), {}, {}, 1 - size.constant, math.inf) for size in part.sizes]
    rows += [_Row(dict(b.keep), dict(b.new), {}, -b.constant, -b.constant) for b in part.balances]
    relaxed: list[int] = []
    for wish in part.wishes:
        keep, new, goal = dict(wish.count.keep), dict(wish.count.new), wish.target.size - wish.count.constant
        if wish.target.exact:
            rows.append(_Row(keep, new, {}, goal, goal))
        else:
            place = len(relaxed)
            relaxed.append(place)
            rows.append(_Row(keep, new, {place: -1}, -math.inf, goal))
            rows.append(_Row(keep, new, {place: 1}, goal, math.inf))
    if relaxed:
        rows.append(_Row({}, {}, dict.fromkeys(relaxed, 1), -math.inf, deviation))
    return rows


def inside(windows: Sequence[Window], others: Sequence[Window]) -> bool:
    """Whether every window lies in the other one of its bucket."""
    return all(a >= c and b <= d for (a, b), (c, d) in zip(windows, others, strict=True))


def hull(windows: Sequence[Window], others: Sequence[Window]) -> list[Window]:
    """The smallest windows that contain both."""
    return [(min(a, c), max(b, d)) for (a, b), (c, d) in zip(windows, others, strict=True)]
