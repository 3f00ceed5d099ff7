"""Parts with limits: complete search where that is quick, else prices, a bound, and search in what they leave open."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from solver_nas.solve.budgets.branching import Branching
from solver_nas.solve.budgets.dead import dead_bound
from solver_nas.solve.budgets.descent import Landscape, descend
from solver_nas.solve.budgets.pricing import price
from solver_nas.solve.budgets.survey import TooComplexError, survey
from solver_nas.solve.check import holds
from solver_nas.solve.model import most_new
from solver_nas.solve.solution import Counts, Status, kept_utility, promised_utility

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from solver_nas.labels import IntArray
    from solver_nas.solve.budgets.descent import Mixture, Point
    from solver_nas.solve.budgets.field import Field
    from solver_nas.solve.model import Window
    from solver_nas.solve.parts import Part

    #: Searches windows (all counts if none are given) from a start, until a deadline.
    Near: TypeAlias = Callable[[Counts], bool]
    Search: TypeAlias = Callable[[list[Window] | None, Counts | None, float], Counts]

_SMALL = 26.0  # bits of a part that is searched completely at first
_FIRST_SEARCH = 1.0  # seconds for that, at most
_NEARBY = (2, 5, 12, 40)  # counts on either side of the relaxation's that are searched for a first solution
_LEAST_SEARCH = 0.5  # seconds
_DESCENT = 0.5  # of the time, at most, for what prices start from
_FIRST_SHARE = 0.25  # of the time: how long a first solution may take in which no row goes
_TURNS = (0.02, 0.1, 0.5)  # of the time that is left: how long one of several ways is tried
_MARGIN = 4  # prices are asked for a smaller gap than what is good enough: search is slower than they are
_ROUNDING = 1e-11  # relative to a bound: what float64 leaves of long sums


class _Best:
    """The best solution of a part so far.

    Args:
        part: what to choose.
        near: whether counts come as near to relaxed wishes as they have to.
        gap: a bound that is so close to what the solution is worth, as a fraction, is good enough.
    """

    def __init__(self, part: Part, near: Near, gap: float) -> None:
        self.part, self.near, self.gap = part, near, gap
        self.counts: Counts | None = None
        self.worth = -math.inf

    def offer(self, counts: Counts | None) -> bool:
        """Whether these counts are better, and now the best; they have to be a solution."""
        if counts is None or not counts.kept:
            return False
        worth = self.value(counts)
        if self.counts is not None and worth <= self.worth:
            return False
        self.counts, self.worth = counts, worth
        return True

    def value(self, counts: Counts) -> float:
        """What counts are worth."""
        return kept_utility(self.part.buckets, counts.kept) + promised_utility(self.part.slot_gains, counts.new)

    def solves(self, counts: Counts) -> bool:
        """Whether counts are a solution of the part itself, not only of the field's view of it."""
        return holds(self.part, counts.kept, counts.new) and self.near(counts)

    def consider(self, counts: Counts) -> None:
        """Take counts if they are a solution, and better."""
        if self.solves(counts):
            self.offer(counts)

    def is_enough(self, bound: float) -> bool:
        """Whether it need not be better if there is nothing better than this."""
        return self.counts is not None and bound - self.worth <= self.gap * abs(bound)


class Ways(NamedTuple):
    """What else can be asked about a part.

    Args:
        search: complete search with CP-SAT.
        near: whether counts come as near to relaxed wishes as they have to.
        alive: the best counts with which no row of a rectangle goes, until a deadline.
    """

    search: Search
    near: Near
    alive: Callable[[float], Counts | None]


