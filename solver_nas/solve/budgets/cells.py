"""A bound for a priced field: states are put into cells, cells are eliminated, and those that matter are divided.

Around a *centre* (the states that are best at these prices), a product of two sizes is
`q1*q2 = c1*c2 + c1*d2 + c2*d1 + d1*d2`, with the centre's sizes c and the deviations d from them. The first three
terms are linear and belong to single choices, of which they leave the most exact; only `d1*d2` couples choices, and
near the centre it is small. So cells can be wide where it does not matter, and the bound is nearly as good as with
every state on its own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.solve.budgets.elimination import Factor, eliminate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.labels import IntArray
    from solver_nas.solve.budgets.field import Field, Meter
    from solver_nas.utility import FloatArray

_ENTRIES = 1_000_000  # of the largest table
_MOST_CELLS = 72  # of one variable: its cube is about the number above
_ALL_ENTRIES = 8_000_000  # of all tables of sums together
_MOST_LEAF_CELLS = 1000  # of one that is coupled with a single other one
_SHORT = 3  # summands of a sum that is taken apart
_ROUNDS = 12


@dataclass(slots=True)
class _Node:
    """A variable of the elimination: a choice, or a sum of sizes of several.

    Args:
        groups: the states in each cell (of a choice).
        low: least deviation by cell and quantity.
        high: largest deviation.
        best: the most that a state of the cell gains.
    """

    low: dict[int, FloatArray]
    high: dict[int, FloatArray]
    best: FloatArray
    groups: list[IntArray]

    @property
    def cells(self) -> int:
        return len(self.best)


@dataclass(frozen=True, slots=True, eq=False)
class _Metered:
    """A measured cost with its price."""

    weight: float
    meter: Meter

    def at(self, *sizes: float) -> float:
        """The cost at these sizes."""
        return float(self.meter.function(*(np.asarray(size) for size in sizes)))

    def slope(self, place: int, sizes: FloatArray) -> float:
        """How the cost grows with one of the sizes at the centre; any number would do."""
        at = [float(sizes[size]) for size in self.meter.sizes]
        up, down = list(at), list(at)
        up[place], down[place] = at[place] + 1, max(at[place] - 1, 0.0)
        return (self.at(*up) - self.at(*down)) / (up[place] - down[place])

    def departure(self, deviations: Sequence[FloatArray], sizes: FloatArray) -> FloatArray:
        """The cost less its tangent, for all combinations of deviations from the centre."""
        centre = [float(sizes[size]) for size in self.meter.sizes]
        axes = np.ix_(*deviations)
        cost = np.asarray(self.meter.function(*(np.maximum(at + d, 0) for at, d in zip(centre, axes, strict=True))))
        tangent = self.at(*centre) + sum(self.slope(place, sizes) * axis for place, axis in enumerate(axes))
        return np.asarray(cost - tangent)


@dataclass(frozen=True, slots=True, eq=False)
class Bounded:
    """What is known at these prices.

    Args:
        bound: no solution is worth more.
        open: for every choice, which of its states can be part of a better solution than the known one.
        exact: whether no variable was split into copies.
        best: states that come near the bound at these prices, whatever the rows say.
    """

    bound: float
    open: tuple[IntArray, ...]
    exact: bool
    best: IntArray

    @property
    def method(self) -> str:
        """How the bound was found, in words."""
        return "prices and elimination" if self.exact else "prices and elimination in mini-buckets"


class Cells:
    """The cells of a field at given prices and a centre; lives for one bound."""

    def __init__(self, field: Field, prices: FloatArray, centre: IntArray, most: int = _MOST_CELLS) -> None:
        """Work out what every state gains after paying, with the rest at the centre.

        Args:
            field: the choices.
            prices: one for every row, not negative.
            centre: a state for every choice.
            most: how many cells a choice may have; fewer are faster and give a looser bound.
        """
        self.field = field
        features = np.zeros(field.width)
        for choice, state in zip(field.choices, centre, strict=True):
            features[choice.inside] = choice.features[state]
        sizes = field.sizes @ features + field.offsets if len(field.offsets) else np.zeros(0)
        slope = np.zeros(field.width)
        pull = np.zeros(len(sizes))
        self.couplings: dict[tuple[int, int], float] = {}
        total = field.base
        for price, row in zip(prices, field.rows, strict=True):
            if not price:
                continue
            slope += price * row.linear
            total += price * (row.high - float(row.linear @ features))
            for factor, left, right in row.pairs:
                pull[left] += price * factor * sizes[right]
                pull[right] += price * factor * sizes[left]
                total -= price * factor * sizes[left] * sizes[right]
                key = (min(left, right), max(left, right))
                self.couplings[key] = self.couplings.get(key, 0.0) + price * factor
        self.sizes = sizes
        self.meters = [
            _Metered(price * meter.factor, meter)
            for price, row in zip(prices, field.rows, strict=True)
            for meter in row.meters
            if price
        ]
        for metered in self.meters:
            total -= metered.weight * metered.at(*(sizes[size] for size in metered.meter.sizes))
            for place, size in enumerate(metered.meter.sizes):
                pull[size] += metered.weight * metered.slope(place, sizes)
        slope += pull @ field.sizes if len(sizes) else 0.0
        self.gains = []
        for place, choice in enumerate(field.choices):
            inside = choice.inside
            gain = choice.gain - choice.features @ slope[inside]
            for price, row in zip(prices, field.rows, strict=True):
                if price and place in row.unary:
                    gain = gain - price * row.unary[place]
            total += float(choice.gain[centre[place]])
            total -= sum(
                float(price * row.unary[place][centre[place]])
                for price, row in zip(prices, field.rows, strict=True)
                if price and place in row.unary
            )
            self.gains.append(gain - gain[centre[place]])
        self.constant = total
        self.centre = centre
        self._quantities()
        self.nodes = [self._choice_node(place) for place in range(len(field.choices))]
        self._sums()
        # Every step of a sum has a table over three variables.
        self.most = min(most, int((_ALL_ENTRIES / max(len(self.steps), 1)) ** (1 / 3)))

    def _quantities(self) -> None:
        """For every size in a product: the one choice that it belongs to with its deviations, or its summands."""
        field = self.field
        self.single: dict[int, tuple[int, FloatArray]] = {}
        self.summed: dict[int, dict[int, FloatArray]] = {}
        measured = {size for metered in self.meters for size in metered.meter.sizes}
        used = {size for pair in self.couplings for size in pair} | measured
        for size in sorted(used):
            vector = field.sizes[size]
            parts = {}
            for place in sorted({int(field.owner[one]) for one in np.flatnonzero(vector)}):
                choice = field.choices[place]
                values = choice.features @ vector[choice.inside]
                parts[place] = values - values[self.centre[place]]
            if len(parts) == 1:
                self.single[size] = next(iter(parts.items()))
            elif parts:
                self.summed[size] = parts
        #: Deviations of every choice's states: of its own sizes, by number, and of its parts of sums, by -1 - number.
        self.values: list[dict[int, FloatArray]] = [{} for _ in field.choices]
        for size, (owner, values) in self.single.items():
            self.values[owner][size] = values
        for size, parts in self.summed.items():
            for place, values in parts.items():
                self.values[place][-1 - size] = values
        # A product with a short sum is several products; a long sum has a variable of its own.
        self.products: list[tuple[tuple[int, int], tuple[int, int], float]] = []
        for (left, right), factor in self.couplings.items():
            for one in self._summands(left):
                for other in self._summands(right):
                    self.products.append((one, other, factor))
        self.summed = {size: parts for size, parts in self.summed.items() if len(parts) > _SHORT or size in measured}

    def _summands(self, size: int) -> list[tuple[int, int]]:
        """Choice and key of everything that a size is the sum of; -1 and the size where it has its own variable."""
        if size in self.single:
            return [(self.single[size][0], size)]
        parts = self.summed.get(size, {})
        return [(-1, size)] if len(parts) > _SHORT else [(place, -1 - size) for place in parts]

    def _choice_node(self, place: int) -> _Node:
        return self._node(place, _initial(self.field.choices[place].features, int(self.centre[place])))

    def _node(self, place: int, groups: list[IntArray]) -> _Node:
        gain, values = self.gains[place], self.values[place]
        states = np.concatenate(groups)
        edges = np.cumsum([0, *(len(group) for group in groups[:-1])])
        return _Node(
            {key: np.minimum.reduceat(v[states], edges) for key, v in values.items()},
            {key: np.maximum.reduceat(v[states], edges) for key, v in values.items()},
            np.maximum.reduceat(gain[states], edges),
            groups,
        )

    def _sums(self) -> None:
        """A node for every sum, built up from smaller ones, one choice at a time."""
        self.sum_of: dict[int, int] = {}  # size -> node
        self.steps: list[tuple[int, int, int, int]] = []  # before (or -1), its key; choice; its key; node
        self.step_keys: list[tuple[int | None, int]] = []
        known: dict[frozenset[tuple[int, bytes]], int] = {}
        for size, parts in sorted(self.summed.items(), key=lambda item: (len(item[1]), item[0])):
            items = {place: values.tobytes() for place, values in parts.items()}
            mine = frozenset(items.items())
            base = max((key for key in known if key <= mine), key=len, default=None)
            rest = [place for place in parts if base is None or (place, items[place]) not in base]
            if base is None:
                first, *rest = rest
                node, built, key = first, {(first, items[first])}, -1 - size
            else:
                node, built, key = known[base], set(base), 0
            for place in rest:
                built.add((place, items[place]))
                node = self._sum_node(node, key, place, -1 - size)
                key = 0
                known[frozenset(built)] = node
            self.sum_of[size] = node

    def _sum_node(self, before: int, before_key: int, place: int, key: int) -> int:
        one, other = self.nodes[before], self.nodes[place]
        low = float(one.low[before_key].min() + other.low[key].min())
        high = float(one.high[before_key].max() + other.high[key].max())
        edges = _intervals(int(np.floor(low)), int(np.ceil(high)))
        node = _Node({0: edges[:, 0]}, {0: edges[:, 1]}, np.zeros(len(edges)), [])
        self.nodes.append(node)
        self.steps.append((before, before_key, place, key))
        self.step_keys.append((None, len(self.nodes) - 1))
        return len(self.nodes) - 1

    # -- tables ------------------------------------------------------------------------------

    def _factors(self) -> list[Factor]:
        factors = [Factor((place,), node.best) for place, node in enumerate(self.nodes)]
        tables: dict[tuple[int, ...], FloatArray] = {}
        for left, right, factor in self.products:
            one, first = self._place(*left)
            other, second = self._place(*right)
            low, high = self.nodes[one], self.nodes[other]
            if one == other:
                factors.append(Factor((one,), _square(factor, low, first, second)))
                continue
            table = _corners(factor, low.low[first], low.high[first], high.low[second], high.high[second])
            scope = (min(one, other), max(one, other))
            table = table if one < other else table.T
            tables[scope] = tables[scope] + table if scope in tables else table
        for metered in self.meters:
            nodes, table = self._measured(metered)
            tables[nodes] = tables[nodes] + table if nodes in tables else table
        factors += [Factor(scope, table) for scope, table in tables.items()]
        for (before, before_key, place, key), (_, node) in zip(self.steps, self.step_keys, strict=True):
            factors.append(Factor((before, place, node), self._fits(before, before_key, place, key, node)))
        return factors

    def _measured(self, metered: _Metered) -> tuple[tuple[int, ...], FloatArray]:
        """The most that a measured cost's departure from its tangents at the centre can gain in every pair of cells."""
        places, values, edges = [], [], []
        for size in metered.meter.sizes:
            place, key = (self.single[size][0], size) if size in self.single else (self.sum_of[size], 0)
            node = self.nodes[place]
            if size in self.single:
                points = self.single[size][1][np.concatenate(node.groups)]
                lengths = [len(group) for group in node.groups]
            else:
                spans = [np.arange(a, b + 1) for a, b in zip(node.low[key], node.high[key], strict=True)]
                points, lengths = np.concatenate(spans), [len(span) for span in spans]
            places.append(place)
            values.append(points)
            edges.append(np.cumsum([0, *lengths[:-1]]))
        table = -metered.weight * metered.departure(values, self.sizes)
        if len(places) == 2 and places[0] == places[1]:
            table, places, edges = table.diagonal(), places[:1], edges[:1]
        for axis, starts in enumerate(edges):
            table = np.maximum.reduceat(table, starts, axis=axis)
        if len(places) == 1:
            return (places[0],), table
        one, other = places
        return ((one, other), table) if one < other else ((other, one), table.T)

    def _place(self, choice: int, key: int) -> tuple[int, int]:
        """The node that a summand is a quantity of, and which."""
        return (self.sum_of[key], 0) if choice < 0 else (choice, key)

    def _fits(self, before: int, before_key: int, place: int, key: int, node: int) -> FloatArray:
        one, other, total = self.nodes[before], self.nodes[place], self.nodes[node]
        low = one.low[before_key][:, None] + other.low[key][None, :]
        high = one.high[before_key][:, None] + other.high[key][None, :]
        fits = (low[:, :, None] <= total.high[0]) & (high[:, :, None] >= total.low[0])
        return np.where(fits, 0.0, -np.inf)

    # -- the bound ---------------------------------------------------------------------------

    def bound(self, known: float, tolerance: float, deadline: float) -> Bounded:
        """Divide cells until the bound is no better for it.

        Args:
            known: what a solution is worth.
            tolerance: a bound that is so close to it is good enough.
            deadline: on the clock of `time.perf_counter`.
        """
        best, chosen, exact = np.inf, self.centre, True
        for round_ in range(_ROUNDS):
            cards = [node.cells for node in self.nodes]
            found = eliminate(cards, self._factors(), _ENTRIES)
            bound = self.constant + found.bound
            best = min(best, bound)
            limit = known - self.constant - 1e-12 * max(abs(known), 1.0)
            stay = [np.flatnonzero(marginal >= limit) for marginal in found.marginals]
            if any(len(cells) == 0 for cells in stay):
                # Nothing is better than what is known.
                nothing = tuple(np.zeros(0, np.int64) for _ in self.field.choices)
                return Bounded(known, nothing, found.exact, self.centre)
            chosen, exact = self._states(found.best), found.exact
            done = best - known <= tolerance or time.perf_counter() > deadline or round_ == _ROUNDS - 1
            divided = self._keep(stay, divide=not done)
            if done or not divided:
                break
        opened = tuple(np.sort(np.concatenate(self.nodes[place].groups)) for place in range(len(self.field.choices)))
        return Bounded(max(best, known), opened, exact, chosen)

    def _states(self, cells: Sequence[int]) -> IntArray:
        """The best state of each of these cells."""
        found = []
        for gain, node, cell in zip(self.gains, self.nodes, cells, strict=False):
            group = node.groups[cell]
            found.append(int(group[gain[group].argmax()]))
        return np.array(found, np.int64)

    def _rooms(self) -> list[int]:
        """How many cells every choice may have: more for one that stands in products with one other at most."""
        near: list[set[int]] = [set() for _ in self.field.choices]
        for left, right, _ in self.products:
            for (one, _), (other, key) in ((left, right), (right, left)):
                if one >= 0:
                    near[one].add(self.sum_of[key] if other < 0 else other)
        summed = {place for step in self.steps for place in step[::2]}
        return [
            _MOST_LEAF_CELLS if len(others) <= 1 and place not in summed else self.most
            for place, others in enumerate(near)
        ]

    def _keep(self, stay: Sequence[IntArray], *, divide: bool) -> bool:
        """Only these cells, the wide ones of them in halves; whether any were."""
        divided = False
        rooms = self._rooms()
        for place, cells in enumerate(stay):
            node = self.nodes[place]
            if place < len(self.field.choices):
                groups = [node.groups[cell] for cell in cells]
                room = rooms[place] - len(groups)
                if divide and room > 0:
                    wide = sorted((n for n, g in enumerate(groups) if len(g) > 1), key=lambda n: -len(groups[n]))
                    chosen = set(wide[:room])
                    divided |= bool(chosen)
                    features = self.field.choices[place].features
                    groups = [
                        half
                        for number, group in enumerate(groups)
                        for half in (_halves(group, features) if number in chosen else [group])
                    ]
                self.nodes[place] = self._node(place, groups)
            else:
                low, high = node.low[0][cells], node.high[0][cells]
                room = self.most - len(cells)
                if divide and room > 0:
                    wide = [n for n in np.argsort(low - high, kind="stable").tolist() if high[n] > low[n]][:room]
                    divided |= bool(wide)
                    middle = np.floor((low[wide] + high[wide]) / 2)
                    low, high = (
                        np.concatenate([low, middle + 1]),
                        np.concatenate([np.where(np.isin(np.arange(len(high)), wide), -np.inf, high), high[wide]]),
                    )
                    high[wide] = middle
                order = np.argsort(low, kind="stable")
                self.nodes[place] = _Node({0: low[order]}, {0: high[order]}, np.zeros(len(low)), [])
        return divided


