"""What a rule sees of one PyTorch operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from solver_nas.labels import Measure, Tensor
from solver_nas.rules.contract import einsum
from solver_nas.rules.guarding import UnsupportedError, shaped
from solver_nas.rules.primitives import held, whole
from solver_nas.rules.reshape import split_axis
from solver_nas.rules.scope import Weight

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    from solver_nas.labels import Neurons, Origin, Shape
    from solver_nas.rules import Scope


class Value(NamedTuple):
    """A small tensor of whole numbers that does not depend on what the module is given: positions, masks.

    Args:
        shape: its shape.
        elements: in row-major order.
        buffer: the buffer that holds it, if one does.
    """

    shape: tuple[int, ...]
    elements: tuple[int, ...]
    buffer: str | None = None

    @property
    def array(self) -> NDArray[np.int64]:
        """The numbers as an array."""
        return np.array(self.elements, np.int64).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a tensor among the arguments comes from.

    Args:
        edge: which input of the vertex it is.
        role: which parameter it is.
        order: how the operation sees that parameter: its axes in their order, `None` for one of size 1 that it lacks.
        value: the numbers that it holds, where they are known.
        shape: of a tensor that says nothing about neurons and of which nothing else is known.
    """

    edge: int | None = None
    role: str | None = None
    order: tuple[int | None, ...] | None = None
    value: Value | None = None
    shape: tuple[int, ...] = ()


#: An argument: a tensor, several, or anything else that is written down.
Argument = object


