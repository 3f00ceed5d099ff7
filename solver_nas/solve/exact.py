"""Problems with several counts: CP-SAT over counts, with utilities as tangents that are added as needed.

The value of a bucket is a concave function of its count. The model starts with a few tangents of it;
where a solution claims more utility than its counts are worth, the tangents there are added, and the
search goes on. When claim and worth agree, the solution is proven.

Source: outer approximation (Duran and Grossmann 1986), here on concave functions of one integer, for
which the two tangents at a point are exact at that point and its neighbours.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from ortools.sat.python import cp_model

from solver_nas.solve.scale import scaled
from solver_nas.solve.solution import Counts, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.problem import Bucket, Count, Rectangle, SharedColumns, Wish
    from solver_nas.solve.parts import Part

_FIRST_TANGENTS = 9  # per bucket, evenly spread; enough to land near the optimum at once
_WEIGHT_LIMIT = 2**52  # combined objectives stay exact in float64 below this


class CountModel:
    """The CP-SAT model of one part of a problem; lives for one call of `solve_counts`."""

    def __init__(self, part: Part) -> None:
        """Build variables and constraints; utilities come later."""
        self.part = part
        self.model = cp_model.CpModel()
        most = self._most_new()
        self.kept = [self._count_variable(bucket) for bucket in part.buckets]
        self.new = [self.model.new_int_var(0, most, "") for _ in range(part.slots)]
        for size in part.sizes:
            self.model.add(self._sum(size.keep, {}, 0) >= 1)
        self.distance: list[cp_model.LinearExprT] = []
        self.short: list[cp_model.LinearExprT] = []
        for wish in part.wishes:
            self._wish(wish)
        for rectangle in part.rectangles:
            self._rectangle(rectangle, most)
        for shared in part.shared:
            self._shared(shared)

    def _count_variable(self, bucket: Bucket) -> cp_model.IntVar:
        total = len(bucket.classes)
        return self.model.new_bool_var("") if total == 1 else self.model.new_int_var(0, total, "")

    def _most_new(self) -> int:
        """More new neurons than this at one slot cannot bring any wish nearer."""
        wished = sum(max(wish.target.size, wish.target.before) for wish in self.part.wishes)
        there = max((len(bucket.classes) for bucket in self.part.buckets), default=0)
        return 2 * wished + there

    def _sum(self, keep: dict[int, int] | object, new: object, constant: int) -> cp_model.LinearExpr:
        assert isinstance(keep, dict)
        assert isinstance(new, dict)
        variables = [*(self.kept[b] for b in keep), *(self.new[s] for s in new)]
        return cp_model.LinearExpr.weighted_sum(variables, [*keep.values(), *new.values()]) + constant

    def expression(self, count: Count) -> cp_model.LinearExpr:
        """A size over this model's variables."""
        return self._sum(dict(count.keep), dict(count.new), count.constant)

    def _wish(self, wish: Wish) -> None:
        size, target = self.expression(wish.count), wish.target
        if target.exact:
            self.model.add(size == target.size)
            return
        far = self.model.new_int_var(0, 2**31, "")
        self.model.add(far >= size - target.size)
        self.model.add(far >= target.size - size)
        self.distance.append(far)
        if target.size != target.before:
            short = self.model.new_bool_var("")
            enough = size >= target.size if target.size > target.before else size <= target.size
            self.model.add(enough).only_enforce_if(~short)
            self.short.append(short)
        if target.must_change:
            more = self.model.new_bool_var("")
            self.model.add(size >= target.before + 1).only_enforce_if(more)
            self.model.add(size <= target.before - 1).only_enforce_if(~more)

    def _literal(self, bucket: int) -> cp_model.LiteralT:
        return True if bucket < 0 else self.kept[bucket]

    def _rectangle(self, rectangle: Rectangle, most: int) -> None:
        widest = max(count.constant + sum(
            often * len(self.part.buckets[b].classes) for b, often in count.keep.items()
        ) for count in rectangle.cells)
        columns = self.model.new_int_var(1, widest + most, "")
        for row, count in zip(rectangle.rows, rectangle.cells, strict=True):
            cells = self.expression(count)
            old = self._sum(dict(count.keep), {}, count.constant)
            if row < 0:
                self.model.add(cells == columns)
                self.model.add(old >= 1)
                continue
            alive = self.kept[row]
            self.model.add(cells == columns).only_enforce_if(alive)
            self.model.add(old >= 1).only_enforce_if(alive)
            self.model.add(cells == 0).only_enforce_if(~alive)

    def _shared(self, shared: SharedColumns) -> None:
        for row, cells in zip(shared.rows, shared.cells, strict=True):
            for column, cell in zip(shared.columns, cells, strict=True):
                row_on, column_on, cell_on = map(self._literal, (row, column, cell))
                self.model.add_implication(cell_on, row_on)
                self.model.add_implication(cell_on, column_on)
                self.model.add_bool_or([_negated(row_on), _negated(column_on), cell_on])
        columns = self.expression(shared.new_columns)
        for row, count in zip(shared.rows, shared.new_cells, strict=True):
            self.model.add(self.expression(count) == columns).only_enforce_if(self._literal(row))

    def place(self, wishes: Sequence[Wish]) -> list[cp_model.LinearExpr]:
        """The sizes of wishes as expressions."""
        return [self.expression(wish.count) for wish in wishes]


