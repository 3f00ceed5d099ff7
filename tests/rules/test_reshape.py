"""Which axes of a reshape belong together, and what becomes of their neurons."""

import numpy as np
import pytest

from solver_nas.errors import RuleError
from solver_nas.graph import Vertex
from solver_nas.labels import Block, Shape, Tensor, neurons
from solver_nas.rules import Replay, Scope, Tape
from solver_nas.rules.primitives import transpose, whole
from solver_nas.rules.reshape import _groups, merge_axes, reshape, split_axis

N = None


def scope(tape: Tape | None = None) -> Scope:
    return Scope(Vertex("v", "reshape"), (), Tape() if tape is None else tape)


def labelled(shape: Shape, *axes: int) -> Tensor:
    """A tensor with one block over these axes and labels from 1 on."""
    sizes = [shape[axis] or 0 for axis in axes]
    levels, count = [], 1
    for depth in range(1, len(sizes) + 1):
        size = int(np.prod(sizes[:depth]))
        levels.append(neurons(np.arange(count, count + size).reshape(sizes[:depth])))
        count += size
    return Tensor(shape, (Block(axes, tuple(levels)),))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((N, 12), (N, 3, 4), [([0], [0]), ([1], [1, 2])]),
        ((N, 2, 3, 4), (N, 6, 4), [([0], [0]), ([1, 2], [1]), ([3], [2])]),
        ((N, 2, 6), (N, 3, 4), [([0], [0]), ([1, 2], [1, 2])]),
        ((6,), (2, 3), [([0], [0, 1])]),
        # Sizes of one that come or go.
        ((N, 6, 1, 1), (N, 6), [([0], [0]), ([1], [1]), ([2], []), ([3], [])]),
        ((N, 6), (N, 1, 6), [([0], [0]), ([], [1]), ([1], [2])]),
        ((N, 4, 1, 7), (N, 4, 7), [([0], [0]), ([1], [1]), ([2], []), ([3], [2])]),
        ((N, 2, 1, 3), (N, 2, 3, 1), [([0], [0]), ([1], [1]), ([2], []), ([3], [2]), ([], [3])]),
        # Sizes that are not known.
        ((N, N, 64), (N, 64), [([0, 1], [0]), ([2], [1])]),
        ((N, 64), (N, N, 64), [([0], [0, 1]), ([1], [2])]),
        ((N, N, 64), (N, N, 8, 8), [([0], [0]), ([1], [1]), ([2], [2, 3])]),
        ((N, 6, N, N), (N, 6, N), [([0], [0]), ([1], [1]), ([2, 3], [2])]),
        ((N, 6, N, N), (N, N), [([0], [0]), ([1, 2, 3], [1])]),
        ((1, 6), (N, 6), [([0], [0]), ([1], [1])]),
        ((N, 6), (N, 4), [([0, 1], [0, 1])]),
        ((N, N, 6), (N, 1, N, 6), [([0], [0]), ([], [1]), ([1], [2]), ([2], [3])]),
    ],
)
def test_axes_are_matched(old: Shape, new: Shape, expected: list[tuple[list[int], list[int]]]) -> None:
    assert _groups(scope(), Tensor(old), new) == expected


def test_a_single_row_stays_with_its_columns() -> None:
    # Channels shuffled in one group that is left: (columns, rows) -> channels; pixels are none of it.
    tensor = transpose(scope(), labelled((N, 1, 4, 7), 1, 2), (0, 2, 1, 3))
    assert _groups(scope(), tensor, (N, 4, 7)) == [([0], [0]), ([1, 2], [1]), ([3], [2])]
    # One channel of an image that becomes a vector, on the other hand, is all its pixels.
    image = labelled((N, 1, 4, 7), 1)
    assert _groups(scope(), image, (N, 28)) == [([0], [0]), ([1, 2, 3], [1])]


def test_sizes_have_to_match() -> None:
    with pytest.raises(RuleError, match=r"\(2, 6\) cannot be seen as \(2, 4\)"):
        reshape(scope(), labelled((2, 6), 1), (2, 4))
    with pytest.raises(RuleError, match=r"axis 1 of size 6 cannot be split into \(4, 2\)"):
        split_axis(scope(), labelled((N, 6), 1), 1, (4, 2))


def test_the_grouping_is_that_of_the_first_pass() -> None:
    first = Tape()
    reshape(scope(first), labelled((N, 3, 2), 1), (N, 6))
    choices = first.choices
    # Afterwards one channel is left; on its own, the axis of size 1 might be anything.
    second = Tape(Replay({}, choices, 10))
    after = reshape(scope(second), labelled((N, 1, 2), 1), (N, 2))
    assert second.choices == choices
    assert after.blocks[0].neurons["label"].tolist() == [1, 1]


def test_neurons_of_unknown_extent_are_pinned() -> None:
    tape = Tape()
    result = reshape(scope(tape), labelled((N, 6, N), 1), (N, N))
    assert not result.blocks
    (report,) = tape.labels({}).pinned
    assert report.rule == "reshape: axes of unknown size are merged or split"


def test_split_and_merge_are_inverse() -> None:
    tape = Tape()
    tensor = labelled((N, 6, 5), 1)
    rows = split_axis(scope(tape), tensor, 1, (2, 3))
    (block,) = rows.blocks
    assert rows.shape == (N, 2, 3, 5)
    assert block.axes == (1, 2)
    (joint,) = tape.labels({}).joints
    assert joint.cells.tolist() == [[1, 2, 3], [4, 5, 6]]
    back = merge_axes(scope(tape), rows, 1, 2)
    np.testing.assert_array_equal(back.neurons, tensor.neurons)
    assert back.shape == tensor.shape


def test_rows_of_one_neuron_need_no_rectangle() -> None:
    tape = Tape()
    result = split_axis(scope(tape), labelled((N, 3, 5), 1), 1, (3, 1))
    assert [block.axes for block in result.blocks] == [(1,)]
    assert not tape.labels({}).joints


def test_whole_rows_may_go_with_all_their_columns() -> None:
    tape = Tape()
    result = whole(scope(tape), labelled((N, 2, 3), 1, 2), [2], "held")
    (block,) = result.blocks
    assert block.axes == (1,)
    (tie,) = tape.labels({}).ties
    assert sorted(zip(tie.left.tolist(), tie.right.tolist(), strict=True)) == [
        (3, 1), (4, 1), (5, 1), (6, 2), (7, 2), (8, 2),
    ]  # fmt: skip


def test_columns_of_rows_that_stay_are_the_same_in_all() -> None:
    tape = Tape()
    result = whole(scope(tape), labelled((N, 2, 3), 1, 2), [-2], "held")
    (block,) = result.blocks
    assert block.axes == (2,)
    (product,) = tape.labels({}).products
    np.testing.assert_array_equal(product.columns, block.neurons["label"])
    assert product.cells.tolist() == [[3, 4, 5], [6, 7, 8]]
