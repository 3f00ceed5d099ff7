"""How neurons pass through convolutions: plain, grouped and depthwise ones."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from solver_nas.rules.contract import einsum
from solver_nas.rules.primitives import whole
from solver_nas.rules.reshape import merge_axes, split_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.labels import Neurons, Shape, Tensor
    from solver_nas.rules.contract import Operand
    from solver_nas.rules.scope import Scope

_BEFORE, _AFTER, _INSIDE = "xyz", "XYZ", "uvw"  # letters of spatial axes: of the input, the output, the window


class Style(Enum):
    """Which channels a channel is made of; decided by the sizes at the beginning, whatever they become."""

    PLAIN = "plain"
    DEPTHWISE = "depthwise"
    GROUPED = "grouped"


def style_of(kernel_shape: Shape | None, groups: int) -> Style:
    """Whether a convolution sees all channels, one, or a group of them.

    Args:
        kernel_shape: as for `convolution`; `None` if it is not known.
        groups: how many.

    >>> style_of((8, 1, 3, 3), 8), style_of((16, 1, 3, 3), 8), style_of((16, 8, 3, 3), 1)
    (<Style.DEPTHWISE: 'depthwise'>, <Style.GROUPED: 'grouped'>, <Style.PLAIN: 'plain'>)
    """
    if groups == 1 or kernel_shape is None:
        return Style.PLAIN
    # Both kinds have channels of a group on the second axis: those that are read, or those that are made.
    return Style.DEPTHWISE if kernel_shape[:2] == (groups, 1) else Style.GROUPED


#: Is told which neurons stand for the groups, and which rows they are shared among, if any.
Grouped = Callable[["Neurons", "Neurons | None"], None]


def _nobody(_: Neurons, __: Neurons | None) -> None:
    """Nobody wants to know."""


def _tell(x: Tensor, grouped: Grouped) -> None:
    block = x.block_of(1)
    if block is not None:
        depth = block.axes.index(1)
        grouped(block.levels[depth], block.levels[depth - 1] if depth else None)


def convolution(
    scope: Scope,
    x: Tensor,
    kernel: Callable[[Sequence[Sequence[int]] | None], Operand],
    positions: Sequence[int | None],
    *,
    style: Style,
    kernel_shape: Shape,
    groups: int = 1,
    transposed: bool = False,
    grouped: Grouped = _nobody,
) -> Tensor:
    """A window that slides along all spatial axes and makes channels.

    Args:
        scope: the vertex.
        x: the input, (batch, channels, 1 to 3 spatial axes).
        kernel: called once, for the weight under a view: for each of its axes, the sizes that it is seen as; `None`
            for what it is.
        positions: sizes of the output's spatial axes.
        style: which channels are seen.
        kernel_shape: of the weight as it is: (made, read of a group, *window); if transposed,
            (read, made of a group, *window).
        groups: how many.
        transposed: whether every position of the input is multiplied with the whole window, not of the output.
        grouped: is told which neurons stand for the groups, where there are several.

    Returns:
        (batch, made channels, *positions).

    Raises:
        RuleError: another number of spatial axes.
    """
    rank = len(x.shape) - 2
    if not 1 <= rank <= len(_BEFORE):
        raise scope.fail(f"{rank} spatial axes")
    x = whole(scope, x, range(2, 2 + rank), "a window slides along this axis")
    spec, fixed = _spelled(style, rank, transposed=transposed)
    view: list[tuple[int, ...]] | None = None
    if style is Style.GROUPED:
        first, *others = (size or 0 for size in kernel_shape)
        view = [(groups, first // groups), *((size,) for size in others)]
    weight = kernel(view)
    if style is Style.GROUPED:
        x = split_axis(scope, x, 1, (groups, (x.shape[1] or 0) // groups))
    if style is not Style.PLAIN:
        _tell(x, grouped)
    y = einsum(
        scope,
        spec,
        x,
        weight,
        fixed=fixed,
        sizes=dict(zip(_AFTER[:rank], positions, strict=True)),
        why="convolution: equal channels",
        # Every position of the smaller side is multiplied with the whole kernel.
        repeats=f"n{(_BEFORE if transposed else _AFTER)[:rank]}",
    )
    return merge_axes(scope, y, 1, 2) if style is Style.GROUPED else y


def _spelled(style: Style, rank: int, *, transposed: bool) -> tuple[str, str]:
    """The contraction, and the letters in it that cannot change."""
    before, after, inside = _BEFORE[:rank], _AFTER[:rank], _INSIDE[:rank]
    match style:
        case Style.PLAIN:
            return f"nc{before},{'co' if transposed else 'oc'}{inside}->no{after}", inside
        case Style.DEPTHWISE:
            return f"nc{before},ci{inside}->nc{after}", f"i{inside}"
        case Style.GROUPED:
            return f"ngi{before},{'gio' if transposed else 'goi'}{inside}->ngo{after}", inside


def per_channel(scope: Scope, y: Tensor, operand: Operand) -> Tensor:
    """Add, or multiply with, one number for every channel; these are on axis 1."""
    return einsum(scope, "nc...,c->nc...", y, operand, why="one number per channel", repeats=None)
