"""The answer to a stored size problem: sizes, what they are worth and cost, and how far that is proven."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from solver_nas.errors import RequestError, TimeLimitError
from solver_nas.requests import is_fraction
from solver_nas.solve import GAP, TIME_LIMIT, Counts, Status, certify, solve
from solver_nas.solve.solution import kept_utility
from solver_nas.stored.document import Cost, amount
from solver_nas.stored.posing import conflicts, pose
from solver_nas.strategies import check_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.problem import Problem
    from solver_nas.solve import Certificate
    from solver_nas.stored.document import Document
    from solver_nas.stored.posing import Ask


class Amounts(NamedTuple):
    """A cost with everything, with what is kept (`None` if nothing is possible), and the limit, if there is one."""

    before: int
    after: int | None
    limit: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What came out.

    Args:
        document: the problem.
        problem: the same, with what was asked for, over counts.
        conflicts: why nothing is possible, in words; empty if something is.
        certificate: `None` if nothing is possible.
        kept: how many neurons of every group stay; empty if nothing is possible.
        costs: before and after.
        seconds: time per phase.
    """

    document: Document
    problem: Problem
    conflicts: tuple[str, ...]
    certificate: Certificate | None
    kept: tuple[int, ...]
    costs: Mapping[Cost, Amounts]
    seconds: Mapping[str, float]

    @property
    def status(self) -> Status:
        """How the search ended."""
        return Status.INFEASIBLE if self.certificate is None else self.certificate.status

    @property
    def fractions(self) -> tuple[float, float] | None:
        """Of the utility of everything: what is kept, and the most that can be; `None` if nothing is possible."""
        if self.certificate is None:
            return None
        # Summed in the same order, so that all of it is exactly 1.
        total = kept_utility(self.problem.buckets, self.document.sizes)
        return float(self.certificate.objective / total), float(self.certificate.bound / total)


def answer(document: Document, ask: Ask, *, time_limit: float = TIME_LIMIT, seed: int = 0, gap: float = GAP) -> Answer:
    """Find the sizes that keep the most utility.

    Args:
        document: the problem.
        ask: what is asked for.
        time_limit: in seconds.
        seed: for the solver.
        gap: search ends when the sizes are proven to be so close to the best ones, as a fraction of the utility.

    Raises:
        RequestError: time limit or gap make no sense.
        TimeLimitError: no solution was found in time.
    """
    check_seconds(time_limit)
    if not is_fraction(gap):
        raise RequestError(f"gap is a fraction in [0, 1), got {gap!r}")
    start = time.perf_counter()
    problem, reasons = pose(document, ask), conflicts(document, ask)
    posed = time.perf_counter()
    counts = Counts(Status.INFEASIBLE) if reasons else solve(problem, time_limit=time_limit, seed=seed, gap=gap)
    seconds = {"pose": posed - start, "solve": time.perf_counter() - posed}
    if counts.status is Status.UNKNOWN:
        raise TimeLimitError(f"no solution was found within {time_limit:g} s; ask for more time")
    assert bool(reasons) is (counts.status is Status.INFEASIBLE), "costs rise with sizes, so conflicts are known"
    certificate = None if reasons else certify(problem, counts, seconds)
    return Answer(document, problem, reasons, certificate, counts.kept, _costs(document, ask, counts.kept), seconds)


def _costs(document: Document, ask: Ask, kept: tuple[int, ...]) -> dict[Cost, Amounts]:
    highs = ask.highs(document)
    return {
        cost: Amounts(
            amount(document, cost, document.sizes), amount(document, cost, kept) if kept else None, highs.get(cost)
        )
        for cost in Cost
    }
