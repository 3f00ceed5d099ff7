"""Maxima and means over windows or over all spatial axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import autograd.numpy as anp
import numpy as np

from solver_nas.errors import LayerError
from solver_nas.labels import Tensor
from solver_nas.nn.arguments import spatial_rank, title
from solver_nas.nn.forward import Call, forward
from solver_nas.nn.windows import Window, slide, window
from solver_nas.rules import Scope, rule
from solver_nas.rules.primitives import reduce, whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.nn.vertex import NetworkVertex


def max_pool(
    x: NetworkVertex,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: str | int | Sequence[int | tuple[int, int]] = 0,
    dilation: int | Sequence[int] = 1,
    name: str | None = None,
) -> NetworkVertex:
    """The maximum in every window; what is padded does not count.

    Args:
        x: the input, (batch, channels, 1 to 3 spatial axes).
        kernel: the window's sizes, one integer or one per spatial axis.
        stride: steps of the window; by default its sizes.
        padding: `"valid"`, `"same"`, an integer, or per axis an integer or (before, after); less than the
            window at each end.
        dilation: steps inside the window.
        name: of the new vertex.

    Returns:
        (batch, channels, *positions).
    """
    return _pool("max_pool", x, kernel, stride, padding, dilation, {}, name)


def avg_pool(
    x: NetworkVertex,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: str | int | Sequence[int | tuple[int, int]] = 0,
    count_padding: bool = True,
    name: str | None = None,
) -> NetworkVertex:
    """The mean of every window; arguments as for `max_pool`.

    Args:
        x: the input, (batch, channels, 1 to 3 spatial axes).
        kernel: the window's sizes.
        stride: steps of the window; by default its sizes.
        padding: zeros around the input.
        count_padding: whether those zeros count as elements, as they do in PyTorch.
        name: of the new vertex.

    Returns:
        (batch, channels, *positions).
    """
    extra = {"count_padding": bool(count_padding)}
    return _pool("avg_pool", x, kernel, stride, padding, 1, extra, name)


def _pool(
    kind: str,
    x: NetworkVertex,
    kernel: int | Sequence[int],
    stride: int | Sequence[int] | None,
    padding: str | int | Sequence[int | tuple[int, int]],
    dilation: int | Sequence[int],
    extra: Mapping[str, object],
    name: str | None,
) -> NetworkVertex:
    layer = title(kind, name)
    rank = spatial_rank(layer, x)
    over = window(layer, rank, kernel, kernel if stride is None else stride, padding, dilation)
    if over.padding != "same":
        for pads, reach in zip(over.padding, over.reach, strict=True):
            if max(pads) >= reach:
                raise LayerError(f"{layer}: padding {pads} lets a window of {reach} see nothing but padding; use less")
    over.positions(x.shape[2:], layer)
    attributes = {"kernel": over.kernel, **over.attributes, **extra}
    return x.model.add(kind, name, (x,), attributes)


def global_avg_pool(x: NetworkVertex, *, keepdims: bool = False, name: str | None = None) -> NetworkVertex:
    """The mean of every channel: (batch, channels, *spatial) -> (batch, channels).

    With `keepdims` the spatial axes stay with a size of one.
    """
    return _globally("global_avg_pool", x, keepdims=keepdims, name=name)


def global_max_pool(x: NetworkVertex, *, keepdims: bool = False, name: str | None = None) -> NetworkVertex:
    """The maximum of every channel: (batch, channels, *spatial) -> (batch, channels).

    With `keepdims` the spatial axes stay with a size of one.
    """
    return _globally("global_max_pool", x, keepdims=keepdims, name=name)


def _globally(kind: str, x: NetworkVertex, *, keepdims: bool, name: str | None) -> NetworkVertex:
    rank = spatial_rank(title(kind, name), x)
    return x.model.add(kind, name, (x,), {"rank": rank, "keepdims": bool(keepdims)})


def _window(call: Call) -> Window:
    return Window.of(call.vertex.attributes, call["kernel"])


@forward("max_pool")
def _max(call: Call) -> Any:
    windows = slide(call.x, _window(call), constant=-np.inf)
    return anp.max(windows, axis=tuple(range(-len(call["kernel"]), 0)))


@forward("avg_pool")
def _mean(call: Call) -> Any:
    over = _window(call)
    axes = tuple(range(-len(over.kernel), 0))
    if call["count_padding"]:
        return anp.mean(slide(call.x, over), axis=axes)
    ones = np.ones(call.x.shape[-len(axes) :], call.x.dtype)
    return anp.sum(slide(call.x, over), axis=axes) / np.sum(slide(ones, over), axis=axes)


@forward("global_avg_pool")
def _global_mean(call: Call) -> Any:
    return anp.mean(call.x, axis=tuple(range(-call["rank"], 0)), keepdims=call["keepdims"])


@forward("global_max_pool")
def _global_max(call: Call) -> Any:
    return anp.max(call.x, axis=tuple(range(-call["rank"], 0)), keepdims=call["keepdims"])


@rule("max_pool")
@rule("avg_pool")
def _flow(scope: Scope) -> Tensor:
    over = Window.of(scope.vertex.attributes, scope.integers("kernel"))
    rank = len(over.kernel)
    x = whole(scope, scope.inputs[0], range(-rank, 0), "a window slides along this axis")
    positions = over.positions(x.shape[-rank:], title(scope.vertex.kind, scope.vertex.name))
    return Tensor((*x.shape[:-rank], *positions), x.blocks)


@rule("global_avg_pool")
@rule("global_max_pool")
def _global_flow(scope: Scope) -> Tensor:
    axes = range(-scope.attribute("rank", int), 0)
    x = whole(scope, scope.inputs[0], axes, "all of this axis is pooled")
    return reduce(scope, x, axes, keepdims=scope.attribute("keepdims", bool))
