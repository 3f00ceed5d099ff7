"""The bound of a priced field against trying all states, at any prices and around any centre."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import prod

import numpy as np
import pytest
from numpy.typing import NDArray

from solver_nas.solve.budgets.cells import Cells
from solver_nas.solve.budgets.field import Choice, Field, Meter, Pair, Row
from solver_nas.solve.parts import Part

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Rng = np.random.Generator

_CLOSE = 1e-8
_MOST_POINTS = 20_000
_NOTHING = Part((), 0, (), (), (), (), (), (), None, (), (), (), (), ())


def nothing(states: int) -> tuple[Ints, Ints]:
    """No buckets kept, and nothing new."""
    return np.zeros((states, 0), np.int64), np.zeros((states, 1), np.int64)


@dataclass(frozen=True)
class Everything:
    """All combinations of states.

    Args:
        states: shape (points, choices).
        worth: what each of them is worth after paying.
    """

    states: Ints
    worth: Floats

    def best_with(self, place: int, states: int) -> Floats:
        """The best with every state of a choice."""
        found = np.full(states, -np.inf)
        np.maximum.at(found, self.states[:, place], self.worth)
        return found


def chance(rng: Rng, probability: float) -> bool:
    return bool(rng.random() < probability)


def random_field(rng: Rng) -> Field:
    """Few choices with many states, or many with few; products of sizes that are sums of up to all of them."""
    while True:
        counts = rng.integers(1, int(rng.choice([5, 12, 40])), int(rng.integers(1, 8)))
        if prod(counts.tolist()) <= _MOST_POINTS:
            break
    choices: list[Choice] = []
    width = 0
    for count in counts.tolist():
        features = [np.arange(count, dtype=np.float64) + int(rng.integers(0, 3))]
        if chance(rng, 0.3):
            features.append(rng.integers(0, 6, count).astype(np.float64))
        if chance(rng, 0.1):
            features = [rng.integers(0, 30, count).astype(np.float64) for _ in range(3)]
        gain = np.cumsum(rng.normal(0.5, 1.0, count)) if chance(rng, 0.5) else rng.integers(-3, 9, count).astype(float)
        table = np.stack(features, axis=1)
        choices.append(Choice(gain, table, width, *nothing(len(gain)), (), -1))
        width += table.shape[1]
    owner = np.repeat(np.arange(len(choices)), [choice.features.shape[1] for choice in choices]).astype(np.int64)
    many = int(rng.integers(1, 7))
    sizes = np.zeros((many, width))
    for size in sizes:
        # Sums of the same choices share their steps.
        used = rng.random(width) < rng.choice([0.2, 0.5, 1.0])
        size[used] = rng.integers(1, 3) if chance(rng, 0.7) else rng.integers(1, 4, int(used.sum()))
    offsets = rng.integers(0, 4, many).astype(np.float64)
    rows = tuple(random_row(rng, choices, sizes) for _ in range(int(rng.integers(0, 4))))
    return Field(_NOTHING, tuple(choices), sizes, offsets, rows, owner, (), {}, float(rng.normal()))


def random_row(rng: Rng, choices: list[Choice], sizes: Floats) -> Row:
    sign = 1.0 if chance(rng, 0.8) else -1.0
    pairs = tuple(
        Pair(sign * float(rng.choice([0.3, 1.0, 2.5])), int(rng.integers(len(sizes))), int(rng.integers(len(sizes))))
        for _ in range(int(rng.integers(0, 5)))
    )
    linear = np.array(rng.integers(-2, 4, sizes.shape[1]) * chance(rng, 0.7), np.float64)
    unary = {place: rng.normal(0, 3, len(c.gain)) for place, c in enumerate(choices) if chance(rng, 0.2)}
    touched = [size for size, vector in enumerate(sizes) if vector.any()]
    meters = []
    if touched and chance(rng, 0.3):
        some = rng.choice(touched, min(len(touched), int(rng.integers(1, 3))), replace=False).tolist()
        meters.append(Meter(sign * 0.7, [hill, steps][int(rng.integers(2))], tuple(some)))
    return Row(linear, pairs, unary, float(rng.normal(20, 20)), "row", tuple(meters))


def hill(*sizes: Ints) -> Floats:
    return np.asarray(sum((10 * np.sin(np.asarray(size) / 3) for size in sizes), start=0.0), np.float64)


def steps(*sizes: Ints) -> Floats:
    return np.asarray(prod((-(-np.asarray(size) // 4) for size in sizes), start=1.0), np.float64)


def try_everything(field: Field, prices: Floats) -> Everything:
    shape = [len(choice.gain) for choice in field.choices]
    states = np.indices(shape).reshape(len(shape), -1).T.astype(np.int64)
    places = list(zip(field.choices, states.T, strict=True))
    features = np.concatenate([choice.features[mine] for choice, mine in places], axis=1)
    sizes = features @ field.sizes.T + field.offsets
    worth = field.base + sum((choice.gain[mine] for choice, mine in places), start=np.zeros(len(states)))
    for paid, row in zip(prices, field.rows, strict=True):
        cost = features @ row.linear - row.high
        for pair in row.pairs:
            cost = cost + pair.factor * sizes[:, pair.left] * sizes[:, pair.right]
        for place, unary in row.unary.items():
            cost = cost + unary[states[:, place]]
        for meter in row.meters:
            cost = cost + meter.factor * meter.function(*(sizes[:, size] for size in meter.sizes))
        worth = worth - paid * cost
    return Everything(states, worth)


def random_case(rng: Rng) -> tuple[Field, Floats, Ints, Everything]:
    field = random_field(rng)
    prices = rng.choice([0.0, 0.01, 0.2, 1.0], len(field.rows)) * rng.uniform(0.5, 2, len(field.rows))
    everything = try_everything(field, prices)
    centre = np.array([rng.integers(len(choice.gain)) for choice in field.choices], np.int64)
    if chance(rng, 0.5):
        centre = everything.states[everything.worth.argmax()]
    return field, prices, centre, everything


@pytest.mark.parametrize("most", [2, 5, 72])
@pytest.mark.parametrize("block", range(6))
def test_nothing_is_worth_more_than_the_bound(block: int, most: int) -> None:
    for number in range(25):
        rng = np.random.default_rng([30, block, number])
        field, prices, centre, everything = random_case(rng)
        known = float(np.quantile(everything.worth, rng.choice([0.0, 0.5, 0.99, 1.0])))
        found = Cells(field, prices, centre, most).bound(known, 0.0, time.perf_counter() + 60)
        best = float(everything.worth.max())
        assert found.bound >= best - _CLOSE, f"{number}: {found.bound} is less than {best}"
        for place, (choice, states) in enumerate(zip(field.choices, found.open, strict=True)):
            better = np.flatnonzero(everything.best_with(place, len(choice.gain)) > known + _CLOSE)
            assert np.isin(better, states).all(), f"{number}: of choice {place}, {better} are better, {states} are open"
        if most == 72 and found.exact and max(len(choice.gain) for choice in field.choices) <= 12:
            # With room for all states, divided until nothing is left, the bound is reached by something, or known.
            assert found.bound <= best + max(1.0, 0.3 * float(np.ptp(everything.worth))), f"{number}: {found.bound}"


@pytest.mark.parametrize("block", range(4))
def test_mini_buckets_are_a_bound_as_well(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solver_nas.solve.budgets.cells._ENTRIES", 60)
    split = 0
    for number in range(25):
        field, prices, centre, everything = random_case(np.random.default_rng([31, block, number]))
        known = float(np.quantile(everything.worth, 0.9))
        found = Cells(field, prices, centre).bound(known, 0.0, time.perf_counter() + 60)
        assert found.bound >= everything.worth.max() - _CLOSE, number
        for place, (choice, states) in enumerate(zip(field.choices, found.open, strict=True)):
            better = np.flatnonzero(everything.best_with(place, len(choice.gain)) > known + _CLOSE)
            assert np.isin(better, states).all(), number
        split += not found.exact
    assert split


def test_states_on_their_own_make_the_bound_exact() -> None:
    features = np.arange(4.0)[:, None]
    choices = tuple(Choice(np.array([0.0, 3.0, 4.0, 4.5]), features, first, *nothing(4), (), -1) for first in range(2))
    row = Row(np.zeros(2), (Pair(1.0, 0, 1),), {}, 4.0, "row")
    field = Field(_NOTHING, choices, np.eye(2), np.zeros(2), (row,), np.array([0, 1]), (), {}, 0.0)
    for prices in (np.array([0.0]), np.array([0.6]), np.array([2.0])):
        everything = try_everything(field, prices)
        for centre in everything.states:
            found = Cells(field, prices, centre).bound(-100.0, 0.0, time.perf_counter() + 60)
            assert found.bound == pytest.approx(everything.worth.max())
            assert found.exact
            assert everything.worth[(everything.states == found.best).all(axis=1)] == pytest.approx(found.bound)
