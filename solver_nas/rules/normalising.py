"""How neurons pass through a normalisation of groups of channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solver_nas.rules.contract import einsum
from solver_nas.rules.primitives import whole
from solver_nas.rules.reshape import merge_axes, split_axis

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from solver_nas.labels import Neurons, Tensor
    from solver_nas.rules.contract import Operand
    from solver_nas.rules.scope import Scope


def group_norm(
    scope: Scope,
    x: Tensor,
    groups: int,
    weights: Sequence[Callable[[Sequence[Sequence[int]]], Operand]],
    *,
    grouped: Callable[[Neurons], None] | None = None,
) -> Tensor:
    """Each group keeps equally many channels; what they are multiplied with, or what is added, follows.

    Args:
        scope: the vertex.
        x: the input, (batch, channels, ...).
        groups: how many; divides the channels.
        weights: scale and bias, as far as there are any; each is called once, for (channels,) under a view: the
            sizes that this axis is seen as.
        grouped: is told which neurons stand for the groups.
    """
    rank, size = len(x.shape) - 2, (x.shape[1] or 0) // groups
    x = whole(scope, x, range(2, rank + 2), "all of this axis is normalised together")
    y = split_axis(scope, x, 1, (groups, size))
    block = y.block_of(1)
    if grouped is not None and block is not None:
        grouped(block.levels[block.axes.index(1)])
    for weight in weights:
        y = einsum(scope, "nyz...,yz->nyz...", y, weight([(groups, size)]), why="scale and bias follow", repeats=None)
    return merge_axes(scope, y, 1, 2)
