"""A PyTorch module that can be inspected and changed like a network of this library."""

from __future__ import annotations

import copy
from collections import ChainMap
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from weakref import ref

import numpy as np
import torch

from solver_nas.costs import parameters
from solver_nas.editable import Editable
from solver_nas.errors import GraphError, RequestError, VerificationError
from solver_nas.magnitude import magnitude
from solver_nas.observe import Observations
from solver_nas.passage import Batch, rebatched
from solver_nas.state import State
from solver_nas.torch import verify
from solver_nas.torch.binding import Binding, Contents, Memories, copied, remembered
from solver_nas.torch.capture import capture
from solver_nas.torch.feeding import Feeding
from solver_nas.torch.handles import TorchHandle
from solver_nas.torch.linear import fittable
from solver_nas.torch.numbers import numbers
from solver_nas.torch.optimizers import inner
from solver_nas.torch.passage import TorchCourse
from solver_nas.torch.recording import Recording, makers, recorded
from solver_nas.torch.rehearsal import Inputs, prepared, rehearse, selected
from solver_nas.torch.standalone import built, exported, rewritten
from solver_nas.torch.structure import Options, understand
from solver_nas.torch.tensors import Arrays, to_tensor
from solver_nas.torch.weighing import norms, value_of, weight_node
from solver_nas.worth import default_utility

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence

    from numpy.typing import NDArray

    from solver_nas.frontend import Array, Handle, Model
    from solver_nas.graph import Graph, Vertex
    from solver_nas.labels import Labels
    from solver_nas.linear import Fittable
    from solver_nas.plan import Blueprint
    from solver_nas.rules import Memory
    from solver_nas.torch.binding import Grads
    from solver_nas.torch.structure import Structure
    from solver_nas.torch.trees import Attribute


class Traced(NamedTuple):
    """What a state of a traced module has beside its graph and its tensors.

    Args:
        structure: of the module as it was traced.
        values: attributes that differ from what they were then.
        grads: gradients of tensors that another state has other ones of.
        memories: likewise, what optimizers remember.
    """

    structure: Structure
    values: Mapping[Attribute, int]
    grads: Grads
    memories: Memories


class Approved(NamedTuple):
    """A change that was tried out: the graph that it leads to, and what it writes."""

    graph: Graph
    contents: Contents


