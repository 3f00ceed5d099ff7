"""Arrays in ONNX: how they are read, also from files beside the model, and how they are written."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from solver_nas.errors import StoreError

if TYPE_CHECKING:
    from onnx import NodeProto

Array = NDArray[Any]

LARGEST = 2**34  # elements; what is larger is a mistake or an attack


def read(tensor: TensorProto, name: str) -> Array:
    """The array of a tensor, read-only.

    Args:
        tensor: with its numbers.
        name: for messages.

    Raises:
        StoreError: the tensor's numbers do not fit its shape.
    """
    shape = tuple(tensor.dims)
    if any(size < 0 for size in shape) or prod(shape) > LARGEST:
        raise StoreError(f"tensor {name!r} has the shape {shape}, which no array can have; the file is damaged")
    try:
        helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except KeyError as error:
        raise StoreError(f"tensor {name!r} is of type {tensor.data_type}, which this version cannot read") from error
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, OSError, IndexError) as error:
        raise StoreError(f"tensor {name!r} of shape {shape} cannot be read: {error}; the file is damaged") from error
    if array.shape != shape:
        raise StoreError(f"tensor {name!r} says that its shape is {shape}, it has {array.shape}")
    array = array.view()
    array.flags.writeable = False
    return array


def place_of(tensor: TensorProto, folder: Path | None, name: str) -> Path:
    """The file that holds a tensor's numbers.

    Raises:
        StoreError: there is none, or it lies outside the model's folder.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise StoreError(
            f"tensor {name!r} is kept in the file {location!r} beside the model; load the model from its path"
        )
    path = (folder / location).resolve()
    if not location or Path(location).is_absolute() or not path.is_relative_to(folder.resolve()):
        raise StoreError(f"tensor {name!r} is said to be in {location!r}, outside of the model's folder; refused")
    if not path.is_file():
        raise StoreError(f"tensor {name!r} is said to be in {location!r}, but there is no such file beside the model")
    return path


def gather(tensor: TensorProto, folder: Path | None) -> None:
    """Read a tensor's numbers from the file beside the model into the model.

    Raises:
        StoreError: there are not as many as its shape needs.
    """
    name, path = tensor.name, place_of(tensor, folder, tensor.name)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if any(size < 0 for size in tensor.dims) or prod(tensor.dims) > LARGEST:
        raise StoreError(f"tensor {name!r} has the shape {tuple(tensor.dims)}, which no array can have")
    try:
        width = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
        offset, told = int(entries.get("offset") or 0), int(entries.get("length") or 0)
    except (KeyError, ValueError) as error:
        raise StoreError(f"tensor {name!r} cannot be read from {path.name!r}: {error}") from error
    packed = tensor.data_type in _PACKED
    size = -(-prod(tensor.dims) // _PER_BYTE) if packed else prod(tensor.dims) * width
    length = told or size
    if offset < 0 or length != size or offset + length > path.stat().st_size:
        raise StoreError(
            f"tensor {name!r} needs {size:,} bytes; {path.name!r} has {path.stat().st_size:,}, and the model says "
            f"{length:,} from {offset:,} on"
        )
    with path.open("rb") as file:
        file.seek(offset)
        tensor.raw_data = file.read(length)
    tensor.ClearField("data_location")
    del tensor.external_data[:]


#: Types of which two elements share a byte.
_PACKED = frozenset({TensorProto.UINT4, TensorProto.INT4, TensorProto.FLOAT4E2M1})
_PER_BYTE = 2


def write(array: Array, name: str, like: TensorProto | None = None) -> TensorProto:
    """A tensor that holds an array; documentation and metadata are those of another one."""
    made = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
    if like is not None:
        made.doc_string = like.doc_string
        made.metadata_props.extend(like.metadata_props)
    return made


def of_constant(node: NodeProto) -> TensorProto | None:
    """What a Constant node holds; `None` for what is no tensor of numbers (strings, sparse tensors)."""
    for attribute in node.attribute:
        match attribute.name:
            case "value":
                return attribute.t
            case "value_int":
                return numpy_helper.from_array(np.array(attribute.i, np.int64))
            case "value_ints":
                return numpy_helper.from_array(np.array(attribute.ints, np.int64))
            case "value_float":
                return numpy_helper.from_array(np.array(attribute.f, np.float32))
            case "value_floats":
                return numpy_helper.from_array(np.array(attribute.floats, np.float32))
            case _:
                pass
    return None
