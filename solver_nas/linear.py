"""Vertices whose output is linear in one weight: dense layers and convolutions, as matrices."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from solver_nas.passage import kept_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = NDArray[Any]
Floats = NDArray[np.float64]

#: Elements added before and after along every spatial axis; or so many that there is a position for every step, of
#: which an odd one comes at the end (`"upper"`) or at the beginning (`"lower"`).
Pads = tuple[tuple[int, int], ...] | Literal["upper", "lower"]


class Window(NamedTuple):
    """How the window of a convolution slides; one entry per spatial axis.

    Args:
        strides: steps of the window.
        dilations: steps inside the window.
        pads: what is added around.
        apart: how far apart what is read is put before, with zeros in between, and the window turned round: that makes
            a transposed convolution of it. `None` for others.
    """

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: Pads
    apart: tuple[int, ...] | None = None


def transposed(
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    cuts: Sequence[tuple[int, int]],
    extra: Sequence[int],
) -> Window | None:
    """The window of a transposed convolution; `None` if more is cut off than the window reaches over.

    Args:
        kernel: sizes of the window.
        strides: steps of the window in the output.
        dilations: steps inside the window.
        cuts: how much of the output is cut off at both ends.
        extra: how much is left at the far end in spite of that.
    """
    pads = tuple(
        (dilation * (size - 1) - before, dilation * (size - 1) - after + more)
        for size, dilation, (before, after), more in zip(kernel, dilations, cuts, extra, strict=True)
    )
    if any(one < 0 for pair in pads for one in pair):
        return None
    return Window((1,) * len(kernel), tuple(dilations), pads, tuple(strides))


class Linear(NamedTuple):
    """A vertex that multiplies what it reads with a weight: (..., features) or, with a window, (batch, channels, ...).

    Args:
        vertex: its name.
        slot: which of its inputs it multiplies.
        weight: key of the weight.
        order: the weight's axes so that outputs come first, then inputs (of one group), then the window.
        bias: key of what is added, one number for every output; `None` if nothing is.
        window: `None` for a dense layer.
    """

    vertex: str
    slot: int
    weight: str
    order: tuple[int, ...]
    bias: str | None
    window: Window | None = None

    def matrix(self, weight: Array, groups: int) -> Floats:
        """The weight as (groups, features, outputs)."""
        front = self._turned(np.asarray(weight, np.float64).transpose(self.order))
        return np.ascontiguousarray(front.reshape(groups, len(front) // groups, -1).swapaxes(1, 2))

    def weight_of(self, matrix: Floats, like: Array) -> Array:
        """A matrix as a weight of the shape and type of another one."""
        shape = [like.shape[axis] for axis in self.order]
        front = self._turned(matrix.swapaxes(1, 2).reshape(shape))
        return np.ascontiguousarray(front.transpose(np.argsort(self.order)), like.dtype)

    def _turned(self, front: Array) -> Array:
        """With the window turned round, if it is that of a transposed convolution."""
        if self.window is None or self.window.apart is None:
            return front
        return np.flip(front, tuple(range(2, front.ndim)))

    def groups(self, weight: Array, x: Array) -> int:
        """How many groups of channels do not see each other."""
        inside = int(weight.shape[self.order[1]])
        return int(x.shape[1 if self.window else -1]) // max(inside, 1)

    def features(self, weight: Array) -> int:
        """How many numbers of its input an output depends on."""
        return prod(weight.shape[axis] for axis in self.order[1:])

    def results(self, y: Array, most: int, seed: int, counting: NDArray[np.bool_] | None = None) -> Floats:
        """The rows of a tensor of the shape of what is computed, (rows, outputs), that belong to those of `rows`."""
        front = y if self.window is None else np.moveaxis(y, 1, -1)
        kept = kept_rows(front.shape[:-1], counting)
        flat = front.reshape(-1, front.shape[-1])
        flat = flat if kept is None else flat[kept]
        return np.asarray(flat[_drawn(len(flat), most, seed)], np.float64)

    def rows(self, x: Array, weight: Array, most: int, seed: int, counting: NDArray[np.bool_] | None = None) -> Floats:
        """What is multiplied with the matrix, (groups, rows, features): a row for every position.

        Args:
            x: what the vertex reads.
            weight: of the shape that fits.
            most: at most so many rows, drawn at random where there are more; the same ones for the same seed and
                the same positions.
            seed: of the draw.
            counting: which positions count, (samples, steps), where there are such axes.
        """
        groups = self.groups(weight, x)
        if self.window is None:
            flat = x.reshape(-1, x.shape[-1])
            kept = kept_rows(x.shape[:-1], counting)
            flat = flat if kept is None else flat[kept]
            flat = flat[_drawn(len(flat), most, seed)]
        else:
            kernel = [weight.shape[axis] for axis in self.order[2:]]
            flat = _patches(x, kernel, self.window, most, seed, counting)
        found = flat.reshape(len(flat), groups, -1)
        return np.ascontiguousarray(found.swapaxes(0, 1), np.float64)


class Shift(NamedTuple):
    """A vertex that adds one number to each neuron of what it reads.

    Args:
        vertex: its name.
        slot: which of its inputs it reads.
        bias: key of the numbers.
        axis: of the neurons.
    """

    vertex: str
    slot: int
    bias: str
    axis: int = -1


class Norm(NamedTuple):
    """A vertex that normalises each neuron of what it reads by a mean and a variance that it keeps.

    Args:
        vertex: its name.
        slot: which of its inputs it reads.
        mean: key of the means.
        variance: key of the variances.
        epsilon: what is added to them.
        axis: of the neurons.
    """

    vertex: str
    slot: int
    mean: str
    variance: str
    epsilon: float
    axis: int = 1


#: What can be refitted.
Fittable = Linear | Shift | Norm


def along(x: Array, axis: int, counting: NDArray[np.bool_] | None = None) -> Floats:
    """A tensor as (rows, neurons): everything that counts, with the neurons last."""
    front = np.moveaxis(x, axis, -1)
    flat = front.reshape(-1, front.shape[-1])
    kept = kept_rows(front.shape[:-1], counting) if axis % x.ndim else None
    return np.asarray(flat if kept is None else flat[kept], np.float64)


def shift_along(vertex: str, key: str, shape: Sequence[int]) -> Shift | None:
    """A sum with a parameter of this shape, as it is broadcast, if it is one number for every entry of one axis."""
    long = [axis for axis, size in enumerate(shape) if size != 1]
    return Shift(vertex, 0, key, long[0] - len(shape)) if len(long) == 1 else None


def _drawn(count: int, most: int, seed: int) -> NDArray[np.intp]:
    """Which rows are taken."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng([seed, count]).choice(count, most, replace=False))