def solve_limited(part: Part, ways: Ways, deadline: float, gap: float, first: Counts | None = None) -> Counts:
    """The best counts of a part with limits.

    Args:
        part: what to choose.
        ways: what else can be asked about it.
        deadline: on the clock of `time.perf_counter`.
        gap: a solution that is proven to be so close to the best one, as a fraction, is good enough.
        first: a solution, if one is known.
    """
    search = ways.search
    bits = sum(math.log2(1 + len(bucket.classes)) for bucket in part.buckets) + 4.0 * part.slots
    if bits <= _SMALL:
        found = search(None, None, min(deadline, time.perf_counter() + _FIRST_SEARCH))
        if found.status in (Status.OPTIMAL, Status.INFEASIBLE):
            return found
    try:
        field = survey(part, _useful_new(part))
    except TooComplexError:
        start = ways.alive(_share(_FIRST_SHARE, deadline))
        found = search(None, start, deadline)
        if found.status is Status.UNKNOWN and start is not None:
            found = replace(start, status=Status.FEASIBLE, slack=_most(part) - _Best(part, ways.near, gap).value(start))
        return found if found.status is Status.UNKNOWN else replace(found, method="complete search")
    best = _Best(part, ways.near, gap)
    settled = _counts(part, field, np.zeros(0, np.int64)) if not field.choices and not field.assumed else None
    if settled is not None and best.solves(settled):
        return replace(settled, status=Status.OPTIMAL)
    if not field.choices or any(len(choice.gain) == 0 for choice in field.choices):
        # A limit on one size alone leaves nothing; that is for the search to prove.
        return search(None, None, deadline)
    best.offer(first)
    present = Counts(Status.FEASIBLE, tuple(len(bucket.classes) for bucket in part.buckets), (0,) * part.slots)
    best.consider(present)
    alive, method = _living(part, field, best, ways, deadline)
    bound, searched = alive, False
    if field.assumed:
        # Whatever the rows do, nothing is worth more than all of it.
        dead = dead_bound(part, field, _useful_new(part), best.worth, time.perf_counter() / 2 + deadline / 2)
        dead = min(dead, _most(part))
        bound, method = (dead, f"{method}, rows apart") if dead > bound else (bound, method)
    if not best.is_enough(bound) and (bound > alive or best.counts is None):
        # A row that was taken to live may go after all.
        found = search(None, best.counts, deadline)
        if found.status is Status.INFEASIBLE and best.counts is None:
            return found
        if found.status in (Status.OPTIMAL, Status.FEASIBLE):
            best.offer(found)
            searched = found.status is Status.OPTIMAL
            if searched or best.worth + found.slack < bound:
                bound, method = min(bound, best.worth + found.slack), "complete search"
    if best.counts is None:
        return Counts(Status.UNKNOWN)
    slack = max(bound - best.worth, 0.0)
    proven = searched or slack <= _ROUNDING * max(abs(bound), 1e-300)
    known = best.counts if any(map(len, part.slot_gains)) else _trimmed(best.counts, search, deadline)
    return replace(known, status=Status.OPTIMAL if proven else Status.FEASIBLE, slack=slack, method=method)


def _living(part: Part, field: Field, best: _Best, ways: Ways, deadline: float) -> tuple[float, str]:
    """Look for the best in which all rows live that are taken to live; a bound for that, and how it was found.

    The bound is minus infinity if there is nothing.
    """
    landscape, search = Landscape(field), ways.search
    if field.assumed and (known := ways.alive(_share(_FIRST_SHARE, deadline))) is not None:
        best.consider(known)
    start = descend(landscape, _share(_DESCENT, deadline))
    best.consider(_counts(part, field, start.point.states))
    if best.counts is None:
        best.offer(_nearby(part, field, start.mixed, search, deadline))
    now = time.perf_counter()

    def solves(point: Point) -> bool:
        return best.solves(_counts(part, field, point.states))

    priced = price(landscape, start, best.gap / _MARGIN, now + (deadline - now) / 2, best.worth, solves)
    bound, method = priced.bound, priced.method
    if priced.point is not None:
        best.consider(_counts(part, field, priced.point.states))
    if best.is_enough(bound):
        return bound, method
    if not all(map(len, priced.open)):
        # Nothing is better than what is known.
        return best.worth, method
    branching = Branching(landscape, priced, best.worth, best.gap, solves) if priced.exact else None
    until = deadline if not field.assumed else time.perf_counter() / 2 + deadline / 2
    # What one of them hardly ever ends, the other one does at once: turn by turn, each longer than the one before.
    for part_of in _TURNS if branching is not None else _TURNS[-1:]:
        if branching is not None and best.counts is not None:
            branching.known = max(branching.known, best.worth)
            bound = min(bound, branching.run(_share(part_of, until)))
            if branching.point is not None:
                best.consider(_counts(part, field, branching.point.states))
        if best.counts is not None and not best.is_enough(bound):
            _around(best, search, bound, _share(part_of, until))
        if best.is_enough(bound):
            break
        found = search(_windows(part, field, priced.open), best.counts, _share(2 * part_of, until))
        if found.status is Status.INFEASIBLE:
            return min(bound, best.worth), method
        if found.status in (Status.OPTIMAL, Status.FEASIBLE):
            best.offer(found)
            ceiling = best.worth if found.status is Status.OPTIMAL else best.worth + found.slack
            bound = min(bound, max(ceiling, best.worth))
        if best.is_enough(bound):
            break
    return bound, method


