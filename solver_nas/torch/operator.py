"""How rules for PyTorch operations are registered, and those for vertices that are no operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, cast

from solver_nas.errors import BrokenRuleError, SolverNasError
from solver_nas.labels import Measure, Tensor
from solver_nas.rules import Scope, Takes, changed, rule
from solver_nas.rules.contract import einsum
from solver_nas.rules.guarding import UnsupportedError, guarded, pinned, reshaping
from solver_nas.rules.primitives import same
from solver_nas.torch.op import Op

if TYPE_CHECKING:
    from solver_nas.graph import Vertex
    from solver_nas.labels import Origin, Shape
    from solver_nas.rules import Resized

PREFIX = "torch."
#: The kind of a vertex whose operation has no rule.
OPAQUE = f"{PREFIX}opaque"
#: The kind of a vertex that does not depend on what the module is given, nor on parameters.
COMPUTED = f"{PREFIX}computed"
#: The kind of a vertex that is a parameter which stands beside other tensors.
PARAMETER = f"{PREFIX}parameter"

Flow = Callable[[Op], Tensor]
Rewriting = Callable[["Vertex", "Resized"], Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known about an operation when a module is read.

    Args:
        operator: its name.
        arguments: those that are written down, by name.
        shapes: of tensors among the arguments, by name; of a list, those of all of them.
        shape: of the result.
        output: which of its results.
    """

    operator: str
    arguments: Mapping[str, object]
    shapes: Mapping[str, tuple[tuple[int, ...], ...]]
    shape: tuple[int, ...]
    output: int

    def given(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor among the arguments.

        Raises:
            UnsupportedError: it is not given.
        """
        found = self.shapes.get(name, ())
        if not found:
            raise UnsupportedError(f"{self.operator}: {name!r} is not given")
        return found[0]


Preparing = Callable[[Reading], Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Operator:
    """Everything that the front end knows about one operator.

    Args:
        name: with its namespace if that is not `aten`.
        note: what happens to neurons, in a sentence.
        exact: whether dropping neurons equals setting them to zero.
        prepare: what its rule has to know that only the sizes at the beginning say.
        together: along which axes of its first tensor neurons are taken together, given the vertex and the rank.
        fills: what new entries of parameters start with, by argument; weights have none.
        weights: whether parameters among its arguments are its own; otherwise, they are vertices before it.
        contracts: whether it does away with axes of its arguments.
    """

    name: str
    note: str
    exact: bool
    prepare: Preparing | None
    together: Callable[[Vertex, int], Sequence[int]] | None
    fills: Mapping[str, float]
    weights: bool
    contracts: bool


_OPERATORS: dict[str, Operator] = {}


def is_known(name: str) -> bool:
    """Whether an operator has a rule."""
    return name in _OPERATORS


def operators() -> Mapping[str, Operator]:
    """Every operator that has a rule, by name."""
    return dict(sorted(_OPERATORS.items()))


def operator(
    *names: str,
    note: str,
    rewrite: Rewriting | None = None,
    prepare: Preparing | None = None,
    together: Callable[[Vertex, int], Sequence[int]] | None = None,
    buffers: Sequence[str] = (),
    fills: Mapping[str, float] | None = None,
    weights: bool = False,
    contracts: bool = False,
    exact: bool | None = None,
    takes: Takes = Takes.FIXED,
) -> Callable[[Flow], Flow]:
    """Register how neurons pass through operators.

    Args:
        names: of the operators as `torch.ops` has them, without overload; with the namespace for others than
            `aten`: `"my::scale"`. A name that ends in `_`, for one that works in place, needs no rule of its own.
        note: what happens to neurons, in a sentence.
        rewrite: what of the vertex's attributes has to be rewritten after a change, given the vertex and its sizes.
            Shapes, and numbers that the rule calls sizes, follow by themselves.
        prepare: what the rule has to know that only the sizes at the beginning say; it becomes attributes of the
            vertex. It may raise `UnsupportedError`.
        together: the axes of the first tensor along which neurons depend on each other (they are normalised
            together), given the vertex and the tensor's rank; there, dropping neurons does not equal setting them
            to zero.
        buffers: arguments that are not learned.
        fills: what new entries of parameters start with, by argument, such as 1 for scales.
        weights: whether parameters among the arguments are the vertex's own (`op.operand`, `op.weight`); otherwise,
            they are vertices of their own before it, and come as tensors.
        contracts: whether it multiplies and adds over axes that its result has no longer. Where all of its arguments
            are parameters, these are vertices then, so that the neurons in between can be seen.
        exact: whether dropping neurons equals setting them to zero; by default, if none are ever taken together.
        takes: whether edges to it can be added and removed.

    Raises:
        RuleError: one of them has a rule already.
    """

    def register(flow: Flow) -> Flow:
        for name in names:
            apart = together is None if exact is None else exact
            follow = _following(reshaping(rewrite))
            rule(PREFIX + name, rewrite=follow, exact=apart, buffers=buffers, takes=takes)(_guarded(flow))
            _OPERATORS[name] = Operator(name, note, apart, prepare, together, dict(fills or {}), weights, contracts)
        return flow

    return register


def _following(rewrite: Rewriting) -> Rewriting:
    """A rewrite after which the numbers among the arguments that the rule calls sizes are what they have to be."""

    def rewritten(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
        arguments = dict(cast("Mapping[str, object]", vertex.attributes["arguments"]))
        for key, number in resized.numbers.items():
            name, place = cast("tuple[str, int]", key)
            before = arguments[name]
            if isinstance(before, tuple):
                arguments[name] = (*before[:place], number, *before[place + 1 :])
            else:
                arguments[name] = number
        return {**rewrite(vertex, resized), **changed(vertex, arguments=arguments)}

    return rewritten


def _guarded(flow: Flow) -> Callable[[Scope], Tensor]:
    """Pin everything around an operation that the rule does not cover."""

    @wraps(flow)
    def run(scope: Scope) -> Tensor:
        op = Op(scope)
        found = guarded(scope, op.operator, lambda: _called(flow, op))
        op.settle()
        return found

    return run


def _called(flow: Flow, op: Op) -> Tensor:
    try:
        return op.out(flow(op))
    except SolverNasError:
        raise
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        vertex = op.scope.vertex.name
        raise BrokenRuleError(f"the rule for operator {op.operator!r} failed at {vertex!r}: {error!r}") from error


@rule(OPAQUE, rewrite=reshaping(None))
def _opaque(scope: Scope) -> Tensor:
    Op(scope).settle()
    return pinned(scope, scope.attribute("why", str))


@rule(COMPUTED, rewrite=reshaping(None))
def _computed(scope: Scope) -> Tensor:
    for tensor in scope.inputs:
        scope.speak(tensor)
    return Tensor(cast("Shape", scope.vertex.attributes["shape"]))


@rule(PARAMETER, rewrite=reshaping(None))
def _parameter(scope: Scope) -> Tensor:
    op = Op(scope)
    if not scope.vertex.attributes["even"]:
        return op.out(op.tensor("value"))
    # A buffer of equal numbers is as good as any other part of it: it follows what it meets.
    weight = op.weight("value")
    letters = "abcdefghijklmnop"[: len(weight.shape)]
    made = einsum(scope, f"{letters}->{letters}", weight, repeats=None)
    for block in made.blocks:
        scope.tape.idle(block.neurons, scope.reason("all entries of this buffer are equal"))
    return op.out(made)


@rule(f"{PREFIX}input", rewrite=reshaping(None))
def _input(scope: Scope) -> Tensor:
    return Tensor(cast("Shape", scope.vertex.attributes["shape"]))


@rule(f"{PREFIX}output", rewrite=reshaping(None))
def _output(scope: Scope) -> Tensor:
    op = Op(scope)
    for origin, number in cast("Sequence[tuple[Origin, int]]", scope.vertex.attributes["left"]):
        why = f"the code makes a number of another kind (a root, a quotient) of a size that is {number}"
        scope.tape.measure(Measure(scope.reason(why), None, number, (), (), origin))
    x = op.tensor("value")
    if scope.attribute("free", bool):
        return same(scope, x)
    return scope.pin(x, "what the model returns stays as it is", report=False)
