"""What a rule sees of one ONNX node, and how rules for operators are registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from solver_nas.errors import RuleError
from solver_nas.labels import Tensor
from solver_nas.rules import Scope, Takes, changed, rule
from solver_nas.rules.contract import einsum
from solver_nas.rules.primitives import same
from solver_nas.rules.scope import Weight

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from solver_nas.graph import Vertex
    from solver_nas.labels import Shape
    from solver_nas.onnx.facts import Fact
    from solver_nas.rules import Resized

PREFIX = "onnx."
#: The kind of a vertex whose operator has no rule.
OPAQUE = f"{PREFIX}opaque"
#: The kind of a vertex that is computed from the shapes of other tensors alone.
COMPUTED = f"{PREFIX}computed"
#: The kind of a vertex that is a constant which stands beside other tensors.
CONSTANT = f"{PREFIX}constant"


class UnsupportedError(RuleError):
    """An operator is used in a way that its rule does not cover: what it touches is pinned, and this is why."""


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
        parameter = self.scope.vertex.parameters[found.role]
        order = found.order
        if order is None:
            made = self.scope.weight(found.role, view)
        else:
            rank = len(parameter.shape)
            groups: list[Sequence[int]] = [(size,) for size in parameter.shape]
            seen = [(1,) if axis is None else (parameter.shape[axis],) for axis in order] if view is None else view
            for axis, sizes in zip(order, seen, strict=True):
                if axis is not None:
                    groups[axis] = sizes
            starts = [sum(map(len, groups[:axis])) for axis in range(rank)]
            places: list[int | None] = []
            for axis, sizes in zip(order, seen, strict=True):
                places += [None] * len(sizes) if axis is None else range(starts[axis], starts[axis] + len(sizes))
            made = self.scope.weight(found.role, groups, places)
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
        if len(tensor.shape) != len(self.shape):
            raise self.scope.fail(f"its output has the shape {self.shape}, the rule says {tensor.shape}")
        # Sizes along which neurons stand are theirs; they come first where the structure is being changed.
        sizes = {
            axis: size for block in tensor.blocks for axis, size in zip(block.axes, block.neurons.shape, strict=True)
        }
        return Tensor(tuple(sizes.get(axis, size) for axis, size in enumerate(self.shape)), tensor.blocks)


def fitting(slots: Sequence[Slot | None], edges: int) -> tuple[Slot | None, ...]:
    """The slots of a node that has another number of edges now: more of them at the end, or fewer."""
    kept = [slot for slot in slots if slot is None or slot.edge is None or slot.edge < edges]
    known = sum(slot is not None and slot.edge is not None for slot in kept)
    return (*kept, *(Slot(edge=place) for place in range(known, edges)))


class Reading(NamedTuple):
    """What is known about a node when its model is read.

    Args:
        operator: its name.
        attributes: of the node.
        inputs: by slot.
        output: the one that the vertex is.
        opset: version of the operator's domain.
    """

    operator: str
    attributes: Mapping[str, object]
    inputs: tuple[Fact | None, ...]
    output: Fact
    opset: int


Flow = Callable[[Op], Tensor]
Preparing = Callable[[Reading], Mapping[str, object]]
Shaping = Callable[..., "Shape"]
Rewriting = Callable[["Vertex", "Resized"], Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Operator:
    """Everything that the front end knows about one operator.

    Args:
        name: with its domain if that is not the standard one.
        note: what happens to neurons, in a sentence.
        values: which inputs are read as numbers.
        exact: whether dropping neurons equals setting them to zero.
        prepare: what its rule has to know beyond attributes and numbers.
        shape: the output's shape, for an operator that ONNX does not know.
    """

    name: str
    note: str
    values: frozenset[int]
    exact: bool
    prepare: Preparing | None
    shape: Shaping | None


_OPERATORS: dict[str, Operator] = {}


def operators() -> Mapping[str, Operator]:
    """Every operator that has a rule, by name."""
    return dict(sorted(_OPERATORS.items()))


def operator(
    *names: str,
    note: str,
    values: Sequence[int] = (),
    rewrite: Rewriting | None = None,
    prepare: Preparing | None = None,
    shape: Shaping | None = None,
    exact: bool = True,
    buffers: Sequence[str] = (),
    takes: Takes = Takes.FIXED,
) -> Callable[[Flow], Flow]:
    """Register how neurons pass through operators.

    Args:
        names: of the operators; with the domain for others than the standard one: `"my.domain::Scale"`.
        note: what happens to neurons, in a sentence.
        values: which inputs are read as numbers (shapes, axes, positions) and not as tensors.
        rewrite: what has to be rewritten after a change, given the vertex and its sizes: new `onnx` attributes, or
            new `slots` for inputs that are read as numbers. Output shapes follow by themselves.
        prepare: what the rule has to know that only the sizes at the beginning say; it becomes attributes of the
            vertex. It may raise `UnsupportedError`.
        shape: for an operator that ONNX does not know: called with the shapes of the inputs (`None` for one that is
            left out), returns that of the output. Its type is that of the first input.
        exact: whether dropping neurons equals setting them to zero; not so where they are normalised together.
        buffers: inputs, by their names in the operator's definition, that are not learned.
        takes: whether edges to it can be added and removed.

    Raises:
        RuleError: one of them has a rule already.
    """

    def register(flow: Flow) -> Flow:
        for name in names:
            rule(PREFIX + name, rewrite=_rewriting(rewrite), exact=exact, buffers=buffers, takes=takes)(_guarded(flow))
            _OPERATORS[name] = Operator(name, note, frozenset(values), exact, prepare, shape)
        return flow

    return register


def _rewriting(rewrite: Rewriting | None) -> Rewriting:
    def rewritten(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
        shape = resized.outputs[0]
        own = rewrite(vertex, resized) if rewrite is not None else {}
        return {**changed(vertex, shape=shape), **changed(vertex, **own)}

    return rewritten


def _guarded(flow: Flow) -> Callable[[Scope], Tensor]:
    """Pin everything around a node that the rule does not cover."""

    def run(scope: Scope) -> Tensor:
        op = Op(scope)
        refused = (scope.vertex.name, "refused")
        try:
            return op.out(flow(op))
        except UnsupportedError as error:
            return pinned(scope, str(error))
        except RuleError as error:
            # Where nothing has been changed yet, the rule does not know this node; later, the change does not fit.
            if scope.tape.choose(refused, 1):
                return pinned(scope, f"{op.operator}: {error}")
            raise

    return run


def pinned(scope: Scope, why: str) -> Tensor:
    """Keep everything that a vertex touches, for ever."""
    for tensor in scope.inputs:
        scope.pin(tensor, why)
    for role in scope.vertex.parameters:
        scope.freeze(role, why)
    if scope.vertex.parameters:
        scope.tape.report(scope.reason(why))
    return Tensor(cast("Shape", scope.vertex.attributes["shape"]))


@rule(OPAQUE, rewrite=_rewriting(None))
def _opaque(scope: Scope) -> Tensor:
    return pinned(scope, scope.attribute("why", str))


@rule(COMPUTED, rewrite=_rewriting(None))
def _computed(scope: Scope) -> Tensor:
    return Tensor(Op(scope).shape)


@rule(CONSTANT, rewrite=_rewriting(None))
def _constant(scope: Scope) -> Tensor:
    op = Op(scope)
    return op.out(op.tensor(0))


@rule(f"{PREFIX}input", rewrite=_rewriting(None))
def _input(scope: Scope) -> Tensor:
    return Tensor(cast("Shape", scope.vertex.attributes["shape"]))


@rule(f"{PREFIX}output", rewrite=_rewriting(None))
def _output(scope: Scope) -> Tensor:
    (x,) = scope.inputs
    if scope.attribute("free", bool):
        return same(scope, x)
    return scope.pin(x, "what the model returns stays as it is", report=False)


def settings(vertex: Vertex, **new: object) -> dict[str, object]:
    """The ONNX attributes of a vertex with some of them replaced, as a rewrite returns them."""
    before = cast("Mapping[str, object]", vertex.attributes["onnx"])
    return {"onnx": {**before, **new}}


def values(vertex: Vertex, new: Mapping[int, Sequence[int | None]]) -> dict[str, object]:
    """The slots of a vertex with other numbers in some of them, as a rewrite returns them."""
    slots = list(cast("Sequence[Slot | None]", vertex.attributes["slots"]))
    for place, elements in new.items():
        before = slots[place]
        assert before is not None, "only numbers that are given are rewritten"
        assert before.value is not None, "only numbers are rewritten"
        row = tuple(None if one is None else int(one) for one in elements)
        shape = before.value.shape if np.prod(before.value.shape) == len(row) else (len(row),)
        slots[place] = before._replace(value=Value(shape, row))
    return {"slots": tuple(slots)}
