"""The maximum of a sum of tables over few variables each, by eliminating one variable after the other.

Where the tables that come up are too large, a variable is split into copies that need not agree (mini-buckets): the
answer is then an upper bound instead of the maximum. A second pass, in reverse order, gives for every value of every
variable the best that is possible with it.

Source: bucket elimination, Dechter 1999; mini-buckets, Dechter and Rish 2003; max-marginals by message passing,
Shenoy and Shafer 1990.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from solver_nas.utility import FloatArray


class Factor(NamedTuple):
    """A table over some variables, in the order of `scope`; minus infinity where something is impossible."""

    scope: tuple[int, ...]
    table: FloatArray


@dataclass(slots=True)
class _Cluster:
    """The tables in which a variable stood when it was eliminated, added up."""

    variable: int
    scope: tuple[int, ...]
    table: FloatArray
    children: list[tuple[_Cluster, FloatArray]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Elimination:
    """What came out.

    Args:
        bound: nothing is more.
        marginals: for every variable and value, a bound for everything with that value.
        exact: whether the bounds are reached.
        best: a value for every variable; together they reach the bound if it is exact.
    """

    bound: float
    marginals: tuple[FloatArray, ...]
    exact: bool
    best: tuple[int, ...]


def eliminate(cards: Sequence[int], factors: Sequence[Factor], limit: int) -> Elimination:
    """Maximise a sum of tables.

    Args:
        cards: how many values every variable has.
        factors: the tables.
        limit: the most entries that a table may have.
    """
    tables = _Tables(cards, factors)
    clusters: list[_Cluster] = []
    bound, exact = 0.0, True
    for variable in tables:
        mine = tables.take(variable) or [(Factor((variable,), np.zeros(cards[variable])), None)]
        groups = _groups(mine, cards, limit)
        exact = exact and len(groups) == 1
        for group in groups:
            cluster = _cluster(variable, group, cards)
            clusters.append(cluster)
            message = cluster.table.max(axis=0)
            if message.ndim:
                tables.add(Factor(cluster.scope[1:], message), cluster)
            else:
                bound += float(message)
    return Elimination(bound, _marginals(clusters, cards, bound), exact, _best(clusters, len(cards)))


class _Tables:
    """The tables that are left, and which variable makes the smallest one if it goes next."""

    def __init__(self, cards: Sequence[int], factors: Sequence[Factor]) -> None:
        self._logs = [math.log(card) for card in cards]
        self._open: dict[int, tuple[Factor, _Cluster | None]] = {}
        self._of: list[dict[int, None]] = [{} for _ in cards]
        self._count = 0
        self._sizes: dict[int, float] = dict.fromkeys(range(len(cards)), 0.0)
        self._heap: list[tuple[float, int]] = []
        self._changed = set(self._sizes)
        for factor in factors:
            self.add(factor, None)

    def add(self, factor: Factor, cluster: _Cluster | None) -> None:
        """One more table."""
        self._open[self._count] = (factor, cluster)
        for variable in factor.scope:
            self._of[variable][self._count] = None
        self._changed.update(factor.scope)
        self._count += 1

    def take(self, variable: int) -> list[tuple[Factor, _Cluster | None]]:
        """The tables that a variable is in, which go."""
        found = []
        for place in self._of[variable]:
            pair = self._open.pop(place)
            found.append(pair)
            for other in pair[0].scope:
                if other != variable:
                    del self._of[other][place]
                    self._changed.add(other)
        return found

    def __iter__(self) -> Iterator[int]:
        """The variables, each time the one whose elimination makes the smallest table."""
        while self._sizes:
            for variable in self._changed:
                if variable in self._sizes:
                    others = {variable, *(one for place in self._of[variable] for one in self._open[place][0].scope)}
                    self._sizes[variable] = math.fsum(self._logs[one] for one in others)
                    heappush(self._heap, (self._sizes[variable], variable))
            self._changed.clear()
            size, variable = heappop(self._heap)
            # What was written down before its neighbours changed is out of date.
            if self._sizes.get(variable) == size:
                del self._sizes[variable]
                yield variable


def _best(clusters: Sequence[_Cluster], variables: int) -> tuple[int, ...]:
    """Values that reach the maximum, variable by variable in reverse order."""
    found: dict[int, int] = {}
    for cluster in reversed(clusters):
        if cluster.variable not in found:
            line = cluster.table.transpose([*range(1, cluster.table.ndim), 0])
            for other in cluster.scope[1:]:
                line = line[found[other]]
            found[cluster.variable] = int(line.argmax())
    return tuple(found[variable] for variable in range(variables))


def _groups(
    pairs: list[tuple[Factor, _Cluster | None]], cards: Sequence[int], limit: int
) -> list[list[tuple[Factor, _Cluster | None]]]:
    """Tables that may be added up without exceeding the limit, large ones first."""
    groups: list[tuple[set[int], list[tuple[Factor, _Cluster | None]]]] = []
    for pair in sorted(pairs, key=lambda pair: -pair[0].table.size):
        for place, (scope, members) in enumerate(groups):
            joined = scope | set(pair[0].scope)
            if math.prod(cards[variable] for variable in joined) <= limit:
                groups[place] = (joined, [*members, pair])
                break
        else:
            groups.append((set(pair[0].scope), [pair]))
    return [members for _, members in groups]


def _cluster(variable: int, group: Sequence[tuple[Factor, _Cluster | None]], cards: Sequence[int]) -> _Cluster:
    others = sorted({other for factor, _ in group for other in factor.scope} - {variable})
    scope = (variable, *others)
    table = np.zeros([cards[one] for one in scope])
    cluster = _Cluster(variable, scope, table)
    for factor, child in group:
        table += _spread(factor, scope)
        if child is not None:
            cluster.children.append((child, factor.table))
    return cluster


def _spread(factor: Factor, scope: tuple[int, ...]) -> FloatArray:
    """A table with an axis for every variable of a larger scope."""
    order = sorted(range(len(factor.scope)), key=lambda axis: scope.index(factor.scope[axis]))
    inside = {factor.scope[axis] for axis in order}
    moved = factor.table.transpose(order)
    shape = iter(moved.shape)
    return moved.reshape([next(shape) if variable in inside else 1 for variable in scope])


def _marginals(clusters: Sequence[_Cluster], cards: Sequence[int], bound: float) -> tuple[FloatArray, ...]:
    """Bounds by value, from the last cluster to the first."""
    if np.isneginf(bound):
        return tuple(np.full(card, -np.inf) for card in cards)
    found = [np.full(card, np.inf) for card in cards]
    roots = {id(cluster): float(cluster.table.max()) for cluster in clusters if len(cluster.scope) == 1}
    down: dict[int, FloatArray | float] = {}
    for cluster in reversed(clusters):
        if len(cluster.scope) == 1:
            # What the other roots give comes on top.
            belief = cluster.table + (bound - roots[id(cluster)])
        else:
            belief = cluster.table + down.pop(id(cluster))
        axes = tuple(range(1, belief.ndim))
        found[cluster.variable] = np.minimum(found[cluster.variable], belief.max(axis=axes))
        for child, message in cluster.children:
            separator = child.scope[1:]
            outside = tuple(axis for axis, variable in enumerate(cluster.scope) if variable not in separator)
            kept = [variable for variable in cluster.scope if variable in separator]
            reduced = belief.max(axis=outside)
            reduced = reduced.transpose([kept.index(variable) for variable in separator])
            rest = np.full(message.shape, -np.inf)
            np.subtract(reduced, message, out=rest, where=np.isfinite(message))
            down[id(child)] = rest[None]
    return tuple(found)