class TorchModel(Editable):
    """A traced module: the same handles, verbs and limits as a network made of NumPy layers.

    Vertices are called as the modules are that they belong to; what a module computes beside its main operation has
    the operation's name behind its own. Made by `solver_nas.torch.trace`.
    """

    def __init__(self, state: State, inputs: Inputs, binding: Binding | None, history: int) -> None:
        """Only for `trace`.

        Args:
            state: what was traced.
            inputs: example inputs.
            binding: the module that changes are written into; `None` for a model that stands for itself.
            history: how many changes can be taken back.
        """
        super().__init__(state, np.float32, history)
        self._inputs, self._binding = inputs, binding
        self._outside: Mapping[str, str] = {}
        self._approved: Approved | None = None
        self._makers: tuple[Labels, list[str]] | None = None
        #: What optimizers remembered in states that can be gone back to, with the shapes of the parameters.
        self._snapshots: list[tuple[ref[Memories], Mapping[str, torch.Size]]] = []

    def learn_labels(self, labels: Labels) -> None:
        """Only for `trace`: labels that were found on the way."""
        self._labels = labels

    def beware(self, outside: Mapping[str, str]) -> None:
        """Only for `trace`: parameters that something else holds as well: what that is, and what to do about it."""
        self._outside = outside

    def _empty(self) -> Self:
        return type(self)(self._state, self._inputs, None, 0)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """A model of a copy of the module; what happens to one does not reach the other."""
        binding = self._binding
        if binding is None:
            twin = type(self)(self._state.apart(), self._inputs, None, self.history)
        else:
            module = copy.deepcopy(binding.module, memo)
            other = Binding(module, binding.keys, binding.original)
            state = self._snapshot()._replace(past=())
            extra = self._traced._replace(grads={}, memories=Memories())
            twin = type(self)(
                state._replace(arrays=Arrays(other.tensors), extra=extra), self._inputs, other, self.history
            )
        memo[id(self)] = twin
        return twin

    def __reduce_ex__(self, protocol: object) -> str | tuple[Any, ...]:
        """Models of modules are not pickled.

        Raises:
            RequestError: always.
        """
        raise RequestError(
            "models of modules cannot be pickled: solver_nas.torch.save keeps the module's tensors and sizes, and "
            "model.module can be pickled like any other"
        )

    def __copy__(self) -> Self:
        """The same: a model of a copy of the module."""
        return copy.deepcopy(self)

    # -- what it is made of ------------------------------------------------------------------------

    @property
    def module(self) -> torch.nn.Module:
        """The module itself: the very object that was traced.

        Raises:
            GraphError: changes are not written into a module.
        """
        if self._binding is None:
            raise GraphError(
                "changes of this model are not written into a module (in_place=False, or a copy); "
                "model.standalone() makes one"
            )
        return self._binding.module

    @property
    def _traced(self) -> Traced:
        assert isinstance(self._state.extra, Traced), "models are made by `trace`"
        return self._state.extra

    @property
    def structure(self) -> Structure:
        """What was captured."""
        return self._traced.structure

    @property
    def whole_heads(self) -> bool:
        """Whether heads of attention go or stay as a whole."""
        return self.structure.options.whole_heads

    @property
    def values(self) -> Mapping[Attribute, int]:
        """Attributes that differ from what they were when the module was traced."""
        return self._traced.values

    @property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """The present parameters and buffers by path; what is shared has its first one.

        Raises:
            GraphError: the module is not what it was traced as.
        """
        arrays = self.arrays
        assert isinstance(arrays, Arrays), "states of traced modules hold tensors"
        return arrays.tensors

    @property
    def arrays(self) -> MutableMapping[str, Array]:
        """The same as read-only arrays.

        Raises:
            GraphError: the module is not what it was traced as.
        """
        known = self._state.arrays
        assert isinstance(known, Arrays), "states of traced modules hold tensors"
        fresh = None if self._binding is None else self._binding.refreshed(known.tensors)
        if fresh is not None:
            # Loading a checkpoint, for instance, may have put other tensors into the same parameters.
            self._state = self._state._replace(arrays=Arrays(fresh))
        return self._state.arrays

    def _owned(self, arrays: Mapping[str, Array]) -> MutableMapping[str, Array]:
        """Tensors instead of the arrays: those that stay, and new ones."""
        present = self.tensors
        if isinstance(arrays, Arrays):
            return Arrays({**present, **arrays.tensors})
        approved = {} if self._approved is None else self._approved.contents.tensors
        changed = arrays.maps[0] if isinstance(arrays, ChainMap) else arrays
        made = {key: to_tensor(array, present[key]) for key, array in changed.items() if key not in approved}
        return Arrays({**present, **made, **approved})

    def handle(self, name: str) -> TorchHandle:
        """The handle of a vertex, which also knows the module that the vertex belongs to."""
        self.graph.vertex(name)
        return TorchHandle(self, name)

    def __getitem__(self, name: str) -> TorchHandle:
        """The vertex of that name.

        Raises:
            GraphError: there is none.
        """
        return self.handle(name)

    # -- utility -----------------------------------------------------------------------------------------

    def record(self, *, every: int = 1, smoothing: float | None = None) -> Recording:
        """Record what neurons contribute while the user's own code trains the module.

        For every module whose output is the neurons that it makes: the mean of |activation x gradient| over the batch
        and all positions, smoothed from step to step. It is the default utility from then on.

        Source: Molchanov et al. 2017 (arXiv 1611.06440, equation 8), averaged as in NaiveNASflux
        (`ActivationContribution`).

        Args:
            every: record only every so many backward passes.
            smoothing: weight of the newest value.

        >>> # with model.record(every=10):
        >>> #     for x, y in batches: ...  (forward, backward, optimizer.step)
        """
        return Recording(self, every, smoothing)

    def default_utility(self, handle: Handle) -> NDArray[np.float64] | float:
        """What was recorded (`record`), or what neurons contribute (`calibrate`); otherwise the norms of their weights.

        Where nothing was recorded for a vertex that makes neurons, but something for others, the norms of its weights
        stand in, scaled to the mean of all that was recorded.
        """
        seen = [one for one in self.observers.values() if isinstance(one, Observations)]
        if any(one.metric is not None for one in seen):
            return recorded(self, handle, lambda: self._norms(handle))
        known = any(one.statistics is not None for one in seen)
        return default_utility(handle, lambda: self._norms(handle)) if known else self._norms(handle)

    @property
    def makers(self) -> list[str]:
        """The vertices whose parameters make neurons that can go."""
        labels = self.labels
        if self._makers is None or self._makers[0] is not labels:
            self._makers = (labels, makers(self.graph, labels))
        return self._makers[1]

    def _norms(self, handle: Handle) -> NDArray[np.float64] | float:
        weight = self.computed_weight(handle.name)
        return magnitude(handle) if weight is None else norms(handle, weight, self.tensors)

    def computed_weight(self, name: str) -> torch.Tensor | None:
        """The weight of a layer where it is computed from parameters, as with parametrizations; otherwise `None`."""
        node = weight_node(self.structure, self.graph.vertex(name))
        if node is None:
            return None
        nodes = rewritten(self.structure.nodes, self.structure.made, numbers(self.labels))
        return value_of(nodes, node, self.structure.given(self.tensors, *self._inputs))

    # -- changing ------------------------------------------------------------------------------------------

    def approve(self, blueprint: Blueprint, arrays: Mapping[str, Array], refitted: Mapping[str, Array]) -> None:
        """Try a change out, in the captured graph and in the module's own code.

        Raises:
            VerificationError: something else comes out than should, or it cannot be run.
            RequestError: what an optimizer remembers cannot be followed, or no tensors can be made that are trained.
            GraphError: the module is not what it was traced as.
        """
        if torch.is_inference_mode_enabled():
            raise RequestError("tensors that are made in inference mode cannot be trained: leave it for the change")
        self._approved, present, binding = None, self.tensors, self._binding
        for key in (*blueprint.arrays, *refitted):
            if key in self._outside:
                raise VerificationError(f"parameter {key!r} {self._outside[key]}; nothing was changed")
        if binding is not None:
            binding.check(self.structure.read, self.values)
        change = prepared(self.structure, blueprint, self.labels, present, arrays, binding)
        rehearse(self.structure, change, present, self._inputs, binding)
        grads, memories = ({}, Memories()) if binding is None else selected(binding, change)
        others = [key for key in refitted if key not in change.tensors]
        if binding is not None:
            grads.update({key: binding.owners[key].grad for key in others})
        like = {**present, **change.tensors}
        tensors = {**change.tensors, **{key: to_tensor(array, like[key]) for key, array in refitted.items()}}
        self._approved = Approved(blueprint.after, Contents(tensors, change.values, grads, memories))

    def commit(
        self,
        graph: Graph,
        arrays: Mapping[str, Array],
        moved: Mapping[str, NDArray[np.intp]],
        *,
        forget: Collection[str] = (),
        labels: Labels | None = None,
        memory: Memory | None = None,
    ) -> None:
        """Take over new sizes: in the module, if there is one, and in what optimizers remember."""
        approved = self._approved
        try:
            state = self._changed(graph, arrays, moved, forget, memory)
            if approved is not None and approved.graph is graph:
                contents, traced = approved.contents, self._traced
                if self._binding is not None:
                    # What goes with the tensors that are replaced stays with the state that has them.
                    grads, memories = self._binding.companions(contents.tensors)
                    self._state = self._state._replace(extra=traced._replace(grads=grads, memories=memories))
                extra = Traced(
                    traced.structure, {**traced.values, **contents.values}, contents.grads, contents.memories
                )
                state = state._replace(extra=extra)
            self._commit(state, labels)
        finally:
            self._approved = None

    def _enter(self, state: State, labels: Labels | None = None) -> None:
        if self._binding is None:
            super()._enter(state, labels)
            return
        arrays, traced, before, known = state.arrays, state.extra, self._state, self._labels
        assert isinstance(arrays, Arrays), "states of traced modules hold tensors"
        assert isinstance(traced, Traced), "states of traced modules know how they were traced"
        contents = Contents(arrays.tensors, traced.values, traced.grads, traced.memories)
        writing = self._binding.writing(contents, self._traced.values)
        enter = super()._enter
        writing.step(lambda: enter(state, labels), lambda: enter(before, known))
        writing.carry_out()

    def _snapshot(self) -> State:
        """The present state with copies of all tensors, so that training does not reach it."""
        copies = {key: tensor.clone() for key, tensor in self.tensors.items()}
        grads: Grads = {}
        memories = Memories()
        if self._binding is not None:
            grads, memories = self._binding.companions(copies)
            grads = {key: None if grad is None else grad.clone() for key, grad in grads.items()}
            for place, value in memories.items():
                memories[place] = copied(value)
            shapes = {key: tensor.shape for key, tensor in copies.items()}
            self._snapshots = [(one, sizes) for one, sizes in self._snapshots if one() is not None]
            self._snapshots.append((ref(memories), shapes))
        extra = self._traced._replace(grads=grads, memories=memories)
        return self._state.apart()._replace(arrays=Arrays(copies), extra=extra)

    def _past(self, state: State) -> State:  # noqa: ARG002 - graphs of traced modules do not change in place
        return self._snapshot() if self.history else self._state

    @contextmanager
    def accompanied(self, optimizer: object) -> Iterator[None]:
        """Change what an optimizer remembers about parameters with them, from now on; if this fails, it is let go.

        Raises:
            GraphError: changes are not written into a module.
            RequestError: this is no optimizer of PyTorch.
        """
        if optimizer is None:
            yield
            return
        assert self.module is not None, "an error is raised otherwise"
        assert self._binding is not None, "modules are bound"
        before = len(self._binding.optimizers)
        self.follow_optimizer(optimizer)
        try:
            yield
        except BaseException:
            del self._binding.optimizers[before:]
            raise

    def follow_optimizer(self, optimizer: object) -> None:
        """Let all later changes select from what an optimizer remembers, whichever verb makes them.

        Args:
            optimizer: of `torch.optim`, or something that holds one as its `optimizer`. Its groups stay as they are,
                since parameters stay the same objects; schedulers need nothing.

        Raises:
            GraphError: changes are not written into a module.
            RequestError: this is no optimizer of PyTorch, or none of this module.
        """
        found = inner(optimizer)
        assert self.module is not None, "an error is raised otherwise"
        assert self._binding is not None, "modules are bound"
        mine = {id(tensor) for tensor in self._binding.owners.values()}
        if not any(id(parameter) in mine for group in found.param_groups for parameter in group["params"]):
            raise RequestError(
                "the optimizer has none of the module's parameters; was it made for a copy, or before one was made?"
            )
        if all(found is not one for _, one in self._binding.followers()):
            place = len(self._binding.optimizers)
            self._binding.optimizers.append(ref(found))
            self._learn_about(place, found)

    def _learn_about(self, place: int, optimizer: torch.optim.Optimizer) -> None:
        """Add what an optimizer remembers to the states that can be gone back to, where sizes were the same."""
        assert self._binding is not None, "modules are bound"
        for one, shapes in self._snapshots:
            memories = one()
            if memories is not None:
                for key, owner in self._binding.owners.items():
                    known = remembered(optimizer, owner) if shapes.get(key) == owner.shape else None
                    memories[place, key] = copied(known)

    # -- what is not for modules -----------------------------------------------------------------------

    def rename(self, old: str, new: str) -> Handle:
        """Vertices are called as modules are; they keep their names.

        Raises:
            GraphError: always.
        """
        raise GraphError(f"vertex {old!r} is called as in the module's code; it cannot be called {new!r}")

    def entrance(self, vertex: Handle, kind: str) -> Handle:
        """The structure of a module is its code.

        Raises:
            GraphError: always.
        """
        raise GraphError(_STRUCTURE.format(what=f"entering {vertex.name!r} ({kind})"))

    def fork(self) -> Self:
        """Only edits of the structure try themselves out on forks.

        Raises:
            GraphError: always.
        """
        raise GraphError(_STRUCTURE.format(what="this edit"))

    # -- running, and ways back ----------------------------------------------------------------------------

    def batches(self, given: Iterable[object], size: int | None) -> Iterator[Batch]:  # noqa: ARG002 - it is fixed
        """What the caller has given, as batches of the size that the module was traced with."""
        feeding = Feeding(self.structure, self._inputs)
        return rebatched(map(feeding.batch, given), feeding.rows, _joined, exactly=True)

    def fittable(self, vertex: Vertex) -> Fittable | None:
        """A vertex as something that can be refitted, if it is."""
        return fittable(vertex)

    def course(self, blueprint: Blueprint | None = None, arrays: Mapping[str, Array] | None = None) -> TorchCourse:
        """The way of batches through the captured operations."""
        structure, present = self.structure, self.tensors
        if blueprint is None:
            nodes = rewritten(structure.nodes, structure.made, numbers(self.labels))
            return TorchCourse(structure, self.graph, nodes, present)
        made = self.arrays if arrays is None else arrays
        change = prepared(structure, blueprint, self.labels, present, made, None)
        nodes = rewritten(structure.nodes, structure.made, numbers(change.after))
        return TorchCourse(structure, blueprint.after, nodes, {**present, **change.tensors})

    def _computed(self) -> list[Any]:
        """What the captured operations return for the example inputs."""
        structure = self.structure
        nodes = rewritten(structure.nodes, structure.made, numbers(self.labels))
        return verify.computed(nodes, structure.given(self.tensors, *self._inputs), structure.returned)

    def compare(self, other: Model, *, seed: int = 0) -> float | None:  # noqa: ARG002 - the example inputs are used
        """The largest relative difference between two models' outputs for the example inputs."""
        assert isinstance(other, TorchModel), "models are compared with models"
        return verify.distance(self._computed(), other._computed())  # noqa: SLF001 - of its own class

    @property
    def precision(self) -> float:
        """Relative differences up to this are rounding."""
        return verify.TOLERANCE

    def standalone(self) -> torch.fx.GraphModule:
        """What the model computes as a module of its own: its operations, with their present sizes.

        It needs none of the user's code and has copies of all tensors under their paths. Sizes of inputs are those of
        the example inputs where the module's code has used them.
        """
        structure = self.structure
        if structure.training and self._binding is not None:
            # What was captured is more than what the module computes in evaluation mode: auxiliary heads.
            again = capture(self._binding.module, *self._inputs, everything=False)
            plain = understand(again, self._binding.module, Options(free=False, in_place=False, whole_heads=True))
            return built(plain, plain.nodes, self.tensors)
        return built(structure, rewritten(structure.nodes, structure.made, numbers(self.labels)), self.tensors)

    def export(self) -> torch.export.ExportedProgram:
        """The same as an exported program, for deployment: `torch.export.save`, compilers, ONNX."""
        return exported(self.standalone(), self._inputs.args, self._inputs.kwargs)

    def __repr__(self) -> str:
        """How many vertices and parameters."""
        tensors = self.tensors
        total = sum(tensors[key].numel() for key, _, _ in parameters(self.graph, self.labels))
        return f"<TorchModel: {len(self)} vertices, {total:,} parameters>"


def _joined(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat(list(tensors))


_STRUCTURE = (
    "{what} would change the structure of the module, which is its code: edit the code, or export the model to ONNX "
    "and edit it with solver_nas.onnx"
)
