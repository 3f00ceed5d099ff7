"""What new entries of parameters start with: ones in scales, nothing in shifts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solver_nas.torch.operator import PREFIX, operators

if TYPE_CHECKING:
    from solver_nas.graph import Graph


def fills_of(graph: Graph) -> dict[str, float]:
    """What new entries of parameters start with that are no weights of neurons, by key."""
    found: dict[str, float] = {}
    known = operators()
    for vertex in graph.vertices:
        operator = known.get(vertex.kind.removeprefix(PREFIX))
        for role, parameter in vertex.parameters.items():
            value = None if operator is None else operator.fills.get(role)
            if value is None and operator is not None and operator.name == "div" and role == "other":
                value = 1.0
            if value is not None:
                found.setdefault(parameter.key, value)
    return found
