"""How nodes see constants: turned, and with more or fewer axes of size 1; and the arrays behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from onnx import TensorProto

from solver_nas.onnx.facts import Facts, Source

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from solver_nas.labels import Shape
    from solver_nas.onnx.flatten import Step


#: Operators behind which a constant is still the same array, seen in another way.
_VIEWS = frozenset({"Identity", "Transpose", "Unsqueeze", "Squeeze", "Reshape", "Flatten"})
#: Types between which a Cast changes no more than the precision.
REAL = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})


class View(NamedTuple):
    """A constant as a node sees it.

    Args:
        key: the value that holds the array.
        order: as in `Slot`.
        scales: further constants that it is multiplied with, and the axis of the array that they go along.
        twin: whether it is no view, but computed from the same constants in the same way as `key`.
    """

    key: str
    order: tuple[int | None, ...] | None
    scales: tuple[tuple[str, int], ...] = ()
    twin: bool = False


class Views:
    """Finds the array behind a constant."""

    def __init__(self, maker: Mapping[str, Step], facts: Facts) -> None:
        """Take who makes which value, and what is known of values."""
        self._maker, self._facts = maker, facts
        self.known: dict[str, View] = {}
        self._computed: dict[Hashable, str] = {}

    def of(self, name: str) -> View:
        """Walk back from a constant to the array that it is a view of."""
        if name not in self.known:
            self.known[name] = self._walk(name)
        return self.known[name]

    def _walk(self, name: str) -> View:
        step, fact = self._maker.get(name), self._facts[name]
        rank = len(fact.shape or ())
        plain = View(name, None)
        if step is None or step.node is None or fact.source is not Source.CONSTANT or not step.inputs:
            return plain
        return self._seen(step, rank) or self._twin(step, name)

    def _seen(self, step: Step, rank: int) -> View | None:
        """What a node makes of a constant, if it is a mere view of it."""
        source, fact = self._facts[step.inputs[0]], self._facts[step.outputs[0]]
        if source.shape is None or None in source.shape:
            return None
        if step.operator == "DequantizeLinear" and not step.attributes.get("block_size"):
            return self._dequantised(step, rank)
        floating = step.operator == "Cast" and {source.dtype, fact.dtype} <= REAL
        if step.operator not in _VIEWS and not floating:
            return None
        moved = _moved(step, source.shape, fact.shape or ())
        if moved is None:
            return None
        inner = self.of(step.inputs[0])
        before = inner.order if inner.order is not None else tuple(range(len(source.shape)))
        order = tuple(None if axis is None else before[axis] for axis in moved)
        same = order == tuple(range(len(self._facts[inner.key].shape or ())))
        return View(inner.key, None if same else order, inner.scales)

    def _twin(self, step: Step, name: str) -> View:
        """The first constant that is computed from the same weights in the same way, as in the branches of an If."""
        read = [self._facts[one] if one else None for one in step.inputs]
        if step.bodies or not any(fact is not None and fact.dtype in REAL for fact in read):
            return View(name, None)
        signature = (
            step.operator,
            tuple(self._identity(one) for one in step.inputs),
            tuple(sorted((key, repr(value)) for key, value in step.attributes.items())),
            step.outputs.index(name),
            self._facts[name].dtype,
        )
        first = self._computed.setdefault(signature, name)
        return View(first, None, twin=first != name)

    def _identity(self, name: str) -> Hashable:
        """What tells constants apart: where weights come from, the numbers of what says how they are taken."""
        number = self._facts[name].constant if name else None
        if number is not None and number.dtype.kind in "iub":
            return number.dtype.str, number.shape, number.tobytes()
        return (self.of(name)._replace(twin=False), self._types(name)) if name else ""

    def _types(self, name: str) -> tuple[int, ...]:
        """The types that a constant has had on its way: what has been rounded is another one."""
        step, own = self._maker.get(name), (self._facts[name].dtype,)
        if step is None or not step.inputs or step.operator not in _VIEWS | {"Cast"}:
            return own
        before = self._types(step.inputs[0])
        return before if before[-1:] == own else (*before, *own)

    def _dequantised(self, step: Step, rank: int) -> View:
        inner = self.of(step.inputs[0])
        if inner.scales:
            return View(step.outputs[0], None)
        axis = int(str(step.attributes.get("axis", 1)))
        seen = axis % rank if rank else 0
        place = seen if inner.order is None else inner.order[seen]
        scales = [(self.of(name).key, place or 0) for name in step.inputs[1:3] if name]
        return View(inner.key, inner.order, tuple(scales))


def _moved(step: Step, before: Shape, after: Shape) -> tuple[int | None, ...] | None:
    """For every axis after a view, which axis it was, `None` for a new one of size 1; `None` for no mere view."""
    if step.operator in ("Identity", "Cast"):
        return tuple(range(len(before)))
    if step.operator == "Transpose":
        perm = step.attributes.get("perm")
        return tuple(reversed(range(len(before)))) if perm is None else tuple(int(axis) for axis in perm)  # type: ignore[attr-defined] # a list of integers
    # What is left adds and takes away axes of size 1.
    large = [axis for axis, size in enumerate(before) if size != 1]
    if [before[axis] for axis in large] != [size for size in after if size != 1]:
        return None
    places = iter(large)
    return tuple(None if size == 1 else next(places) for size in after)
