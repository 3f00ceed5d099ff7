"""Sums, products and concatenations of vertices."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import autograd.numpy as anp

from solver_nas.errors import GraphError, LayerError
from solver_nas.frontend import Handle
from solver_nas.nn.forward import Call, forward
from solver_nas.rules import Scope, Takes, rule
from solver_nas.rules.contract import elementwise
from solver_nas.rules.primitives import concat as concat_labels
from solver_nas.rules.primitives import same

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from solver_nas.labels import Tensor
    from solver_nas.nn.vertex import NetworkVertex

_FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
}


def combine(x: NetworkVertex, other: object, kind: str, *, swapped: bool = False) -> NetworkVertex:
    """One arithmetic operation between a vertex and another one, or a number.

    Raises:
        LayerError: the other operand is neither.
    """
    if isinstance(other, Handle):
        return x.model.add(kind, None, (other, x) if swapped else (x, other), {})
    if isinstance(other, int | float) and not isinstance(other, bool):
        attributes = {"constant": float(other), "swapped": swapped}
        return x.model.add(f"{kind}_constant", x.model.free_name(kind), (x,), attributes)
    raise LayerError(f"cannot {kind} vertex {x.name!r} and {other!r}: use a vertex of the same network or a number")


def add(vertices: Sequence[NetworkVertex], *, name: str | None = None) -> NetworkVertex:
    """Element-wise sum of any number of vertices, broadcasting as NumPy does."""
    return _first(vertices, "add").model.add("add", name, vertices, {})


def multiply(vertices: Sequence[NetworkVertex], *, name: str | None = None) -> NetworkVertex:
    """Element-wise product of any number of vertices, broadcasting as NumPy does."""
    return _first(vertices, "multiply").model.add("multiply", name, vertices, {})


def concat(vertices: Sequence[NetworkVertex], *, axis: int | None = None, name: str | None = None) -> NetworkVertex:
    """Vertices one after the other.

    Args:
        vertices: at least one.
        axis: counted with the batch as axis 0, or negative; by default the axis that holds the neurons
            of the first vertex.
        name: of the new vertex.
    """
    first = _first(vertices, "concat")
    rank = len(first.shape)
    if axis is None:
        blocks = first.model.tensor(first.name).blocks
        axis = blocks[-1].axes[0] if blocks else rank - 1
    # Counted from the end, so that a single sample without a batch axis can be evaluated too.
    return first.model.add("concat", name, vertices, {"axis": axis - rank if axis >= 0 else axis})


def _first(vertices: Sequence[NetworkVertex], what: str) -> NetworkVertex:
    vertices = tuple(vertices)
    if not vertices or not isinstance(vertices[0], Handle):
        raise GraphError(f"{what} takes a list of vertices, got {vertices!r}")
    return vertices[0]


@forward("concat")
def _concat(call: Call) -> Any:
    return anp.concatenate(call.inputs, axis=call["axis"])


@rule("concat", takes=Takes.STACKED)
def _concat_flow(scope: Scope) -> Tensor:
    return concat_labels(scope, scope.inputs, scope.attribute("axis", int))


def _arithmetic(kind: str) -> None:
    operate = _FUNCTIONS[kind]

    @forward(kind)
    def _forward(call: Call) -> Any:
        return reduce(operate, call.inputs)

    @rule(kind, takes=Takes.ALIKE if kind in ("add", "multiply") else Takes.FIXED)
    def _flow(scope: Scope) -> Tensor:
        return elementwise(scope, *scope.inputs)

    @forward(f"{kind}_constant")
    def _constant(call: Call) -> Any:
        pair = (call.x, call["constant"])
        return operate(*(reversed(pair) if call["swapped"] else pair))

    @rule(f"{kind}_constant")
    def _same(scope: Scope) -> Tensor:
        return same(scope, scope.inputs[0])


for _kind in _FUNCTIONS:
    _arithmetic(_kind)
