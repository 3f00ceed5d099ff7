"""How rules for ONNX operators are registered, and those for vertices that are no operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from solver_nas.errors import BrokenRuleError, SolverNasError
from solver_nas.labels import Tensor
from solver_nas.onnx.op import Op, Value
from solver_nas.rules import Scope, Takes, rule
from solver_nas.rules.guarding import guarded, pinned, reshaping
from solver_nas.rules.primitives import same

if TYPE_CHECKING:
    from solver_nas.graph import Vertex
    from solver_nas.labels import Shape
    from solver_nas.onnx.facts import Fact
    from solver_nas.onnx.op import Slot
    from solver_nas.rules import Resized

PREFIX = "onnx."
#: The kind of a vertex whose operator has no rule.
OPAQUE = f"{PREFIX}opaque"
#: The kind of a vertex that is computed from the shapes of other tensors alone.
COMPUTED = f"{PREFIX}computed"
#: The kind of a vertex that is a constant which stands beside other tensors.
CONSTANT = f"{PREFIX}constant"


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
            rule(PREFIX + name, rewrite=reshaping(rewrite), exact=exact, buffers=buffers, takes=takes)(_guarded(flow))
            _OPERATORS[name] = Operator(name, note, frozenset(values), exact, prepare, shape)
        return flow

    return register


def _guarded(flow: Flow) -> Callable[[Scope], Tensor]:
    """Pin everything around a node that the rule does not cover."""

    @wraps(flow)
    def run(scope: Scope) -> Tensor:
        op = Op(scope)
        return guarded(scope, op.operator, lambda: _called(flow, op))

    return run


def _called(flow: Flow, op: Op) -> Tensor:
    try:
        return op.out(flow(op))
    except SolverNasError:
        raise
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        if "::" not in op.operator:
            # Rather the file has a mistake than a rule of this library.
            raise
        vertex = op.scope.vertex.name
        raise BrokenRuleError(f"the rule for operator {op.operator!r} failed at {vertex!r}: {error!r}") from error


@rule(OPAQUE, rewrite=reshaping(None))
def _opaque(scope: Scope) -> Tensor:
    return pinned(scope, scope.attribute("why", str))


@rule(COMPUTED, rewrite=reshaping(None))
def _computed(scope: Scope) -> Tensor:
    return Tensor(Op(scope).shape)


@rule(CONSTANT, rewrite=reshaping(None))
def _constant(scope: Scope) -> Tensor:
    op = Op(scope)
    return op.out(op.tensor(0))


@rule(f"{PREFIX}input", rewrite=reshaping(None))
def _input(scope: Scope) -> Tensor:
    return Tensor(cast("Shape", scope.vertex.attributes["shape"]))


@rule(f"{PREFIX}output", rewrite=reshaping(None))
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
