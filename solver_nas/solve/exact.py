"""Problems with several counts: prices narrow down the counts, CP-SAT decides among what remains."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ortools.sat.python import cp_model

from solver_nas.bounds import Bound
from solver_nas.problem import Budget, Monomial
from solver_nas.solve.check import size_at
from solver_nas.solve.limited import Ways, solve_limited
from solver_nas.solve.model import CountModel, Search, TableError, most_new
from solver_nas.solve.prices import Prices, hull, inside
from solver_nas.solve.solution import Counts, Status, kept_utility, promised_utility
from solver_nas.solve.united import living, united
from solver_nas.solve.worth import Worth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.problem import Wish
    from solver_nas.solve.model import Window
    from solver_nas.solve.parts import Part

_TIES = 0.25  # of the time that is left, for deciding among selections of equal worth
_LARGEST = 2**60
_COARSEST = 2**16  # how many of one amount's units may make up one of another's, so that integers suffice
_WEIGHT_LIMIT = 2**52  # combined objectives stay exact in float64 below this


@dataclass(frozen=True, slots=True)
class _Deviation:
    """How far the relaxed wishes have to miss: `cost` combines distance and falling short."""

    cost: int
    distance: int
    exact: bool


def limited(part: Part) -> bool:
    """Whether there are limits."""
    forced = any(bucket.forced is not None for bucket in part.buckets)
    return bool(part.budgets or part.grids or part.slot_gains or forced)


def solve_counts(part: Part, deadline: float, seed: int, gap: float) -> Counts:
    """Find the best counts of one part of a problem, lexicographically.

    Args:
        part: buckets, sizes, wishes and rectangles that hang together.
        deadline: on the clock of `time.perf_counter`.
        seed: for the solver.
        gap: with limits, a solution that is proven to be so close to the best one is good enough.
    """
    first = None
    missed = _Deviation(0, 0, exact=True)
    if any(not wish.target.exact for wish in part.wishes):
        # Half of the time for the first of the objectives leaves enough for the others.
        first = _least_deviation(part, (time.perf_counter() + deadline) / 2, seed)
        if isinstance(first, Status):
            return Counts(first)
        missed = first.missed
    if limited(part) and missed.exact and not part.shared:

        def within(windows: list[Window] | None, start: Counts | None, until: float) -> Counts:
            return _best(part, windows, missed, until, seed, start)

        def near(counts: Counts) -> bool:
            return _misses(part, counts) <= missed.cost

        def alive(until: float) -> Counts | None:
            return _alive(part, until, seed, gap)

        start = Counts(Status.FEASIBLE, tuple(first.kept), tuple(first.new)) if isinstance(first, _First) else None
        found = solve_limited(_told(part, missed), Ways(within, near, alive), deadline, gap, start)
        found = replace(found, deviation=missed.distance)
    elif part.rectangles or part.shared or limited(part) or not missed.exact:
        found = _best(part, None, missed, deadline, seed)
    else:
        found = _priced(part, missed, deadline, seed)
    if isinstance(first, _First) and found.status is Status.UNKNOWN:
        found = Counts(Status.FEASIBLE, tuple(first.kept), tuple(first.new), missed.distance)
        return replace(found, slack=_everything(part, found))
    if found.status is Status.OPTIMAL and not missed.exact:
        return replace(found, status=Status.FEASIBLE, slack=_everything(part, found))
    return found


def solve_united(part: Part, deadline: float, seed: int, gap: float) -> Counts:
    """The same, with one bucket for all that are kept equal, or in proportion."""
    small, shares = united(part)
    found = solve_counts(small, deadline, seed, gap)
    return replace(found, kept=tuple(found.kept[place] * often for place, often in shares)) if found.kept else found


def _alive(part: Part, until: float, seed: int, gap: float) -> Counts | None:
    """The best counts with which no row of a rectangle goes, if they are found."""
    if not part.rectangles or part.slots or part.wishes:
        return None
    found = solve_united(living(part), until, seed, gap)
    return found if found.kept else None


def _told(part: Part, missed: _Deviation) -> Part:
    """With relaxed wishes as limits on sizes: none of them is missed by more than all of them have to be."""
    lines = []
    for wish in part.wishes:
        if not wish.target.exact:
            ends = (Fraction(wish.target.size - missed.distance), Fraction(wish.target.size + missed.distance))
            term = Monomial(Fraction(1), (wish.count,))
            lines.append(Budget((term,), (), Fraction(0), *ends, Bound(wish.target.text, (), *ends)))
    return replace(part, budgets=(*part.budgets, *lines))


def _misses(part: Part, counts: Counts) -> float:
    """The cost of these counts for relaxed wishes, as in the model; infinite where a wish is for any other size."""
    distance = short = 0
    relaxed = [wish for wish in part.wishes if not wish.target.exact]
    for wish in relaxed:
        size, target = size_at(wish.count, counts.kept, counts.new), wish.target
        distance += abs(size - target.size)
        short += size < target.size if target.size > target.before else size > target.size < target.before
        if target.must_change and size == target.before:
            return math.inf
    return distance * (sum(wish.target.size != wish.target.before for wish in relaxed) + 1) + short


class _First(NamedTuple):
    """How near relaxed wishes come, and counts with which they do."""

    missed: _Deviation
    kept: list[int]
    new: list[int]


def _least_deviation(part: Part, deadline: float, seed: int) -> _First | Status:
    """The least deviation from relaxed wishes; a status if nothing was found."""
    try:
        counts = CountModel(part)
    except TableError:
        return Status.UNKNOWN
    search = Search(counts, deadline, seed)
    counts.model.minimize(counts.cost)
    status = search.run()
    if status in (Status.INFEASIBLE, Status.UNKNOWN):
        return status
    least = round(search.solver.objective_value)
    missed = _Deviation(least, least // (len(counts.short) + 1), exact=status is Status.OPTIMAL)
    return _First(missed, search.kept, search.new)


def _everything(part: Part, found: Counts) -> float:
    """What could be gained at most if nothing is known: every neuron of positive utility."""
    gain = sum(float(np.maximum(bucket.utilities, 0).sum()) for bucket in part.buckets)
    gain += sum(float(np.maximum(gains, 0).sum()) for gains in part.slot_gains)
    return gain - kept_utility(part.buckets, found.kept) - promised_utility(part.slot_gains, found.new)


def _priced(part: Part, missed: _Deviation, deadline: float, seed: int) -> Counts:
    """Search near the linear relaxation first, then wherever its prices do not rule out an optimum."""
    prices = Prices(part, missed.distance)
    reach = 0  # counts on either side of the linear relaxation that are tried; mostly it is the answer itself
    windows = prices.near(reach)
    everything = [(0, len(bucket.classes)) for bucket in part.buckets]
    while True:
        found = _best(part, windows, missed, deadline, seed)
        if found.status is Status.INFEASIBLE and not inside(everything, windows):
            reach = 4 * reach + 1
            windows = prices.near(reach)
            continue
        if found.status is not Status.OPTIMAL:
            break
        needed = prices.optimal(_utility(part, found))
        if inside(needed, windows):
            return found
        windows = hull(windows, needed)
    if found.status is Status.FEASIBLE:
        slack = max(prices.bound - _utility(part, found), 0.0)
        return Counts(Status.FEASIBLE, found.kept, found.new, found.deviation, slack)
    return found


def _utility(part: Part, found: Counts) -> float:
    return sum(float(b.utilities[:k].sum()) for b, k in zip(part.buckets, found.kept, strict=True))


def _best(
    part: Part,
    windows: list[Window] | None,
    missed: _Deviation,
    deadline: float,
    seed: int,
    start: Counts | None = None,
) -> Counts:
    """The best counts inside windows, given how far relaxed wishes may miss."""
    if time.perf_counter() > deadline:
        return Counts(Status.UNKNOWN)
    try:
        counts = CountModel(part, windows)
    except TableError as error:
        return Counts(Status.UNKNOWN, method=str(error))
    search = Search(counts, deadline, seed, start)
    if counts.distance:
        counts.model.add(counts.cost <= missed.cost)
    if start is None and limited(part):
        # Any solution first: with an objective, the solver can be long in finding one that keeps all limits.
        status = search.run()
        if status in (Status.INFEASIBLE, Status.UNKNOWN):
            return Counts(status)
    worth = Worth(counts)
    status, best, bound = _most_utility(search, worth)
    if status in (Status.INFEASIBLE, Status.UNKNOWN):
        return Counts(status)
    if status is Status.OPTIMAL:
        counts.model.add(worth.total >= best)
        # Ties are broken as far as that is quick: the selection is proven best already.
        search.deadline -= (1 - _TIES) * max(search.deadline - time.perf_counter(), 0.0)
        for objective in _tie_breaks(counts):
            if not _break_ties(search, worth, objective, best):
                break
    slack = (bound - best) * worth.scale.unit + worth.scale.error
    return Counts(status, tuple(search.kept), tuple(search.new), missed.distance, slack)


def _most_utility(search: Search, worth: Worth) -> tuple[Status, int, int]:
    """Counts of the highest true utility, in `search.kept`; their utility, and a bound for all others."""
    worth.model.maximize(worth.total)
    best: int | None = None
    kept, new, bound = search.kept, search.new, 0
    while True:
        status = search.run()
        if status in (Status.INFEASIBLE, Status.UNKNOWN):
            break
        bound = int(np.floor(search.solver.best_objective_bound + 0.5))
        true = worth.true(search.kept, search.new)
        if best is None or true > best:
            best, kept, new = true, search.kept, search.new
        if best >= bound or status is Status.FEASIBLE:
            break
        worth.refine(search.kept, search.new)
    if best is None:
        return status, 0, 0
    search.kept, search.new = kept, new
    return (Status.OPTIMAL if best >= bound else Status.FEASIBLE), best, bound


def _tie_breaks(counts: CountModel) -> list[cp_model.LinearExpr]:
    """What decides between selections of equal utility, first things first, all to be minimised.

    Most neurons kept; fewest inserted; lowest index. As many as fit are put into one objective.
    """
    part = counts.part
    slots = range(len(counts.new))
    steps: list[tuple[list[int], list[int]]] = [
        ([-bucket.neurons for bucket in part.buckets], [0 for _ in slots]),
        ([0 for _ in part.buckets], [int(n) for n in part.slot_neurons]),
        (list(range(len(part.buckets))), [len(slots) - 1 - slot for slot in slots]),
    ]
    largest = [*(len(bucket.classes) for bucket in part.buckets), *(most_new(part) for _ in slots)]
    merged: list[tuple[list[int], int]] = []
    for keep, new in steps:
        weights = [*keep, *new]
        span = 1 + sum(abs(w) * top for w, top in zip(weights, largest, strict=True))
        if merged and merged[-1][1] * span < _WEIGHT_LIMIT:
            before, before_span = merged[-1]
            merged[-1] = ([b * span + w for b, w in zip(before, weights, strict=True)], before_span * span)
        else:
            merged.append((weights, span))
    variables = [*counts.kept, *counts.new]
    return [cp_model.LinearExpr.weighted_sum(variables, weights) for weights, _ in merged]


def _break_ties(search: Search, worth: Worth, objective: cp_model.LinearExpr, best: int) -> bool:
    """Minimise one more objective without giving up utility; whether that could be finished in time."""
    search.model.minimize(objective)
    kept, new = search.kept, search.new
    while True:
        if search.run() is not Status.OPTIMAL:
            search.kept, search.new = kept, new
            return False
        if worth.true(search.kept, search.new) >= best:
            search.model.add(objective <= round(search.solver.objective_value))
            return True
        worth.refine(search.kept, search.new)


def reachable(part: Part, wish: Wish, *, upwards: bool, deadline: float, seed: int) -> int | None:
    """The nearest size on one side of a wish, if there is one.

    Args:
        part: without this wish.
        wish: the size in question.
        upwards: look for the least size above (or at) the wish, otherwise for the largest below.
        deadline: on the clock of `time.perf_counter`.
        seed: for the solver.
    """
    # Sizes that fit may lie some way off: at the next common multiple of what stands in the way.
    most = most_new(part) + 4 * max(wish.target.size, wish.target.before)
    counts = CountModel(part, most=most if part.most_new is None else min(most, part.most_new))
    size = counts.expression(wish.count)
    if upwards:
        counts.model.add(size >= wish.target.size)
        counts.model.minimize(size)
    else:
        counts.model.add(size <= wish.target.size)
        counts.model.maximize(size)
    search = Search(counts, deadline, seed)
    return round(search.solver.objective_value) if search.run() is Status.OPTIMAL else None


def solvable(part: Part, deadline: float, seed: int) -> Status:
    """Whether a part has any solution, whatever it is worth."""
    try:
        return Search(CountModel(part), deadline, seed).run()
    except TableError:
        return Status.UNKNOWN


def extreme_amount(part: Part, budgets: Sequence[Budget], deadline: float, seed: int) -> Fraction | None:
    """The least that the largest of some budgets can be (or the most that the least can, if they have lower ends).

    Args:
        part: what to choose; without these budgets.
        budgets: at least one.
        deadline: on the clock of `time.perf_counter`.
        seed: for the solver.

    Returns:
        The amount; `None` if the part has no solution, or none was proven in time.
    """
    try:
        counts = CountModel(part)
        amounts = [(*counts.amount(budget), budget.constant) for budget in budgets]
    except TableError:
        return None
    # All of them in one unit, so that they can be compared.
    units = [part_ for _, scale, constant in amounts for part_ in (1 / scale, Fraction(1, constant.denominator))]
    unit = Fraction(math.gcd(*(u.numerator for u in units)), math.lcm(*(u.denominator for u in units)))
    if any(1 / (scale * unit) > _COARSEST for _, scale, _ in amounts):
        return None
    upper = budgets[0].high is not None
    end = counts.model.new_int_var(-_LARGEST, _LARGEST, "")
    for amount, scale, constant in amounts:
        told = amount * int(1 / (scale * unit)) + int(constant / unit)
        counts.model.add(told <= end if upper else told >= end)
    if upper:
        counts.model.minimize(end)
    else:
        counts.model.maximize(end)
    search = Search(counts, deadline, seed)
    if search.run() is not Status.OPTIMAL:
        return None
    return search.solver.value(end) * unit
