"""Selecting and inserting along the axes of one array."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver_nas.errors import PlanError
from solver_nas.weights import Pick, fill, take, zeros

M = np.arange(1.0, 13.0).reshape(4, 3).T  # 1 .. 12 down the columns


def pick(axis: int, *index: int, role: str = "fresh") -> Pick:
    return Pick(axis, (), np.array(index), role)


@pytest.mark.parametrize(
    ("picks", "expected"),
    [
        ([pick(1, 0, -1, -1, 3)], [[1, 0, 0, 10], [2, 0, 0, 11], [3, 0, 0, 12]]),
        ([pick(1, 1, -1, -1, 3)], [[4, 0, 0, 10], [5, 0, 0, 11], [6, 0, 0, 12]]),
        ([pick(0, -1, 0, 2)], [[0, 0, 0, 0], [1, 4, 7, 10], [3, 6, 9, 12]]),
        (
            [pick(0, 1, -1, 2, -1), pick(1, -1, 0, -1, 3)],
            [[0, 2, 0, 11], [0, 0, 0, 0], [0, 3, 0, 12], [0, 0, 0, 0]],
        ),
    ],
)
def test_known_selections(picks: list[Pick], expected: list[list[int]]) -> None:
    before = M.copy()
    assert take(M, picks).tolist() == expected
    assert (before == M).all()


def test_columns_that_depend_on_the_row() -> None:
    array = np.arange(12.0).reshape(3, 4)
    rows = pick(0, 2, 0)
    columns = Pick(1, (0,), np.array([[3, 0], [1, -1]]), "contract")
    assert take(array, [rows, columns]).tolist() == [[11, 8], [1, 0]]


@given(st.data())
def test_agrees_with_one_element_at_a_time(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 4)] * 3))
    array = np.random.default_rng(0).normal(size=shape)
    rows = np.array(data.draw(st.lists(st.integers(0, shape[0] - 1), min_size=1, max_size=4)))
    width = data.draw(st.integers(1, 4))
    inner = np.array([data.draw(st.lists(st.integers(-1, shape[2] - 1), min_size=width, max_size=width)) for _ in rows])
    taken = take(array, [Pick(0, (), rows, "fresh"), Pick(2, (0,), inner, "contract")])
    assert taken.shape == (len(rows), shape[1], width)
    for r, row in enumerate(rows):
        for middle in range(shape[1]):
            for c in range(width):
                old = inner[r, c]
                assert taken[r, middle, c] == (0 if old < 0 else array[row, middle, old])


def test_an_index_out_of_range_is_refused() -> None:
    with pytest.raises(PlanError, match=r"axis 0 has size 3, the index asks for \[0, 3\]"):
        take(M, [pick(0, 0, 3)])


def test_new_entries() -> None:
    rng = np.random.default_rng(0)
    both = [pick(0, 0, -1), pick(1, 0, -1, role="contract")]
    filled = fill(take(M, both), both, None, None, rng, 2.0)
    assert filled[0].tolist() == [1, 0], "outgoing weights are zero"
    assert filled[1, 0] != 0, "incoming weights are not"
    assert filled[1, 1] == 0
    assert fill(take(M, both), both, 7.0, None, rng, 2.0).tolist() == [[1, 7], [7, 7]]
    assert fill(take(M, both), both, None, zeros, rng, 2.0).tolist() == [[1, 0], [0, 0]]
