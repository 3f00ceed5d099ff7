"""Elimination against trying every assignment of random factor graphs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from solver_nas.solve.budgets.elimination import Factor, eliminate

Floats = NDArray[np.float64]
Graph = tuple[list[int], list[Factor]]

_BLOCK = 40
_LARGE = 10**6
_CLOSE = 1e-9


def random_graph(rng: np.random.Generator) -> Graph:
    """Up to six variables; factors may leave some of them out, repeat a scope, and forbid combinations."""
    cards = rng.choice([1, 2, 3, 4], p=[0.1, 0.3, 0.3, 0.3], size=rng.integers(1, 7)).tolist()
    whole, forbidden = rng.random() < 0.3, rng.choice([0.0, 0.1, 0.5])
    factors = []
    for _ in range(int(rng.integers(0, 8))):
        scope = rng.permutation(len(cards))[: rng.integers(1, 4)].tolist()
        shape = [cards[variable] for variable in scope]
        table = rng.integers(-3, 4, shape).astype(np.float64) if whole else 10 * rng.normal(size=shape)
        table[rng.random(shape) < forbidden] = -np.inf
        factors.append(Factor(tuple(scope), table))
    return cards, factors


def total(factors: list[Factor], values: tuple[int, ...]) -> float:
    return sum((float(factor.table[tuple(values[v] for v in factor.scope)]) for factor in factors), start=0.0)


def try_everything(cards: list[int], factors: list[Factor]) -> tuple[float, list[Floats]]:
    """The maximum, and the maximum with every value of every variable."""
    best, marginals = -np.inf, [np.full(card, -np.inf) for card in cards]
    for values in itertools.product(*map(range, cards)):
        reached = total(factors, values)
        best = max(best, reached)
        for marginal, value in zip(marginals, values, strict=True):
            marginal[value] = max(marginal[value], reached)
    return best, marginals


def close(one: float, other: float) -> bool:
    return one == other or abs(one - other) <= _CLOSE


@pytest.mark.parametrize("block", range(10))
def test_maximum_and_marginals(block: int) -> None:
    for number in range(_BLOCK):
        cards, factors = random_graph(np.random.default_rng([1, block, number]))
        best, marginals = try_everything(cards, factors)
        found = eliminate(cards, factors, _LARGE)
        assert found.exact
        assert close(found.bound, best), number
        assert len(found.marginals) == len(cards)
        for marginal, expected in zip(found.marginals, marginals, strict=True):
            assert marginal.shape == expected.shape
            assert all(map(close, marginal, expected)), f"{number}: {marginal}, not {expected}"
        assert close(total(factors, found.best), best), f"{number}: {found.best} does not reach {best}"


@pytest.mark.parametrize("limit", [1, 4, 8, 16])
@pytest.mark.parametrize("block", range(5))
def test_mini_buckets_bound_from_above(block: int, limit: int) -> None:
    split = 0
    for number in range(_BLOCK):
        cards, factors = random_graph(np.random.default_rng([2, block, number]))
        best, marginals = try_everything(cards, factors)
        found = eliminate(cards, factors, limit)
        assert found.bound >= best - _CLOSE
        for marginal, expected in zip(found.marginals, marginals, strict=True):
            assert not np.isnan(marginal).any(), number
            assert (marginal >= expected - _CLOSE).all(), f"{number}: {marginal} is less than {expected}"
            assert marginal.max() <= found.bound + _CLOSE
        assert all(0 <= value < card for value, card in zip(found.best, cards, strict=True))
        if found.exact:
            assert close(found.bound, best)
            assert close(total(factors, found.best), best)
        split += not found.exact
    assert split or limit > 4


def test_a_split_variable_is_told() -> None:
    pairs = [Factor((0, other), np.eye(3)) for other in (1, 2, 3)]
    assert eliminate([3] * 4, [*pairs, Factor((1, 2, 3), np.zeros((3, 3, 3)))], _LARGE).exact
    # Any two of the three tables make one of 27 entries; all three, one of 81.
    assert not eliminate([3] * 4, [*pairs, Factor((1, 2, 3), np.zeros((3, 3, 3)))], 27).exact


def test_copies_that_disagree_make_the_bound_too_high() -> None:
    clique = [Factor(pair, -10.0 * np.eye(2)) for pair in itertools.combinations(range(3), 2)]
    assert eliminate([2] * 3, clique, _LARGE).bound == -10.0
    found = eliminate([2] * 3, clique, 4)
    assert (found.bound, found.exact) == (0.0, False)


def test_what_is_independent_adds_up() -> None:
    one, other = np.array([1.0, 3.0]), np.array([5.0, 2.0, 4.0])
    found = eliminate([2, 3, 2], [Factor((0,), one), Factor((1,), other)], _LARGE)
    assert (found.bound, found.best[:2]) == (8.0, (1, 0))
    np.testing.assert_array_equal(found.marginals[0], one + 5)
    np.testing.assert_array_equal(found.marginals[1], other + 3)
    np.testing.assert_array_equal(found.marginals[2], [8.0, 8.0])


def test_no_variables_at_all() -> None:
    found = eliminate([], [], _LARGE)
    assert (found.bound, found.marginals, found.exact, found.best) == (0.0, (), True, ())


@pytest.mark.parametrize("where", [0, 1])
def test_nothing_possible_is_minus_infinity_for_everybody(where: int) -> None:
    barred = Factor((where,), np.full(2, -np.inf))
    found = eliminate([2, 2, 2], [barred, Factor((0, 1), np.zeros((2, 2)))], _LARGE)
    assert found.bound == -np.inf
    for marginal in found.marginals:
        np.testing.assert_array_equal(marginal, [-np.inf, -np.inf])


def test_order_of_the_axes_is_that_of_the_scope() -> None:
    table = np.arange(24.0).reshape(2, 3, 4)
    found = eliminate([4, 2, 3], [Factor((1, 2, 0), table)], _LARGE)
    assert (found.bound, found.best) == (23.0, (3, 1, 2))
    np.testing.assert_array_equal(found.marginals[0], table.max(axis=(0, 1)))
    np.testing.assert_array_equal(found.marginals[2], table.max(axis=(0, 2)))
