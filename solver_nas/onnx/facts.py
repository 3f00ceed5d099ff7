"""What is known about every value of an ONNX model without its weights: shapes, and the numbers they are made of.

Sizes that the model leaves open are tried out with two sets of numbers. What comes out alike in both does not depend
on them. Shapes are those that ONNX's own shape inference finds, operator by operator; numbers (of shapes, of
positions) are computed with ONNX's reference implementation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from solver_nas.errors import StoreError
from solver_nas.onnx.inference import SHAPES, compute, infer, opset_of, schema_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from solver_nas.labels import Shape
    from solver_nas.onnx.flatten import Step
    from solver_nas.onnx.inference import Context

Array = NDArray[Any]
Trial = tuple[int, ...]

TRIALS = 2  # sets of sizes for what is open


class Source(Enum):
    """What a value depends on."""

    CONSTANT = "constants"
    SHAPE = "constants and the shapes of what the model is given"
    DATA = "what the model is given"


class Seen(NamedTuple):
    """What a value is for one set of trial sizes.

    Args:
        shape: `None` for an unknown rank; `None` in it for a size that depends on data.
        number: the value itself if it is small and does not depend on data.
        impossible: whether the branch that it stands in cannot be taken with these sizes.
    """

    shape: Shape | None
    number: Array | None
    impossible: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Fact:
    """What is known about a value.

    Args:
        dtype: ONNX's number of its type; 0 if it is not known.
        source: what it depends on.
        seen: one entry for each set of trial sizes: two for the sizes that the model leaves open, and where the
            caller has given sizes, two more for those that are open still; a single one that holds for all of them.
    """

    dtype: int
    source: Source
    seen: tuple[Seen, ...]

    def at(self, trial: int) -> Seen:
        """What the value is for one set of trial sizes."""
        return self.seen[trial % len(self.seen)]

    @property
    def shape(self) -> Shape | None:
        """The sizes that hold whatever the model is given; where nothing is known, those for the caller's sizes."""
        found = _common(self.at(0).shape, self.at(1).shape)
        return self.sized if found is None else found

    @property
    def sized(self) -> Shape | None:
        """The sizes for the input sizes that the caller has given."""
        return _common(self.at(2).shape, self.at(3).shape)

    @property
    def numbers(self) -> tuple[object, ...] | None:
        """The elements of a small value, `None` for those that depend on open sizes; `None` if nothing is known."""
        for first, other in self._pairs():
            if first is not None and other is not None and first.shape == other.shape:
                pairs = zip(first.reshape(-1).tolist(), other.reshape(-1).tolist(), strict=True)
                return tuple(one if _same(one, two) else None for one, two in pairs)
        return None

    @property
    def number(self) -> Array | None:
        """The value for the first set of trial sizes for which it is known."""
        return next((first for first, other in self._pairs() if first is not None and other is not None), None)

    @property
    def constant(self) -> Array | None:
        """The value, if it is small and the same whatever the model is given."""
        for first, other in self._pairs():
            if first is not None and other is not None:
                return first if np.array_equal(first, other, equal_nan=first.dtype.kind in "fc") else None
        return None

    def _pairs(self) -> tuple[tuple[Array | None, Array | None], ...]:
        return (self.at(0).number, self.at(1).number), (self.at(2).number, self.at(3).number)


def _common(one: Shape | None, other: Shape | None) -> Shape | None:
    if one is None or other is None or len(one) != len(other):
        return None
    return tuple(size if size == two else None for size, two in zip(one, other, strict=True))


def _same(one: object, other: object) -> bool:
    return one == other or (one != one and other != other)


