"""Arrays are laid into plain tensors and taken out again, bit for bit and in the same order in memory."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from solver_nas.errors import StoreError
from solver_nas.frontend import Array
from solver_nas.nn.packing import CODES, Shelf

TYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(),
    hnp.unsigned_integer_dtypes(),
    hnp.floating_dtypes(),
    hnp.complex_number_dtypes(),
    hnp.datetime64_dtypes(),
    hnp.unicode_string_dtypes(),
)


@given(hnp.arrays(TYPES, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)), st.data())
def test_arrays_come_back(array: Array, data: Any) -> None:
    array = array.transpose(data.draw(st.permutations(range(array.ndim))))
    shelf = Shelf.read(json.loads(json.dumps(Shelf.of(array).written())))
    stored = shelf.pack(array)
    assert shelf == Shelf.of(array)
    assert stored.flags.c_contiguous
    assert (stored.shape, CODES[stored.dtype.str]) == (shelf.stored_shape, shelf.code)
    back = shelf.unpack(stored.copy())
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert back.strides == array.strides or array.size <= 1 or 1 in array.shape


@pytest.mark.parametrize(
    "array",
    [np.zeros(1, "O"), np.zeros(1, "i4, i4"), np.ma.zeros(2), [1.0], np.zeros(1, "V0"), np.array(["x"], "T")],
    ids=["objects", "records", "masked", "list", "nothing", "strings"],
)
def test_arrays_that_have_no_place(array: Any) -> None:
    with pytest.raises(StoreError, match=r"cannot be stored|expected a NumPy array"):
        Shelf.of(array)


@pytest.mark.parametrize(
    "changes",
    [{"dtype": name} for name in ("O", "i4, i4", "float64", "<f7", "U99999999999999", "", 3, None, "<M8[parsecs]")]
    + [{"shape": shape} for shape in ([-1, 2], [2.0, 2], 4, None, [True, 2], [2], "22")]
    + [{"layout": layout} for layout in ([0], [0, 0], [0, 2], [], None, [1.0, 0])],
    ids=str,
)
def test_what_describes_no_tensor(changes: dict[str, object]) -> None:
    node = Shelf.of(np.zeros((2, 2))).written()
    assert Shelf.read(node).shape == (2, 2)
    with pytest.raises((ValueError, TypeError)):
        Shelf.read(node | changes)
    for key in node:
        with pytest.raises(KeyError):
            Shelf.read({other: value for other, value in node.items() if other != key})
