"""How layers compute: one function per kind of vertex, and the walk over a whole network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from solver_nas.errors import LayerError

if TYPE_CHECKING:
    import numpy as np

    from solver_nas.graph import Graph, Vertex

# Arrays here may be autograd's boxes, which no static type describes.
Array = Any


@dataclass(frozen=True, slots=True)
class Call:
    """One evaluation of one vertex.

    Args:
        vertex: what is evaluated.
        parameters: its arrays, by role.
        inputs: its inputs, by slot.
        training: whether dropout drops and batch norm uses the batch's own statistics.
        rng: randomness for training.
        updates: where running statistics go, by parameter key; written in training only.
    """

    vertex: Vertex
    parameters: Mapping[str, Array]
    inputs: tuple[Array, ...]
    training: bool
    rng: np.random.Generator
    updates: dict[str, Array] = field(default_factory=dict)

    @property
    def x(self) -> Array:
        """The first input."""
        return self.inputs[0]

    def __getitem__(self, attribute: str) -> Any:
        """An attribute of the vertex."""
        return self.vertex.attributes[attribute]

    def update(self, role: str, array: Array) -> None:
        """Replace a running statistic after this step."""
        self.updates[self.vertex.parameters[role].key] = array


Forward = Callable[[Call], Array]
_FORWARD: dict[str, Forward] = {}


def forward(kind: str) -> Callable[[Forward], Forward]:
    """Register how a kind of vertex computes.

    Raises:
        LayerError: the kind has a function already.
    """

    def register(function: Forward) -> Forward:
        if kind in _FORWARD:
            raise LayerError(f"layer {kind!r} is there already; give yours another name")
        _FORWARD[kind] = function
        return function

    return register


def computes(kind: str) -> bool:
    """Whether a kind of vertex has a function."""
    return kind in _FORWARD


def evaluate(
    graph: Graph,
    arrays: Mapping[str, Array],
    inputs: Mapping[str, Array],
    rng: np.random.Generator,
    *,
    training: bool = False,
    updates: dict[str, Array] | None = None,
    probes: Mapping[str, Array] | None = None,
    masks: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """The outputs of all vertices.

    Args:
        graph: the structure.
        arrays: parameters by key.
        inputs: arrays by name of the input vertex.
        rng: randomness for training.
        training: whether this is a training step.
        updates: receives new running statistics by parameter key.
        probes: added to the output of the vertices named, so that gradients with respect to them can be taken.
        masks: multiplied with the output of the vertices named: what a network computes without some neurons.
    """
    values: dict[str, Array] = {}
    for vertex in graph.vertices:
        if vertex.kind == "input":
            value = inputs[vertex.name]
        else:
            parameters = {role: arrays[parameter.key] for role, parameter in vertex.parameters.items()}
            given = tuple(values[port.vertex] for port in vertex.inputs)
            call = Call(vertex, parameters, given, training, rng, {} if updates is None else updates)
            value = _compute(call)
        if probes and vertex.name in probes:
            value = value + probes[vertex.name]
        if masks and vertex.name in masks:
            value = value * masks[vertex.name]
        values[vertex.name] = value
    return values


def compute(vertex: Vertex, arrays: Mapping[str, Array], inputs: Sequence[Array], rng: np.random.Generator) -> Array:
    """The output of one vertex for these inputs."""
    parameters = {role: arrays[parameter.key] for role, parameter in vertex.parameters.items()}
    return _compute(Call(vertex, parameters, tuple(inputs), False, rng))


def _compute(call: Call) -> Array:
    try:
        return _FORWARD[call.vertex.kind](call)
    except (ValueError, IndexError, TypeError) as error:
        shapes = ", ".join(str(getattr(x, "shape", x)) for x in call.inputs)
        raise LayerError(
            f"vertex {call.vertex.name!r} ({call.vertex.kind}) cannot compute inputs of shape {shapes}: {error}"
        ) from error
