"""A vertex of a NumPy network, as the caller holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solver_nas.frontend import Handle
from solver_nas.nn.operation import Operation

if TYPE_CHECKING:
    from solver_nas.nn.network import Network


class NetworkVertex(Handle):
    """A vertex of a NumPy network; `+ - * /` and unary minus make new ones."""

    # NumPy arrays on the left leave operators to this class, which refuses them by name.
    __array_ufunc__ = None

    def __init__(self, model: Network, name: str) -> None:
        """Only for networks; callers get vertices from `net[name]`."""
        super().__init__(model, name)
        self._network = model

    @property
    def model(self) -> Network:
        """The network that the vertex belongs to."""
        return self._network

    @property
    def op(self) -> Operation:
        """The vertex's arrays and attributes, for reading and setting."""
        return Operation(self.model, self.name)

    def named(self, name: str) -> NetworkVertex:
        """Rename this vertex; the handle stays valid."""
        self.model.rename(self._name, name)
        self._name = name
        return self

    @property
    def inputs(self) -> tuple[NetworkVertex, ...]:
        """The vertices that this one reads, by slot."""
        return tuple(self.model.handle(port.vertex) for port in self.vertex.inputs)

    @property
    def outputs(self) -> tuple[NetworkVertex, ...]:
        """The vertices that read this one, each once, producers first."""
        return tuple(self.model.handle(name) for name in self.model.graph.consumers(self.name))

    def _combine(self, other: object, kind: str, *, swapped: bool = False) -> NetworkVertex:
        from solver_nas.nn.arithmetic import combine

        return combine(self, other, kind, swapped=swapped)

    def __add__(self, other: object) -> NetworkVertex:
        """Element-wise sum with a vertex or a number."""
        return self._combine(other, "add")

    def __sub__(self, other: object) -> NetworkVertex:
        """Element-wise difference."""
        return self._combine(other, "subtract")

    def __mul__(self, other: object) -> NetworkVertex:
        """Element-wise product."""
        return self._combine(other, "multiply")

    def __truediv__(self, other: object) -> NetworkVertex:
        """Element-wise quotient."""
        return self._combine(other, "divide")

    def __radd__(self, other: object) -> NetworkVertex:
        """Element-wise sum with a number on the left."""
        return self._combine(other, "add", swapped=True)

    def __rsub__(self, other: object) -> NetworkVertex:
        """Element-wise difference from a number."""
        return self._combine(other, "subtract", swapped=True)

    def __rmul__(self, other: object) -> NetworkVertex:
        """Element-wise product with a number on the left."""
        return self._combine(other, "multiply", swapped=True)

    def __rtruediv__(self, other: object) -> NetworkVertex:
        """A number divided by each element."""
        return self._combine(other, "divide", swapped=True)

    def __neg__(self) -> NetworkVertex:
        """Element-wise negation."""
        return self._combine(-1, "multiply")
