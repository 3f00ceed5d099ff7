"""What new entries of parameters start with: ones in scales, zero points in quantised weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solver_nas.onnx.operator import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.frontend import Array
    from solver_nas.graph import Graph, Vertex


def fills_of(graph: Graph, arrays: Mapping[str, Array]) -> dict[str, float]:
    """What new entries of parameters start with that are no weights of neurons."""
    found: dict[str, float] = {}
    for vertex in graph.vertices:
        for role, parameter in vertex.parameters.items():
            value = _fill(vertex, role)
            if value is not None:
                found.setdefault(parameter.key, value)
            point = next((vertex.parameters[one] for one in _zero_points(role) if one in vertex.parameters), None)
            if point is not None and arrays[point.key].size and (arrays[point.key] == arrays[point.key].flat[0]).all():
                # In quantised weights, nothing is not zero.
                found[parameter.key] = found[point.key] = float(arrays[point.key].flat[0])
    return found


def _zero_points(role: str) -> tuple[str, ...]:
    """What the zero point of a parameter is called: behind a DequantizeLinear, in ConvInteger, in MatMulInteger."""
    return (f"{role} zero point", f"{role}_zero_point", f"{role.lower()}_zero_point")


_NORMS = frozenset(
    {"BatchNormalization", "InstanceNormalization", "LayerNormalization", "RMSNormalization", "GroupNormalization"}
)
_ONES = frozenset({"scale", "var", "input_var", "Scale"})


def _fill(vertex: Vertex, role: str) -> float | None:
    kind = vertex.kind.removeprefix(PREFIX)
    if kind in _NORMS:
        return 1.0 if role in _ONES else 0.0
    if kind in ("Div", "Mod") and role == "B":
        return 1.0
    if role.endswith("scale"):
        return 1.0
    if role.endswith("zero point"):
        return 0.0
    return None