def _negated(literal: cp_model.LiteralT) -> cp_model.LiteralT:
    return (not literal) if isinstance(literal, bool) else ~literal


class _Search:
    """Solves one model for one objective after the other."""

    def __init__(self, counts: CountModel, deadline: float, seed: int) -> None:
        self.counts, self.model, self.deadline = counts, counts.model, deadline
        self.solver = cp_model.CpSolver()
        # One worker is deterministic; these models are small enough that more would not pay.
        self.solver.parameters.num_workers = 1
        self.solver.parameters.random_seed = seed % 2**31
        self.kept: list[int] = []
        self.new: list[int] = []

    def run(self) -> Status:
        """Solve as the model stands, from the last solution on."""
        left = self.deadline - time.perf_counter()
        self.solver.parameters.max_time_in_seconds = max(left, 1e-3)
        if self.kept:
            self.model.clear_hints()
            pairs = [*zip(self.counts.kept, self.kept, strict=True), *zip(self.counts.new, self.new, strict=True)]
            for variable, value in pairs:
                self.model.add_hint(variable, value)
        status = _STATUS[self.solver.solve(self.model)]
        if status in (Status.OPTIMAL, Status.FEASIBLE):
            self.kept = [int(self.solver.value(variable)) for variable in self.counts.kept]
            self.new = [int(self.solver.value(variable)) for variable in self.counts.new]
        return status


_STATUS = {
    cp_model.OPTIMAL: Status.OPTIMAL,
    cp_model.FEASIBLE: Status.FEASIBLE,
    cp_model.INFEASIBLE: Status.INFEASIBLE,
    cp_model.UNKNOWN: Status.UNKNOWN,
    cp_model.MODEL_INVALID: Status.INFEASIBLE,
}


class _Worth:
    """The utility of the counts as variables under tangents."""

    def __init__(self, counts: CountModel) -> None:
        self.counts, self.model = counts, counts.model
        self.scale = scaled(counts.part.buckets)
        self.curves = [np.concatenate([[0], np.cumsum(values)]) for values in self.scale.values]
        self.terms: list[cp_model.LinearExprT] = []
        self.bent: dict[int, cp_model.IntVar] = {}
        self.known: set[tuple[int, int]] = set()
        for place, values in enumerate(self.scale.values):
            kept = counts.kept[place]
            if values[0] == values[-1]:
                self.terms.append(int(values[0]) * kept)
                continue
            curve = self.curves[place]
            claim = self.model.new_int_var(int(curve.min()), int(curve.max()), "")
            self.terms.append(claim)
            self.bent[place] = claim
            for at in np.unique(np.linspace(0, len(values), _FIRST_TANGENTS).astype(int)):
                self.touch(place, int(at))

    def touch(self, place: int, at: int) -> None:
        """Add the tangents of a bucket's curve at a count."""
        if (place, at) in self.known:
            return
        self.known.add((place, at))
        curve, values = self.curves[place], self.scale.values[place]
        kept, claim = self.counts.kept[place], self.bent[place]
        slopes = {int(values[at - 1])} if at > 0 else set()
        slopes |= {int(values[at])} if at < len(values) else set()
        for slope in slopes:
            self.model.add(claim <= int(curve[at]) + slope * (kept - at))

    @property
    def total(self) -> cp_model.LinearExpr:
        """The claimed utility."""
        return cp_model.LinearExpr.sum(self.terms)

    def true(self, kept: Sequence[int]) -> int:
        """The scaled utility that these counts are really worth."""
        return int(sum(int(curve[k]) for curve, k in zip(self.curves, kept, strict=True)))

    def refine(self, kept: Sequence[int]) -> None:
        """Make the claim exact at these counts."""
        for place in self.bent:
            self.touch(place, kept[place])


