"""From a problem to the best counts and a certificate; the only place that knows OR-tools."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from solver_nas.solve.closed import solve_single
from solver_nas.solve.exact import extreme_amount, reachable, solvable, solve_united
from solver_nas.solve.parts import parts, whole
from solver_nas.solve.rectangular import reachable_sizes, solve_rectangular
from solver_nas.solve.solution import Certificate, Counts, Selection, Status, kept_utility, promised_utility, select

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

    from solver_nas.bounds import Bound
    from solver_nas.problem import Problem, Wish

__all__ = [
    "Certificate",
    "Counts",
    "Selection",
    "Status",
    "certify",
    "extreme",
    "feasible",
    "nearest_sizes",
    "select",
    "solve",
]

TIME_LIMIT = 20.0  # seconds, as in the reference
GAP = 1e-3  # of the utility: with limits, search ends when that little is left to be gained


def solve(problem: Problem, *, time_limit: float = TIME_LIMIT, seed: int = 0, gap: float = GAP) -> Counts:
    """Find the counts that are best: least deviation from relaxed wishes, then most utility, then ties.

    Args:
        problem: what to choose.
        time_limit: in seconds, for everything together.
        seed: for the solver; equal seeds give equal answers.
        gap: with limits, a solution that is proven to be so close to the best one, as a fraction, is good enough.

    Returns:
        The counts, in the order of the problem's buckets and slots, with their status; `INFEASIBLE`
        (proven) and `UNKNOWN` (out of time) come without counts.
    """
    deadline = time.perf_counter() + time_limit
    kept, new = [0] * len(problem.buckets), [0] * len(problem.slots)
    status, deviation, slack, method = Status.OPTIMAL, 0, 0.0, ""
    found_parts = parts(problem)
    hard = sum(not part.single and bool(part.buckets) for part in found_parts)
    for part in found_parts:
        if part.single:
            found = solve_single(part.buckets[0], part.sizes, part.wishes, part.most_new)
        else:
            # What one part does not need is left for the others; none can use up all of it.
            now = time.perf_counter()
            share = now + max(deadline - now, 0.0) / max(hard, 1)
            hard -= bool(part.buckets)
            found = solve_rectangular(part) or solve_united(part, share, seed, gap)
        if found.status in (Status.INFEASIBLE, Status.UNKNOWN):
            return found
        for number, count in zip(part.numbers, found.kept, strict=True):
            kept[number] = count
        for number, count in zip(part.slot_numbers, found.new, strict=True):
            new[number] = count
        deviation, slack = deviation + found.deviation, slack + found.slack
        method = method or found.method
        status = Status.FEASIBLE if found.status is Status.FEASIBLE else status
    return Counts(status, tuple(kept), tuple(new), deviation, slack, method)


def certify(problem: Problem, counts: Counts, seconds: dict[str, float]) -> Certificate:
    """What is known about the selection that these counts stand for."""
    promised = promised_utility(problem.slot_gains, counts.new)
    objective = kept_utility(problem.buckets, counts.kept) + problem.utility_elsewhere + promised
    return Certificate(
        counts.status,
        objective,
        objective + counts.slack,
        counts.deviation,
        problem.positions,
        sum(len(bucket.classes) for bucket in problem.buckets),
        len(problem.buckets),
        seconds,
        promised,
        counts.method,
    )


def feasible(problem: Problem, *, time_limit: float = TIME_LIMIT, seed: int = 0) -> Status:
    """Whether there is any selection at all: `OPTIMAL` if there is, `INFEASIBLE` if not, `UNKNOWN` out of time."""
    deadline = time.perf_counter() + time_limit
    for part in parts(problem):
        if part.single:
            status = solve_single(part.buckets[0], part.sizes, part.wishes, part.most_new).status
        else:
            found = solve_rectangular(part)
            status = solvable(part, deadline, seed) if found is None else found.status
        if status in (Status.INFEASIBLE, Status.UNKNOWN):
            return status
    return Status.OPTIMAL


def extreme(
    problem: Problem, bounds: Sequence[Bound], *, time_limit: float = TIME_LIMIT, seed: int = 0
) -> Fraction | None:
    """What upper bounds that give way together would have to be at least (lower bounds: at most), all else being kept.

    Returns:
        The amount; `None` if even without the bounds nothing is possible, or if that was not found out in time.
    """
    deadline = time.perf_counter() + time_limit
    wanted = {id(bound) for bound in bounds}
    mine = [budget for budget in whole(problem).budgets if id(budget.limit) in wanted]
    if not mine:
        return None
    others = replace(problem, budgets=tuple(budget for budget in problem.budgets if id(budget.limit) not in wanted))
    return extreme_amount(whole(others), mine, deadline, seed)


def nearest_sizes(problem: Problem, wish: Wish, *, time_limit: float = TIME_LIMIT, seed: int = 0) -> tuple[int, ...]:
    """The next possible sizes below and above one wish, all other wishes being kept.

    Returns:
        At most two sizes, ascending; the wished size itself if it is possible.
    """
    for part in parts(problem):
        mine = next((other for other in part.wishes if other.target is wish.target), None)
        found = None if mine is None else reachable_sizes(part, mine)
        if found is not None:
            return found
    deadline = time.perf_counter() + time_limit
    part = whole(replace(problem, wishes=tuple(other for other in problem.wishes if other is not wish)))
    local = next(other for other in whole(problem).wishes if other.target is wish.target)
    sizes = [reachable(part, local, upwards=up, deadline=deadline, seed=seed) for up in (False, True)]
    return tuple(sorted({size for size in sizes if size is not None}))