class Op:
    """One operation while its rule runs; arguments go by the names in PyTorch's own schema of the operator."""

    def __init__(self, scope: Scope) -> None:
        """Look at a vertex as an operation of PyTorch."""
        self.scope = scope
        self._arguments = cast("Mapping[str, Argument]", scope.vertex.attributes["arguments"])
        self._origins = cast("Mapping[Hashable, Origin | None]", scope.vertex.attributes.get("origins", {}))
        self._measured: set[Hashable] = set()

    @property
    def operator(self) -> str:
        """The operator's name."""
        return self.scope.attribute("operator", str)

    @property
    def output(self) -> int:
        """Which of the operation's results this vertex is."""
        return self.scope.attribute("output", int)

    @property
    def primary(self) -> bool:
        """Whether this is the first vertex of its operation: the one whose work is counted."""
        return self.scope.attribute("primary", bool)

    @property
    def shape(self) -> Shape:
        """Shape of that result."""
        return cast("Shape", self.scope.vertex.attributes["shape"])

    @property
    def first(self) -> str:
        """The name of the first argument."""
        return next(iter(self._arguments))

    @property
    def x(self) -> Tensor:
        """The first argument as a tensor."""
        return self.tensor(self.first)

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the arguments that are tensors."""
        return tuple(name for name, value in self._arguments.items() if isinstance(value, Slot))

    def unsupported(self, why: str) -> UnsupportedError:
        """That the rule does not cover this; to be raised."""
        return UnsupportedError(f"{self.operator}: {why}")

    # -- arguments that are written down -----------------------------------------------------------

    def argument(self, name: str, default: Argument = None) -> Argument:
        """An argument as it is; the default if it is missing."""
        return self._arguments.get(name, default)

    def integer(self, name: str, default: int = 0) -> int:
        """An argument that is a whole number."""
        found = self._arguments.get(name)
        return default if found is None else int(cast("int", found))

    def flag(self, name: str, *, default: bool = False) -> bool:
        """An argument that says yes or no."""
        found = self._arguments.get(name)
        return default if found is None else bool(found)

    def integers(self, name: str) -> tuple[int, ...] | None:
        """An argument that is a list of whole numbers, or one alone; `None` if it is not given."""
        found = self._arguments.get(name)
        if found is None:
            return None
        if isinstance(found, int):
            return (found,)
        return tuple(int(one) for one in cast("Sequence[int]", found))

    # -- arguments that are tensors ----------------------------------------------------------------

    def slot(self, name: str, place: int | None = None) -> Slot | None:
        """Where a tensor comes from; `None` if it is not given.

        Args:
            name: of the argument.
            place: which one, where it is a list of tensors.
        """
        found = self._arguments.get(name)
        if place is not None:
            listed = cast("Sequence[Argument]", found)
            found = listed[place] if isinstance(found, tuple) and place < len(listed) else None
        return found if isinstance(found, Slot) else None

    def count(self, name: str) -> int:
        """How many tensors a list has."""
        found = self._arguments.get(name)
        return len(found) if isinstance(found, tuple) else 0

    def has(self, name: str, place: int | None = None) -> bool:
        """Whether a tensor is given."""
        return self.slot(name, place) is not None

    def value(self, name: str, place: int | None = None) -> Value | None:
        """The numbers that a tensor holds, where they are known beforehand."""
        found = self.slot(name, place)
        return None if found is None else found.value

    def edge(self, name: str, place: int | None = None) -> Tensor | None:
        """A tensor that another vertex computes, if it is one."""
        found = self.slot(name, place)
        return None if found is None or found.edge is None else self.scope.inputs[found.edge]

    def sizes(self, name: str, place: int | None = None) -> Shape:
        """The shape of a tensor, wherever it comes from."""
        found = self.slot(name, place)
        assert found is not None, "only asked for tensors that are given"
        if found.edge is not None:
            return self.scope.inputs[found.edge].shape
        if found.value is not None:
            return found.value.shape
        if found.role is None:
            return found.shape
        shape = self.scope.vertex.parameters[found.role].shape
        return shape if found.order is None else tuple(1 if axis is None else shape[axis] for axis in found.order)

    def operand(self, name: str, place: int | None = None) -> Tensor | Weight:
        """A tensor, or the parameter that stands there."""
        found = self.slot(name, place)
        assert found is not None, f"there is no tensor {name!r}; tensors are {', '.join(map(repr, self.given))}"
        if found.edge is not None:
            return self.scope.inputs[found.edge]
        if found.role is not None:
            return self.weight(name, place=place)
        if name == "weight":
            self.scope.tape.report(
                self.scope.reason("its weight is no parameter of the module, so that it stays: register it")
            )
        return Tensor(self.sizes(name, place))

    def tensor(self, name: str, place: int | None = None, *, trails: bool = False) -> Tensor:
        """A tensor; a parameter with new neurons along all of its axes. A buffer is not learned: it stays as it is.

        Args:
            name: which argument.
            place: which one, where it is a list.
            trails: whether entries of a buffer follow the neurons that they meet instead, if they meet some.
        """
        operand = self.operand(name, place)
        if isinstance(operand, Tensor):
            return operand
        if self.buffered(name, place) and not trails:
            self.scope.freeze(operand.role, "a buffer stays as it is")
            return Tensor(operand.shape)
        letters = "abcdefghijklmnop"[: len(operand.shape)]
        made = einsum(self.scope, f"{letters}->{letters}", operand, repeats=None)
        if self.buffered(name, place):
            for block in made.blocks:
                self.scope.tape.trail(block.neurons, self.scope.reason("this buffer meets no neurons"))
        return made

    def buffered(self, name: str, place: int | None = None) -> bool:
        """Whether a tensor is a buffer, which is not learned."""
        found = self.slot(name, place)
        buffers = cast("frozenset[str]", self.scope.vertex.attributes["buffers"])
        return found is not None and found.role in buffers

    def tensors(self, name: str) -> list[Tensor]:
        """All tensors of a list."""
        return [self.tensor(name, place) for place in range(self.count(name))]

    def weight(self, name: str, view: Sequence[Sequence[int]] | None = None, place: int | None = None) -> Weight:
        """The parameter that is an argument.

        Args:
            name: which argument.
            view: for every axis that the operation sees, the sizes that it is seen as.
            place: which one, where it is a list.

        Raises:
            UnsupportedError: it is computed.
        """
        found = self.slot(name, place)
        if found is None or found.role is None:
            raise self.unsupported(f"{name!r} has to be a parameter here")
        return self.scope.seen(found.role, found.order, view)

    def viewed(self, name: str, view: Sequence[Sequence[int]] | None) -> Tensor | Weight:
        """A tensor or parameter of which every axis is seen as these sizes."""
        if view is None:
            return self.operand(name)
        tensor = self.edge(name)
        if tensor is None:
            return self.weight(name, view)
        for axis in reversed(range(len(view))):
            if len(view[axis]) > 1:
                tensor = split_axis(self.scope, tensor, axis, view[axis])
        return tensor

    def hold(self, name: str, why: str, place: int | None = None) -> None:
        """Keep a tensor that says nothing about neurons as it is, whether it is computed or a parameter."""
        found = self.slot(name, place)
        if found is None:
            return
        if found.edge is not None:
            self.scope.pin(self.scope.inputs[found.edge], why, report=False)
        elif found.role is not None:
            self.scope.freeze(found.role, why)

    def extra(self, name: str) -> object:
        """What was prepared for this vertex when the module was read."""
        return self.scope.vertex.attributes[name]

    def heads(self, tensor: Tensor) -> Tensor:
        """A factor of attention: rows of a rectangle that go or stay with all of their cells, if that was asked for."""
        for block in tensor.blocks if self.scope.vertex.attributes.get("whole heads", True) else ():
            if len(block.axes) > 1:
                held(self.scope, tensor, block.axes[-1], "heads go or stay as a whole")
        return tensor

    # -- numbers that say how many neurons there are -------------------------------------------------

    def sized(self, argument: str, place: int, tensor: Tensor, axis: int) -> Tensor:
        """Note that a number among the arguments is the size of an axis; one that is written down keeps it.

        Args:
            argument: its name.
            place: which number of a list.
            tensor: whose axis it is.
            axis: which one.
        """
        if tensor.block_of(axis) is None and not self._varies(argument, place):
            return tensor
        block = tensor.block_of(axis)
        if block is not None and block.axes == (axis,) and self.literal(argument, place):
            self._measured.add((argument, place))
            return whole(self.scope, tensor, [axis], self.written(argument, place))
        if block is None:
            self._measure(argument, place, tensor.shape[axis] or 1, (), ())
        else:
            depth = block.axes.index(axis)
            self._measure(argument, place, 1, (block.levels[depth],), (block.levels[depth - 1],) if depth else ())
        return tensor

    def counted(self, argument: str, place: int, neurons: Neurons, rows: Neurons | None = None, times: int = 1) -> None:
        """Note that a number among the arguments says how many neurons there are.

        Args:
            argument: its name.
            place: which number of a list.
            neurons: those.
            rows: rows of which each has so many; by default, it says how many there are in all.
            times: how often each counts.
        """
        self._measure(argument, place, times, (neurons,), () if rows is None else (rows,))

    def literal(self, argument: str, place: int) -> bool:
        """Whether a number is written down, so that it stays what it is."""
        return self._number(argument, place) != -1 and not self._varies(argument, place)

    def _varies(self, argument: str, place: int) -> bool:
        return self._origins.get((argument, place)) is not None

    def _number(self, argument: str, place: int) -> object:
        known = self._arguments.get(argument)
        return known[place] if isinstance(known, tuple) else known

    def written(self, argument: str, place: int) -> str:
        """Why a number cannot change, in words."""
        code = self.scope.vertex.attributes.get("code") or self.operator
        return f"the size {self._number(argument, place)} is written down in the code ({code})"

    def _measure(
        self, argument: str, place: int, times: int, over: tuple[Neurons, ...], under: tuple[Neurons, ...]
    ) -> None:
        if self._number(argument, place) == -1:
            self._measured.add((argument, place))
            return
        origin = self._origins.get((argument, place))
        why = f"{self.operator}: the code computes this size" if origin else self.written(argument, place)
        self._measured.add((argument, place))
        self.scope.tape.measure(Measure(self.scope.reason(why), (argument, place), times, over, under, origin))

    def settle(self) -> None:
        """Note that numbers which the rule has not called sizes stay what they are, although the code computes them."""
        for key in self._origins.keys() - self._measured:
            argument, place = cast("tuple[str, int]", key)
            number = cast("int", self._number(argument, place))
            if number >= 0:
                self._measure(argument, place, number, (), ())

    def out(self, tensor: Tensor) -> Tensor:
        """The result, with the shape that is known for it."""
        return shaped(self.scope, tensor, self.shape)