def _share(part_of: float, deadline: float) -> float:
    """When a part of the time that is left is over."""
    now = time.perf_counter()
    return now + part_of * max(deadline - now, 0.0)


def _useful_new(part: Part) -> int:
    """How many new neurons a slot may need: none where nothing asks for any, and they are worth nothing."""
    asks = (
        part.wishes
        or part.balances
        or part.grids
        or part.rectangles
        or any(budget.low is not None for budget in part.budgets)
    )
    return most_new(part) if part.slots and (asks or any(map(len, part.slot_gains))) else 0


def _trimmed(counts: Counts, search: Search, deadline: float) -> Counts:
    """The same neurons with as few new ones as possible: where these cost nothing, prices do not care."""
    if not any(counts.new):
        return counts
    windows = [(count, count) for count in counts.kept]
    least = min(deadline, time.perf_counter() + _FIRST_SEARCH)
    found = search(windows, counts, max(least, time.perf_counter() + _LEAST_SEARCH))
    fewer = found.status in (Status.OPTIMAL, Status.FEASIBLE) and sum(found.new) < sum(counts.new)
    return replace(counts, new=found.new) if fewer else counts


def _counts(part: Part, field: Field, states: IntArray) -> Counts:
    kept, new = [0] * len(part.buckets), [0] * part.slots
    for bucket, count in field.settled.items():
        kept[bucket] = count
    for row in field.assumed:
        kept[row] = 1
    for choice, state in zip(field.choices, states.tolist(), strict=True):
        for block in choice.blocks:
            for bucket, count in block.counts(block.shapes[state]).items():
                kept[bucket] = count
        for place, bucket in enumerate(choice.buckets):
            kept[bucket] = int(choice.kept[state, place])
        if choice.slot >= 0:
            new[choice.slot] = int(choice.new[state, 0])
    return Counts(Status.FEASIBLE, tuple(kept), tuple(new))


def _nearby(part: Part, field: Field, mixed: Mixture, search: Search, deadline: float) -> Counts | None:
    """A solution near that of the relaxation, which has fractions of neurons."""
    for reach in _NEARBY:
        windows = [(bucket.least, bucket.most) for bucket in part.buckets]
        for row in field.assumed:
            windows[row] = (1, 1)
        for choice, shares in zip(field.choices, mixed.shares, strict=True):
            for place, bucket in enumerate(choice.buckets):
                mean = sum(share * float(choice.kept[state, place]) for state, share in shares.items())
                low, high = windows[bucket]
                windows[bucket] = (max(low, math.floor(mean) - reach), min(high, math.ceil(mean) + reach))
        now = time.perf_counter()
        found = search(windows, None, min(deadline, now + max((deadline - now) / 12, _LEAST_SEARCH)))
        if found.status in (Status.OPTIMAL, Status.FEASIBLE):
            return found
    return None


def _most(part: Part) -> float:
    """What everything of positive utility is worth."""
    gains = [bucket.utilities for bucket in part.buckets] + list(part.slot_gains)
    return float(sum(np.maximum(gain, 0.0).sum() for gain in gains))


def _around(best: _Best, search: Search, bound: float, deadline: float) -> None:
    """Better and better solutions, each near the one before (local branching, Fischetti and Lodi 2003)."""
    reach = _NEARBY[1]
    while best.counts is not None and not best.is_enough(bound) and time.perf_counter() < deadline:
        windows = [
            (max(bucket.least, count - reach), min(bucket.most, count + reach))
            for bucket, count in zip(best.part.buckets, best.counts.kept, strict=True)
        ]
        found = search(windows, best.counts, min(deadline, time.perf_counter() + _FIRST_SEARCH))
        if best.offer(found):
            continue
        if found.status is not Status.OPTIMAL or reach >= _NEARBY[-1]:
            break
        reach *= 2


def _windows(part: Part, field: Field, opened: Sequence[IntArray]) -> list[Window]:
    """Lowest and highest count of every bucket in what is open."""
    windows = [(bucket.least, bucket.most) for bucket in part.buckets]
    for choice, states in zip(field.choices, opened, strict=True):
        for block in choice.blocks:
            for group, columns in zip(block.cells, block.shapes[states][:, 1:].T, strict=True):
                for bucket in group:
                    windows[bucket] = (0, int(columns.max()))
        for place, bucket in enumerate(choice.buckets):
            inside = choice.kept[states, place]
            windows[bucket] = (int(inside.min()), int(inside.max()))
    return windows
