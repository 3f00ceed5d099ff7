"""What new entries of parameters start with: ones in scales, nothing in shifts."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from solver_nas.torch.operator import PREFIX, operators

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from solver_nas.graph import Graph
    from solver_nas.labels import Labels


#: Factors, and what is divided by: what they meet is to stay as it is.
_FACTORS = frozenset({"mul", "multiply", "div", "divide", "true_divide"})


def fills_of(graph: Graph, labels: Labels, tensors: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """What new entries of parameters start with that are no weights of neurons, by key.

    Args:
        graph: the vertices.
        labels: of the graph.
        tensors: all parameters and buffers.
    """
    found: dict[str, float] = {}
    known = operators()
    for vertex in graph.vertices:
        operator = known.get(vertex.kind.removeprefix(PREFIX))
        for role, parameter in vertex.parameters.items():
            value = None if operator is None else operator.fills.get(role)
            if vertex.attributes.get("even"):
                value = float(tensors[parameter.key].reshape(-1)[0])
            follows = all(use.role == "follow" for use in labels.parameters[parameter.key].uses)
            factor = operator is not None and operator.name in _FACTORS and follows
            # Buffers in expressions are mostly statistics, which are divided by.
            buffered = role in cast("frozenset[str]", vertex.attributes.get("buffers", ()))
            if value is None and (factor or (buffered and operator is not None and not operator.contracts)):
                value = 1.0
            if value is not None:
                found.setdefault(parameter.key, value)
    return found
