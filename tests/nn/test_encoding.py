"""What is encoded comes back from JSON with its types."""

import json
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from solver_nas import nn
from solver_nas.errors import StoreError
from solver_nas.frontend import Array
from solver_nas.nn.encoding import decode, encode
from solver_nas.observe import Every


@nn.register("solver_nas.tests.encoded")
def encoded(x: Any) -> Any:
    return x


TYPES = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes(endianness="=")
    | hnp.floating_dtypes(endianness="=")
    | hnp.complex_number_dtypes(endianness="=")
)
KEYS = st.none() | st.booleans() | st.integers() | st.text() | st.tuples(st.text(), st.integers())
LEAVES = (
    KEYS
    | st.floats()
    | TYPES.flatmap(lambda dtype: hnp.arrays(dtype, ())).map(lambda array: array[()])
    | hnp.arrays(TYPES, hnp.array_shapes(min_dims=0, min_side=0))
    | st.just(encoded)
    | st.just(np.str_("text"))
    | st.builds(Every, st.integers(1, 9))
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS.filter(lambda key: key is not True), inner)
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equal and of the same types all through, NaN being NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, np.ndarray | np.generic):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    return repr(one) == repr(other) if isinstance(one, float) else bool(one == other)


@given(VALUES)
def test_values_come_back(value: object) -> None:
    tensors: dict[str, Array] = {}
    text = json.dumps(encode(value, "x", tensors), allow_nan=False)
    assert same(decode(json.loads(text), tensors), value)


class Level(IntEnum):
    LOW = 1


class Pair(NamedTuple):
    left: int
    right: int


@pytest.mark.parametrize("value", [{1}, b"x", 1j, object(), Pair(1, 2), Level.LOW, np.zeros((), "i4, i4")[()], Every])
def test_other_types_are_refused(value: object) -> None:
    with pytest.raises(StoreError, match=r"can be stored|has no name"):
        encode([value], "x", {})


def test_arrays_have_names_of_their_own() -> None:
    tensors: dict[str, Array] = {}
    assert encode([np.zeros(1), np.ones(1)], "x", tensors) == [{"array": "x"}, {"array": "x.2"}]
    assert list(tensors) == ["x", "x.2"]


@pytest.mark.parametrize(
    "node",
    [
        *({}, {"tuple": 1}, {"dict": [1]}, {"float": "x"}, {"scalar": ["<f8", "00"]}, {"scalar": ["O", "00"]}),
        *({"set": []}, {"array": "none"}, {"record": ["object", {}]}, {"record": ["Every", {"period": 0}]}),
        {"tuple": [], "dict": []},
    ],
)
def test_what_is_no_value(node: object) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        decode(node, {})


@pytest.mark.parametrize("name", ["nobody", 3, [], None])
def test_functions_that_nobody_registered(name: object) -> None:
    with pytest.raises(StoreError, match="no function is registered as"):
        decode({"function": name}, {})
