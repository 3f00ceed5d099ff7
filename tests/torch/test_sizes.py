"""Whole numbers that know what they were computed from."""

from __future__ import annotations

import copy
import math
import pickle
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver_nas.torch.sizes import Claims, Size
from solver_nas.torch.trees import Attribute, Axis, Term, Tree, evaluate, sources, summands

A, B = Attribute("m", ("a",)), Axis(3, 1)


def size(value: int, tree: Tree = A, claims: Claims | None = None) -> Size:
    return Size(value, tree, Claims() if claims is None else claims)


@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.lists(st.tuples(st.sampled_from("+-*"), st.integers(0, 2), st.booleans()), max_size=6),
)
def test_arithmetic_is_that_of_numbers_and_can_be_repeated_with_others(
    a: int, b: int, steps: list[tuple[str, int, bool]]
) -> None:
    def computed(one: int, other: int) -> int:
        found = one
        for sign, which, swapped in steps:
            operand = (other, 7, one)[which]
            left, right = (operand, found) if swapped else (found, operand)
            found = left + right if sign == "+" else left - right if sign == "-" else left * right
        return found

    marked = computed(size(a), size(b, B))
    assert int(marked) == computed(a, b)
    assert isinstance(marked, Size)
    assert evaluate(marked.tree, {A: a, B: b}) == computed(a, b)
    assert evaluate(marked.tree, {A: a + 3, B: b + 5}) == computed(a + 3, b + 5)


def test_division_and_remainder_keep_the_origin() -> None:
    a = size(12)
    assert (a // 4, a % 5, 100 // a, 100 % a, divmod(a, 5), -a) == (3, 2, 8, 4, (2, 2), -12)
    quotient = a // 4
    assert quotient.tree == Term("//", A, 4)
    assert evaluate((-a).tree, {A: 5}) == -5


def test_products_are_reduced_to_lowest_terms() -> None:
    a, b = size(12), size(4, B)
    assert summands((a * 3 // b * b).tree) == ((Fraction(3), (A,), ()),)
    assert summands((a // (2 * b)).tree) == ((Fraction(1, 2), (A,), (B,)),)
    assert summands(((a + b - 2) * 3 - a * 3).tree) == ((Fraction(3), (B,), ()), (Fraction(-6), (), ()))
    assert summands((a - a).tree) == ((Fraction(0), (), ()),)
    assert summands((a // (a + b)).tree) is None
    assert summands(((a + 1) // 2).tree) is None
    assert summands((a % 3).tree) is None
    assert set(sources((a + b * 2).tree)) == {A, B}


def test_what_leaves_whole_numbers_is_noted() -> None:
    claims = Claims()
    a = size(16, A, claims)
    assert a**-0.5 == 0.25
    assert math.sqrt(a * 4) == 8
    assert a / 3 == 16 / 3
    assert 3 / a == 3 / 16
    assert a * 0.5 == 8.0
    assert claims.left == {A: 16, Term("*", A, 4): 64}


def test_comparisons_that_hold_are_noted() -> None:
    claims = Claims()
    a, b = size(4, A, claims), size(4, B, claims)
    assert a == b
    assert (a != b) is False
    assert a == 4
    assert a != 5
    assert claims.equal == [(A, B), (A, B)]


def test_they_pass_for_numbers() -> None:
    a = size(3)
    assert [0] * a == [0, 0, 0]
    assert (1,) * a == (1, 1, 1)
    assert list(range(a)) == [0, 1, 2]
    assert [5, 6, 7, 8][a] == 8
    assert {3: "x"}[a] == "x"
    assert isinstance(a, int)
    assert f"{a}" == "3"
    for copied in (copy.copy(a), copy.deepcopy(a), pickle.loads(pickle.dumps(a))):
        assert type(copied) is int
        assert copied == 3


def test_unknown_sources_and_divisions_by_zero_are_errors() -> None:
    with pytest.raises(KeyError):
        evaluate(A, {})
    with pytest.raises(ZeroDivisionError):
        evaluate(Term("//", A, B), {A: 3, B: 0})
