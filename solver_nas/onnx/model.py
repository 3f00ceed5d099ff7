"""An ONNX model that can be inspected and changed like a network of this library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from solver_nas.costs import parameters
from solver_nas.editable import Editable
from solver_nas.errors import (
    CalibrationError,
    GraphError,
    RequestError,
    RuleError,
    SolverNasError,
    StoreError,
    VerificationError,
)
from solver_nas.frontend import Handle as HandleClass
from solver_nas.graph import Graph, Port, Vertex
from solver_nas.onnx import runtime, store, verify
from solver_nas.onnx.adding import addition
from solver_nas.onnx.fills import fills_of
from solver_nas.onnx.linear import fittable
from solver_nas.onnx.operator import PREFIX
from solver_nas.onnx.passage import OnnxCourse
from solver_nas.onnx.rewiring import same_wiring
from solver_nas.onnx.rewrite import written
from solver_nas.onnx.source import open_model
from solver_nas.onnx.structure import understand
from solver_nas.onnx.trials import given_shapes
from solver_nas.passage import Batch, named, rebatched, rows_of
from solver_nas.rules import label
from solver_nas.state import State, frozen
from solver_nas.worth import default_utility

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from onnx import ModelProto

    from solver_nas.frontend import Array, Handle, Model
    from solver_nas.labels import Labels
    from solver_nas.linear import Fittable
    from solver_nas.onnx.source import Origin
    from solver_nas.onnx.structure import Structure
    from solver_nas.plan import Blueprint

_BATCH = 8  # samples that pass at once, where nobody says how many: all that is read later is in memory
_ROUNDING = 1e-4  # relative difference up to which outputs are equal but for rounding


class Read(NamedTuple):
    """The model that the present state is told apart from.

    Args:
        origin: the model as it was read, or as the last edit of its structure has left it.
        structure: of that model.
        given: input shapes that the caller has given.
        free: whether what the model returns may change.
    """

    origin: Origin
    structure: Structure
    given: Mapping[str, tuple[int | None, ...]]
    free: bool


class Written(NamedTuple):
    """A model in ONNX's own form, and what it was written from."""

    graph: Graph
    arrays: Mapping[str, Array]
    proto: ModelProto


def _same(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return one.keys() == other.keys() and all(array is other[key] for key, array in one.items())


def load(
    source: str | os.PathLike[str] | bytes | ModelProto,
    input_shapes: Mapping[str, Sequence[int | None]] | None = None,
    *,
    inputs: Mapping[str, Array] | None = None,
    free_outputs: bool = False,
    history: int = 1,
) -> OnnxModel:
    """Open an ONNX model.

    Args:
        source: a file, its bytes, or a `ModelProto`, which stays as it is.
        input_shapes: input name -> shape, with the batch, for sizes that the model leaves open; `None` for a size
            that stays open. Costs such as `macs` need to know all sizes but the batch.
        inputs: arrays with which changes are tried out before they are made; by default, random ones.
        free_outputs: whether what the model returns may change its size; by default it stays as it is.
        history: how many changes `undo` can take back.

    Raises:
        RequestError: shapes or inputs that the model does not take.
        StoreError: this is no ONNX model, or a damaged one, or it wants to read files outside its folder; or no
            sizes were found for what it leaves open.
        OSError: there is no such file.
    """
    given = given_shapes(input_shapes)
    origin, structure, labels = _opened(source, given, free=free_outputs)
    state = State(
        structure.graph,
        frozen(structure.arrays),
        {},
        fills_of(structure.graph, structure.arrays),
        None,
        np.random.default_rng(0),
        Read(origin, structure, given, free_outputs),
    )
    model = OnnxModel(state, history)
    model.trial_inputs = None if inputs is None else runtime.checked(structure, inputs)
    model.learn_labels(labels)
    return model


#: What code raises that meets something in a file that nobody foresaw.
_UNFORESEEN = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, NotImplementedError, RecursionError),
    *(RuntimeError, TypeError, ValueError),
)


def _opened(
    source: str | os.PathLike[str] | bytes | ModelProto, given: Mapping[str, tuple[int | None, ...]], *, free: bool
) -> tuple[Origin, Structure, Labels]:
    """A model, its structure and its labels.

    Raises:
        StoreError: whatever is wrong with it.
    """
    try:
        origin = open_model(source)
        structure = understand(origin, given, free=free)
        return origin, structure, label(structure.graph)
    except RuleError as error:
        raise StoreError(f"the model does not hold together: {error}") from error
    except SolverNasError:
        raise
    except _UNFORESEEN as error:
        raise StoreError(
            f"the model cannot be read, it is damaged or holds what was not foreseen ({type(error).__name__}: {error})"
        ) from error


