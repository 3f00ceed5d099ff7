"""What is asked of which model, and what its neurons are worth to whoever asks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from solver_nas.errors import GraphError, RequestError
from solver_nas.frontend import owner
from solver_nas.graph import Port
from solver_nas.limits import View, listed, resolved
from solver_nas.requests import input_targets, is_fraction, output_targets
from solver_nas.solve import GAP
from solver_nas.utility import checked, descending

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from solver_nas.bounds import Restriction
    from solver_nas.explain import Explanation
    from solver_nas.frontend import Handle, Model
    from solver_nas.requests import Target
    from solver_nas.strategies import Utility


class Ask:
    """What is asked of which model."""

    def __init__(
        self,
        model: Model,
        outputs: Sequence[tuple[Handle, Any]] = (),
        inputs: Sequence[tuple[Handle, Any]] = (),
        free: Sequence[Handle] = (),
        limits: Iterable[object] = (),
        *,
        insert: bool = True,
        promise: Utility | None = None,
        gap: float = GAP,
    ) -> None:
        """Collect wishes for outputs and inputs, what may change without one, and limits.

        Args:
            model: of which it is asked.
            outputs: wishes for outputs.
            inputs: wishes for inputs.
            free: what may change without a wish.
            limits: what has to be kept.
            insert: whether new neurons may come.
            promise: what new neurons are worth.
            gap: with limits, how close to the best selection is good enough, as a fraction.
        """
        self.model = model
        # Taken now, so that a utility that changes the model is found out and not mixed in.
        self.graph, self.labels, self._revision = model.graph, model.labels, model.graph.revision
        self._outputs, self._inputs = outputs, inputs
        self.free = tuple(Port(handle.name) for handle in free)
        self.insert, self.gap = insert, gap
        if not is_fraction(gap):
            raise RequestError(f"gap is a fraction in [0, 1), got {gap!r}")
        self.wanted, self._promise = listed(limits), promise

    @property
    def subject(self) -> str:
        """The request in words, where its wishes do not say it; else nothing."""
        return ""

    @property
    def owner(self) -> Model:
        """The model whose vertices the caller speaks of."""
        return self.model

    @property
    def view(self) -> View:
        """The network in which limits are looked up."""
        return View.of(self.model)

    @cached_property
    def limits(self) -> tuple[Restriction, ...]:
        """The limits, looked up."""
        return resolved(self.wanted, self.view)

    @cached_property
    def promise(self) -> Promise | None:
        """What new neurons are worth, if the caller says so."""
        return None if self._promise is None else Promise(self.model, self._promise)

    @property
    def refusal(self) -> Explanation | None:
        """Why there is nothing to ask, if it is clear beforehand."""
        return None

    def check_unchanged(self) -> None:
        """Refuse to go on if a utility has changed the network that it was asked about.

        Raises:
            GraphError: it has.
        """
        if self.model.graph is not self.graph or self.graph.revision != self._revision:
            raise GraphError("the utility has changed the network; let it only look at the vertices that it is given")

    def worth(self, utility: Utility | None) -> Worth:
        """What neurons are worth to this caller."""
        return Worth(self.model, utility)

    def targets(self) -> tuple[Target, ...]:
        """The wishes as sizes, checked."""
        graph, labels = self.graph, self.labels
        outputs = output_targets(graph, labels, [(v.name, d) for v, d in self._outputs])
        inputs = input_targets(graph, labels, [(v.name, d) for v, d in self._inputs])
        return (*outputs, *inputs)


class Promise:
    """Asks the caller what new neurons are worth, once per vertex."""

    def __init__(self, model: Model, utility: Utility) -> None:
        """Take a function of a vertex, or a mapping from vertices."""
        self._model, self._utility = model, utility
        self._seen: dict[str, NDArray[np.float64]] = {}

    def __call__(self, port: Port) -> NDArray[np.float64]:
        """What the first new neuron of a vertex is worth, the second, and so on."""
        name = port.vertex
        if name not in self._seen:
            handle = self._model.handle(name)
            utility = self._utility
            value = utility.get(handle, ()) if isinstance(utility, Mapping) else utility(handle)
            self._seen[name] = descending(value, name)
        return self._seen[name]


class Worth:
    """Asks the caller what neurons are worth, once per vertex, and remembers the answers."""

    def __init__(self, model: Model, utility: Utility | None) -> None:
        """Take a function of a vertex, a mapping from vertices, or the model's default."""
        self._model, self._utility = model, utility
        if utility is not None and not callable(utility) and not isinstance(utility, Mapping):
            raise RequestError(
                f"a utility is a function of a vertex, or a mapping from vertices to worths, got {utility!r}"
            )
        self.seen: dict[str, NDArray[np.float64]] = {}
        self.asked: set[str] = set()
        if isinstance(utility, Mapping):
            for handle in utility:
                if owner(handle) is not model:
                    raise GraphError(f"the utility names vertex {handle.name!r} of another network")

    def __call__(self, port: Port) -> NDArray[np.float64]:
        """The utility of a vertex's neurons."""
        self.asked.add(port.vertex)
        if port.vertex not in self.seen:
            self.seen[port.vertex] = self.of(self._model.handle(port.vertex))
        return self.seen[port.vertex]

    def of(self, handle: Handle) -> NDArray[np.float64]:
        """What the caller says of one vertex, checked."""
        if self._utility is None:
            value: object = handle.model.default_utility(handle)
        elif isinstance(self._utility, Mapping):
            value = self._utility.get(handle, 0.0)
        else:
            value = self._utility(handle)
        vector = checked(value, handle.nout, handle.name)
        return np.zeros(handle.nout) if vector is None else vector
