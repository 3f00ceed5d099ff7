"""A plan for an edit of the structure, to look at, verify and carry out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.apply import follow
from solver_nas.change import Change, check_objective, size_table
from solver_nas.errors import PlanError, RuleError
from solver_nas.moves import carried
from solver_nas.rules import label
from solver_nas.weights import recentred

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from solver_nas.frontend import Model
    from solver_nas.plan import Blueprint
    from solver_nas.solve import Certificate
    from solver_nas.weights import Array


@dataclass(frozen=True, slots=True, eq=False)
class EditPlan:
    """What an edit of the structure will do: look at it, check it, apply it.

    Args:
        model: the model that it was made for; untouched until `apply`.
        title: the edit in words.
        origin: a fork of the model as it was; `before` is a copy to look at.
        result: a fork of the model as it will be; `after` is a copy to look at and to try out.
        steps: the changes of sizes on the way, in order.
        moves: where neurons stood before, by vertex, for all that happens on the way.
        added: vertices that are new.
        removed: vertices that go.
        utilities: vertex -> what each of its neurons is worth, for those that were up for change.
        difference: the largest difference between the outputs before and after for a random batch, relative
            to the largest output; infinite if their shapes differ, `None` if no batch could be made up.
        notes: what the caller should know.
        revision: of the graph that it starts from.
        warning: what is said when it is carried out; empty for nothing.
    """

    model: Model
    title: str
    origin: Model
    result: Model
    steps: tuple[Blueprint, ...]
    moves: tuple[Mapping[str, NDArray[np.intp]], ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    utilities: Mapping[str, NDArray[np.float64]]
    difference: float | None
    notes: tuple[str, ...]
    revision: int
    warning: str

    @property
    def before(self) -> Model:
        """A copy of the model as it was."""
        return self.origin.fork()

    @property
    def after(self) -> Model:
        """A copy of the model as it will be; what happens to it does not reach the plan."""
        return self.result.fork()

    @property
    def unchanged(self) -> bool | None:
        """Whether the network will compute what it did, to rounding; `None` if that could not be found out."""
        if self.difference is None:
            return None
        return self.difference <= self.result.precision

    @property
    def certificate(self) -> Certificate | None:
        """How good the selection of neurons is; `None` if there was nothing to select."""
        return self.steps[-1].certificate if self.utilities else None

    @property
    def sizes(self) -> Mapping[str, tuple[int, int]]:
        """Vertex name -> (neurons before, neurons after), for vertices that were there and stay."""
        return {name: (self.origin.handle(name).nout, self.result.handle(name).nout) for name in self._common()}

    @property
    def indices(self) -> Mapping[str, NDArray[np.intp]]:
        """Vertex name -> old index of every neuron that it will have, -1 for a new one."""
        found = {}
        for name in self._common():
            index = np.arange(self.origin.handle(name).nout)
            for step in self.moves:
                if name in step:
                    index = carried(index, step[name], -1)
            size = self.result.handle(name).nout
            if len(index) != size:
                index = np.full(size, -1)
            index.flags.writeable = False
            found[name] = index
        return found

    def _common(self) -> list[str]:
        gone = {*self.removed, *self.added}
        return [name for name in self.result.graph.order if name in self.origin.graph and name not in gone]

    @property
    def empty(self) -> bool:
        """Whether nothing would change; edits of the structure always change something."""
        return False

    def check(self) -> None:
        """Verify the plan without the solver: shapes, arrays, and the objective of the selection.

        Raises:
            PlanError: something does not agree; the message says what.
        """
        graph, arrays = self.result.graph, self.result.arrays
        try:
            label(graph)
        except RuleError as error:
            raise PlanError(f"{self.title}: the structure does not hold together: {error}") from error
        used = {parameter.key for vertex in graph.vertices for parameter in vertex.parameters.values()}
        for vertex in graph.vertices:
            for role, parameter in vertex.parameters.items():
                found = arrays.get(parameter.key)
                if found is None or found.shape != parameter.shape:
                    shape = "nothing" if found is None else found.shape
                    raise PlanError(f"parameter {role!r} of {vertex.name!r} is {shape}, not {parameter.shape}")
        if extra := set(arrays) - used:
            raise PlanError(f"the arrays {sorted(extra)} belong to no vertex")
        if self.certificate is not None:
            check_objective(self.certificate, self.steps[-1].indices, self.utilities)

    def _check_start(self) -> None:
        graph, was = self.model.graph, self.origin
        same = (
            graph.revision == self.revision
            and graph.vertices == was.graph.vertices
            and graph.outputs == was.graph.outputs
            and self.model.arrays.keys() == was.arrays.keys()
            and all(self.model.arrays[key] is array for key, array in was.arrays.items())
        )
        if not same:
            raise PlanError("the model has changed since this plan was made; make a new plan")

    def apply(self) -> Change:
        """Carry the plan out: all of it, or, if anything fails, nothing.

        Raises:
            PlanError: the model has changed since the plan was made.
        """
        self._check_start()
        self.check()
        self.model.take_over(self.result)
        return Change(self.model, self)

    def follow(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Select from arrays that accompany parameters, such as an optimiser's moments.

        Args:
            arrays: parameter key -> array of the parameter's old shape.

        Returns:
            The keys that are still there; new entries are zero.
        """
        result = dict(arrays)
        for step in self.steps:
            result = follow(step, result)
        kept = {key: array for key, array in result.items() if key in self.result.arrays}
        # Only a window changes its shape without a change of sizes.
        return {key: recentred(array, self.result.arrays[key].shape) for key, array in kept.items()}

    def _sized(self, name: str) -> str:
        """A vertex with its size, where it is new."""
        return f"{name} ({self.result.handle(name).nout} neurons)" if name in self.added else name

    def __str__(self) -> str:
        """What comes, what goes, which sizes change, and whether the network computes what it did."""
        lines = [self.title]
        for word, names in (("added", self.added), ("removed", self.removed)):
            if names:
                lines.append(f"{word}: {', '.join(map(self._sized, names))}")
        lines += size_table(self.sizes, self.indices)
        if self.certificate is not None:
            lines.append(str(self.certificate))
        said = {
            True: "the network computes what it did",
            False: "the network computes something else than before",
            None: "whether the network computes what it did was not found out: no batch could be made up",
        }
        return "\n".join([*lines, said[self.unchanged], *self.notes])