class Facts:
    """The facts about all values, found step by step."""

    def __init__(
        self,
        context: Context,
        constants: Mapping[str, Fact],
        inputs: Mapping[str, Fact],
    ) -> None:
        """Start with what is given."""
        self.context = context
        self.known: dict[str, Fact] = {**constants, **inputs}
        self._trials = range(max((len(fact.seen) for fact in inputs.values()), default=1))

    def __getitem__(self, name: str) -> Fact:
        """What is known about a value."""
        return self.known[name]

    def learn(self, step: Step) -> None:
        """Find out about the outputs of one more step.

        Raises:
            StoreError: the operation cannot take what it gets.
        """
        if step.node is None or step.bodies:
            self._learn_flow(step)
            return
        given = [self.known[name] if name else None for name in step.inputs]
        source = _source(self.context, step, given)
        # What does not depend on open sizes is the same for all of them.
        trials = self._trials if any(fact is not None and len(fact.seen) > 1 for fact in given) else range(1)
        found = [self._tried(step, step.node, given, source, trial) for trial in trials]
        for name, local in zip(step.outputs, step.node.output, strict=True):
            if name:
                dtype = next((one[local][0] for one in found if one[local][0]), 0)
                self.known[name] = Fact(dtype, source, tuple(one[local][1] for one in found))

    def _tried(
        self, step: Step, node: NodeProto, given: Sequence[Fact | None], source: Source, trial: int
    ) -> dict[str, tuple[int, Seen]]:
        """Type and value of every output for one set of trial sizes."""
        nothing = {name: (0, Seen(None, None, impossible=True)) for name in node.output}
        if any(fact is not None and fact.at(trial).impossible for fact in given):
            return nothing
        try:
            types = infer(self.context, step, given, trial)
        except StoreError:
            if step.guarded:
                return nothing
            raise
        numbers = compute(self.context, step, given, types, trial) if source is not Source.DATA else None
        return _seen(node, types, numbers or {})

    def _learn_flow(self, step: Step) -> None:
        """What enters a body, and what a node with bodies returns."""
        first = self.known[step.inputs[0]] if step.inputs and step.inputs[0] else None
        match step.operator:
            case "carried" if first is not None:
                made = [_reshaped(first, lambda shape: shape)]
            case "element" if first is not None:
                axis = int(str(step.attributes["axis"]))
                made = [_reshaped(first, lambda shape: _without(shape, axis))]
            case "round":
                # The number of the round, or whether there is another one.
                dtype = TensorProto.BOOL if step.attributes.get("place") else TensorProto.INT64
                made = [Fact(dtype, Source.DATA, (Seen((), None),))]
            case "If":
                made = [self._branched(step, place) for place in range(len(step.outputs))]
            case "Loop":
                made = self._looped(step, 1)
            case "Scan":
                made = self._looped(step, 0)
            case _:
                made = [Fact(0, Source.DATA, (Seen(None, None),)) for _ in step.outputs]
        self.known.update((name, fact) for name, fact in zip(step.outputs, made, strict=True) if name)

    def _branched(self, step: Step, place: int) -> Fact:
        """What a branch returns: the one that is taken, where that is known, or what both have in common."""
        facts, condition = [self.known[body.outputs[place]] for body in step.bodies], self.known[step.inputs[0]]
        seen = []
        for trial in self._trials:
            chosen = taken_branch(step, condition, trial)
            open_ = [fact.at(trial) for fact in (facts if chosen is None else [facts[chosen]])]
            possible = [one for one in open_ if not one.impossible]
            if not possible and not step.guarded:
                raise StoreError(f"node {step.name!r} (If) has no branch that takes what it gets")
            seen.append(_either(possible) if len(possible) > 1 else (possible or open_)[0])
        if len(seen) > TRIALS and len(seen[0].shape or ()) != len(seen[TRIALS].shape or ()):
            # One branch squeezes an axis that has the size 1 for the caller's sizes alone: only these are planned with.
            seen = seen[TRIALS:] * 2
        sources = {condition.source, *(fact.source for fact in facts)}
        source = next(one for one in (Source.DATA, Source.SHAPE, Source.CONSTANT) if one in sources)
        return Fact(next((fact.dtype for fact in facts if fact.dtype), 0), source, tuple(seen))

    def _looped(self, step: Step, skipped: int) -> list[Fact]:
        """States keep their shape if the body does; what is collected gets one more axis."""
        (body,) = step.bodies
        returned = [self.known[name] for name in body.outputs[skipped:]]
        entered = [self.known[name] for name in body.inputs[2 * skipped :]]
        if step.operator == "Scan":
            entered = entered[: len(entered) - int(str(step.attributes["num_scan_inputs"]))]
        states = len(entered)
        made = []
        for pair in zip(entered, returned[:states], strict=True):
            seen = tuple(_either([fact.at(trial) for fact in pair]) for trial in self._trials)
            made.append(Fact(pair[0].dtype, Source.DATA, seen))
        axes = step.attributes.get("scan_output_axes")
        for place, fact in enumerate(returned[states:]):
            axis = axes[place] if isinstance(axes, tuple) else 0
            made.append(_reshaped(fact, lambda shape, axis=axis: _longer(shape, axis)))  # type: ignore[misc] # bound now
        return made


def _seen(
    node: NodeProto, types: Mapping[str, tuple[int, Shape | None]], numbers: Mapping[str, Array]
) -> dict[str, tuple[int, Seen]]:
    """Type and value of every output."""
    found = {}
    for name in node.output:
        dtype, shape = types.get(name, (0, None))
        number = numbers.get(name)
        if number is not None:
            dtype, shape = dtype or helper.np_dtype_to_tensor_dtype(number.dtype), number.shape
        found[name] = (dtype, Seen(shape, number))
    return found


def taken_branch(step: Step, condition: Fact, trial: int) -> int | None:
    """Which body of an If is taken, where its condition does not depend on data."""
    number = condition.at(trial).number
    if number is None or number.size != 1 or step.node is None:
        return None
    names = sorted(attribute.name for attribute in step.node.attribute)
    return names.index("then_branch" if number.reshape(-1)[0] else "else_branch")


def _reshaped(fact: Fact, shape: Callable[[Shape], Shape]) -> Fact:
    """Another shape, with numbers that nobody knows."""
    seen = (Seen(None if one.shape is None else shape(one.shape), None) for one in fact.seen)
    return Fact(fact.dtype, Source.DATA, tuple(seen))


def _without(shape: Shape, axis: int) -> Shape:
    place = axis % len(shape)
    return (*shape[:place], *shape[place + 1 :])


def _longer(shape: Shape, axis: int) -> Shape:
    place = axis % (len(shape) + 1)
    return (*shape[:place], None, *shape[place:])


def _either(seen: Sequence[Seen]) -> Seen:
    """What is known of a value that is one of these."""
    shape = seen[0].shape
    for other in seen[1:]:
        shape = _common(shape, other.shape)
    return Seen(shape, None)


_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


def _source(context: Context, step: Step, given: Sequence[Fact | None]) -> Source:
    if step.operator in _RANDOM or schema_of(step.operator, opset_of(context, step.operator)) is None:
        # Nobody can compute it beforehand.
        return Source.DATA
    if step.node is not None and any(attribute.name == "sparse_value" for attribute in step.node.attribute):
        return Source.DATA
    sources = {fact.source for fact in given if fact is not None}
    if step.operator in SHAPES:
        known = all(fact.shape is not None for fact in given if fact is not None)
        return Source.SHAPE if known else Source.DATA
    if Source.DATA in sources or step.bodies:
        return Source.DATA
    return Source.SHAPE if Source.SHAPE in sources else Source.CONSTANT