def _patches(
    x: Array, kernel: Sequence[int], window: Window, most: int, seed: int, counting: NDArray[np.bool_] | None
) -> Array:
    """Windows over the spatial axes, (rows, channels, *kernel)."""
    rank = len(kernel)
    if window.apart is not None:
        sizes = [(size - 1) * step + 1 for size, step in zip(x.shape[2:], window.apart, strict=True)]
        wide = np.zeros((*x.shape[:2], *sizes), x.dtype)
        places: tuple[Any, ...] = (..., *(slice(None, None, step) for step in window.apart))
        wide[places] = x
        x = wide
    pads = padding(window, x.shape[2:], kernel)
    if any(map(any, pads)):
        x = np.pad(x, [(0, 0), (0, 0), *pads])
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, window.dilations, strict=True))
    views = np.lib.stride_tricks.sliding_window_view(x, reach, axis=tuple(range(2, 2 + rank)))
    steps: tuple[Any, ...] = (..., *(slice(None, None, step) for step in (*window.strides, *window.dilations)))
    views = views[steps]
    positions = views.shape[2 : 2 + rank]
    kept = kept_rows((len(x), *positions), counting)
    counted = np.arange(len(x) * prod(positions)) if kept is None else np.flatnonzero(kept)
    places = np.unravel_index(counted[_drawn(len(counted), most, seed)], (len(x), *positions))
    found: Array = np.moveaxis(views, 1, 1 + rank)[places]
    return found


def padding(window: Window, sizes: Sequence[int], kernel: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Elements added before and after, for these sizes."""
    if not isinstance(window.pads, str):
        return window.pads
    found = []
    for size, width, stride, dilation in zip(sizes, kernel, window.strides, window.dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + dilation * (width - 1) + 1 - size, 0)
        small, large = total // 2, total - total // 2
        found.append((small, large) if window.pads == "upper" else (large, small))
    return tuple(found)