def _corners(factor: float, low: FloatArray, high: FloatArray, below: FloatArray, above: FloatArray) -> FloatArray:
    """The most that `-factor * d1 * d2` can be in every pair of cells."""
    products = np.stack([np.multiply.outer(a, b) for a in (low, high) for b in (below, above)])
    return np.asarray((-factor * products).max(axis=0))


def _square(factor: float, node: _Node, first: int, second: int) -> FloatArray:
    """The most that `-factor * d1 * d2` can be in every cell, for two sizes of one choice."""
    ends = [(node.low[first], node.high[first]), (node.low[second], node.high[second])]
    return np.asarray(np.stack([-factor * a * b for a in ends[0] for b in ends[1]]).max(axis=0))


def _initial(features: FloatArray, centre: int) -> list[IntArray]:
    """Cells that are wider the farther they are from the centre."""
    for base in (2.0, 4.0, 16.0):
        keys = []
        for column in features.T:
            _, rank = np.unique(column, return_inverse=True)
            steps = rank.reshape(-1) - rank.reshape(-1)[centre]
            keys.append(np.sign(steps) * _bin(np.abs(steps), base))
        _, group = np.unique(np.stack(keys, axis=1), axis=0, return_inverse=True)
        if int(group.max()) < _MOST_CELLS:
            break
    group = group.reshape(-1)
    order = np.argsort(group, kind="stable")
    edges = np.flatnonzero(np.diff(group[order])) + 1
    return [np.sort(part) for part in np.split(order, edges)]


def _bin(steps: IntArray, base: float = 2.0) -> IntArray:
    """0, 1, 2, 3-4, 5-8, 9-16, ..."""
    powers = np.ceil(np.log(np.maximum(steps, 1)) / np.log(base) - 1e-9)
    return np.where(steps > 1, powers + 1, steps).astype(np.int64)


def _intervals(low: int, high: int) -> FloatArray:
    """The integers between two numbers in intervals that are wider the farther they are from 0."""
    values = np.arange(low, high + 1)
    bins = np.sign(values) * _bin(np.abs(values))
    edges = np.flatnonzero(np.diff(bins)) + 1
    return np.array([[part[0], part[-1]] for part in np.split(values, edges)], np.float64)


def _halves(group: IntArray, features: FloatArray) -> list[IntArray]:
    """A cell in two, across the feature that spreads most for its size."""
    inside = features[group]
    spread = (inside.max(axis=0) - inside.min(axis=0)) / np.maximum(np.abs(features).max(axis=0), 1.0)
    order = group[np.argsort(inside[:, int(spread.argmax())], kind="stable")]
    middle = len(order) // 2
    return [np.sort(order[:middle]), np.sort(order[middle:])]
