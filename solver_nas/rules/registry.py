"""Which rule belongs to which kind of operation."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from solver_nas.errors import RuleError
from solver_nas.labels import Tensor
from solver_nas.rules.scope import Scope

if TYPE_CHECKING:
    from solver_nas.graph import Vertex
    from solver_nas.labels import Neurons, Shape

#: How neurons pass through one vertex: its output tensors, given its inputs.
Flow = Callable[[Scope], Tensor | Sequence[Tensor]]


@dataclass(frozen=True, slots=True)
class Resized:
    """The sizes around one vertex after a change.

    Args:
        inputs: shapes of the inputs.
        outputs: shapes of the outputs.
        views: shape of every parameter as its rule sees it, by role.
        before: the input tensors before the change.
        moved: where neurons of a tensor before the change stand after it: maps neurons (one axis) to those
            that take their places, in order.
        numbers: what the vertex's numbers are after it that the rule calls sizes, by argument.
    """

    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    views: Mapping[str, tuple[int, ...]]
    before: tuple[Tensor, ...]
    moved: Callable[[Neurons], Neurons]
    numbers: Mapping[Hashable, int] = field(default_factory=dict)

    def rows(self, neurons: Neurons, count: int) -> int:
        """How many of `count` equally long rows of neurons, in row-major order, are left: groups, heads."""
        table = neurons.reshape(count, -1)
        left = [len(self.moved(row)) for row in table]
        # Where a row is a single neuron, new ones may have come.
        return sum(left) if table.shape[1] == 1 else sum(size > 0 for size in left)


#: The attributes that a vertex needs after a change; only those that differ.
Rewrite = Callable[["Vertex", Resized], Mapping[str, object]]


def changed(vertex: Vertex, **attributes: object) -> Mapping[str, object]:
    """Those of these attributes that differ from what the vertex has."""
    return {name: value for name, value in attributes.items() if vertex.attributes.get(name) != value}


class Takes(Enum):
    """How many inputs an operation takes."""

    FIXED = "as many as it has"
    ALIKE = "any number of equal ones"
    STACKED = "any number, one after the other"


@dataclass(frozen=True, slots=True)
class Rule:
    """Everything that the engine knows about one kind of operation.

    Args:
        kind: its name.
        flow: how labels pass through it.
        rewrite: how its attributes follow the sizes.
        exact: whether dropping neurons equals masking them (not so across an axis that is normalised).
        takes: how many inputs it takes.
        buffers: roles of arrays that describe the data and are not learned (running statistics).
    """

    kind: str
    flow: Flow
    rewrite: Rewrite
    exact: bool
    takes: Takes
    buffers: frozenset[str]


_RULES: dict[str, Rule] = {}


def _unchanged(vertex: Vertex, resized: Resized) -> Mapping[str, object]:  # noqa: ARG001 - the signature is `Rewrite`
    return {}


def rule(
    kind: str,
    *,
    rewrite: Rewrite = _unchanged,
    exact: bool = True,
    takes: Takes = Takes.FIXED,
    buffers: Sequence[str] = (),
) -> Callable[[Flow], Flow]:
    """Register how neurons pass through a kind of operation.

    Args:
        kind: the operation's name; a front end prefixes its own, as in `onnx.Conv`.
        rewrite: new attributes after a change (groups, split sizes, literal shapes).
        exact: whether dropping a neuron equals setting it to zero.
        takes: how many inputs it takes; edges can be added and removed unless that is fixed.
        buffers: roles of arrays that are not learned; they are no parameters when these are counted.

    A function of the same name in the same module replaces the one before it, as when a notebook's cell runs again.

    Raises:
        RuleError: the kind has another rule already.
    """

    def register(flow: Flow) -> Flow:
        known = _RULES.get(kind)
        if known is not None and _place(known.flow) != _place(flow):
            raise RuleError(f"operation {kind!r} has a rule already; give yours another name")
        _RULES[kind] = Rule(kind, flow, rewrite, exact, takes, frozenset(buffers))
        return flow

    return register


def _place(flow: Flow) -> tuple[str | None, str]:
    """Where a function was defined."""
    return getattr(flow, "__module__", None), getattr(flow, "__qualname__", repr(flow))


def rule_of(kind: str) -> Rule | None:
    """The rule for a kind of operation, if there is one."""
    return _RULES.get(kind)


def kinds() -> tuple[str, ...]:
    """Every kind of operation that has a rule, sorted."""
    return tuple(sorted(_RULES))
