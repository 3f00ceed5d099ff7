"""What every kind of model offers to the engine, and the handle by which a caller names a vertex."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solver_nas.errors import GraphError, RequestError
from solver_nas.graph import Port

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from solver_nas.graph import Graph, Vertex
    from solver_nas.labels import Labels, Memory, Shape, Tensor
    from solver_nas.linear import Fittable
    from solver_nas.passage import Batch, Course
    from solver_nas.plan import Blueprint

Array = NDArray[Any]


class Model(ABC):
    """A network that can be read as a graph with arrays, and changed in one step.

    Front ends derive from this class; the verbs of the library know nothing else about them.
    """

    @property
    @abstractmethod
    def graph(self) -> Graph:
        """The present structure."""

    @property
    @abstractmethod
    def labels(self) -> Labels:
        """The labels of the present structure."""

    @property
    @abstractmethod
    def arrays(self) -> Mapping[str, Array]:
        """The present parameters, by key; not to be written to."""

    @abstractmethod
    def fill_of(self, vertex: str, role: str) -> float | None:
        """What a new entry of a parameter starts with so that it changes nothing; `None` for random weights."""

    @abstractmethod
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
        """Take over a new structure and new arrays, all or nothing.

        Args:
            graph: the new structure.
            arrays: every parameter.
            moved: vertex name -> which old neuron stands at each place, -1 for a new one.
            forget: vertices that read something else than before, so that what their rules decided is void.
            labels: of the new structure, if they are known.
            memory: what rules have decided by looking at sizes; by default, that of the present labels.
        """

    def approve(
        self,
        blueprint: Blueprint,  # noqa: ARG002 - most trust their rules
        arrays: Mapping[str, Array],  # noqa: ARG002 - likewise
        refitted: Mapping[str, Array],  # noqa: ARG002 - likewise
    ) -> None:
        """Look at a change of sizes as a whole before it is committed; whoever does not approve raises an error.

        Args:
            blueprint: the change.
            arrays: every parameter as it is selected.
            refitted: those that will be something else, so that they compute what they should with what is left.

        Raises:
            VerificationError: the changed model does not compute what it should.
        """
        return

    def accompanied(self, optimizer: object) -> AbstractContextManager[object]:
        """Change with the model what an optimizer remembers about its parameters.

        Raises:
            RequestError: this kind of model has no such optimizers.
        """
        if optimizer is not None:
            raise RequestError(
                "only traced PyTorch modules take an optimizer along; for others, select from what it remembers with "
                "plan.follow"
            )
        return nullcontext()

    @abstractmethod
    def rename(self, old: str, new: str) -> Handle:
        """Give a vertex another name."""

    @abstractmethod
    def entrance(self, vertex: Handle, kind: str) -> Handle:
        """A new vertex behind another one, through which it can enter an operation without any effect at first."""

    @abstractmethod
    def compare(self, other: Model, *, seed: int = 0) -> float | None:
        """The largest relative difference between two models' outputs; `None` if it cannot be tried out."""

    @property
    @abstractmethod
    def precision(self) -> float:
        """Relative differences up to this are rounding."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Model]:
        """Several edits, or none: an exception takes all of them back."""

    @abstractmethod
    def fork(self) -> Model:
        """A model in the same state, to try a change on; arrays may be shared."""

    @abstractmethod
    def take_over(self, fork: Model) -> None:
        """Enter the state of a fork, all or nothing."""

    @abstractmethod
    def batches(self, given: Iterable[Any], size: int | None) -> Iterator[Batch]:
        """What the caller has given, as batches that the model takes.

        Args:
            given: batches of any size, in the forms that the front end knows.
            size: how many samples a batch shall have, where the model takes any number; by default a few.

        Raises:
            CalibrationError: something that the model does not take.
        """

    @abstractmethod
    def fittable(self, vertex: Vertex) -> Fittable | None:
        """A vertex as a product with a weight, or something else that can be refitted, if it is."""

    @abstractmethod
    def course(self, blueprint: Blueprint | None = None, arrays: Mapping[str, Array] | None = None) -> Course:
        """The way of batches through the model.

        Args:
            blueprint: for the model as it will be after this change; by default, as it is.
            arrays: all parameters of the changed model.
        """

    @abstractmethod
    def default_utility(self, handle: Handle) -> NDArray[np.float64] | float:
        """What the neurons of a vertex are worth when the caller does not say."""

    def handle(self, name: str) -> Handle:
        """The handle of a vertex."""
        self.graph.vertex(name)
        return Handle(self, name)

    def __getitem__(self, name: str) -> Handle:
        """The vertex of that name.

        Raises:
            GraphError: there is none.
        """
        return self.handle(name)

    def __iter__(self) -> Iterator[Handle]:
        """All vertices, producers first."""
        return (self.handle(name) for name in self.graph.order)

    def __len__(self) -> int:
        """How many vertices there are."""
        return len(self.graph)

    def __contains__(self, item: object) -> bool:
        """Whether a name or a handle belongs to this model."""
        if isinstance(item, Handle):
            return item.model is self and item.name in self.graph
        return item in self.graph

    def find(self, what: str | Callable[[Any], object]) -> tuple[Handle, ...]:
        """The vertices that answer to a name, a pattern or a question.

        Args:
            what: a vertex's exact name; or a pattern of names, in which `*` stands for any text, `?` for any
                character, `[ab]` for one of these and `[!ab]` for none of them; or a function of a handle that
                is true for the vertices wanted. Where a vertex has exactly this name, it is no pattern.

        Returns:
            Their handles, producers first; none if nothing fits.

        Raises:
            RequestError: it is none of these.

        >>> from solver_nas import Network, nn
        >>> net = Network()
        >>> narrow = nn.dense(net.input("in", 2), 4, name="block1.narrow")
        >>> wide = nn.dense(narrow, 9, name="block1.wide")
        >>> net.find("block1.*")
        (<block1.narrow: dense 2 -> 4>, <block1.wide: dense 4 -> 9>)
        >>> net.find(lambda v: v.nout > 5)
        (<block1.wide: dense 4 -> 9>,)
        """
        if isinstance(what, str):
            if what in self.graph:
                return (self.handle(what),)
            return tuple(self.handle(name) for name in self.graph.order if fnmatchcase(name, what))
        if callable(what):
            return tuple(handle for handle in self if what(handle))
        raise RequestError(
            f"find takes a name, a pattern such as 'block1.*', or a function of a vertex that says yes or no, "
            f"got {what!r}"
        )

    def tensor(self, name: str) -> Tensor:
        """The labelled output of a vertex."""
        return self.labels.tensors[Port(name)]


class Handle:
    """A vertex of a model, as the caller holds it.

    It stays valid when sizes change; `nin`, `nout` and the like are read when they are asked for.
    """

    def __init__(self, model: Model, name: str) -> None:
        """Only for front ends; callers get handles from `model[name]`."""
        self._model = model
        self._name = name

    @property
    def model(self) -> Model:
        """The model that the vertex belongs to."""
        return self._model

    @property
    def name(self) -> str:
        """The vertex's name."""
        return self._name

    @property
    def vertex(self) -> Vertex:
        """The vertex as a value."""
        return self.model.graph.vertex(self._name)

    @property
    def kind(self) -> str:
        """What the operation is."""
        return self.vertex.kind

    @property
    def shape(self) -> Shape:
        """Shape of the output; `None` where it is not known, such as the batch."""
        return self.model.tensor(self._name).shape

    @property
    def nout(self) -> int:
        """Number of output neurons."""
        return len(self.model.tensor(self._name).neurons)

    @property
    def nin(self) -> tuple[int, ...]:
        """Number of input neurons, one entry per slot."""
        return tuple(handle.nout for handle in self.inputs)

    @property
    def inputs(self) -> tuple[Handle, ...]:
        """The vertices that this one reads, by slot."""
        return tuple(self.model.handle(port.vertex) for port in self.vertex.inputs)

    @property
    def outputs(self) -> tuple[Handle, ...]:
        """The vertices that read this one, each once, producers first."""
        return tuple(self.model.handle(name) for name in self.model.graph.consumers(self._name))

    @property
    def ancestors(self) -> tuple[Handle, ...]:
        """The vertices that this one depends on, directly or through others, producers first."""
        return tuple(self.model.handle(name) for name in self.model.graph.ancestors(self._name))

    @property
    def descendants(self) -> tuple[Handle, ...]:
        """The vertices that depend on this one, directly or through others, producers first."""
        return tuple(self.model.handle(name) for name in self.model.graph.descendants(self._name))

    @property
    def parameters(self) -> Mapping[str, Array]:
        """The arrays of this vertex by role, read-only views."""
        arrays = self.model.arrays
        result = {}
        for role, parameter in self.vertex.parameters.items():
            view = arrays[parameter.key].view()
            view.flags.writeable = False
            result[role] = view
        return result

    def __eq__(self, other: object) -> bool:
        """Whether both name the same vertex of the same model."""
        return isinstance(other, Handle) and other.model is self.model and other.name == self._name

    def __hash__(self) -> int:
        """Equal handles hash equally."""
        return hash((id(self.model), self._name))

    def __repr__(self) -> str:
        """Name, kind and sizes."""
        inputs = ", ".join(map(str, self.nin))
        return f"<{self._name}: {self.kind} {inputs} -> {self.nout}>"


def untraced(value: object) -> str:
    """What was given in the place of a network, in words, and what to do if it is a module of PyTorch."""
    if hasattr(value, "named_parameters"):
        return (
            f"a {type(value).__name__}: make a model of it first, with solver_nas.torch.trace(module, example_inputs)"
        )
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"a {type(value).__name__}"


_SHOWN = 200  # characters of what is no network


def owner(handle: object) -> Model:
    """The model of a handle.

    Raises:
        GraphError: this is no handle, or its vertex is gone.
    """
    if not isinstance(handle, Handle):
        raise GraphError(f"expected a vertex such as net['hidden'], got {handle!r}")
    handle.model.graph.vertex(handle.name)
    return handle.model
