"""The constraints of a part of a problem as a CP-SAT model over counts."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from ortools.sat.python import cp_model

from solver_nas.solve.solution import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.problem import Count, Rectangle, SharedColumns, Wish
    from solver_nas.solve.parts import Part

Window = tuple[int, int]


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
        self.windows = list(windows or ((0, len(bucket.classes)) for bucket in part.buckets))
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
    return useful if part.most_new is None else min(useful, part.most_new)


def _negated(literal: cp_model.LiteralT) -> cp_model.LiteralT:
    return (not literal) if isinstance(literal, bool) else ~literal


class Search:
    """Solves one model for one objective after the other."""

    def __init__(self, counts: CountModel, deadline: float, seed: int) -> None:
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

    def run(self) -> Status:
        """Solve as the model stands, from the last solution on."""
        left = self.deadline - time.perf_counter()
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
