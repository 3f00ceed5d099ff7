"""What a network costs: its parameters, its multiplications, its memory, as products of sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from solver_nas.errors import RequestError
from solver_nas.graph import Graph, Port
from solver_nas.labels import Volume
from solver_nas.requests import is_row, is_whole
from solver_nas.rules import label, rule_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from solver_nas.graph import Vertex
    from solver_nas.labels import Labels, ParameterLabels, Tensor

    Shapes = Mapping[str, Sequence[int | None]]


def parameters(graph: Graph, labels: Labels, *, buffers: bool = False) -> Iterator[tuple[str, tuple[str, ...], Volume]]:
    """Every array of a network, once, with the number of its entries.

    Args:
        graph: the structure.
        labels: its labels.
        buffers: whether arrays count that are not learned, such as running statistics.

    Yields:
        The array's key, the vertices that own it, and its entries.
    """
    owners: dict[str, list[str]] = {}
    for vertex in graph.vertices:
        held = buffers_of(vertex)
        for role, parameter in vertex.parameters.items():
            if buffers or role not in held:
                owners.setdefault(parameter.key, []).append(vertex.name)
    for key, names in owners.items():
        yield key, tuple(names), _entries(names[0], labels.parameters[key])


def buffers_of(vertex: Vertex) -> frozenset[str]:
    """The roles of a vertex's arrays that are not learned."""
    rule, own = rule_of(vertex.kind), vertex.attributes.get("buffers", frozenset())
    # An operation may say it for all vertices, a front end for single ones.
    return frozenset(rule.buffers if rule is not None else ()) | (own if isinstance(own, frozenset) else frozenset())


def _entries(vertex: str, parameter: ParameterLabels) -> Volume:
    free = set(range(len(parameter.view)))
    over, under = [], []
    for use in parameter.uses:
        for depth, axis in enumerate(use.axes):
            if axis not in free:
                continue
            free.discard(axis)
            over.append(use.levels[depth]["label"].reshape(-1))
            under += [use.levels[depth - 1]["label"].reshape(-1)] if depth else []
    times = 1
    for axis in free:
        times *= parameter.view[axis]
    return Volume(vertex, times, tuple(over), tuple(under))


def elements(vertex: str, tensor: Tensor) -> Volume:
    """The number of values in a tensor, for one sample: a first axis of unknown size counts once."""
    covered = {axis for block in tensor.blocks for axis in block.axes}
    times: int | None = 1
    for axis, size in enumerate(tensor.shape):
        if axis in covered or (axis == 0 and size is None):
            continue
        times = None if times is None or size is None else times * size
    return Volume(vertex, times, tuple(block.neurons["label"].reshape(-1) for block in tensor.blocks))


def alive(graph: Graph, labels: Labels) -> Iterator[tuple[str, tuple[Volume, ...]]]:
    """What has to be in memory at once while a network runs, vertex by vertex in its order.

    A tensor lives from when it is made until its last reader is done; inputs and what the network returns live
    until the end, as their owner is the caller. Nothing is assumed to be computed in place.
    """
    order = graph.order
    place = {name: number for number, name in enumerate(order)}
    returned = {port.vertex for port in graph.returned}
    last = {}
    for name in order:
        readers = [place[reader] for reader in graph.consumers(name)]
        stays = name in returned or graph.vertex(name).is_input
        last[name] = len(order) if stays else max([place[name], *readers])
    volumes = {name: elements(name, labels.tensors[Port(name)]) for name in order}
    live: list[str] = [name for name in order if graph.vertex(name).is_input]
    for number, name in enumerate(order):
        live = [*live, *([] if name in live else [name])]
        yield name, tuple(volumes[other] for other in live)
        live = [other for other in live if last[other] > number]


def shaped(graph: Graph, labels: Labels, shapes: Shapes | Sequence[Any] | None) -> Labels:
    """The labels of a network with these input shapes.

    Args:
        graph: the structure.
        labels: its labels.
        shapes: input name -> shape of one sample, or the one shape of a single input; `None` for those it has.

    Raises:
        RequestError: unknown inputs, shapes that contradict those of the network, or sizes that would change
            which neurons belong together.
    """
    if shapes is None:
        return labels
    inputs = {vertex.name: vertex for vertex in graph.vertices if vertex.is_input}
    if not is_row(shapes):
        raise RequestError(f"the shape of a sample is a row of sizes such as (3, 224, 224), got {shapes!r}")
    if any(vertex.kind != "input" for vertex in inputs.values()):
        raise RequestError("say which input shapes to count with when the model is opened: load(..., input_shapes=...)")
    one = None if len(inputs) != 1 else dict.fromkeys(inputs, tuple(shapes))
    given = dict(shapes) if isinstance(shapes, Mapping) else one
    if isinstance(shapes, str):
        raise RequestError(
            f"the shape of a sample is a row of sizes such as (3, 224, 224), got {shapes!r}; for some of the "
            f"vertices, write of={shapes!r}"
        )
    if given is None:
        raise RequestError(f"the network has {len(inputs)} inputs {sorted(inputs)}; give their shapes by name")
    changed = {}
    for name, shape in given.items():
        if name not in inputs:
            raise RequestError(f"there is no input {str(name)!r}; the inputs are {sorted(inputs)}")
        known: tuple[int | None, ...] = tuple(cast("Sequence[int | None]", inputs[name].attributes["shape"]))
        if not isinstance(shape, Iterable):
            raise RequestError(f"input {name!r}: the shape of a sample is a row of sizes, got {shape!r}")
        wanted = tuple(shape)
        fits = len(known) == len(wanted) and all(
            k is None or (is_whole(w) and k == w) for k, w in zip(known, wanted, strict=True)
        )
        if not fits:
            raise RequestError(f"input {name!r} has shape {known}, got {wanted}; only unknown sizes can be given")
        if not all(size is None or (is_whole(size) and size > 0) for size in wanted):
            raise RequestError(f"input {name!r} has shape {known}, got {wanted}; sizes are positive whole numbers")
        changed[name] = replace(inputs[name], attributes={**inputs[name].attributes, "shape": wanted})
    again = label(graph.replaced(changed), memory=labels.memory)
    if again.count != labels.count:
        raise RequestError(f"with inputs of shapes {given}, other neurons belong together; build the network with them")
    return again
