"""The utility of counts inside a CP-SAT model: short windows neuron by neuron, long ones by tangents.

The value of a bucket is a concave function of its count. In a short window it is the sum of its neurons, best
first. In a long one it starts with a few tangents; where a solution claims more utility than its counts are
worth, the tangents there are added, and the search goes on. When claim and worth agree, the solution is proven.

Source: outer approximation (Duran and Grossmann 1986), here on concave functions of one integer, for which the
two tangents at a point are exact at that point and its neighbours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ortools.sat.python import cp_model

from solver_nas.solve.scale import scaled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.labels import IntArray
    from solver_nas.solve.model import CountModel
    from solver_nas.utility import FloatArray

_FIRST_TANGENTS = 9  # per bucket, evenly spread; enough to land near the optimum at once
_MOST_STEPS = 64  # different utilities in a window up to which it is modelled neuron by neuron


class Worth:
    """The utility of a model's counts, relative to the lowest counts of their windows."""

    def __init__(self, counts: CountModel) -> None:
        """Add the utility to a model."""
        self.counts, self.model = counts, counts.model
        pairs = zip(counts.part.buckets, counts.windows, strict=True)
        inside = [bucket.utilities[low:high] for bucket, (low, high) in pairs]
        # What new neurons are worth is one more descending curve for each place where they can stand.
        promised = [_padded(gains, counts.most) for gains in counts.part.slot_gains]
        self.scale = scaled([*inside, *promised])
        self._variables = [*counts.kept, *counts.new[: len(promised)]]
        self._lows = [*(low for low, _ in counts.windows), *(0 for _ in promised)]
        self.curves = [np.concatenate([[0], np.cumsum(values)]) for values in self.scale.values]
        self.terms: list[cp_model.LinearExprT] = []
        self._claims: dict[int, cp_model.IntVar] = {}
        self._known: set[tuple[int, int]] = set()
        for place, values in enumerate(self.scale.values):
            if len(values):
                self._add(place, values)

    def _add(self, place: int, values: IntArray) -> None:
        kept, low = self._variables[place], self._lows[place]
        steps, lengths = np.unique(-values, return_counts=True)
        if len(steps) == 1:
            self.terms.append(int(values[0]) * (kept - low))
        elif len(steps) <= _MOST_STEPS:
            # Any neurons may be chosen here; the best ones are, since the others gain less.
            chosen = [self.model.new_int_var(0, int(length), "") for length in lengths]
            self.model.add(kept == cp_model.LinearExpr.sum(chosen) + low)
            self.terms.append(cp_model.LinearExpr.weighted_sum(chosen, (-steps).tolist()))
        else:
            curve = self.curves[place]
            claim = self.model.new_int_var(int(curve.min()), int(curve.max()), "")
            self.terms.append(claim)
            self._claims[place] = claim
            for at in np.unique(np.linspace(0, len(values), _FIRST_TANGENTS).astype(int)):
                self._touch(place, int(at))

    def _touch(self, place: int, at: int) -> None:
        """Add the tangents of a bucket's curve at a count above the window's lowest."""
        if (place, at) in self._known:
            return
        self._known.add((place, at))
        curve, values = self.curves[place], self.scale.values[place]
        kept, claim = self._variables[place] - self._lows[place], self._claims[place]
        slopes = {int(values[at - 1])} if at > 0 else set()
        slopes |= {int(values[at])} if at < len(values) else set()
        for slope in slopes:
            self.model.add(claim <= int(curve[at]) + slope * (kept - at))

    @property
    def total(self) -> cp_model.LinearExpr:
        """The claimed utility."""
        return cp_model.LinearExpr.sum(self.terms)

    def true(self, kept: Sequence[int], new: Sequence[int]) -> int:
        """The scaled utility that these counts are really worth."""
        triples = zip(self.curves, [*kept, *new], self._lows, strict=False)
        return int(sum(int(curve[count - low]) for curve, count, low in triples))

    def refine(self, kept: Sequence[int], new: Sequence[int]) -> None:
        """Make the claim exact at these counts."""
        counts = [*kept, *new]
        for place in self._claims:
            self._touch(place, counts[place] - self._lows[place])


def _padded(gains: FloatArray, most: int) -> FloatArray:
    return np.concatenate([gains[:most], np.zeros(max(most - len(gains), 0))])
