"""How an array with one entry per neuron (a bias, a scale) accompanies some axes of a tensor."""

from __future__ import annotations

from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

import autograd.numpy as anp

from solver_nas.rules.contract import einsum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.labels import Tensor
    from solver_nas.rules import Scope


def spread(array: Any, axes: Sequence[int]) -> Any:
    """Put the axes of an array at these places, counted from the end and ascending, to be broadcast."""
    shape = [1] * -axes[0]
    for size, axis in zip(array.shape, axes, strict=True):
        shape[axis] = size
    return anp.reshape(array, shape)


def accompany(scope: Scope, tensor: Tensor, role: str, axes: Sequence[int]) -> Tensor:
    """The labels of a tensor to which a parameter over these axes (from the end, ascending) is applied."""
    letters = ascii_lowercase[: -axes[0]]
    term = "".join(letters[axis] for axis in axes)
    return einsum(
        scope,
        f"...{letters},{term}->...{letters}",
        tensor,
        scope.weight(role),
        why=f"parameter {role!r} has one entry per neuron",
    )
