"""Which layers can be refitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from solver_nas.linear import Linear, Norm, Shift, Window, transposed

if TYPE_CHECKING:
    from solver_nas.graph import Vertex
    from solver_nas.linear import Fittable, Pads


def fittable(vertex: Vertex) -> Fittable | None:
    """A layer as something that can be refitted; `None` for others."""
    return _linear(vertex) or _shift(vertex) or _norm(vertex)


def _linear(vertex: Vertex) -> Linear | None:
    """A dense layer or a convolution, whatever its activation is; `None` for others."""
    if vertex.kind not in ("dense", "conv", "conv_transpose"):
        return None
    weight, bias = vertex.parameters["weight"], vertex.parameters.get("bias")
    window = None
    if vertex.kind == "conv":
        made = vertex.attributes
        pads = "upper" if made["padding"] == "same" else made["padding"]
        strides, dilations = (cast("tuple[int, ...]", made[name]) for name in ("stride", "dilation"))
        window = Window(strides, dilations, cast("Pads", pads))
    order = tuple(range(len(weight.shape)))
    if vertex.kind == "conv_transpose":
        made = vertex.attributes
        order = (1, 0, *order[2:])
        names = ("stride", "dilation", "padding", "output_padding")
        window = transposed(weight.shape[2:], *(cast("tuple[Any, ...]", made[name]) for name in names))
        if window is None or made["grouped"]:
            return None
    return Linear(vertex.name, 0, weight.key, order, None if bias is None else bias.key, window)


def _shift(vertex: Vertex) -> Shift | None:
    """A learned bias as a layer of its own; `None` for others."""
    if vertex.kind != "bias":
        return None
    (axis,) = cast("tuple[int, ...]", vertex.attributes["axes"])
    return Shift(vertex.name, 0, vertex.parameters["bias"].key, axis)


def _norm(vertex: Vertex) -> Norm | None:
    """A batch normalisation; `None` for others."""
    if vertex.kind != "batch_norm":
        return None
    mean, variance = (vertex.parameters[role].key for role in ("mean", "var"))
    epsilon, axis = cast("float", vertex.attributes["epsilon"]), cast("int", vertex.attributes["axis"])
    return Norm(vertex.name, 0, mean, variance, epsilon, axis)
