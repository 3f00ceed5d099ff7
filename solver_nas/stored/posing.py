"""From a stored size problem and what is asked for to a problem over counts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.bounds import Bound
from solver_nas.errors import RequestError
from solver_nas.limits.expression import number
from solver_nas.problem import Bucket, Budget, Count, Grid, Problem
from solver_nas.requests import is_whole
from solver_nas.stored.document import Cost, Document, amount

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for; besides, at least one neuron of every group stays.

    Args:
        limits: how much of each cost may stay: up to 1 a fraction of the whole, above 1 an amount.
        multiple: every size is a multiple of that.

    Raises:
        RequestError: a limit is no positive number, or the multiple no positive whole number.
    """

    limits: Mapping[Cost, float | Fraction] = field(default_factory=dict)
    multiple: int = 1

    def __post_init__(self) -> None:
        """Check."""
        for cost, limit in self.limits.items():
            if not number(limit, f"the limit of {cost}") > 0:
                raise RequestError(
                    f"the limit of {cost} is {limit}; give a fraction of the whole such as 0.5, or an amount above 1"
                )
        if not is_whole(self.multiple) or self.multiple < 1:
            raise RequestError(f"sizes are multiples of a positive whole number, got {self.multiple!r}")

    def highs(self, document: Document) -> dict[Cost, int]:
        """The limits of a problem as whole numbers, rounded down."""
        return {cost: _high(document, cost, number(limit, cost)) for cost, limit in self.limits.items()}


def _high(document: Document, cost: Cost, limit: Fraction) -> int:
    return math.floor(limit if limit > 1 else limit * amount(document, cost, document.sizes))


def pose(document: Document, ask: Ask) -> Problem:
    """A bucket for every group, in the same order; labels and classes are the neurons, group after group, from 1."""
    sizes = tuple(Count(0, {group: 1}, {}) for group in range(len(document.groups)))
    neurons = sum(document.sizes)
    nothing = np.zeros(0, np.int64)
    return Problem(
        np.arange(1 + neurons),
        1 + neurons,
        _buckets(document),
        nothing,
        nothing,
        sizes,
        (),
        (),
        (),
        (),
        None,
        sum(group.size * len(group.members) for group in document.groups),
        0.0,
        tuple(_budget(document, cost, high) for cost, high in ask.highs(document).items()),
        tuple(Grid(size, ask.multiple, frozenset()) for size in sizes) if ask.multiple > 1 else (),
    )


def _buckets(document: Document) -> tuple[Bucket, ...]:
    found, first = [], 1
    for group in document.groups:
        order = np.argsort(-group.utility, kind="stable")
        found.append(Bucket(first + order, group.utility[order], len(group.members), -1))
        first += group.size
    return tuple(found)


def _budget(document: Document, cost: Cost, high: int) -> Budget:
    # Above the whole, a limit says no more than the whole does, and numbers stay small.
    end = Fraction(min(high, amount(document, cost, document.sizes)))
    terms = tuple(term.monomial for term in document.terms(cost))
    return Budget(terms, (), Fraction(0), None, end, Bound(f"{cost} <= {high:,}", (), None, end))


def conflicts(document: Document, ask: Ask) -> tuple[str, ...]:
    """Why nothing is possible, in words; empty if something is.

    Costs only rise with sizes, so all there is to be looked at is the smallest sizes.
    """
    small = [number for number, size in enumerate(document.sizes) if size < ask.multiple]
    if small:
        group = document.groups[small[0]]
        others = f", and {len(small) - 1} other groups have too few as well" if len(small) > 1 else ""
        reason = (
            f"group {small[0]} has {group.size} neurons, too few for a multiple of {ask.multiple}{others}; "
            f"ask for a multiple of {min(document.sizes)} or less"
        )
        return (reason,)
    least = [ask.multiple] * len(document.groups)
    each = "1 neuron" if ask.multiple == 1 else f"{ask.multiple} neurons"
    return tuple(
        f"{cost} are {amount(document, cost, least):,} even if every group keeps only {each}; "
        f"the limit is {high:,}, give that many at least"
        for cost, high in ask.highs(document).items()
        if amount(document, cost, least) > high
    )
