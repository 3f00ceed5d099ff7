"""Buckets that keep equally many, or a multiple, as one: the same best selection as trying all counts."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from solver_nas.bounds import Bound
from solver_nas.labels import Reason
from solver_nas.problem import Bucket, Budget, Count, Monomial, Problem, Rectangle
from solver_nas.solve import Status, solve
from solver_nas.solve.parts import whole
from solver_nas.solve.united import united

WHY = Reason("v", "equally many")


def bucket(utilities: list[float], forced: bool | None = None) -> Bucket:
    return Bucket(np.zeros(len(utilities), np.int64), np.array(sorted(utilities, reverse=True)), 1, -1, forced)


def problem(
    buckets: list[Bucket], equal: list[tuple[int, int, int, int]], pairs: list[tuple[int, int, int]], most: int
) -> Problem:
    """Buckets, multiples of them that are equal, and products of two counts (with a factor) that cost at most so much.

    `(a, 2, b, 3)` is twice the first and three times the second.
    """
    terms = tuple(Monomial(Fraction(f), (Count(0, {a: 1}, {}), Count(1, {b: 2}, {}))) for a, b, f in pairs)
    return Problem(
        class_of=np.zeros(1, np.int64),
        classes=0,
        buckets=tuple(buckets),
        slots=np.zeros(0, np.int64),
        slot_neurons=np.zeros(0, np.int64),
        sizes=tuple(Count(0, {place: 1}, {}) for place, one in enumerate(buckets) if one.forced is not False),
        wishes=(),
        rectangles=(),
        shared=(),
        balances=tuple(Count(0, {a: p, b: -q}, {}) for a, p, b, q in equal),
        most_new=None,
        positions=0,
        utility_elsewhere=0.0,
        budgets=(Budget(terms, (), Fraction(0), None, Fraction(most), Bound("cost", (), None, Fraction(most))),),
    )


def best(
    given: Problem, equal: list[tuple[int, int, int, int]], pairs: list[tuple[int, int, int]], most: int
) -> float | None:
    """The most utility, by trying everything."""
    found = []
    for kept in product(*(range(len(one.classes) + 1) for one in given.buckets)):
        alive = all(
            k >= 1 if one.forced is None else k == (len(one.classes) if one.forced else 0)
            for k, one in zip(kept, given.buckets, strict=True)
        )
        cost = sum(f * kept[a] * (1 + 2 * kept[b]) for a, b, f in pairs)
        if alive and cost <= most and all(p * kept[a] == q * kept[b] for a, p, b, q in equal):
            found.append(sum(float(b.utilities[:k].sum()) for b, k in zip(given.buckets, kept, strict=True)))
    return max(found, default=None)


numbers = st.integers(0, 4)
times = st.sampled_from([1, 1, 1, 2, 3])
utilities = st.lists(st.integers(-2, 9).map(float), min_size=1, max_size=5)


@given(
    st.lists(st.tuples(utilities, st.sampled_from([None, None, None, True])), min_size=5, max_size=5),
    st.lists(st.tuples(numbers, times, numbers, times).filter(lambda one: one[0] != one[2]), max_size=3),
    st.lists(st.tuples(numbers, numbers, st.integers(1, 3)), min_size=1, max_size=4),
    st.integers(0, 120),
)
def test_the_best_selection_is_that_of_trying_everything(
    given_buckets: list[tuple[list[float], bool | None]],
    equal: list[tuple[int, int, int, int]],
    pairs: list[tuple[int, int, int]],
    most: int,
) -> None:
    one = problem([bucket(*each) for each in given_buckets], equal, pairs, most)
    wanted = best(one, equal, pairs, most)
    found = solve(one, gap=0.0)
    if wanted is None:
        assert found.status is Status.INFEASIBLE
        return
    assert found.status is Status.OPTIMAL
    worth = sum(float(b.utilities[:k].sum()) for b, k in zip(one.buckets, found.kept, strict=True))
    assert worth == wanted
    assert sum(f * found.kept[a] * (1 + 2 * found.kept[b]) for a, b, f in pairs) <= most
    assert all(p * found.kept[a] == q * found.kept[b] for a, p, b, q in equal)


def test_what_is_kept_equal_is_one_choice() -> None:
    pairs = [(0, 1, 2, 1), (2, 1, 3, 1)]
    small, shares = united(whole(problem([bucket([1.0, 2.0]) for _ in range(4)], pairs, [(0, 1, 1)], 9)))
    assert shares == ((0, 1), (1, 1), (0, 1), (0, 1))
    assert [one.utilities.tolist() for one in small.buckets] == [[6.0, 3.0], [2.0, 1.0]]
    assert not small.balances


def test_multiples_are_one_choice() -> None:
    # A head has two neurons: 2 * heads = neurons.
    heads, neurons = bucket([1.0, 5.0]), bucket([1.0, 2.0, 3.0, 4.0, 9.0])
    small, shares = united(whole(problem([heads, neurons], [(0, 2, 1, 1)], [(0, 1, 1)], 9)))
    assert shares == ((0, 1), (0, 2))
    assert [one.utilities.tolist() for one in small.buckets] == [[5.0 + 9.0 + 4.0, 1.0 + 3.0 + 2.0]]
    ((term,),) = (budget.terms for budget in small.budgets)
    assert [count.keep for count in term.over] == [{0: 1}, {0: 4}]


def test_limits_that_make_sizes_equal_are_no_limits_any_more() -> None:
    one = whole(problem([bucket([1.0, 2.0]), bucket([3.0, 4.0, 5.0])], [], [(0, 1, 1)], 9))
    terms = (Monomial(Fraction(1), (Count(3, {0: 1}, {}),)), Monomial(Fraction(-1), (Count(0, {1: 1}, {}),)))
    equal = Budget(terms, (), Fraction(0), Fraction(3), Fraction(3), Bound("equal", (), Fraction(3), Fraction(3)))
    small, shares = united(replace(one, budgets=(*one.budgets, equal)))
    assert shares == ((0, 1), (0, 1))
    assert len(small.budgets) == 1
    other = replace(equal, low=Fraction(2), high=Fraction(2))
    assert united(replace(one, budgets=(*one.budgets, other)))[1] == ((0, 1), (1, 1))


def test_rows_of_rectangles_stay_apart() -> None:
    one = whole(problem([bucket([1.0]) for _ in range(3)], [(0, 1, 1, 1), (1, 1, 2, 1)], [(0, 1, 1)], 9))
    row = Rectangle((0,), (Count(0, {1: 1}, {}),), WHY)
    _, shares = united(replace(one, rectangles=(row,)))
    assert [share.place for share in shares] == [0, 1, 1]
