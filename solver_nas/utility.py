"""What a neuron is worth: utilities as callers give them, checked and summed over classes."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solver_nas.errors import UtilityError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from solver_nas.graph import Port
    from solver_nas.labels import IntArray, Labels

FloatArray = NDArray[np.float64]

#: The worth of every neuron of a tensor: a vector of its length, or one number for all.
Worth = Callable[["Port"], object]


LARGEST = 1e150  # sums and squares of utilities stay finite
_FINITE = f"utilities are finite numbers, up to {LARGEST:g}"


def class_utility(labels: Labels, ports: Iterable[Port], class_of: IntArray, classes: int, worth: Worth) -> FloatArray:
    """The utility of every class: the sum over all its members in these tensors.

    Raises:
        UtilityError: a utility is not finite or has the wrong length; the message names vertex and place.
    """
    found, weights = [np.zeros(0, np.int64)], [np.zeros(0)]
    for port in ports:
        neurons = labels.tensors[port].neurons
        vector = checked(worth(port), len(neurons), port.vertex)
        if vector is not None:
            found.append(class_of[neurons["label"]])
            weights.append(vector)
    total = np.bincount(np.concatenate(found), np.concatenate(weights), classes)
    with np.errstate(over="ignore"):
        if not np.abs(total).sum() <= LARGEST:
            raise UtilityError(f"the utilities of all neurons together are more than {LARGEST:g}; scale them down")
    return total.astype(np.float64, copy=False)


def descending(value: object, vertex: str) -> FloatArray:
    """What new neurons are worth: the first, the second, and so on.

    Raises:
        UtilityError: it is no sequence of numbers, not finite, or a later one is worth more than an earlier one.
    """
    try:
        vector = np.array(value, np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError) as error:
        raise UtilityError(
            f"vertex {vertex!r}: what new neurons are worth is {value!r}, no sequence of numbers"
        ) from error
    if not np.isfinite(vector).all():
        raise UtilityError(f"vertex {vertex!r}: what new neurons are worth is not finite: {vector}")
    if (np.abs(vector) > LARGEST).any():
        raise UtilityError(f"vertex {vertex!r}: what new neurons are worth is more than {LARGEST:g}; scale it down")
    if (np.diff(vector) > 0).any():
        raise UtilityError(
            f"vertex {vertex!r}: a later new neuron is worth more than an earlier one; give a sequence that never rises"
        )
    return vector


def checked(value: object, size: int, vertex: str) -> FloatArray | None:
    """A utility as a vector; `None` if it is zero throughout."""
    try:
        # Numbers of another library that remember how they were computed.
        plain = value.detach().cpu() if hasattr(value, "detach") else value
        # A copy: callers may well fill one buffer for all vertices.
        found: NDArray[Any] = np.array(plain)
        if found.dtype.kind == "c":
            raise TypeError("complex")
        vector = found.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        said = reprlib.repr(value)
        raise UtilityError(f"vertex {vertex!r}: its utility is {said}, neither a number nor a vector") from error
    if vector.ndim == 0:
        if not np.abs(vector) <= LARGEST:
            raise UtilityError(f"vertex {vertex!r}: its utility is {vector}; {_FINITE}")
        return np.full(size, vector) if vector else None
    if vector.shape != (size,):
        raise UtilityError(
            f"vertex {vertex!r}: its utility has shape {vector.shape}, it has {size} neurons; "
            f"return a vector of length v.nout or one number"
        )
    bad = np.flatnonzero(~(np.abs(vector) <= LARGEST))
    if len(bad):
        raise UtilityError(f"vertex {vertex!r}: the utility of neuron {bad[0]} is {vector[bad[0]]}; {_FINITE}")
    return vector
