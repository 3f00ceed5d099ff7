"""A neural network in NumPy: a graph of vertices, their arrays, and its evaluation."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solver_nas.editable import Editable
from solver_nas.errors import CalibrationError, GraphError, LayerError
from solver_nas.frontend import Handle, Model
from solver_nas.graph import Graph, Parameter, Port, Vertex
from solver_nas.nn import inputs as _inputs  # noqa: F401 - registers what an input is
from solver_nas.nn.forward import evaluate
from solver_nas.nn.linear import fittable
from solver_nas.nn.passage import NetworkCourse
from solver_nas.nn.vertex import NetworkVertex
from solver_nas.passage import Batch, named, rebatched, rows_of
from solver_nas.rules import Tape, label_vertex
from solver_nas.state import State, frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from os import PathLike

    from solver_nas.frontend import Array
    from solver_nas.graph import Digraph
    from solver_nas.labels import Tensor
    from solver_nas.linear import Fittable
    from solver_nas.plan import Blueprint

_BATCH = 64  # samples that pass at once, where nobody says how many


class Network(Editable):
    """A network of NumPy layers.

    Layers are added by functions that take handles and return one (`solver_nas.nn`); the structure is
    a `networkx.MultiDiGraph` at `digraph`. Everything that can change lives in one tuple that a change
    replaces as a whole, so that no failure and no interrupt leaves half of a change behind.

    Args:
        seed: for the initial weights.
        dtype: of the weights.
        history: how many edits `undo` can take back; what an edit replaced stays in memory until then.

    >>> from solver_nas import nn
    >>> net = Network()
    >>> hidden = nn.dense(net.input("in", 2), 32, activation="relu", name="hidden")
    >>> net.output(nn.dense(hidden, 1, name="out"))
    >>> net["hidden"]
    <hidden: dense 2 -> 32>
    >>> net(np.zeros((5, 2))).shape
    (5, 1)
    """

    def __init__(self, *, seed: int = 0, dtype: type[np.floating[Any]] = np.float64, history: int = 1) -> None:
        """Start without vertices."""
        super().__init__(State(Graph(), {}, {}, {}, None, np.random.default_rng(seed)), dtype, history)
        # The outputs of new layers, until labels are asked for again.
        self._drafts: dict[str, Tensor] = {}
        self._tape: Tape | None = Tape()

    def _forget(self) -> None:
        super()._forget()
        self._drafts, self._tape = {}, None

    def _empty(self) -> Network:
        return Network(dtype=self.dtype.type, history=0)

    # -- reading -------------------------------------------------------------------------------

    @property
    def digraph(self) -> Digraph:
        """The present structure as a networkx graph; edge keys are input slots. Not to be changed."""
        return self.graph.digraph

    @property
    def vertices(self) -> tuple[NetworkVertex, ...]:
        """All vertices in topological order; among equals, the order in which they were added."""
        return tuple(self.handle(name) for name in self.graph.order)

    @property
    def inputs(self) -> tuple[NetworkVertex, ...]:
        """The input vertices, in the order in which `net(...)` takes them."""
        return tuple(self.handle(vertex.name) for vertex in self.graph.vertices if vertex.kind == "input")

    @property
    def outputs(self) -> tuple[NetworkVertex, ...]:
        """The output vertices, in the order in which `net(...)` returns them."""
        return tuple(self.handle(port.vertex) for port in self.graph.outputs)

    def handle(self, name: str) -> NetworkVertex:
        """The handle of a vertex.

        Raises:
            GraphError: there is no vertex of that name.
        """
        self.graph.vertex(name)
        return NetworkVertex(self, name)

    def __getitem__(self, name: str) -> NetworkVertex:
        """The vertex of that name."""
        return self.handle(name)

    def tensor(self, name: str) -> Tensor:
        """The labelled output of a vertex."""
        if name not in self._drafts:
            self._drafts = {port.vertex: tensor for port, tensor in self.labels.tensors.items()}
        return self._drafts[name]

    # -- building ------------------------------------------------------------------------------

    def input(self, name: str, size: int | Sequence[int | None], *, axis: int | None = None) -> NetworkVertex:
        """Add an input.

        Args:
            name: unique in the network.
            size: number of features, or the shape of one sample, such as `(3, 32, 32)` (channels first);
                `None` for a size that is not known. `()` or an axis of tokens has no neurons: see `axis`.
            axis: which axis of a sample holds the neurons; by default the first one. Sequences are
                `(steps, features)` with `axis=-1`.

        Returns:
            The input's handle. Its size never changes.
        """
        shape = (size,) if isinstance(size, int) else tuple(size)
        if any(s is not None and (not isinstance(s, int | np.integer) or s < 1) for s in list[Any](shape)):
            raise LayerError(f"input {name!r}: sizes are positive integers or None, got {size!r}")
        place = 0 if axis is None else axis
        return self.add("input", name, (), {"shape": shape, "axis": place if shape else None})

    def tokens(self, name: str, length: int | None = None) -> NetworkVertex:
        """Add an input of integers, such as token numbers for an embedding: (batch, length), no neurons."""
        return self.add("input", name, (), {"shape": (length,), "axis": None})

    def output(self, *vertices: Handle) -> None:
        """Say which vertices `net(...)` returns; by default those that nothing reads.

        Raises:
            GraphError: a vertex of another network.
        """
        names = tuple(Port(self._mine(vertex).name) for vertex in vertices)
        self.graph.set_outputs(names)

    def add(
        self,
        kind: str,
        name: str | None,
        inputs: Sequence[Handle],
        attributes: Mapping[str, object] | None = None,
        arrays: Mapping[str, Array] | None = None,
        *,
        fills: Mapping[str, float] | None = None,
        keys: Mapping[str, str] | None = None,
    ) -> NetworkVertex:
        """Add a vertex of any kind that has a rule; layers are made with this.

        Args:
            kind: the operation; its rule and its forward function are registered under this name.
            name: unique; `None` for the kind and a number.
            inputs: handles of the vertices that it reads.
            attributes: what rule and forward function need to know.
            arrays: parameters by role.
            fills: what new entries of a parameter start with so that they change nothing (for those that
                are not weights of neurons: 1 for a norm's scale).
            keys: roles whose array is shared with another vertex, and that array's key.

        Raises:
            GraphError: the name is taken, or an input belongs to another network.
            LayerError: arrays and declared axes do not fit; nothing has been added.
        """
        name = self.free_name(kind) if name is None else name
        ports = tuple(Port(self._mine(handle).name) for handle in inputs)
        made = {
            role: (self._free_key(f"{name}.{role}"), np.array(array, self.dtype))
            for role, array in (arrays or {}).items()
        }
        parameters = {role: Parameter(key, array.shape) for role, (key, array) in made.items()}
        for role, key in (keys or {}).items():
            parameters[role] = Parameter(key, self.arrays[key].shape)
        vertex = Vertex(name, kind, ports, dict(attributes or {}), parameters)
        if name in self.graph:
            raise GraphError(f"vertex {name!r} is there already; names must be unique")
        draft = self._draft(vertex)
        # The vertex itself comes last: until it is there, what belongs to it is of no consequence.
        self.arrays.update(frozen(dict(made.values())))
        self._state.fills.update({made[role][0]: value for role, value in (fills or {}).items() if role in made})
        self._drafts[name] = draft
        self._labels = None
        self.graph.add(vertex)
        return self.handle(name)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Add several vertices or, if one of them fails, none."""
        before = self._state.apart()
        try:
            yield
        except BaseException:
            self._enter(before)
            raise

    def _free_key(self, key: str) -> str:
        """An array key that is not in use: a renamed vertex keeps its arrays' old keys."""
        number, free = 2, key
        while free in self.arrays:
            number, free = number + 1, f"{key}.{number}"
        return free

    def _draft(self, vertex: Vertex) -> Tensor:
        """The output of a vertex that is about to be added: it checks that everything fits."""
        if self._tape is None:
            self._tape, self._drafts = Tape(memory=self._state.memory, first=self.labels.count), {}
        try:
            inputs = tuple(self.tensor(port.vertex) for port in vertex.inputs)
            (draft,) = label_vertex(vertex, inputs, self._tape)
        except BaseException:
            # A rule that fails leaves its traces on the tape, which is then of no more use.
            self._tape = None
            raise
        return draft

    def free_name(self, kind: str) -> str:
        """A name for the next vertex of a kind: the kind and a number."""
        number = 1
        while f"{kind}_{number}" in self.graph:
            number += 1
        return f"{kind}_{number}"

    def _mine(self, handle: object) -> Handle:
        if not isinstance(handle, Handle) or handle.model is not self:
            raise GraphError(f"{handle!r} is not a vertex of this network")
        self.graph.vertex(handle.name)
        return handle

    def rename(self, old: str, new: str) -> NetworkVertex:
        """Give a vertex another name; handles of the old name become void.

        Raises:
            GraphError: the name is taken.
        """
        if new != old:
            if new in self.graph:
                raise GraphError(f"vertex {new!r} is there already; names must be unique")
            tensor = self.tensor(old)
            graph = self.graph.renamed(old, new)
            observers = {new if name == old else name: seen for name, seen in self.observers.items()}
            memory = self._state.memory and self._state.memory.renamed(old, new)
            self._state = self._state._replace(graph=graph, observers=observers, memory=memory)
            self._drafts = {name: kept for name, kept in self._drafts.items() if name != old} | {new: tensor}
            self._labels = None
        return self.handle(new)

    # -- evaluating ----------------------------------------------------------------------------

    def __call__(self, *inputs: Array, training: bool = False, **named: Array) -> Any:
        """Evaluate the network.

        Args:
            inputs: arrays of shape (batch, ...), in the order of `net.inputs`.
            training: as in a training step (dropout, batch statistics).
            named: arrays by name of the input instead.

        Returns:
            The output array, or a tuple of them if there are several outputs.

        Raises:
            LayerError: wrong number, names or sizes of inputs.
        """
        values = self.activations(*inputs, training=training, **named)
        names = [port.vertex for port in self.graph.returned]
        return values[names[0]] if len(names) == 1 else tuple(values[name] for name in names)

    def activations(self, *inputs: Array, training: bool = False, **named: Array) -> dict[str, Any]:
        """The outputs of all vertices, by name; arguments as for `net(...)`."""
        return evaluate(self.graph, self.arrays, self.feed(inputs, named), self.rng, training=training)

    def feed(self, inputs: Sequence[Array], named: Mapping[str, Array]) -> dict[str, Array]:
        """Arrays by input vertex, checked."""
        names = [vertex.name for vertex in self.graph.vertices if vertex.kind == "input"]
        if len(inputs) + len(named) != len(names) or not set(named) <= set(names[len(inputs) :]):
            raise LayerError(
                f"the network takes {len(names)} inputs {names}, got {len(inputs)} by position "
                f"and {sorted(named)} by name"
            )
        fed = {name: np.asarray(x) for name, x in (*zip(names, inputs, strict=False), *named.items())}
        for name, x in fed.items():
            shape = self.tensor(name).shape[1:]
            sample = x.shape[x.ndim - len(shape) :]
            if x.ndim not in (len(shape), len(shape) + 1) or any(
                want is not None and want != got for want, got in zip(shape, sample, strict=True)
            ):
                raise LayerError(f"input {name!r} takes arrays of shape (batch, {str(shape)[1:]}, got {x.shape}")
        return fed

    # -- what planning asks for ------------------------------------------------------------------

    def entrance(self, vertex: Handle, kind: str) -> NetworkVertex:
        """A learned scale of zero behind a vertex; before a product, with a learned bias of one."""
        from solver_nas.nn.scale import bias, scale

        made = scale(self.handle(vertex.name))
        made.op.scale = np.zeros_like(made.op.scale)
        if kind == "multiply":
            made = bias(made)
            made.op.bias = np.ones_like(made.op.bias)
        return made

    def compare(self, other: Model, *, seed: int = 0) -> float | None:
        """How far another network's outputs are from this one's, for a batch that is made up.

        Args:
            other: a network with the same inputs.
            seed: for the batch.

        Returns:
            The largest difference of an output, relative to the largest value of that output, over samples of
            several spreads; infinite if shapes differ, `None` if no batch could be made up.
        """
        from solver_nas.nn.probe import difference

        assert isinstance(other, Network), "networks are compared with networks"
        return difference(self, other, seed)

    @property
    def precision(self) -> float:
        """Outputs that differ by less, relative to the largest, are equal but for rounding."""
        from solver_nas.nn.probe import rounding

        return rounding(self)

    def batches(self, given: Iterable[Any], size: int | None) -> Iterator[Batch]:
        """What the caller has given, as batches of this size, by default 64."""
        return rebatched(map(self._batch, given), _BATCH if size is None else size, np.concatenate, exactly=False)

    def _batch(self, given: object) -> Batch:
        names = [vertex.name for vertex in self.graph.vertices if vertex.kind == "input"]
        inputs, target = named(given, names)
        try:
            fed = self.feed((), {name: np.asarray(array) for name, array in inputs.items()})
        except LayerError as error:
            raise CalibrationError(str(error)) from error
        fed = {name: self._typed(name, array) for name, array in fed.items()}
        rows = rows_of(fed) if all(x.ndim == len(self.tensor(name).shape) for name, x in fed.items()) else 0
        if not rows:
            shapes = {name: array.shape for name, array in fed.items()}
            raise CalibrationError(f"a batch has equally many samples for all inputs, along a first axis; got {shapes}")
        return Batch(fed, rows, None if target is None else np.asarray(target))

    def _typed(self, name: str, array: Array) -> Array:
        """An input in the network's precision; one without an axis of neurons holds token numbers."""
        if array.dtype.kind not in "biuf":
            raise CalibrationError(f"input {name!r} takes real numbers, a batch has {array.dtype}")
        whole = self.graph.vertex(name).attributes["axis"] is None and array.dtype.kind in "iu"
        return array if whole else array.astype(self.dtype, copy=False)

    def fittable(self, vertex: Vertex) -> Fittable | None:
        """A vertex as something that can be refitted, if it is."""
        return fittable(vertex)

    def course(self, blueprint: Blueprint | None = None, arrays: Mapping[str, Array] | None = None) -> NetworkCourse:
        """The way of batches through the network."""
        graph = self.graph if blueprint is None else blueprint.after
        return NetworkCourse(graph, self.arrays if arrays is None else arrays)

    def default_utility(self, handle: Handle) -> NDArray[np.float64] | float:
        """What neurons are worth by default: see `solver_nas.nn.default_utility`."""
        from solver_nas.worth import default_utility

        return default_utility(handle)

    def __copy__(self) -> Network:
        """An independent copy: two networks never share arrays."""
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, object]) -> Network:
        """An independent copy with its own arrays; callables of user-made layers are shared."""
        twin = self.fork()
        memo[id(self)] = twin
        twin.history = self.history
        arrays = frozen({key: array.copy() for key, array in self.arrays.items()})
        observers = {name: copy.deepcopy(observer) for name, observer in self.observers.items()}
        twin._enter(twin._state._replace(arrays=arrays, observers=observers))  # noqa: SLF001 - of its own class
        return twin

    def __repr__(self) -> str:
        """How many vertices and parameters."""
        total = sum(array.size for array in self.arrays.values())
        return f"<Network: {len(self)} vertices, {total:,} parameters>"

    def summary(self, *columns: Any) -> str:
        """A table of all vertices; by default name, kind, inputs, sizes, shape and number of parameters.

        Args:
            columns: what to show instead: names of columns (`"vertex"`, `"kind"`, `"inputs"`, `"outputs"`, `"nin"`,
                `"nout"`, `"shape"`, `"dtype"`, `"arrays"`, `"parameters"`), names of attributes such as
                `"activation"`, functions of a vertex, or pairs of a heading and one of these.

        Raises:
            RequestError: a column that is none of these, or an attribute that no vertex has.
        """
        from solver_nas.report.tables import summary

        return summary(self, *columns)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the network to a file: see `solver_nas.nn.save`."""
        from solver_nas.nn.store import save

        save(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Network:
        """The network that was saved in a file: see `solver_nas.nn.load`."""
        from solver_nas.nn.store import load

        return load(path)
