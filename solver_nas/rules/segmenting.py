"""How neurons pass where parts are put side by side, or are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solver_nas.rules.primitives import concat, take, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.labels import Neurons, Tensor
    from solver_nas.rules.registry import Resized
    from solver_nas.rules.scope import Scope


def part(scope: Scope, x: Tensor, axis: int, start: int, stop: int) -> Tensor:
    """The neurons from one position to before another.

    There is one start for all rows of a rectangle: what stands before the part is equally long in each.
    """
    take(scope, x, axis, slice(0, start))
    return take(scope, x, axis, slice(start, stop))


def line(resized: Resized, tensor: Tensor, axis: int) -> Neurons | None:
    """The neurons along an axis before a change, in a row that is left; `None` if it has none."""
    block = tensor.block_of(axis)
    if block is None:
        return None
    lines = block.lines(axis)
    found: Neurons = next((row for row in lines if len(resized.moved(row))), lines[0])
    return found


def concatenated(scope: Scope, parts: Sequence[Tensor], axis: int, *, growing: bool) -> Tensor:
    """Tensors one after the other, some of which may be constants or of unknown size.

    Args:
        scope: the vertex.
        parts: of equal rank.
        axis: along which.
        growing: whether one of them has neurons there that are no positions of a constant.
    """
    if not growing:
        # Positions of a constant beside positions that never change.
        parts = [whole(scope, one, [axis], "constants beside positions that stay") for one in parts]
    elif any(one.shape[axis] is None for one in parts):
        why = "how many positions come before these is not known beforehand"
        parts = [whole(scope, one, [axis], why) for one in parts]
    return concat(scope, parts, axis)
