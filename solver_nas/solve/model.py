"""The constraints of a part of a problem as a CP-SAT model over counts."""

from __future__ import annotations

import math
import threading
import time
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ortools.sat.python import cp_model

from solver_nas.solve.solution import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.problem import Budget, Count, Gauge, Grid, Monomial, Rectangle, SharedColumns, Wish
    from solver_nas.solve.parts import Part
    from solver_nas.solve.solution import Counts

Window = tuple[int, int]

_LARGEST_END = 2**61
_MOST_STEP = 10_000  # a common multiple of sizes beyond that is not looked for
_MOST_GROWTH = 100_000  # new neurons at one place that a lower end of a cost is met with
_MOST_POINTS = 200_000  # of all tables of measured costs; CP-SAT holds each of them
_GAUGE_STEPS = 38  # powers of two: how finely a measured cost is told apart, relative to its limit


class TableError(Exception):
    """A measured cost has more points than a model can hold."""


class _Range(NamedTuple):
    """An expression and what it can be."""

    expression: cp_model.LinearExprT
    low: int
    high: int

    def times(self, factor: int) -> cp_model.LinearExprT:
        """A multiple of it."""
        return self.expression * factor


class CountModel:
    """The CP-SAT model of one part of a problem; lives for one search."""

    def __init__(self, part: Part, windows: Sequence[Window] | None = None, most: int | None = None) -> None:
        """Build variables and constraints; utilities come later.

        Args:
            part: buckets and what relates them.
            windows: lowest and highest count of every bucket; by default from none to all.
            most: how many new neurons a slot may get; by default what the wishes can use.
        """
        self.part = part
        self.model = cp_model.CpModel()
        most = most_new(part) if most is None else most
        self.windows = list(windows or ((bucket.least, bucket.most) for bucket in part.buckets))
        self.kept = [self._count_variable(*window) for window in self.windows]
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
        for balance in part.balances:
            self.model.add(self.expression(balance) == 0)
        self.most = most
        self._products: dict[tuple[object, ...], _Range] = {}
        self._points = 0  # of all tables so far
        for budget in part.budgets:
            self._budget(budget)
        for grid in part.grids:
            self._grid(grid)

    def _count_variable(self, low: int, high: int) -> cp_model.IntVar:
        return self.model.new_bool_var("") if (low, high) == (0, 1) else self.model.new_int_var(low, high, "")

    def _sum(self, keep: Mapping[int, int], new: Mapping[int, int], constant: int) -> cp_model.LinearExpr:
        variables = [*(self.kept[b] for b in keep), *(self.new[s] for s in new)]
        return cp_model.LinearExpr.weighted_sum(variables, [*keep.values(), *new.values()]) + constant

    @property
    def cost(self) -> cp_model.LinearExpr:
        """Summed distance of the relaxed wishes from what was asked for; among equals, fewest that fall short."""
        distance, short = cp_model.LinearExpr.sum(self.distance), cp_model.LinearExpr.sum(self.short)
        return (len(self.short) + 1) * distance + short

    def expression(self, count: Count) -> cp_model.LinearExpr:
        """A size over this model's variables."""
        return self._sum(count.keep, count.new, count.constant)

    def span(self, count: Count) -> tuple[int, int]:
        """The least and the largest value of an expression inside the windows."""
        keep = [(factor, *self.windows[bucket]) for bucket, factor in count.keep.items()]
        terms = [*keep, *((factor, 0, self.most) for factor in count.new.values())]
        low = count.constant + sum(factor * (least if factor > 0 else most) for factor, least, most in terms)
        return low, count.constant + sum(factor * (most if factor > 0 else least) for factor, least, most in terms)

    def _budget(self, budget: Budget) -> None:
        """Products of sizes between two numbers; all in whole numbers, rounded to the safe side."""
        amount, scale = self.amount(budget)
        # Every measured cost is rounded to the nearest step.
        slack = (len(budget.gauges) + 1) // 2
        if budget.high is not None:
            self.model.add(amount <= _within(math.floor((budget.high - budget.constant) * scale) + slack))
        if budget.low is not None:
            self.model.add(amount >= _within(math.ceil((budget.low - budget.constant) * scale) - slack))

    def amount(self, budget: Budget) -> tuple[cp_model.LinearExpr, Fraction]:
        """What a budget's terms come to, without its constant, in whole numbers; and what 1 is multiplied with."""
        common = math.lcm(budget.constant.denominator, *(term.factor.denominator for term in budget.terms))
        ends = [end for end in (budget.low, budget.high) if end is not None]
        products = [(self._product(term), term.factor) for term in budget.terms]
        shared = math.gcd(*(int(factor * common) for _, factor in products)) if products else 1
        scale = Fraction(common, shared or 1)
        sums = (abs(factor) * max(abs(product.low), abs(product.high)) for product, factor in products)
        top = sum(sums, start=Fraction(0))
        if top * scale > _LARGEST_END:
            # Too fine for whole numbers: so many steps that all terms together stay below 2^50.
            scale = Fraction(2) ** (50 - math.ceil(math.log2(top)))
        if budget.gauges:
            scale *= _gauge_steps(scale, max([abs(end - budget.constant) for end in ends], default=Fraction(1)), top)
        terms = [product.times(_rounded(factor * scale, budget)) for product, factor in products]
        gauges = [self._gauge(gauge, float(scale)) for gauge in budget.gauges]
        return cp_model.LinearExpr.sum([*terms, *gauges]), scale

    def _product(self, term: Monomial) -> _Range:
        """A product of sizes by a product of rows."""
        key = (tuple(one.key for one in term.over), tuple(one.key for one in term.under))
        if key not in self._products:
            found = self._plain(term.over[0])
            for one in term.over[1:]:
                found = self._times(found, self._plain(one))
            for rows in term.under:
                found = self._divided(found, self._plain(rows))
            self._products[key] = found
        return self._products[key]

    def _plain(self, count: Count) -> _Range:
        return _Range(self.expression(count), *self.span(count))

    def _times(self, one: _Range, other: _Range) -> _Range:
        corners = [a * b for a in (one.low, one.high) for b in (other.low, other.high)]
        product = self.model.new_int_var(min(corners), max(corners), "")
        self.model.add_multiplication_equality(product, [one.expression, other.expression])
        return _Range(product, min(corners), max(corners))

    def _divided(self, one: _Range, rows: _Range) -> _Range:
        most = max(abs(one.low), abs(one.high))
        quotient = _Range(self.model.new_int_var(-most, most, ""), -most, most)
        rows = _Range(rows.expression, max(rows.low, 1), rows.high)
        self.model.add(rows.expression >= 1)
        self.model.add_multiplication_equality(one.expression, [quotient.expression, rows.expression])
        return quotient

    def _gauge(self, gauge: Gauge, scale: float) -> cp_model.LinearExprT:
        """A measured cost, from a table of all sizes inside the windows."""
        spans = [self.span(size) for size in gauge.sizes]
        points = math.prod(high - low + 1 for low, high in spans)
        self._points += points
        if self._points > _MOST_POINTS:
            raise TableError(
                f"a measured cost depends on {len(spans)} sizes at once, with {points:,} combinations, and more than "
                f"{_MOST_POINTS:,} cannot be searched; give a LatencyTable, which takes all inputs of a vertex "
                f"together, or leave the vertex out with of="
            )
        axes = np.meshgrid(*(np.arange(low, high + 1) for low, high in spans), indexing="ij")
        costs = np.asarray(gauge.function(*axes), np.float64) * scale
        whole = np.rint(costs).astype(np.int64).reshape(-1)
        cost = self.model.new_int_var(int(whole.min()), int(whole.max()), "")
        columns = [self._variable(size) for size in gauge.sizes]
        rows = np.stack([*(axis.reshape(-1) for axis in axes), whole], axis=1)
        self.model.add_allowed_assignments([*columns, cost], rows.tolist())
        return cost

    def _variable(self, count: Count) -> cp_model.IntVar:
        variable = self.model.new_int_var(*self.span(count), "")
        self.model.add(variable == self.expression(count))
        return variable

    def _grid(self, grid: Grid) -> None:
        low, high = self.span(grid.size)
        values = {*range(max(grid.step, -(-low // grid.step) * grid.step), high + 1, grid.step), *grid.also}
        values = {value for value in values if low <= value <= high}
        if not values:
            self.model.add_bool_or([])
            return
        # With `add_linear_expression_in_domain`, OR-tools 9.15 has called other solutions optimal than are.
        size = self.model.new_int_var_from_domain(cp_model.Domain.from_values(sorted(values)), "")
        self.model.add(size == self.expression(grid.size))

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
        widest = max(
            count.constant + sum(often * len(self.part.buckets[b].classes) for b, often in count.keep.items())
            for count in rectangle.cells
        )
        columns = self.model.new_int_var(1, widest + most, "")
        # Follows from what comes below; said aloud, it spares the solver from finding it out row by row.
        rows = sum(row < 0 for row in rectangle.rows) + cp_model.LinearExpr.sum(
            [self.kept[row] for row in rectangle.rows if row >= 0]
        )
        alive_rows = self.model.new_int_var(0, len(rectangle.rows), "")
        total = self.model.new_int_var(0, len(rectangle.rows) * (widest + most), "")
        self.model.add(alive_rows == rows)
        self.model.add_multiplication_equality(total, [columns, alive_rows])
        self.model.add(total == cp_model.LinearExpr.sum([self.expression(count) for count in rectangle.cells]))
        # A rectangle that loses rows gets no columns: nobody who asks for a neuron less wants half of them replaced.
        grows = self.model.new_bool_var("")
        for slot in sorted({slot for count in rectangle.cells for slot in count.new}):
            self.model.add(self.new[slot] == 0).only_enforce_if(~grows)
        for row, count in zip(rectangle.rows, rectangle.cells, strict=True):
            cells = self.expression(count)
            old = self._sum(count.keep, {}, count.constant)
            if row < 0:
                self.model.add(cells == columns)
                self.model.add(old >= 1)
                continue
            alive = self.kept[row]
            self.model.add(cells == columns).only_enforce_if(alive)
            self.model.add(old >= 1).only_enforce_if(alive)
            self.model.add(cells == 0).only_enforce_if(~alive)
            self.model.add_implication(grows, alive)

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


def most_new(part: Part) -> int:
    """More new neurons than this at one slot cannot bring any wish nearer."""
    wished = sum(max(wish.target.size, wish.target.before) for wish in part.wishes)
    needed = sum(
        abs(balance.constant) + sum(abs(often) * len(part.buckets[b].classes) for b, often in balance.keep.items())
        for balance in part.balances
    )
    useful = 2 * wished + needed + max((len(bucket.classes) for bucket in part.buckets), default=0)
    useful += sum(_demand(part, budget) for budget in part.budgets)
    useful += min(math.lcm(*(grid.step for grid in part.grids)), _MOST_STEP) if part.grids else 0
    useful += max((max(grid.also, default=0) for grid in part.grids), default=0)
    useful = max([useful, *map(len, part.slot_gains)])
    return useful if part.most_new is None else min(useful, part.most_new)


def _grown(part: Part, budget: Budget, low: Fraction) -> int:
    """How large one size has to be for products of sizes to come to so much, all others being as they are."""
    most = 0
    for term in budget.terms:
        present = [
            count.constant + sum(often * len(part.buckets[b].classes) for b, often in count.keep.items())
            for count in term.over
        ]
        for place in range(len(present)):
            others = math.prod(max(size, 1) for where, size in enumerate(present) if where != place)
            if term.factor > 0:
                most = max(most, math.ceil(max(low - budget.constant, Fraction(0)) / (term.factor * others)))
    return min(most, _MOST_GROWTH)


def _demand(part: Part, budget: Budget) -> int:
    """How large a limit that speaks of sizes alone, such as a least size, can want one of them."""
    if budget.gauges or not budget.terms:
        return 0
    if any(len(term.over) > 1 or term.under for term in budget.terms):
        return 0 if budget.low is None else _grown(part, budget, budget.low)
    wanted = max(
        [abs(end - budget.constant) for end in (budget.low, budget.high) if end is not None], default=Fraction(0)
    )
    if len({term.factor > 0 for term in budget.terms}) > 1:
        # With terms on both sides, one size can be wanted as large as the others are.
        sizes = [(t.factor, t.over[0].constant, t.over[0].keep) for t in budget.terms]
        wanted += sum(
            abs(factor) * (constant + sum(often * len(part.buckets[b].classes) for b, often in keep.items()))
            for factor, constant, keep in sizes
        )
    return math.ceil(wanted / min(abs(term.factor) for term in budget.terms))


def _within(end: int) -> int:
    """A number that fits into the solver's integers; what lies beyond is no limit, or none that can be kept."""
    return max(min(end, _LARGEST_END), -_LARGEST_END)


def _rounded(factor: Fraction, budget: Budget) -> int:
    """A whole factor that errs on the side of the limit."""
    return math.ceil(factor) if budget.high is not None else math.floor(factor)


def _gauge_steps(scale: Fraction, size: Fraction, top: Fraction) -> int:
    """By how much more finely costs are told apart where some are measured: a power of two keeps others whole.

    Args:
        scale: what 1 is multiplied with otherwise.
        size: the limit.
        top: the most that the other costs come to.
    """
    wanted = _GAUGE_STEPS - math.log2(size * scale) if size else _GAUGE_STEPS
    room = math.log2(_LARGEST_END) - math.log2(top * scale) if top else wanted
    return int(2 ** max(math.floor(min(wanted, room)), 0))


def _negated(literal: cp_model.LiteralT) -> cp_model.LiteralT:
    return (not literal) if isinstance(literal, bool) else ~literal


class Search:
    """Solves one model for one objective after the other."""

    def __init__(self, counts: CountModel, deadline: float, seed: int, start: Counts | None = None) -> None:
        self.counts, self.model, self.deadline = counts, counts.model, deadline
        self.solver = cp_model.CpSolver()
        # One worker is deterministic; these models are small enough that more would not pay.
        self.solver.parameters.num_workers = 1
        self.solver.parameters.random_seed = seed % 2**31
        # Its own handler would swallow Ctrl-C, and leave none behind that Python knows of.
        self.solver.parameters.catch_sigint_signal = False
        # Mostly the present sizes are a solution already.
        self.kept = [
            min(high, len(b.classes)) for b, (_, high) in zip(counts.part.buckets, counts.windows, strict=True)
        ]
        self.new = [0 for _ in counts.new]
        if start is not None:
            self.kept, self.new = list(start.kept), list(start.new)

    def run(self) -> Status:
        """Solve as the model stands, from the last solution on."""
        left = self.deadline - time.perf_counter()
        if left <= 0:
            # Loading a large model alone can take seconds.
            return Status.UNKNOWN
        self.solver.parameters.max_time_in_seconds = max(left, 1e-3)
        self.model.clear_hints()  # type: ignore[no-untyped-call]  # untyped in OR-tools
        pairs = [*zip(self.counts.kept, self.kept, strict=True), *zip(self.counts.new, self.new, strict=True)]
        for variable, value in pairs:
            self.model.add_hint(variable, value)
        status = _STATUS[_interruptible(self.solver, self.model)]
        if status in (Status.OPTIMAL, Status.FEASIBLE):
            self.kept = [int(self.solver.value(variable)) for variable in self.counts.kept]
            self.new = [int(self.solver.value(variable)) for variable in self.counts.new]
        return status


def _interruptible(solver: cp_model.CpSolver, model: cp_model.CpModel) -> object:
    """Solve in a thread of its own, so that Ctrl-C reaches this one at once; then the search is stopped first."""
    answer: list[object] = []
    # Not `Thread.join`, which takes a thread for dead once it has been interrupted.
    done = threading.Event()

    def work() -> None:
        try:
            answer.append(solver.solve(model))
        finally:
            done.set()

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        done.wait()
    except BaseException:
        solver.stop_search()
        done.wait()
        worker.join()
        raise
    return answer[0]


_STATUS: Mapping[object, Status] = {
    cp_model.OPTIMAL: Status.OPTIMAL,
    cp_model.FEASIBLE: Status.FEASIBLE,
    cp_model.INFEASIBLE: Status.INFEASIBLE,
    cp_model.UNKNOWN: Status.UNKNOWN,
    cp_model.MODEL_INVALID: Status.INFEASIBLE,
}
