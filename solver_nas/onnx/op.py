"""What a rule sees of one ONNX node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from solver_nas.labels import Tensor
from solver_nas.rules.contract import einsum
from solver_nas.rules.guarding import UnsupportedError, shaped
from solver_nas.rules.scope import Weight

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from solver_nas.labels import Shape
    from solver_nas.rules import Scope


class Value(NamedTuple):
    """A small input that a node reads as numbers: a shape, positions, axes.

    Args:
        shape: of the input.
        elements: in row-major order; `None` for one that depends on sizes that the model leaves open.
    """

    shape: tuple[int, ...]
    elements: tuple[int | float | bool | None, ...]

    @property
    def array(self) -> NDArray[np.generic]:
        """The numbers as an array."""
        return np.array(self.elements).reshape(self.shape)


class Slot(NamedTuple):
    """Where an input of a node comes from.

    Args:
        edge: which input of the vertex it is.
        role: which parameter it is.
        order: how the node sees that parameter: its axes in their order, `None` for one of size 1 that it lacks.
        value: the numbers that it is read as.
        scales: roles of the parameters that a quantised weight is multiplied with, and which axis they go along.
    """

    edge: int | None = None
    role: str | None = None
    order: tuple[int | None, ...] | None = None
    value: Value | None = None
    scales: tuple[tuple[str, int], ...] = ()


class Op:
    """One node while its rule runs."""

    def __init__(self, scope: Scope) -> None:
        """Look at a vertex as an ONNX node."""
        self.scope = scope
        self._settings = cast("Mapping[str, object]", scope.vertex.attributes["onnx"])
        slots = cast("Sequence[Slot | None]", scope.vertex.attributes["slots"])
        self._slots = fitting(slots, len(scope.inputs))

    @property
    def operator(self) -> str:
        """The operator's name."""
        return self.scope.attribute("operator", str)

    @property
    def opset(self) -> int:
        """The version of its domain."""
        return self.scope.attribute("opset", int)

    @property
    def output(self) -> int:
        """Which of the node's outputs this vertex is."""
        return self.scope.attribute("output", int)

    @property
    def primary(self) -> bool:
        """Whether this is the first vertex of its node: the one whose work is counted."""
        return self.scope.attribute("primary", bool)

    @property
    def shape(self) -> Shape:
        """Shape of that output."""
        return cast("Shape", self.scope.vertex.attributes["shape"])

    @property
    def count(self) -> int:
        """How many inputs the node has, left out ones included."""
        return len(self._slots)

    def unsupported(self, why: str) -> UnsupportedError:
        """That the rule does not cover this; to be raised."""
        return UnsupportedError(f"{self.operator}: {why}")

    def integer(self, name: str, default: int) -> int:
        """An attribute that is an integer."""
        return int(cast("int", self._settings.get(name, default)))

    def integers(self, name: str) -> tuple[int, ...] | None:
        """An attribute that is a list of integers; `None` if it is not there."""
        found = self._settings.get(name)
        return None if found is None else tuple(int(one) for one in cast("Sequence[int]", found))

    def text(self, name: str, default: str) -> str:
        """An attribute that is a string."""
        return str(self._settings.get(name, default))

    def has(self, slot: int) -> bool:
        """Whether an input is given."""
        return slot < len(self._slots) and self._slots[slot] is not None

    def value(self, slot: int) -> Value | None:
        """An input that is read as numbers, if it is given."""
        found = self._slots[slot] if slot < len(self._slots) else None
        return None if found is None else found.value

    def numbers(self, slot: int, name: str = "") -> tuple[int, ...] | None:
        """Integers that are an input in newer versions and an attribute in older ones; `None` for neither.

        Raises:
            UnsupportedError: some of them depend on sizes that the model leaves open, or on data.
        """
        found = self._slots[slot] if 0 <= slot < len(self._slots) else None
        if found is None:
            return self.integers(name) if name else None
        if found.value is None or None in found.value.elements:
            raise self.unsupported(f"input {slot} ({name or 'numbers'}) is not known beforehand")
        return tuple(int(cast("int", one)) for one in found.value.elements)

    def edge(self, slot: int) -> Tensor | None:
        """An input that another vertex computes, if it is one."""
        found = self._slots[slot] if slot < len(self._slots) else None
        return None if found is None or found.edge is None else self.scope.inputs[found.edge]

    def tensor(self, slot: int) -> Tensor:
        """An input as a tensor; a parameter with new neurons along all of its axes."""
        operand = self.operand(slot)
        if isinstance(operand, Tensor):
            return operand
        letters = "abcdefghijklmnop"[: len(operand.shape)]
        return einsum(self.scope, f"{letters}->{letters}", operand, repeats=None)

    def operand(self, slot: int) -> Tensor | Weight:
        """An input, or the parameter that stands there."""
        found = self._slots[slot]
        assert found is not None, "only asked for inputs that are given"
        if found.edge is not None:
            return self.scope.inputs[found.edge]
        return self.weight(slot)

    def weight(self, slot: int, view: Sequence[Sequence[int]] | None = None) -> Weight:
        """The parameter that is an input.

        Args:
            slot: which input.
            view: for every axis that the node sees, the sizes that it is seen as.

        Raises:
            UnsupportedError: the input is computed.
        """
        found = self._slots[slot]
        if found is None or found.role is None:
            raise self.unsupported(f"input {slot} has to be a constant here")
        made = self.scope.seen(found.role, found.order, view)
        return self._scaled(made, found, view)

    def freeze(self, slot: int, why: str) -> None:
        """Keep the parameter that is an input as it is for ever."""
        found = self._slots[slot]
        if found is not None and found.role is not None:
            self.scope.freeze(found.role, why)

    def hold(self, slot: int, why: str) -> None:
        """Keep an input that says nothing about neurons as it is, whether it is computed or a parameter."""
        edge = self.edge(slot)
        if edge is not None:
            self.scope.pin(edge, why, report=False)
        elif self.has(slot):
            self.freeze(slot, why)

    def _scaled(self, weight: Weight, slot: Slot, view: Sequence[Sequence[int]] | None) -> Weight:
        """The same weight with the scales that accompany it."""
        companions = []
        for role, axis in slot.scales:
            shape = self.scope.vertex.parameters[role].shape
            seen = axis if slot.order is None else slot.order.index(axis)
            if not shape or view is None:
                companions.append((self.scope.weight(role), (seen,) * len(shape)))
                continue
            start = sum(map(len, view[:seen]))
            sizes = view[seen]
            companions.append((self.scope.weight(role, [sizes]), tuple(range(start, start + len(sizes)))))
        if not companions:
            return weight
        return Weight(weight.role, weight.key, weight.shape, weight.order, tuple(companions))

    def sizes(self, slot: int) -> Shape:
        """The shape of an input, whatever it is."""
        found = self._slots[slot]
        assert found is not None, "only asked for inputs that are given"
        if found.edge is not None:
            return self.scope.inputs[found.edge].shape
        if found.value is not None:
            return found.value.shape
        assert found.role is not None, "an input is an edge, numbers or a parameter"
        shape = self.scope.vertex.parameters[found.role].shape
        return shape if found.order is None else tuple(1 if axis is None else shape[axis] for axis in found.order)

    def extra(self, name: str) -> object:
        """What was prepared for this vertex when the model was read."""
        return self.scope.vertex.attributes[name]

    def out(self, tensor: Tensor) -> Tensor:
        """The output, with the shape that is known for it."""
        return shaped(self.scope, tensor, self.shape)


def fitting(slots: Sequence[Slot | None], edges: int) -> tuple[Slot | None, ...]:
    """The slots of a node that has another number of edges now: more of them at the end, or fewer."""
    kept = [slot for slot in slots if slot is None or slot.edge is None or slot.edge < edges]
    known = sum(slot is not None and slot.edge is not None for slot in kept)
    return (*kept, *(Slot(edge=place) for place in range(known, edges)))