class OnnxModel(Editable):
    """An ONNX model: the same handles, verbs and limits as a network made of NumPy layers.

    Vertices are called as the nodes are; a node of which several outputs are used has a vertex for each, the
    later ones with `:1`, `:2` behind the name. Made by `solver_nas.onnx.load`.
    """

    def __init__(self, state: State, history: int) -> None:
        """Only for `load`."""
        super().__init__(state, np.float32, history)
        self.trial_inputs: dict[str, Array] | None = None
        # What was written and what was approved last, and a session for a model.
        self._proto: Written | None = None
        self._approved: Written | None = None
        self._session: tuple[ModelProto, runtime.Session] | None = None

    def learn_labels(self, labels: Labels) -> None:
        """Take labels that were found while the model was read."""
        self._labels = labels

    def _empty(self) -> Self:
        twin = type(self)(self._state, 0)
        twin.trial_inputs = self.trial_inputs
        return twin

    def _forget(self) -> None:
        super()._forget()
        self._proto = self._session = None

    @property
    def _read(self) -> Read:
        assert isinstance(self._state.extra, Read), "models are made by `load`"
        return self._state.extra

    @property
    def _origin(self) -> Origin:
        return self._read.origin

    @property
    def _structure(self) -> Structure:
        return self._read.structure

    @property
    def read_as(self) -> tuple[Origin, Structure]:
        """The model as it was read, or as the last edit of its structure has left it, and its structure."""
        return self._origin, self._structure

    @property
    def structure(self) -> Structure:
        """What was read: values, facts, steps."""
        return self._structure

    @property
    def proto(self) -> ModelProto:
        """The model as it is now, as a copy."""
        from onnx import ModelProto

        made = ModelProto()
        made.CopyFrom(self._written())
        return made

    def _written(self) -> ModelProto:
        for known in (self._proto, self._approved):
            # The very same values, and not only equal ones: comparing these would take as long as writing.
            if known is not None and known.graph is self.graph and _same(known.arrays, self.arrays):
                self._proto = known
                return known.proto
        proto = self._write(self.graph, self.arrays)
        self._proto = Written(self.graph, dict(self.arrays), proto)
        return proto

    def _write(self, graph: Graph, arrays: Mapping[str, Array]) -> ModelProto:
        """The model that a graph and its arrays describe.

        Raises:
            VerificationError: it would not hold together.
        """
        try:
            return written(self._origin, self._structure, graph, arrays)
        except StoreError as error:
            told = f"the changed model does not hold together: {error}; nothing was changed"
            raise VerificationError(told) from error
        except (LookupError, TypeError, ValueError) as error:
            if isinstance(error, SolverNasError):
                raise
            raise VerificationError(f"the changed model cannot be written: {error!r}; nothing was changed") from error

    def save(self, path: str | os.PathLike[str], *, external: bool | None = None) -> None:
        """Write the model to a file; if anything fails, a file that was there stays.

        Args:
            path: the file's.
            external: whether large tensors go into a file beside it; by default, if they came from one, or if the
                model is larger than 2 GB.

        Raises:
            OSError: the file cannot be written.
        """
        as_it_came = True if self._origin.beside else None
        store.write(self._written(), Path(path), external=as_it_came if external is None else external)

    def __call__(self, inputs: Mapping[str, Array] | None = None, **named: Array) -> dict[str, Array]:
        """Run the model with onnxruntime.

        Args:
            inputs: arrays by the names of inputs.
            named: the same, as keywords instead.

        Returns:
            Arrays by the names of outputs.

        Raises:
            RequestError: other names, types or sizes than the model takes.
        """
        given = runtime.checked(self._structure, named if inputs is None else inputs)
        proto = self._written()
        if self._session is None or self._session[0] is not proto:
            self._session = (proto, runtime.session(proto))
        return runtime.run(self._session[1], given)

    def __copy__(self) -> OnnxModel:
        """A model in the same state; what happens to one does not reach the other."""
        twin = self.fork()
        twin.history = self.history
        return twin

    def __deepcopy__(self, memo: dict[int, object]) -> OnnxModel:
        """The same: states are values, and arrays are read-only."""
        memo[id(self)] = twin = copy(self)
        return twin

    # -- what planning asks for ------------------------------------------------------------------

    def approve(self, blueprint: Blueprint, arrays: Mapping[str, Array], refitted: Mapping[str, Array]) -> None:
        """Check the changed model, run it, and compare it with the original without the neurons that go.

        Raises:
            VerificationError: it is not valid, does not run, or computes something else.
        """
        changed = self._write(blueprint.after, arrays)
        verify.valid(changed)
        found = self.comparison(blueprint, arrays, changed)
        if not found.equal:
            raise VerificationError(
                f"the changed model differs from the original without the neurons that go by {found.difference:.2g} of "
                f"the largest output, {found.allowed:.2g} are allowed for rounding; nothing was changed"
            )
        final = {**arrays, **refitted}
        if refitted:
            changed = self._write(blueprint.after, final)
            verify.valid(changed)
        self._approved = Written(blueprint.after, final, changed)

    def comparison(
        self,
        blueprint: Blueprint,
        arrays: Mapping[str, Array],
        changed: ModelProto,
        inputs: Mapping[str, Array] | None = None,
    ) -> verify.Comparison:
        """How a changed model compares with the original without the neurons that go."""
        labels = self.labels
        gone = verify.removal(self.graph, labels, blueprint)
        added = None
        if verify.grows_together(labels, blueprint):
            added = verify.addition(labels, label(blueprint.after, memory=blueprint.memory), blueprint)
        moved = verify.moved_outputs(self._structure, labels, blueprint)
        first: StoreError | None = None
        try:
            for given in self._trials() if inputs is None else [inputs]:
                try:
                    return verify.compare(
                        self._written(), changed, self._structure, gone, added, (self.arrays, arrays), given, moved
                    )
                except verify.TrialError as error:
                    first = first or error
        except StoreError as error:
            raise VerificationError(f"the change could not be tried out: {error}") from error
        raise VerificationError(f"the change could not be tried out: {first}; {runtime.SUITABLE}") from first

    def _trials(self) -> Iterator[Mapping[str, Array]]:
        """Inputs to try changes out with; the next ones are for a model that does not take those before."""
        if self.trial_inputs is not None:
            yield self.trial_inputs
        else:
            yield from runtime.trials(self._structure, np.random.default_rng(0))

    def rename(self, old: str, new: str) -> Handle:
        """Give a vertex another name.

        Raises:
            GraphError: the name is taken.
        """
        if new != old:
            if new in self.graph:
                raise GraphError(f"vertex {new!r} is there already; names must be unique")
            memory = self._state.memory and self._state.memory.renamed(old, new)
            self._enter(self._state._replace(graph=self.graph.renamed(old, new), memory=memory))
        return self.handle(new)

    def add(
        self, operator: str, *inputs: Handle | Array | None, name: str | None = None, **attributes: object
    ) -> Handle:
        """Add a node behind others; what `insert`, `replace` and their siblings build with.

        Args:
            operator: `"Conv"`; with the domain for others than the standard one, `"com.microsoft::Gelu"`.
            inputs: in the operator's order: handles of vertices, arrays (which become parameters, or numbers where
                the operator reads shapes, axes and the like), `None` for an input that is left out.
            name: of the new vertex; by default the operator and a number.
            attributes: of the node, such as `kernel_shape=(3, 3)`.

        Returns:
            The handle of the vertex, which is the node's first output.

        Raises:
            GraphError: the name is taken, or the operator cannot take these inputs; nothing has been added.

        >>> # insert(model["relu"], lambda x: x.model.add("Conv", x, kernel, kernel_shape=(1, 1), name="extra"))
        """
        for handle in inputs:
            if isinstance(handle, HandleClass) and (handle.model is not self or handle.name not in self.graph):
                raise GraphError(f"{handle!r} is not a vertex of this model")
        try:
            vertex, arrays = addition(self.graph, self._structure, self.arrays, operator, inputs, name, attributes)
            labels = label(Graph([*self.graph.vertices, vertex], self.graph.outputs), memory=self.labels.memory)
            if labels.choices.get((vertex.name, "refused")):
                why = next(reason.rule for reason in labels.pinned if reason.vertex == vertex.name)
                raise GraphError(f"{operator!r} cannot stand there: {why}")
        except GraphError:
            raise
        except (RuleError, TypeError, ValueError, NotImplementedError) as error:
            raise GraphError(f"{operator!r} cannot stand there: {error}") from error
        self.arrays.update(frozen(arrays))
        self._state.fills.update(fills_of(Graph([replace(vertex, inputs=())]), arrays))
        self._labels = self._proto = self._session = self._approved = None
        self.graph.add(vertex)
        return self.handle(vertex.name)

    def entrance(self, vertex: Handle, kind: str) -> Handle:
        """A learned scale of zero behind a vertex; before a product, with a learned shift of one."""
        tensor = self.tensor(vertex.name)
        axis = tensor.blocks[-1].axes[-1] if tensor.blocks else len(tensor.shape) - 1
        shape = (tensor.shape[axis] or 1, *[1] * (len(tensor.shape) - 1 - axis))
        made = self.add("Mul", self.handle(vertex.name), np.zeros(shape, self.dtype))
        if kind.removeprefix(PREFIX) in ("Mul", "multiply"):
            made = self.add("Add", made, np.ones(shape, self.dtype))
        return made

    def take_over(self, fork: Model) -> None:
        """Enter the state of a fork; a changed structure is written, checked, and read again.

        Raises:
            VerificationError: the changed model is not valid or does not run; nothing was changed.
        """
        assert isinstance(fork, OnnxModel), "forks are of the same class"
        if not same_wiring(self._structure, fork.graph):
            fork.settle()
        super().take_over(fork)

    def settle(self) -> None:
        """Read the model that a changed structure makes, as if it had been opened.

        Raises:
            VerificationError: it is not valid, does not run, or its sizes are not those that were planned.
        """
        changed = self._written()
        verify.valid(changed)
        try:
            # What suits the model before has to suit the changed one.
            given = runtime.suitable(runtime.session(self._origin.whole), self._trials())
            runtime.run(runtime.session(changed), given)
            origin = replace(open_model(changed), beside=self._origin.beside)
            structure = understand(origin, self._read.given, free=self._read.free)
        except StoreError as error:
            raise VerificationError(f"the changed model cannot be run: {error}; nothing was changed") from error
        labels = label(structure.graph)
        for name in self.graph.order:
            if name in structure.graph and len(labels.tensors[Port(name)].neurons) != self.handle(name).nout:
                raise VerificationError(f"vertex {name!r} has other sizes than planned; nothing was changed")
        read = self._read._replace(origin=origin, structure=structure)
        fills = fills_of(structure.graph, structure.arrays)
        self._enter(
            self._state._replace(
                graph=structure.graph, arrays=frozen(structure.arrays), fills=fills, memory=None, extra=read
            )
        )

    def compare(self, other: Model, *, seed: int = 0) -> float | None:
        """The largest relative difference between two models' outputs.

        They are run with the inputs that the model was opened with, and with random ones of several sizes.
        """
        assert isinstance(other, OnnxModel), "models are compared with models"
        before, after = self._written(), other._written()  # noqa: SLF001 - of its own class
        return verify.difference(before, after, self._structure, self.trial_inputs, seed)

    @property
    def precision(self) -> float:
        """Relative differences up to this are rounding."""
        return _ROUNDING

    def batches(self, given: Iterable[object], size: int | None) -> Iterator[Batch]:
        """What the caller has given, as batches of the size that the model takes, or of this one (by default 8)."""
        declared = {shape[0] for shape in self._structure.declared.values() if shape}
        fixed = next(iter(declared)) if len(declared) == 1 else None
        wanted = _BATCH if size is None else size
        return rebatched(
            map(self._batch, given), wanted if fixed is None else fixed, np.concatenate, exactly=fixed is not None
        )

    def _batch(self, given: object) -> Batch:
        inputs, target = named(given, tuple(self._structure.inputs))
        try:
            found = runtime.checked(self._structure, inputs, rows=True)
        except RequestError as error:
            raise CalibrationError(str(error)) from error
        return Batch(found, rows_of(found), None if target is None else np.asarray(target))

    def fittable(self, vertex: Vertex) -> Fittable | None:
        """A vertex as something that can be refitted, if it is."""
        return fittable(vertex)

    def course(self, blueprint: Blueprint | None = None, arrays: Mapping[str, Array] | None = None) -> OnnxCourse:
        """The way of batches through the model."""
        names = tuple(self._structure.inputs)
        if blueprint is None:
            return OnnxCourse(self._written(), self.graph, names)
        changed = self._write(blueprint.after, self.arrays if arrays is None else arrays)
        return OnnxCourse(changed, blueprint.after, names)

    def default_utility(self, handle: Handle) -> NDArray[np.float64] | float:
        """What neurons contribute where that was recorded (`calibrate`), otherwise the norm of their weights."""
        return default_utility(handle)

    def __repr__(self) -> str:
        """How many vertices and parameters."""
        total = sum(self.arrays[key].size for key, _, _ in parameters(self.graph, self.labels))
        return f"<OnnxModel: {len(self)} vertices, {total:,} parameters>"
