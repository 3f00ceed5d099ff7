"""Rectangles with as many cells as another axis has neurons: the same best selection as trying everything."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from solver_nas.bounds import Bound
from solver_nas.labels import Reason
from solver_nas.problem import Bucket, Budget, Count, Monomial, Rectangle
from solver_nas.solve import Status, limited
from solver_nas.solve.budgets.survey import survey
from solver_nas.solve.check import holds
from solver_nas.solve.exact import solve_counts
from solver_nas.solve.parts import Part
from solver_nas.solve.united import living, united

FAR = 1e12  # a deadline that never comes


def bucket(utilities: list[int]) -> Bucket:
    worth = np.array(sorted(utilities, reverse=True), np.float64)
    return Bucket(np.zeros(len(worth), np.int64), worth, 1, -1)


def part(stream: list[int], attentions: list[list[list[int]]], times: int, most: int) -> Part:
    """A stream of neurons, and attentions of a list for each head, with `times` neurons of the stream per cell."""
    buckets, rectangles, balances, terms, places = [bucket(stream)], [], [], [], []
    for heads in attentions:
        rows = range(len(buckets), len(buckets) + len(heads))
        cells = range(rows.stop, rows.stop + len(heads))
        buckets += [bucket([0]) for _ in heads] + [bucket(one) for one in heads]
        counts = tuple(Count(0, {place: 1}, {}) for place in cells)
        rectangles.append(Rectangle(tuple(rows), counts, Reason("v", "equally many")))
        width = dict.fromkeys(cells, 1)
        balances.append(Count(0, {**dict.fromkeys(cells, times), 0: -1}, {}))
        terms.append(Monomial(Fraction(1), (Count(0, width, {}), Count(1, {0: 1}, {}))))
        places.append((rows, cells))
    budget = Budget(tuple(terms), (), Fraction(0), None, Fraction(most), Bound("cost", (), None, Fraction(most)))
    sizes = (Count(0, {0: 1}, {}), *(Count(0, dict.fromkeys(cells, 1), {}) for _, cells in places))
    numbers = tuple(range(len(buckets)))
    return Part(
        tuple(buckets), 0, (), sizes, (), tuple(rectangles), (), tuple(balances), None, (budget,), (), (), numbers, ()
    )


def best(stream: list[int], attentions: list[list[list[int]]], times: int, most: int) -> float | None:
    """By trying all numbers of neurons of the stream, of rows and of columns."""

    def top(utilities: list[int], count: int) -> int:
        return sum(sorted(utilities, reverse=True)[:count])

    found: list[int] = []
    for neurons in range(1, len(stream) + 1):
        gains, cost = [top(stream, neurons)], 0
        for heads in attentions:
            shapes = [
                top([top(one, columns) for one in heads], rows)
                for rows, columns in product(range(1, len(heads) + 1), range(1, len(heads[0]) + 1))
                if rows * columns * times == neurons
            ]
            if not shapes:
                break
            gains.append(max(shapes))
            cost += neurons // times * (1 + neurons)
        else:
            if cost <= most:
                found.append(sum(gains))
    return max(found, default=None)


@st.composite
def attention(draw: st.DrawFn) -> list[list[int]]:
    columns = draw(st.integers(1, 3))
    worth = st.lists(st.integers(-2, 9), min_size=columns, max_size=columns)
    return draw(st.lists(worth, min_size=1, max_size=3))


@pytest.fixture
def _no_shortcut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small parts take the same way as large ones."""
    monkeypatch.setattr(limited, "_SMALL", -1.0)


random_parts = given(
    st.lists(st.integers(-2, 9), min_size=1, max_size=9),
    st.lists(attention(), min_size=1, max_size=2),
    st.sampled_from([1, 1, 2]),
    st.integers(0, 250),
)


@pytest.mark.usefixtures("_no_shortcut")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@random_parts
def test_the_best_selection_is_that_of_trying_everything(
    stream: list[int], attentions: list[list[list[int]]], times: int, most: int
) -> None:
    assume(any(len(heads) > 1 for heads in attentions))
    one = part(stream, attentions, times, most)
    wanted = best(stream, attentions, times, most)
    found = solve_counts(one, FAR, 0, 0.0)
    if wanted is None:
        assert found.status is Status.INFEASIBLE
        return
    assert found.status is Status.OPTIMAL
    assert sum(float(b.utilities[:k].sum()) for b, k in zip(one.buckets, found.kept, strict=True)) == wanted


def test_what_follows_is_one_choice() -> None:
    one = part([3, 2, 1, 1, 1, 1], [[[5, 1], [4, 2]], [[1, 1], [2, 2]]], 1, 100)
    (choice,) = survey(one, 0).choices
    assert choice.kept[:, 0].tolist() == [1, 2, 4]
    assert choice.gain.tolist() == [3 + 5 + 2, 5 + 9 + 4, 7 + 12 + 6]


@random_parts
def test_solutions_in_which_all_rows_live_are_solutions(
    stream: list[int], attentions: list[list[list[int]]], times: int, most: int
) -> None:
    one = part(stream, attentions, times, most)
    small, shares = united(living(one))
    assert not small.rectangles
    found = solve_counts(small, FAR, 0, 0.0)
    wanted = [
        neurons
        for neurons in range(1, len(stream) + 1)
        if all(neurons % (times * len(heads)) == 0 for heads in attentions)
        and all(neurons // (times * len(heads)) <= len(heads[0]) for heads in attentions)
        and sum(neurons // times * (1 + neurons) for _ in attentions) <= most
    ]
    if not wanted:
        assert found.status is Status.INFEASIBLE
        return
    kept = [found.kept[share.place] * share.often for share in shares]
    assert holds(one, kept, [])
    worth = [
        sum(sorted(stream)[-neurons:])
        + sum(sum(sorted(head)[-(neurons // times // len(heads)) :]) for heads in attentions for head in heads)
        for neurons in wanted
    ]
    assert sum(float(b.utilities[:k].sum()) for b, k in zip(one.buckets, kept, strict=True)) == max(worth)
