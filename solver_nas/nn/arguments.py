"""Whether the arguments of a layer are possible, told in the words of that layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.errors import LayerError

if TYPE_CHECKING:
    from solver_nas.nn.vertex import NetworkVertex


def title(kind: str, name: str | None) -> str:
    """What to call a layer in a message before it exists."""
    return kind if name is None else f"{kind} {name!r}"


def positive(layer: str, what: str, value: object, *, least: int = 1) -> int:
    """An integer of at least `least`.

    Raises:
        LayerError: it is none; the message says which argument.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise LayerError(f"{layer}: {what} is an integer of at least {least}, got {value!r}")
    return int(value)


def per_axis(layer: str, what: str, value: int | Sequence[int], rank: int, *, least: int = 1) -> tuple[int, ...]:
    """One integer for all spatial axes, or one for each."""
    values: tuple[object, ...] = tuple(value) if isinstance(value, Sequence) else (value,) * rank
    if len(values) != rank:
        raise LayerError(f"{layer}: {what} is one integer or {rank} of them, one per spatial axis, got {value!r}")
    return tuple(positive(layer, what, item, least=least) for item in values)


def known_size(layer: str, x: NetworkVertex, axis: int) -> int:
    """The size of an axis that has to be known."""
    size = x.shape[axis]
    if size is None:
        raise LayerError(f"{layer}: axis {axis} of {x.name!r} has no known size; give the input a definite shape")
    return size


def spatial_rank(layer: str, x: NetworkVertex) -> int:
    """How many spatial axes follow batch and channels."""
    rank = len(x.shape) - 2
    if not 1 <= rank <= 3:
        raise LayerError(f"{layer}: takes (batch, channels, 1 to 3 spatial axes), {x.name!r} has shape {x.shape}")
    return rank


def sequence(layer: str, x: NetworkVertex) -> int:
    """The number of features of a sequence (batch, steps, features)."""
    if len(x.shape) != 3:
        raise LayerError(f"{layer}: takes sequences (batch, steps, features), {x.name!r} has shape {x.shape}")
    return known_size(layer, x, -1)


def axis_from_end(layer: str, x: NetworkVertex, axis: int) -> int:
    """An axis of `x` other than the batch, counted from the end so that it also fits a single sample."""
    rank = len(x.shape)
    if not -rank < axis < rank or axis == 0:
        raise LayerError(
            f"{layer}: axis {axis} of {x.name!r} is not one of 1 .. {rank - 1} or -1 .. {1 - rank}; "
            f"axis 0 is the batch, the shape is {x.shape}"
        )
    return axis - rank if axis > 0 else axis


def neuron_axis(layer: str, x: NetworkVertex, axis: int | None) -> int:
    """The axis that the caller names, else the one that holds the neurons, else axis 1; from the end."""
    if axis is not None:
        return axis_from_end(layer, x, axis)
    blocks = x.model.tensor(x.name).blocks
    if not blocks and len(x.shape) < 2:
        raise LayerError(f"{layer}: {x.name!r} of shape {x.shape} has no axis of neurons")
    return axis_from_end(layer, x, blocks[-1].axes[-1] if blocks else 1)


def divisor(layer: str, what: str, value: object, size: int) -> int:
    """A number of groups that divides a size."""
    groups = positive(layer, what, value)
    if size % groups:
        near = [number for number in range(1, size + 1) if size % number == 0]
        raise LayerError(f"{layer}: {what} is {groups}, which does not divide {size}; possible are {near}")
    return groups
