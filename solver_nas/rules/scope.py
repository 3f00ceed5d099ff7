"""What a rule sees of one vertex."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from solver_nas.errors import RuleError
from solver_nas.labels import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.graph import Vertex
    from solver_nas.labels import Block, SourceKey, Tensor
    from solver_nas.rules.tape import Tape

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter as an operand of a primitive.

    Args:
        role: its name in the vertex.
        key: which array it is.
        shape: the shape under which the operation sees it.
        order: for every axis of that shape, which axis of the parameter's view it is; `None` for one of size 1
            that the array does not have. By default they are the same.
        companions: parameters that accompany some of its axes, as the scales of a quantised weight do; each
            with the axes of `shape` that its own axes stand for.
    """

    role: str
    key: str
    shape: tuple[int, ...]
    order: tuple[int | None, ...] | None = None
    companions: tuple[tuple[Weight, tuple[int, ...]], ...] = ()

    def place(self, axis: int) -> int | None:
        """Which axis of the parameter's view an axis is."""
        return axis if self.order is None else self.order[axis]


class Scope:
    """One vertex while its rule runs: its inputs, its attributes, and the tape."""

    def __init__(self, vertex: Vertex, inputs: tuple[Tensor, ...], tape: Tape) -> None:
        """Open the scope of one vertex."""
        self.vertex = vertex
        self.inputs = inputs
        self.tape = tape
        self._serial = 0
        self._spoken: set[int] = set()
        self._weights: set[str] = set()

    def attribute(self, name: str, kind: type[T]) -> T:
        """An attribute of the vertex, checked.

        Raises:
            RuleError: it is missing or of another type.
        """
        value = self.vertex.attributes.get(name)
        if not isinstance(value, kind):
            raise RuleError(
                f"vertex {self.vertex.name!r} ({self.vertex.kind}): attribute {name!r} is {value!r}, "
                f"it should be of type {kind.__name__}"
            )
        return value

    def integers(self, name: str) -> tuple[int, ...]:
        """An attribute that is a tuple of integers."""
        return tuple(int(value) for value in self.attribute(name, tuple))

    def reason(self, rule: str) -> Reason:
        """A reason with this vertex's name on it."""
        return Reason(self.vertex.name, rule)

    def key(self, tag: str) -> SourceKey:
        """A name for the next labels that this rule makes, the same in every pass."""
        self._serial += 1
        return (self.vertex.name, tag, self._serial)

    def fail(self, message: str) -> RuleError:
        """An error that names this vertex; to be raised by the caller."""
        return RuleError(f"vertex {self.vertex.name!r} ({self.vertex.kind}): {message}")

    def has(self, role: str) -> bool:
        """Whether the vertex owns a parameter in this role."""
        return role in self.vertex.parameters

    def weight(
        self,
        role: str,
        view: Sequence[Sequence[int]] | None = None,
        order: Sequence[int | None] | None = None,
    ) -> Weight:
        """A parameter of this vertex as an operand.

        Args:
            role: its name in the vertex.
            view: for every storage axis, the sizes that it is seen as; by default as it is stored.
                `((8, 4), (16,))` sees an array of shape (32, 16) as (8, 4, 16).
            order: the axes of that view in the order in which the operation has them, where this is another one;
                `None` for an axis of size 1 that the array does not have.
        """
        parameter = self.vertex.parameters[role]
        groups = [(size,) for size in parameter.shape] if view is None else [tuple(sizes) for sizes in view]
        shape = tuple(size for sizes in groups for size in sizes)
        storage: list[tuple[int, ...]] = []
        for sizes in groups:
            start = sum(map(len, storage))
            storage.append(tuple(range(start, start + len(sizes))))
        products = []
        for sizes in groups:
            product = 1
            for size in sizes:
                product *= size
            products.append(product)
        if tuple(products) != parameter.shape:
            raise self.fail(f"parameter {role!r} has shape {parameter.shape}, it cannot be seen as {groups}")
        self.tape.parameter(parameter.key, shape, tuple(storage), self.reason(f"parameter {role!r}"))
        self._weights.add(role)
        if order is None:
            return Weight(role, parameter.key, shape)
        for axis in set(range(len(shape))).difference(order):
            self.tape.fix(parameter.key, axis, self.reason(f"parameter {role!r}"))
        seen = tuple(1 if axis is None else shape[axis] for axis in order)
        return Weight(role, parameter.key, seen, tuple(order))

    def seen(
        self, role: str, order: Sequence[int | None] | None, view: Sequence[Sequence[int]] | None = None
    ) -> Weight:
        """A parameter as an operand that sees its axes in another order.

        Args:
            role: its name in the vertex.
            order: for every axis that the operation sees, which one of the array it is; `None` for one of size 1
                that the array does not have.
            view: for every axis that the operation sees, the sizes that it is seen as.
        """
        if order is None:
            return self.weight(role, view)
        shape = self.vertex.parameters[role].shape
        groups: list[Sequence[int]] = [(size,) for size in shape]
        seen = [(1,) if axis is None else (shape[axis],) for axis in order] if view is None else view
        for axis, sizes in zip(order, seen, strict=True):
            if axis is not None:
                groups[axis] = sizes
        starts = [sum(map(len, groups[:axis])) for axis in range(len(shape))]
        places: list[int | None] = []
        for axis, sizes in zip(order, seen, strict=True):
            places += [None] * len(sizes) if axis is None else range(starts[axis], starts[axis] + len(sizes))
        return self.weight(role, groups, places)

    def freeze(self, role: str, why: str) -> None:
        """Keep a parameter as it is for ever."""
        parameter = self.vertex.parameters[role]
        self.tape.freeze(parameter.key, parameter.shape, self.reason(why))
        self._weights.add(role)

    def speak(self, tensor: Tensor) -> None:
        """Note that a primitive has dealt with every axis of this tensor."""
        self._spoken.update(id(block) for block in tensor.blocks)

    def pin(self, tensor: Tensor, why: str, *, report: bool = True) -> Tensor:
        """Keep every neuron of a tensor for ever, and say why; the tensor without blocks."""
        from solver_nas.labels import Tensor as Value

        self.speak(tensor)
        for block in tensor.blocks:
            self.pin_block(block, why, report=report)
        return Value(tensor.shape)

    def pin_block(self, block: Block, why: str, *, report: bool = True) -> None:
        """Keep every neuron of a block for ever."""
        for level in block.levels:
            self.tape.pin(level, self.reason(why))
        if report:
            self.tape.report(self.reason(why))

    def silent(self) -> list[str]:
        """What the rule has not spoken of, in words."""
        gaps = [
            f"axis {axis} of input {slot}"
            for slot, tensor in enumerate(self.inputs)
            for block in tensor.blocks
            if id(block) not in self._spoken
            for axis in block.axes
        ]
        return gaps + [f"parameter {role!r}" for role in self.vertex.parameters if role not in self._weights]
