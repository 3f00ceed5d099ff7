"""From a graph to the labels of all its tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solver_nas.errors import RuleError
from solver_nas.graph import Port
from solver_nas.labels import Labels, Tensor
from solver_nas.rules.measures import settled
from solver_nas.rules.registry import rule_of
from solver_nas.rules.scope import Scope
from solver_nas.rules.tape import Replay, Tape

if TYPE_CHECKING:
    from solver_nas.graph import Graph, Vertex
    from solver_nas.labels import Memory


def label(graph: Graph, replay: Replay | None = None, *, memory: Memory | None = None) -> Labels:
    """Run every vertex's rule, producers first.

    Args:
        graph: the network's structure.
        replay: what an earlier pass found, to be repeated over a changed graph.
        memory: what earlier passes decided by looking at sizes that may have changed since.

    Raises:
        RuleError: an operation without a rule, a rule that is silent about an axis, or shapes that do
            not fit together; the message names the vertex.
    """
    tape = Tape(replay, memory=memory)
    tensors: dict[Port, Tensor] = {}
    for vertex in graph.vertices:
        outputs = label_vertex(vertex, tuple(tensors[port] for port in vertex.inputs), tape)
        tensors.update({Port(vertex.name, place): tensor for place, tensor in enumerate(outputs)})
    labels = tape.labels(tensors)
    return settled(labels) if labels.measures and replay is None else labels


def label_vertex(vertex: Vertex, inputs: tuple[Tensor, ...], tape: Tape) -> tuple[Tensor, ...]:
    """Run one vertex's rule and check that it has spoken of everything."""
    found = rule_of(vertex.kind)
    if found is None:
        raise RuleError(f"vertex {vertex.name!r}: no rule for operation {vertex.kind!r}")
    scope = Scope(vertex, inputs, tape)
    result = found.flow(scope)
    outputs = (result,) if isinstance(result, Tensor) else tuple(result)
    for tensor in outputs:
        _check(scope, tensor)
    if gaps := scope.silent():
        raise scope.fail(f"the rule says nothing about {', '.join(gaps)}; it must tie, free or pin it")
    return outputs


def _check(scope: Scope, tensor: Tensor) -> None:
    for block in tensor.blocks:
        sizes = tuple(tensor.shape[axis] for axis in block.axes)
        for depth, level in enumerate(block.levels, start=1):
            if level.shape != sizes[:depth]:
                raise scope.fail(
                    f"labels of shape {level.shape} on axes {block.axes[:depth]} of a tensor {tensor.shape}"
                )
