"""Numbers in a model's code become ties, balances and pins: checked against trying all selections."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest

from solver_nas.classes import classify
from solver_nas.graph import Port
from solver_nas.labels import Block, Extent, Joint, Labels, Measure, Origin, Reason, Tensor, neurons
from solver_nas.rules.measures import settled

WHY = Reason("v", "a number")


def line(first: int, count: int) -> Any:
    """Neurons with labels of their own."""
    return neurons(np.arange(first, first + count, dtype=np.int64))


def labels(*arrays: Any, joints: tuple[Joint, ...] = ()) -> Labels:
    """One tensor with one block for every array of levels."""
    tensors = {}
    for place, levels in enumerate(arrays):
        stack = levels if isinstance(levels, tuple) else (levels,)
        shape = stack[-1].shape
        tensors[Port(f"t{place}")] = Tensor(shape, (Block(tuple(range(len(shape))), stack),))
    count = 1 + max(int(level["label"].max()) for t in tensors.values() for b in t.blocks for level in b.levels)
    return Labels(count, {}, {}, tensors, {}, (), joints, ())


def measured(known: Labels, *measures: Measure) -> Labels:
    return settled(replace(known, measures=measures))


def says(over: Any, origin: Origin | None, under: tuple[Any, ...] = (), factor: int = 1) -> Measure:
    return Measure(WHY, ("size", 0), factor, (over,), under, origin)


def free(found: Labels) -> set[int]:
    """Labels that may go."""
    class_of, _ = classify(found)
    return {label for label in range(1, found.count) if class_of[label] != class_of[0]}


def possible(found: Labels) -> set[tuple[bool, ...]]:
    """All selections that ties, balances and rectangles allow."""
    class_of, _ = classify(found)
    good = set()
    for alive in product([False, True], repeat=found.count - 1):
        lives = np.array([True, *alive])
        alike = all(len(set(lives[class_of == one])) == 1 for one in set(class_of.tolist()))
        balanced = all(lives[b.left].sum() == lives[b.right].sum() for b in found.balances)
        rows = all(
            len({int(lives[cells].sum()) for row, cells in zip(j.rows, j.cells, strict=True) if lives[row]}) <= 1
            and all(lives[row] == lives[cells].any() for row, cells in zip(j.rows, j.cells, strict=True))
            for j in found.joints
        )
        if alike and balanced and rows:
            good.add(alive)
    return good


def axis(place: int, which: int = 0) -> Extent:
    return Extent(Port(f"t{place}"), which)


def test_a_size_that_is_written_down_pins() -> None:
    found = measured(labels(line(1, 4), line(5, 2)), says(line(1, 4), None))
    assert free(found) == {5, 6}
    assert found.pinned == (WHY,)


def test_a_size_that_an_attribute_holds_is_free() -> None:
    found = measured(labels(line(1, 4)), says(line(1, 4), Origin(Fraction(1), ("attribute",), ())))
    assert free(found) == {1, 2, 3, 4}
    assert not found.balances


def test_an_attribute_that_is_read_twice_keeps_both_sizes_equal() -> None:
    same = Origin(Fraction(1), ("attribute",), ())
    found = measured(labels(line(1, 3), line(4, 3)), says(line(1, 3), same), says(line(4, 3), same))
    assert possible(found) == {one for one in product([False, True], repeat=6) if sum(one[:3]) == sum(one[3:])}


def test_a_size_computed_from_another_axis_stays_in_proportion() -> None:
    double = Origin(Fraction(2), (axis(0),), ())
    found = measured(labels(line(1, 2), line(3, 4)), says(line(3, 4), double))
    assert possible(found) == {one for one in product([False, True], repeat=6) if 2 * sum(one[:2]) == sum(one[2:])}


def test_what_is_true_anyway_asks_for_nothing() -> None:
    whole = line(1, 4)
    found = measured(labels(whole), says(whole, Origin(Fraction(1), (axis(0),), ())))
    assert free(found) == {1, 2, 3, 4}
    assert not found.balances


def rectangle() -> tuple[Any, Any, Joint]:
    """Two rows (labels 1, 2) of two cells (3 to 6)."""
    rows, cells = line(1, 2), neurons(np.arange(3, 7, dtype=np.int64).reshape(2, 2))
    return rows, cells, Joint(rows["label"], cells["label"], WHY)


def test_heads_that_are_computed_from_the_width_keep_their_product() -> None:
    # view(heads, width // heads): what all heads have together is as much as the width, labels 7 to 10.
    rows, cells, joint = rectangle()
    known = labels((rows, cells), line(7, 4), joints=(joint,))
    heads = Origin(Fraction(1), ("heads",), ())
    found = measured(known, says(rows, heads), says(cells, Origin(Fraction(1), (axis(1),), ("heads",)), (rows,)))
    selections = possible(found)
    assert all(sum(one[2:6]) == sum(one[6:]) for one in selections)
    assert {(sum(one[:2]), sum(one[2:6])) for one in selections} >= {(2, 4), (2, 2), (1, 2), (1, 1)}


def test_a_written_down_size_of_a_head_lets_whole_heads_go() -> None:
    rows, cells, joint = rectangle()
    found = measured(labels((rows, cells), joints=(joint,)), says(cells, None, (rows,)))
    assert {one[:2] for one in possible(found)} == set(product([False, True], repeat=2))
    assert all(sum(one[2:]) == 2 * sum(one[:2]) for one in possible(found))


def test_a_constant_ratio_of_sizes_makes_heads_whole() -> None:
    # The code takes the root of width // heads, which therefore stays 2.
    rows, cells, joint = rectangle()
    known = labels((rows, cells), line(7, 4), joints=(joint,))
    heads = Origin(Fraction(1), ("heads",), ())
    inner = Origin(Fraction(1), (axis(1),), ("heads",))
    found = measured(known, says(rows, heads), says(cells, inner, (rows,)), Measure(WHY, None, 2, (), (), inner))
    class_of, _ = classify(found)
    assert class_of[3] == class_of[4] == class_of[1]
    assert all(sum(one[6:]) == 2 * sum(one[:2]) for one in possible(found))


def test_what_an_attribute_has_to_be_may_be_a_sum() -> None:
    # split(x, [part, whole - part]): the second part is free, as long as nothing else says what the whole is.
    part, whole = Origin(Fraction(1), ("part",), ()), Origin(Fraction(1), ("whole",), ())
    rest = whole._replace(plus=(part._replace(factor=Fraction(-1)),))
    known = labels(line(1, 2), line(3, 2), line(5, 4))
    found = measured(known, says(line(1, 2), part), says(line(3, 2), rest))
    assert free(found) == {*range(1, 9)}
    assert not found.balances
    found = measured(known, says(line(3, 2), rest), says(line(1, 2), part), says(line(5, 4), whole))
    assert possible(found) == {one for one in product([False, True], repeat=8) if sum(one[:4]) == sum(one[4:])}


def test_sums_of_sizes_stay_sums() -> None:
    # 2 * (first axis) + 1 neurons of the second.
    double = Origin(Fraction(2), (axis(0),), (), plus=(Origin(Fraction(1), (), ()),))
    found = measured(labels(line(1, 2), line(3, 5)), says(line(3, 5), double))
    assert possible(found) == {one for one in product([False, True], repeat=7) if 2 * sum(one[:2]) + 1 == sum(one[2:])}


@pytest.mark.parametrize(
    "origin",
    [
        Origin(Fraction(1), (axis(1), axis(2)), ()),
        Origin(Fraction(1), (axis(1),), (), known=False),
        Origin(Fraction(1, 2), ("one", "other"), ()),
        Origin(Fraction(1), ("one",), (), plus=(Origin(Fraction(1), ("other",), ()),)),
    ],
    ids=["a product of two sizes", "a remainder", "two attributes", "a sum of two attributes"],
)
def test_what_is_too_hard_stays_as_it_is(origin: Origin) -> None:
    found = measured(labels(line(1, 4), line(5, 2), line(7, 2)), says(line(1, 4), origin))
    assert not free(found) & {1, 2, 3, 4}
    assert WHY in found.pinned


def test_an_attribute_that_might_not_be_whole_is_not_touched() -> None:
    half = Origin(Fraction(2), ("attribute",), ())
    found = measured(labels(line(1, 4)), says(line(1, 4), half))
    assert not free(found)
