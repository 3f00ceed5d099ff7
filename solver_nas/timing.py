"""How long the layers of a network take on this machine, at a grid of sizes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from solver_nas.api import plan_change
from solver_nas.costs import shaped
from solver_nas.errors import RequestError
from solver_nas.graph import Port
from solver_nas.limits import Grid, LatencyTable
from solver_nas.nn.custom import absorb
from solver_nas.nn.forward import compute
from solver_nas.nn.network import Network
from solver_nas.planning import check_seed
from solver_nas.progress import progress as show_progress
from solver_nas.requests import is_whole, relaxed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.costs import Shapes
    from solver_nas.graph import Vertex
    from solver_nas.labels import Tensor
    from solver_nas.nn.vertex import NetworkVertex

_REPEATS = 3


def measure_latency(
    model: Network,
    shapes: Shapes | Sequence[int] | None = None,
    *,
    points: int = 4,
    batch: int = 1,
    repeats: int = _REPEATS,
    seed: int = 0,
    progress: bool | None = None,
) -> LatencyTable:
    """Time every layer alone, at some of the sizes that it can be made to.

    Each layer is copied into a network of its own, resized to a grid of input and output sizes, and run; of the
    repetitions the fastest counts. Noise is smoothed so that no layer gets faster by growing. Layers that are alike
    are timed once.

    Args:
        model: the network; not changed.
        shapes: of one sample, where the network has sizes that are not known; as for `limits.macs`.
        points: how many sizes along each axis, evenly spread up to the present size.
        batch: samples in each run.
        repeats: runs at each size.
        seed: for the values that are computed with.
        progress: whether to show a bar; by default on a terminal if it takes long.

    Returns:
        A table for `limits.latency`. Beyond the present sizes it is extrapolated.

    >>> from solver_nas import limits, nn
    >>> net = Network()
    >>> hidden = nn.dense(net.input("in", 8), 32, name="hidden")
    >>> net.output(nn.dense(hidden, 4, name="out"))
    >>> table = measure_latency(net, points=2)
    >>> limits.latency(net, table).value > 0
    True
    """
    for name, value in (("points", points), ("batch", batch), ("repeats", repeats)):
        if not is_whole(value) or value < 1:
            raise RequestError(f"{name} is a positive whole number, got {value!r}")
    if not isinstance(model, Network):
        raise RequestError(
            f"measure_latency times networks of this library's layers, got {model!r}; for other models, time layers of "
            f"several sizes where they will run, and use a LatencyTable"
        )
    check_seed(seed)
    labels = shaped(model.graph, model.labels, shapes)
    vertices = [vertex for vertex in model.graph.vertices if vertex.kind != "input"]
    known: dict[object, Grid] = {}
    found = {}
    with show_progress("timing layers", len(vertices), show=progress) as advance:
        for vertex in vertices:
            inputs = [labels.tensors[port] for port in vertex.inputs]
            if any(size is None for tensor in inputs for size in tensor.shape[1:]):
                raise RequestError(
                    f"the input of vertex {vertex.name!r} has a size that is not known; give the shapes of the "
                    f"network's inputs, as in measure_latency(net, (3, 224, 224))"
                )
            key = _key(vertex, inputs)
            if key not in known:
                known[key] = _Bench(model, vertex, inputs, batch, seed).grid(points, repeats)
            found[vertex.name] = known[key]
            advance()
    return LatencyTable(found)


def _key(vertex: Vertex, inputs: Sequence[Tensor]) -> object:
    """Layers with equal keys take equally long."""
    shapes = tuple(sorted((role, parameter.shape) for role, parameter in vertex.parameters.items()))
    return (vertex.kind, repr(sorted(vertex.attributes.items())), shapes, tuple(tensor.shape for tensor in inputs))


class _Bench:
    """One layer in a network of its own, whose inputs can change their size."""

    def __init__(self, model: Network, vertex: Vertex, inputs: Sequence[Tensor], batch: int, seed: int) -> None:
        self._batch, self._seed, self._name = batch, seed, vertex.name
        self._net = Network(dtype=model.dtype.type, history=0)
        self._sources = [self._source(place, tensor) for place, tensor in enumerate(inputs)]
        arrays = {role: model.arrays[parameter.key] for role, parameter in vertex.parameters.items()}
        self._layer = self._net.add(vertex.kind, vertex.name, self._sources, vertex.attributes, arrays)

    def _source(self, place: int, tensor: Tensor) -> NetworkVertex:
        """Something of the input's shape; its neurons can change if they stand along one axis."""
        shape = [size for size in tensor.shape[1:] if size is not None]
        axes = tensor.blocks[0].axes if len(tensor.blocks) == 1 else ()
        if not tensor.blocks:
            return self._net.add("input", f"input {place}", (), {"shape": tuple(shape), "axis": None})
        if len(axes) != 1 or axes[0] == 0:
            return self._net.input(f"input {place}", shape)
        size, axis = shape[axes[0] - 1], axes[0] - 1
        given = self._net.input(f"input {place}", shape, axis=axis)
        weight = np.zeros((size, size))
        return absorb(_nothing, given, parameters={"w": weight}, axes={"w": ("out", "in")}, axis=axes[0])

    def grid(self, points: int, repeats: int) -> Grid:
        """The layer's times."""
        loose = [source for source in self._sources if source.kind == "absorb"]
        ins = _sizes(loose[0].nout, points) if loose else [0]
        outs = _sizes(self._layer.nout, points) if self._layer.nout else [0]
        seen: dict[tuple[int, int], float] = {}
        for inside in ins:
            for outside in outs:
                sizes, seconds = self._timed(loose, inside, outside, repeats, seen)
                seen.setdefault(sizes, seconds)
        inputs, outputs = (sorted({sizes[axis] for sizes in seen}) for axis in (0, 1))
        if len(seen) < len(inputs) * len(outputs):
            # Inputs and outputs depend on each other: what counts is how many come out.
            line = [max(t for (_, m), t in seen.items() if m == size) for size in outputs]
            return Grid.smoothed([inputs[-1]], outputs, [line], self._name)
        table = [[seen[one, other] for other in outputs] for one in inputs]
        return Grid.smoothed(inputs, outputs, table, self._name)

    def _timed(
        self,
        loose: Sequence[NetworkVertex],
        inside: int,
        outside: int,
        repeats: int,
        seen: dict[tuple[int, int], float],
    ) -> tuple[tuple[int, int], float]:
        """The sizes nearest to these, and how long the layer takes with them."""
        wishes: dict[Any, Any] = {}
        for source in loose:
            share = max(round(source.nout * inside / max(loose[0].nout, 1)), 1)
            wishes[source] = relaxed(share - source.nout)
        if self._layer.nout:
            wishes[self._layer] = relaxed(outside - self._layer.nout)
        plan = plan_change(wishes, utility=lambda _: 0.0) if wishes else None
        after = self._net.graph if plan is None else plan.blueprint.after
        arrays = dict(self._net.arrays) if plan is None else plan.build()
        sizes = {port.vertex: len(t.neurons) for port, t in self._net.labels.tensors.items()}
        if plan is not None:
            sizes = {name: size for name, (_, size) in plan.sizes.items()}
        at = (sum(sizes[source.name] for source in self._sources), sizes[self._name])
        if at in seen:
            return at, seen[at]
        given = [self._values(source, sizes[source.name]) for source in self._sources]
        vertex, best = after.vertex(self._name), np.inf
        for _ in range(repeats + 1):
            start = time.perf_counter()
            compute(vertex, arrays, given, np.random.default_rng(self._seed))
            best = min(best, time.perf_counter() - start)
        return at, best

    def _values(self, source: NetworkVertex, size: int) -> Any:
        tensor = self._net.labels.tensors[Port(source.name)]
        shape = [self._batch, *(1 if one is None else one for one in tensor.shape[1:])]
        if tensor.blocks and source.kind == "absorb":
            shape[tensor.blocks[0].axes[0]] = size
        rng = np.random.default_rng(self._seed)
        if not tensor.blocks:
            return np.zeros(shape, self._net.dtype)  # tokens and the like: any number will do
        return rng.normal(size=shape).astype(self._net.dtype)


def _nothing(x: Any, w: Any) -> Any:
    """Never called: only the sizes of a source matter."""
    raise AssertionError((x, w))


def _sizes(size: int, points: int) -> list[int]:
    return sorted({max(round(size * (place + 1) / points), 1) for place in range(points)})