def solve_counts(part: Part, deadline: float, seed: int) -> Counts:
    """Find the best counts of one part of a problem, lexicographically.

    Args:
        part: buckets, sizes, wishes and rectangles that hang together.
        deadline: on the clock of `time.perf_counter`.
        seed: for the solver.
    """
    counts = CountModel(part)
    search = _Search(counts, deadline, seed)
    deviation = 0
    if counts.distance:
        cost = (len(counts.short) + 1) * cp_model.LinearExpr.sum(counts.distance) + cp_model.LinearExpr.sum(counts.short)
        counts.model.minimize(cost)
        status = search.run()
        if status in (Status.INFEASIBLE, Status.UNKNOWN):
            return Counts(status)
        least = round(search.solver.objective_value)
        deviation = least // (len(counts.short) + 1)
        if status is Status.FEASIBLE:
            return Counts(status, tuple(search.kept), tuple(search.new), deviation, float("inf"))
        counts.model.add(cost <= least)
    worth = _Worth(counts)
    status, best, bound = _most_utility(search, worth)
    if status in (Status.INFEASIBLE, Status.UNKNOWN):
        return Counts(status)
    if status is Status.OPTIMAL:
        counts.model.add(worth.total >= best)
        for objective in _tie_breaks(counts):
            if not _break_ties(search, worth, objective, best):
                break
    slack = (bound - best) * worth.scale.unit + worth.scale.error
    return Counts(status, tuple(search.kept), tuple(search.new), deviation, slack)


def _most_utility(search: _Search, worth: _Worth) -> tuple[Status, int, int]:
    """Counts of the highest true utility, in `search.kept`; their utility, and a bound for all others."""
    worth.model.maximize(worth.total)
    best: int | None = None
    kept, new, bound = search.kept, search.new, 0
    while True:
        status = search.run()
        if status in (Status.INFEASIBLE, Status.UNKNOWN):
            break
        bound = int(np.floor(search.solver.best_objective_bound + 0.5))
        true = worth.true(search.kept)
        if best is None or true > best:
            best, kept, new = true, search.kept, search.new
        if best >= bound or status is Status.FEASIBLE:
            break
        worth.refine(search.kept)
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
    largest = [*(len(bucket.classes) for bucket in part.buckets), *(counts._most_new() for _ in slots)]
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


def _break_ties(search: _Search, worth: _Worth, objective: cp_model.LinearExpr, best: int) -> bool:
    """Minimise one more objective without giving up utility; whether that could be finished in time."""
    search.model.minimize(objective)
    kept, new = search.kept, search.new
    while True:
        if search.run() is not Status.OPTIMAL:
            search.kept, search.new = kept, new
            return False
        if worth.true(search.kept) >= best:
            search.model.add(objective <= round(search.solver.objective_value))
            return True
        worth.refine(search.kept)


def reachable(part: Part, wish: Wish, *, upwards: bool, deadline: float, seed: int) -> int | None:
    """The nearest size on one side of a wish, if there is one.

    Args:
        part: without this wish.
        wish: the size in question.
        upwards: look for the least size above (or at) the wish, otherwise for the largest below.
        deadline: on the clock of `time.perf_counter`.
        seed: for the solver.
    """
    counts = CountModel(part)
    (size,) = counts.place([wish])
    if upwards:
        counts.model.add(size >= wish.target.size)
        counts.model.minimize(size)
    else:
        counts.model.add(size <= wish.target.size)
        counts.model.maximize(size)
    search = _Search(counts, deadline, seed)
    return round(search.solver.objective_value) if search.run() is Status.OPTIMAL else None

