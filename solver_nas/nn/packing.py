"""How an array of any type and memory layout is laid into a plain tensor of a file, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from solver_nas.errors import StoreError

if TYPE_CHECKING:
    from solver_nas.frontend import Array

#: NumPy's name of a type -> that of the file format. Arrays of other types are stored as bytes.
CODES = {
    "<f8": "F64",
    "<f4": "F32",
    "<f2": "F16",
    "<i8": "I64",
    "<i4": "I32",
    "<i2": "I16",
    "|i1": "I8",
    "<u8": "U64",
    "<u4": "U32",
    "<u2": "U16",
    "|u1": "U8",
    "|b1": "BOOL",
}


@dataclass(frozen=True, slots=True)
class Shelf:
    """What a tensor of a file is as an array.

    Args:
        dtype: NumPy's name of its type, with the byte order.
        shape: its shape.
        layout: its axes in the order in which they lie in memory, outermost first. Sums are rounded in that
            order, so that the last bit of a network's output depends on it.
    """

    dtype: str
    shape: tuple[int, ...]
    layout: tuple[int, ...]

    @classmethod
    def of(cls, array: Array) -> Shelf:
        """What is to be known about an array.

        Raises:
            StoreError: the array holds objects, or values of a type that has no portable name.
        """
        if type(array) not in (np.ndarray, np.memmap):
            raise StoreError(f"expected a NumPy array, got {type(array).__name__}")
        if dtype_of(array.dtype.str) != array.dtype:
            raise StoreError(f"arrays of type {array.dtype} cannot be stored; convert it")
        layout = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
        return cls(array.dtype.str, array.shape, tuple(layout))

    @classmethod
    def read(cls, node: Any) -> Shelf:
        """What `written` has written.

        Raises:
            ValueError: it is something else (or a KeyError, or a TypeError).
        """
        shelf = cls(node["dtype"], _numbers(node["shape"]), _numbers(node["layout"]))
        if dtype_of(shelf.dtype) is None or sorted(shelf.layout) != list(range(len(shelf.shape))):
            raise ValueError(f"{node!r} does not describe a tensor")
        return shelf

    def written(self) -> dict[str, object]:
        """The same as plain data."""
        return {"dtype": self.dtype, "shape": list(self.shape), "layout": list(self.layout)}

    @property
    def code(self) -> str:
        """The type of the tensor in the file."""
        return CODES.get(self.dtype, "U8")

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape of the tensor in the file: bytes have an axis of their own."""
        return self.shape if self.dtype in CODES else (*self.shape, np.dtype(self.dtype).itemsize)

    def pack(self, array: Array) -> Array:
        """The array as the file holds it: plain, contiguous, C order."""
        plain = np.asarray(array, order="C")
        return plain if self.dtype in CODES else plain.reshape(-1).view(np.uint8).reshape(self.stored_shape)

    def unpack(self, stored: Array) -> Array:
        """The array again, with the layout that it had."""
        array = stored if self.dtype in CODES else np.ndarray(self.shape, self.dtype, stored.tobytes())
        back = sorted(range(array.ndim), key=self.layout.__getitem__)
        return np.asarray(array.transpose(self.layout), order="C").transpose(back)


def dtype_of(text: object) -> np.dtype[Any] | None:
    """The type of that name, if it has no other name and needs no code or objects."""
    try:
        dtype = np.dtype(str(text))
    except (TypeError, ValueError, SyntaxError):
        return None
    return dtype if dtype.str == text and not dtype.hasobject and dtype.itemsize else None


def _numbers(node: Any) -> tuple[int, ...]:
    if not isinstance(node, list) or any(type(number) is not int or number < 0 for number in node):
        raise ValueError(f"{node!r} is no list of sizes")
    return tuple(node)
