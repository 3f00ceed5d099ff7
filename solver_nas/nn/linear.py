"""Which layers are linear in one weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from solver_nas.linear import Linear, Shift, Window

if TYPE_CHECKING:
    from solver_nas.graph import Vertex
    from solver_nas.linear import Pads


def linear(vertex: Vertex) -> Linear | None:
    """A dense layer or a convolution, whatever its activation is; `None` for others."""
    if vertex.kind not in ("dense", "conv"):
        return None
    weight, bias = vertex.parameters["weight"], vertex.parameters.get("bias")
    window = None
    if vertex.kind == "conv":
        made = vertex.attributes
        pads = "upper" if made["padding"] == "same" else made["padding"]
        strides, dilations = (cast("tuple[int, ...]", made[name]) for name in ("stride", "dilation"))
        window = Window(strides, dilations, cast("Pads", pads))
    order = tuple(range(len(weight.shape)))
    return Linear(vertex.name, 0, weight.key, order, None if bias is None else bias.key, window)


def shift(vertex: Vertex) -> Shift | None:
    """A learned bias as a layer of its own; `None` for others."""
    if vertex.kind != "bias":
        return None
    (axis,) = cast("tuple[int, ...]", vertex.attributes["axes"])
    return Shift(vertex.name, 0, vertex.parameters["bias"].key, axis)
