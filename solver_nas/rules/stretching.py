"""How neurons pass where axes are stretched: those of size 1 come, go and are expanded, others are repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from solver_nas.labels import Block, Tensor
from solver_nas.rules.primitives import take, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.labels import Shape
    from solver_nas.rules.scope import Scope


def squeezed(scope: Scope, x: Tensor, gone: Sequence[int]) -> Tensor:
    """The same neurons without some axes of size 1.

    Args:
        scope: the vertex.
        x: the input.
        gone: these axes, counted from the front.
    """
    scope.speak(x)
    why = scope.reason("this axis of size 1 goes")
    blocks = []
    for block in x.blocks:
        levels, depth = list(block.levels), 0
        for axis in block.axes:
            if axis not in gone:
                depth += 1
                continue
            # What has size 1 stays; the axes inside of it are on their own from now on.
            scope.tape.pin(levels.pop(depth), why)
            levels = [level.squeeze(depth) if place >= depth else level for place, level in enumerate(levels)]
        if levels:
            blocks.append(Block(tuple(axis for axis in block.axes if axis not in gone), tuple(levels)))
    kept = [axis for axis in range(len(x.shape)) if axis not in gone]
    place = {old: new for new, old in enumerate(kept)}
    renamed = (Block(tuple(place[axis] for axis in block.axes), block.levels) for block in blocks)
    return Tensor(tuple(x.shape[axis] for axis in kept), tuple(renamed))


def placed(scope: Scope, x: Tensor, kept: Sequence[int | None]) -> Tensor:
    """The same neurons on other axes.

    Args:
        scope: the vertex.
        x: the input.
        kept: for every axis of the result, which one it was; `None` for a new one of size 1. None is left out.
    """
    scope.speak(x)
    place = {old: new for new, old in enumerate(kept) if old is not None}
    blocks = tuple(Block(tuple(place[axis] for axis in block.axes), block.levels) for block in x.blocks)
    return Tensor(tuple(1 if old is None else x.shape[old] for old in kept), blocks)


def even(scope: Scope, tensor: Tensor, shape: Shape, axes: Sequence[int]) -> Tensor:
    """Let axes along which all is equal follow whatever they meet.

    Args:
        scope: the vertex.
        tensor: what has neurons on the other axes, if any.
        shape: the result's.
        axes: along which all is equal.
    """
    blocks = list(tensor.blocks)
    for axis in axes:
        size = shape[axis]
        if size is None or size < 2:
            continue
        reason = scope.reason("all positions of this axis are equal")
        made = scope.tape.fresh(scope.key(f"even {axis}"), (size,), reason)
        scope.tape.idle(made, reason)
        blocks.append(Block((axis,), (made,)))
    return Tensor(shape, tuple(blocks))


def expanded(scope: Scope, x: Tensor, shape: Shape, widened: Sequence[int]) -> Tensor:
    """A tensor broadcast to a shape: neurons stay, axes that are expanded follow what they meet.

    Args:
        scope: the vertex.
        x: the input; its axes are the last ones of the result.
        shape: the result's.
        widened: axes of the result that were of size 1, or not there, at the beginning.
    """
    lead = len(shape) - len(x.shape)
    x = whole(scope, x, [axis - lead for axis in widened if axis >= lead], "this axis of size 1 is expanded")
    y = placed(scope, x, [*[None] * lead, *range(len(x.shape))])
    return even(scope, y, shape, widened)


def tiled(scope: Scope, x: Tensor, axis: int, times: int) -> Tensor:
    """All positions of an axis, and then all of them again."""
    return take(scope, x, axis, np.tile(np.arange(x.shape[axis] or 0), times))
