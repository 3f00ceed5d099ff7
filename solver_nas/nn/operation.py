"""A vertex's arrays and attributes, for reading and setting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solver_nas.errors import LayerError

if TYPE_CHECKING:
    from solver_nas.graph import Vertex
    from solver_nas.nn.network import Network


class Operation:
    """What a vertex computes with: its arrays by role and its attributes, as `v.op.weight`, `v.op.groups`.

    Setting an array checks it against the shape that the network needs there.
    """

    __slots__ = ("_model", "_name")

    def __init__(self, model: Network, name: str) -> None:
        """Only made by `NetworkVertex.op`."""
        object.__setattr__(self, "_model", model)
        object.__setattr__(self, "_name", name)

    @property
    def _vertex(self) -> Vertex:
        vertex: Vertex = self._model.graph.vertex(self._name)
        return vertex

    def __getattr__(self, role: str) -> Any:
        """An array or an attribute."""
        vertex = self._vertex
        if role in vertex.parameters:
            return self._model.arrays[vertex.parameters[role].key]
        if role in vertex.attributes:
            return vertex.attributes[role]
        known = ", ".join([*vertex.parameters, *vertex.attributes])
        raise AttributeError(f"vertex {self._name!r} ({vertex.kind}) has no {role!r}; it has {known or 'nothing'}")

    def __setattr__(self, role: str, value: Any) -> None:
        """Replace an array by one of the same shape."""
        vertex = self._vertex
        if role not in vertex.parameters:
            known = ", ".join(vertex.parameters) or "none"
            raise AttributeError(f"vertex {self._name!r} ({vertex.kind}) has no array {role!r}; it has {known}")
        array = np.array(value, self._model.dtype)
        shape = vertex.parameters[role].shape
        if array.shape != shape:
            raise LayerError(f"vertex {self._name!r}: {role!r} has shape {shape}, got {array.shape}")
        array.flags.writeable = False
        self._model.arrays[vertex.parameters[role].key] = array

    def __dir__(self) -> list[str]:
        """Roles and attributes."""
        return [*self._vertex.parameters, *self._vertex.attributes]
