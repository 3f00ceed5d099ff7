"""Whether a changed network keeps its limits, found out from its own sizes and not from how they were chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from solver_nas.bounds import MEASURED, Bound, Counted, Forced, Lattice, present
from solver_nas.errors import PlanError
from solver_nas.limits.view import resolved

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from fractions import Fraction

    from numpy.typing import NDArray

    from solver_nas.bounds import Restriction
    from solver_nas.labels import Labels
    from solver_nas.limits.view import Limit, View


def check_bounds(limits: Sequence[Limit], view: View, indices: Mapping[str, NDArray[np.intp]]) -> None:
    """Add up everything that has a bound, in the changed network.

    Args:
        limits: as they were asked for.
        view: the changed network.
        indices: vertex -> old index of every neuron, -1 for a new one.

    Raises:
        PlanError: a limit is not kept.
    """
    for restriction in resolved([limit for limit in limits if not limit.of_old_neurons], view):
        if not isinstance(restriction, Bound):
            continue
        counted, measured = amounts(restriction, indices)
        low, high = restriction.low, restriction.high
        slack = 0.0 if not restriction.curves else MEASURED * max(abs(float(end or 0)) for end in (low, high))
        total = counted if not restriction.curves else float(counted) + measured
        if (low is not None and total < low - slack) or (high is not None and total > high + slack):
            raise PlanError(f"{restriction.text} is not kept: the changed network has {float(total):,.12g}")


def amounts(bound: Bound, indices: Mapping[str, NDArray[np.intp]]) -> tuple[Fraction, float]:
    """What a bound's terms and curves come to in a changed network in which it was looked up."""
    counted, measured = present(_only(bound, Counted.ALL))
    for term in bound.terms:
        if term.counted is not Counted.ALL:
            index = indices[term.volume.vertex]
            counted += term.factor * int((index >= 0 if term.counted is Counted.KEPT else index < 0).sum())
    return counted, measured


def _only(bound: Bound, counted: Counted) -> Bound:
    terms = tuple(term for term in bound.terms if term.counted is counted)
    return Bound(bound.text, terms, bound.low, bound.high, bound.curves)


def check_neurons(restrictions: Iterable[Restriction], labels: Labels, indices: Mapping[str, NDArray[np.intp]]) -> None:
    """Look up the neurons that had to stay or to go, and sizes that had to be multiples.

    Args:
        restrictions: the limits, looked up in the network before the change.
        labels: of that network.
        indices: vertex -> old index of every neuron, -1 for a new one.

    Raises:
        PlanError: a limit is not kept.
    """
    for restriction in restrictions:
        if isinstance(restriction, Bound):
            continue
        for port, tensor in labels.tensors.items():
            mine, index = tensor.neurons["label"], indices[port.vertex]
            kept = np.zeros(len(mine), bool)
            kept[index[index >= 0]] = True
            if isinstance(restriction, Lattice):
                size = len(index)
                fits = size in restriction.also or (size > 0 and size % restriction.step == 0)
                fits = fits or (restriction.optional and np.array_equal(index, np.arange(len(mine))))
                broken = np.array_equal(mine, restriction.labels) and not fits
            else:
                lives = restriction.lives if isinstance(restriction, Forced) else True
                broken = bool((kept[np.isin(mine, restriction.labels)] != lives).any())
            if broken:
                raise PlanError(f"{restriction.text} is not kept by vertex {port.vertex!r}")
