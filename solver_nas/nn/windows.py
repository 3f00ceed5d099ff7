"""How a window slides over the spatial axes of an array, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import autograd.numpy as anp
import numpy as np
from autograd.extend import defvjp, primitive

from solver_nas.errors import LayerError
from solver_nas.nn.arguments import per_axis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from solver_nas.labels import Shape

    Array = NDArray[Any]

Pads = tuple[tuple[int, int], ...]
Padding = Pads | Literal["same"]


@dataclass(frozen=True, slots=True)
class Window:
    """A window and its way over the spatial axes; one entry per axis.

    Args:
        kernel: its sizes.
        stride: steps from one position to the next.
        dilation: steps from one of its elements to the next.
        padding: elements added before and after, or `"same"` for as many positions as steps of `stride`
            fit into the input.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: Padding

    @classmethod
    def of(cls, attributes: Mapping[str, Any], kernel: Sequence[int]) -> Window:
        """The window that a vertex stores."""
        return cls(tuple(kernel), attributes["stride"], attributes["dilation"], attributes["padding"])

    @property
    def attributes(self) -> dict[str, object]:
        """What a vertex stores; kernel sizes are those of its weight."""
        return {"stride": self.stride, "dilation": self.dilation, "padding": self.padding}

    @property
    def reach(self) -> tuple[int, ...]:
        """How many elements of the input lie between its first and last element, both included."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def pads(self, sizes: Sequence[int]) -> Pads:
        """Elements to add before and after, for spatial sizes of the input."""
        if self.padding != "same":
            return self.padding
        totals = [
            max((-(-size // stride) - 1) * stride + reach - size, 0)
            for size, stride, reach in zip(sizes, self.stride, self.reach, strict=True)
        ]
        return tuple((total // 2, total - total // 2) for total in totals)

    def positions(self, sizes: Shape, layer: str) -> Shape:
        """How many positions the window has on every axis; `None` where the size is not known.

        Raises:
            LayerError: the window is larger than the padded input.
        """
        result: list[int | None] = []
        for axis, (size, stride, reach) in enumerate(zip(sizes, self.stride, self.reach, strict=True)):
            if size is None:
                result.append(None)
                continue
            if self.padding == "same":
                result.append(-(-size // stride))
                continue
            full = size + sum(self.padding[axis])
            if full < reach:
                raise LayerError(
                    f"{layer}: the window spans {reach} elements on spatial axis {axis}, the padded input "
                    f"has {full}; use a smaller kernel or more padding"
                )
            result.append((full - reach) // stride + 1)
        return tuple(result)


def window(
    layer: str,
    rank: int,
    kernel: int | Sequence[int],
    stride: int | Sequence[int],
    padding: str | int | Sequence[int | tuple[int, int]],
    dilation: int | Sequence[int] = 1,
) -> Window:
    """Check the arguments of a layer that slides a window over `rank` axes.

    Args:
        layer: for messages.
        rank: number of spatial axes.
        kernel: sizes; like `stride` and `dilation`, one integer or one per axis.
        stride: steps.
        padding: `"valid"` (none), `"same"`, one integer, or per axis an integer or (before, after).
        dilation: steps inside the window.

    Raises:
        LayerError: any of them is impossible.
    """
    return Window(
        per_axis(layer, "kernel", kernel, rank),
        per_axis(layer, "stride", stride, rank),
        per_axis(layer, "dilation", dilation, rank),
        _padding(layer, padding, rank),
    )


def _padding(layer: str, padding: str | int | Sequence[int | tuple[int, int]], rank: int) -> Padding:
    if padding == "same":
        return "same"
    if padding == "valid":
        return ((0, 0),) * rank
    if isinstance(padding, str):
        raise LayerError(f"{layer}: padding is 'same', 'valid', an integer or one per axis, got {padding!r}")
    items = (padding,) * rank if isinstance(padding, int | np.integer) else tuple(padding)
    pairs = [tuple(item) if isinstance(item, tuple | list) else (item, item) for item in items]
    if len(pairs) != rank or any(len(pair) != 2 for pair in pairs):
        raise LayerError(f"{layer}: padding is one integer, or {rank} integers or pairs, got {padding!r}")
    sides = [per_axis(layer, "padding", pair, 2, least=0) for pair in pairs]
    return tuple((before, after) for before, after in sides)


def slide(x: Any, over: Window, *, constant: float = 0.0) -> Any:
    """All windows of an array (..., *sizes) as (..., *positions, *kernel), padded with a constant."""
    rank = len(over.kernel)
    pads = over.pads(x.shape[-rank:])
    if any(map(any, pads)):
        widths = [(0, 0)] * (x.ndim - rank) + list(pads)
        x = anp.pad(x, widths, "constant", constant_values=constant)
    return unfold(x, over.kernel, over.stride, over.dilation)


def _unfold(x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> Array:
    rank = len(kernel)
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    views = np.lib.stride_tricks.sliding_window_view(x, reach, axis=tuple(range(-rank, 0)))
    steps: tuple[Any, ...] = (..., *(slice(None, None, step) for step in (*stride, *dilation)))
    result: Array = views[steps]
    return result


def _fold(windows: Array, sizes: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> Array:
    rank = len(sizes)
    positions, kernel = windows.shape[-2 * rank : -rank], windows.shape[-rank:]
    result = np.zeros((*windows.shape[: -2 * rank], *sizes), windows.dtype)
    for place in np.ndindex(*kernel):
        reached = (
            slice(p * d, p * d + s * (n - 1) + 1, s)
            for p, d, s, n in zip(place, dilation, stride, positions, strict=True)
        )
        target: tuple[Any, ...] = (..., *reached)
        source: tuple[Any, ...] = (..., *place)
        result[target] += windows[source]
    return result


#: (..., *sizes) -> (..., *positions, *kernel), as a view; arguments kernel, stride, dilation.
unfold = primitive(_unfold)
#: Its adjoint, (..., *positions, *kernel) added up to (..., *sizes); arguments sizes, stride, dilation.
fold = primitive(_fold)


def _unfold_vjp(_: Any, x: Any, __: Any, stride: Any, dilation: Any) -> Any:
    sizes = x.shape[-len(stride) :]
    return lambda gradient: fold(gradient, sizes, stride, dilation)


def _fold_vjp(_: Any, windows: Any, __: Any, stride: Any, dilation: Any) -> Any:
    kernel = windows.shape[-len(stride) :]
    return lambda gradient: unfold(gradient, kernel, stride, dilation)


defvjp(unfold, _unfold_vjp, argnums=(0,))
defvjp(fold, _fold_vjp, argnums=(0,))
