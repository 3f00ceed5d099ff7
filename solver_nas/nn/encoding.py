"""How values of Python and NumPy are written as JSON without losing their types.

What JSON has stands for itself: `None`, booleans, strings, integers, finite floats, lists. Anything else is an
object with a single key that says what it is:

    {"tuple": [...]}, {"dict": [[key, value], ...]}, {"float": "nan"}, {"scalar": ["<f4", "cdcccc3d"]},
    {"array": name of a tensor}, {"function": name under which it is registered},
    {"record": ["Every", {"period": 3}]}
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from solver_nas.errors import StoreError
from solver_nas.nn.named import function_of, name_of
from solver_nas.nn.packing import dtype_of
from solver_nas.observe import ActivationStatistics, Contribution, Every, Observations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.frontend import Array

_RECORDS = {record.__name__: record for record in (ActivationStatistics, Contribution, Every, Observations)}


def encode(value: object, name: str, tensors: dict[str, Array]) -> object:
    """A value as JSON.

    Args:
        value: numbers, strings, tuples, lists, dicts, arrays and registered functions, in any nesting.
        name: what tensors are called that come out of it.
        tensors: receives the arrays that it holds.

    Raises:
        StoreError: something in it is of another type, or a function without a name.

    >>> encode({"axes": (1, None)}, "x", {})
    {'dict': [['axes', {'tuple': [1, None]}]]}
    """
    # Types are compared and not tested for, since a named tuple or an Enum would come back as something else.
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if isinstance(value, float) and kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, list) and kind is list:
        return [encode(item, name, tensors) for item in value]
    if isinstance(value, tuple) and kind is tuple:
        return {"tuple": [encode(item, name, tensors) for item in value]}
    if isinstance(value, dict) and kind is dict:
        return {"dict": [[encode(item, name, tensors) for item in pair] for pair in value.items()]}
    if isinstance(value, np.ndarray):
        return {"array": _keep(value, name, tensors)}
    if isinstance(value, np.generic) and dtype_of(value.dtype.str) == value.dtype:
        return {"scalar": [value.dtype.str, value.tobytes().hex()]}
    if _RECORDS.get(kind.__name__) is kind:
        parts = {field.name: getattr(value, field.name) for field in fields(kind)}
        return {"record": [kind.__name__, {part: encode(parts[part], f"{name}.{part}", tensors) for part in parts}]}
    if callable(value):
        return {"function": _name(value)}
    raise StoreError(
        f"{value!r} is of type {kind.__name__}; only numbers, strings, tuples, lists, dicts, arrays "
        f"and registered functions can be stored"
    )


def decode(node: Any, tensors: Mapping[str, Array]) -> Any:
    """The value that was encoded.

    Args:
        node: what `encode` has returned.
        tensors: the arrays by name.

    Raises:
        StoreError: a function of that name is not registered.
        ValueError: the node is not one (or a KeyError, TypeError, AttributeError).
    """
    if node is None or isinstance(node, bool | int | float | str):
        return node
    if isinstance(node, list):
        return [decode(item, tensors) for item in node]
    ((tag, content),) = node.items()
    match tag:
        case "tuple":
            return tuple(decode(item, tensors) for item in content)
        case "dict":
            return {decode(key, tensors): decode(value, tensors) for key, value in content}
        case "float":
            return float(content)
        case "scalar":
            return _scalar(*content)
        case "array":
            return tensors[content]
        case "function":
            return _function(content)
        case "record":
            kind, parts = content
            return _RECORDS[kind](**{part: decode(value, tensors) for part, value in parts.items()})
        case _:
            raise ValueError(f"{str(node)[:80]} stands for no value")


def _keep(array: Array, name: str, tensors: dict[str, Array]) -> str:
    free, number = name, 2
    while free in tensors:
        free, number = f"{name}.{number}", number + 1
    tensors[free] = array
    return free


def _name(function: Any) -> str:
    name = name_of(function)
    if name is None:
        raise StoreError(
            f"{function!r} has no name that a file could hold; give it one before saving, and again before "
            f"loading: solver_nas.nn.register('a name', function)"
        )
    return name


def _function(name: object) -> Any:
    function = function_of(name) if isinstance(name, str) else None
    if function is None:
        raise StoreError(
            f"no function is registered as {name!r}; first run or import what calls "
            f"solver_nas.nn.register({name!r}, function)"
        )
    return function


def _scalar(dtype: str, digits: str) -> Any:
    known, raw = dtype_of(dtype), bytes.fromhex(digits)
    if known is None or known.itemsize != len(raw):
        raise ValueError(f"{digits} is no number of type {dtype}")
    return np.ndarray((), known, raw)[()]
