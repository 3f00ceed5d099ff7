"""Which nodes can be refitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from solver_nas.linear import Linear, Norm, Shift, Window, shift_along, transposed
from solver_nas.onnx.operator import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.graph import Vertex
    from solver_nas.linear import Fittable, Pads
    from solver_nas.onnx.op import Slot

_MATRIX = 2
_STATISTICS = 2  # mean and variance
_SAME = {"SAME_UPPER": "upper", "SAME_LOWER": "lower"}


def fittable(vertex: Vertex) -> Fittable | None:
    """A node as something that can be refitted; `None` for others."""
    return _linear(vertex) or _shift(vertex) or _norm(vertex)


def _linear(vertex: Vertex) -> Linear | None:
    """A Conv, ConvTranspose, Gemm or MatMul with a constant weight; `None` for others."""
    reading = {"Conv": _conv, "ConvTranspose": _conv, "Gemm": _gemm, "MatMul": _matmul}.get(
        vertex.kind.removeprefix(PREFIX)
    )
    if reading is None:
        return None
    slots = cast("Sequence[Slot | None]", vertex.attributes["slots"])
    x, weight = slots[0], slots[1]
    if x is None or x.edge is None or weight is None or weight.role is None or weight.scales:
        return None
    order = _order(vertex, weight)
    bias, order = reading(vertex, slots, order) if order is not None else (None, None)
    if order is None:
        return None
    parameter, window = vertex.parameters[weight.role], None
    if vertex.kind == f"{PREFIX}ConvTranspose":
        window = _enlarging(vertex, parameter.shape) if order == tuple(range(len(parameter.shape))) else None
        if window is None:
            return None
        order = (1, 0, *order[2:])
    elif reading is _conv:
        window = _window(vertex, len(order) - _MATRIX)
    return Linear(vertex.name, x.edge, parameter.key, order, bias, window)


def _shift(vertex: Vertex) -> Shift | None:
    """An Add with a constant that is one number for every entry along one axis; `None` for others."""
    if vertex.kind != f"{PREFIX}Add" or len(vertex.inputs) != 1:
        return None
    slots = cast("Sequence[Slot | None]", vertex.attributes["slots"])
    bias = next((slot for slot in slots if slot is not None and slot.role is not None), None)
    if bias is None or bias.role is None:
        return None
    parameter = vertex.parameters[bias.role]
    order = _order(vertex, bias)
    return None if order is None else shift_along(vertex.name, parameter.key, [parameter.shape[one] for one in order])


def _norm(vertex: Vertex) -> Norm | None:
    """A BatchNormalization that uses what it keeps; `None` for others."""
    if vertex.kind != f"{PREFIX}BatchNormalization":
        return None
    settings = cast("Mapping[str, Any]", vertex.attributes["onnx"])
    x, _, _, *kept = cast("Sequence[Slot | None]", vertex.attributes["slots"])
    if x is None or x.edge is None or settings.get("training_mode", 0):
        return None
    keys = [
        vertex.parameters[slot.role].key
        for slot in kept
        if slot is not None and slot.role is not None and _order(vertex, slot) == (0,)
    ]
    epsilon = float(settings.get("epsilon", 1e-5))
    return Norm(vertex.name, x.edge, keys[0], keys[1], epsilon) if len(keys) == _STATISTICS else None


_Found = tuple[str | None, tuple[int, ...] | None]


def _conv(vertex: Vertex, slots: Sequence[Slot | None], order: tuple[int, ...]) -> _Found:
    known, bias = _bias(vertex, slots)
    return (bias, order) if known else (None, None)


def _gemm(vertex: Vertex, slots: Sequence[Slot | None], order: tuple[int, ...]) -> _Found:
    settings = cast("Mapping[str, Any]", vertex.attributes["onnx"])
    known, bias = _bias(vertex, slots)
    plain = settings.get("alpha", 1.0) == 1.0 == settings.get("beta", 1.0) and not settings.get("transA", 0)
    if not plain or not known:
        return None, None
    return bias, order if settings.get("transB", 0) else order[::-1]


def _matmul(_: Vertex, __: Sequence[Slot | None], order: tuple[int, ...]) -> _Found:
    return (None, order[::-1]) if len(order) == _MATRIX else (None, None)


def _bias(vertex: Vertex, slots: Sequence[Slot | None]) -> tuple[bool, str | None]:
    """Whether what is added is one parameter for each output, or nothing; and its key."""
    slot = slots[2] if len(slots) > _MATRIX else None
    if slot is None:
        return True, None
    if slot.role is None or _order(vertex, slot) != (0,):
        return False, None
    return True, vertex.parameters[slot.role].key


def _order(vertex: Vertex, slot: Slot) -> tuple[int, ...] | None:
    """The axes of a parameter in the order in which a node sees them; `None` if it sees axes that are not there."""
    assert slot.role is not None, "only asked of parameters"
    rank = len(vertex.parameters[slot.role].shape)
    order = tuple(range(rank)) if slot.order is None else slot.order
    return None if None in order or len(order) != rank else cast("tuple[int, ...]", order)


def _window(vertex: Vertex, rank: int) -> Window:
    settings = cast("Mapping[str, Any]", vertex.attributes["onnx"])
    ones = (1,) * rank
    both = tuple(settings.get("pads", (0,) * (2 * rank)))
    auto = settings.get("auto_pad", "NOTSET")
    auto = auto.decode() if isinstance(auto, bytes) else auto
    pads: Any = _SAME.get(auto, tuple(zip(both[:rank], both[rank:], strict=True)))
    if auto == "VALID":
        pads = ((0, 0),) * rank
    return Window(tuple(settings.get("strides", ones)), tuple(settings.get("dilations", ones)), cast("Pads", pads))


def _enlarging(vertex: Vertex, shape: tuple[int, ...]) -> Window | None:
    """The window of a ConvTranspose with a weight of this shape, if its output's size depends on nothing else."""
    settings = cast("Mapping[str, Any]", vertex.attributes["onnx"])
    automatic = settings.get("auto_pad", "NOTSET") not in ("NOTSET", b"NOTSET")
    if automatic or "output_shape" in settings or settings.get("group", 1) != 1:
        return None
    rank = len(shape) - _MATRIX
    ones = (1,) * rank
    both = tuple(settings.get("pads", (0,) * (2 * rank)))
    cuts = list(zip(both[:rank], both[rank:], strict=True))
    strides, dilations = settings.get("strides", ones), settings.get("dilations", ones)
    return transposed(shape[_MATRIX:], strides, dilations, cuts, settings.get("output_padding", (0,) * rank))
