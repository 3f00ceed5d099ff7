"""Which operations can be refitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from solver_nas.linear import Linear, Norm, Shift, Window, shift_along, transposed
from solver_nas.torch.op import Slot
from solver_nas.torch.operator import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.graph import Vertex
    from solver_nas.linear import Fittable, Pads

_MATRIX = 2
_STATISTICS = 2  # mean and variance
_CONVOLUTIONS = {f"conv{rank}d": rank for rank in (1, 2, 3)}


def fittable(vertex: Vertex) -> Fittable | None:
    """An operation as something that can be refitted; `None` for others."""
    return _linear(vertex) or _shift(vertex) or _norm(vertex)


def _linear(vertex: Vertex) -> Linear | None:
    """A linear layer, a convolution, or a product with a matrix that is a parameter; `None` for others."""
    operator = vertex.kind.removeprefix(PREFIX)
    arguments = cast("Mapping[str, Any]", vertex.attributes.get("arguments", {}))
    names = _NAMES.get(operator)
    if names is None or arguments.get("transposed"):
        return None
    x, weight, bias = (arguments.get(name) for name in names)
    if not isinstance(x, Slot) or x.edge is None or not isinstance(weight, Slot) or weight.role is None:
        return None
    key, shape = vertex.parameters[weight.role].key, vertex.parameters[weight.role].shape
    order, offset = _order(vertex, weight), None
    if bias is not None:
        if not isinstance(bias, Slot) or bias.role is None or _order(vertex, bias) != (0,):
            return None
        offset = vertex.parameters[bias.role].key
    if order is None or (operator in _PRODUCTS and len(order) != _MATRIX):
        return None
    scales = (arguments.get("alpha", 1), arguments.get("beta", 1))
    if operator in _PRODUCTS:
        if scales != (1, 1):
            return None
        order = order[::-1]
    rank = len(order) - _MATRIX
    if operator in _TRANSPOSED:
        window = _enlarging(arguments, rank, shape) if order == tuple(range(len(shape))) else None
        if window is None or arguments.get("groups", 1) != 1:
            return None
        return Linear(vertex.name, x.edge, key, (1, 0, *order[2:]), offset, window)
    if operator != "linear" and operator not in _PRODUCTS:
        if len(cast("tuple[int, ...]", vertex.attributes["shape"])) != rank + _MATRIX:
            return None
        window = _window(arguments, rank)
    else:
        window = None
    return Linear(vertex.name, x.edge, key, order, offset, window)


_TRANSPOSED = frozenset(f"conv_transpose{rank}d" for rank in (1, 2, 3))
_PRODUCTS = frozenset({"addmm", "mm", "matmul"})
#: Operator -> what its arguments are called: what it reads, the weight, what is added.
_NAMES = {
    "linear": ("input", "weight", "bias"),
    "addmm": ("mat1", "mat2", "self"),
    "mm": ("self", "mat2", ""),
    "matmul": ("self", "other", ""),
    **dict.fromkeys((*_CONVOLUTIONS, *_TRANSPOSED, "convolution", "_convolution"), ("input", "weight", "bias")),
}


def _shift(vertex: Vertex) -> Shift | None:
    """A sum with a parameter that is one number for every entry along one axis; `None` for others."""
    arguments = cast("Mapping[str, Any]", vertex.attributes.get("arguments", {}))
    if vertex.kind != f"{PREFIX}add" or len(vertex.inputs) != 1 or arguments.get("alpha", 1) != 1:
        return None
    slots = [one for one in arguments.values() if isinstance(one, Slot)]
    bias = next((slot for slot in slots if slot.role is not None), None)
    if bias is None or bias.role is None:
        return None
    parameter = vertex.parameters[bias.role]
    order = _order(vertex, bias)
    return None if order is None else shift_along(vertex.name, parameter.key, [parameter.shape[one] for one in order])


_NORMS = frozenset({"batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"})


def _norm(vertex: Vertex) -> Norm | None:
    """A batch normalisation that uses what it keeps; `None` for others."""
    if vertex.kind.removeprefix(PREFIX) not in _NORMS:
        return None
    arguments = cast("Mapping[str, Any]", vertex.attributes.get("arguments", {}))
    x, mean, variance = (arguments.get(name) for name in ("input", "running_mean", "running_var"))
    if not isinstance(x, Slot) or x.edge is None or arguments.get("training", False):
        return None
    keys = [
        vertex.parameters[slot.role].key
        for slot in (mean, variance)
        if isinstance(slot, Slot) and slot.role is not None and _order(vertex, slot) == (0,)
    ]
    epsilon = float(arguments.get("eps", 1e-5))
    return Norm(vertex.name, x.edge, keys[0], keys[1], epsilon) if len(keys) == _STATISTICS else None


def _order(vertex: Vertex, slot: Slot) -> tuple[int, ...] | None:
    """The axes of a parameter in the order in which an operation sees them; `None` if it sees others."""
    assert slot.role is not None, "only asked of parameters"
    rank = len(vertex.parameters[slot.role].shape)
    order = tuple(range(rank)) if slot.order is None else slot.order
    return None if None in order or len(order) != rank else cast("tuple[int, ...]", order)


def _each(arguments: Mapping[str, Any], name: str, usual: int, rank: int) -> tuple[int, ...]:
    """An argument that is one number, or one for each axis."""
    found = arguments.get(name, usual)
    numbers = tuple(found) if isinstance(found, tuple | list) else (found,)
    return numbers * rank if len(numbers) == 1 else numbers


def _window(arguments: Mapping[str, Any], rank: int) -> Window:
    given = arguments.get("padding", 0)
    if given == "same":
        pads: Pads = "upper"
    elif given == "valid":
        pads = ((0, 0),) * rank
    else:
        pads = tuple((one, one) for one in _each(arguments, "padding", 0, rank))
    return Window(_each(arguments, "stride", 1, rank), _each(arguments, "dilation", 1, rank), pads)


def _enlarging(arguments: Mapping[str, Any], rank: int, shape: tuple[int, ...]) -> Window | None:
    """The window of a transposed convolution with a weight of this shape."""
    strides, dilations = _each(arguments, "stride", 1, rank), _each(arguments, "dilation", 1, rank)
    cuts = [(one, one) for one in _each(arguments, "padding", 0, rank)]
    return transposed(shape[-rank:], strides, dilations, cuts, _each(arguments, "output_padding", 0, rank))
