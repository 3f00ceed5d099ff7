"""From an edit of the structure to a plan for it: tried out on a fork of the model, sizes solved, all checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from solver_nas.apply import build, follow
from solver_nas.asking import Ask, Worth
from solver_nas.change import Change
from solver_nas.errors import GraphError, ImpossibleError, LayerError, PlanError, RequestError, RuleError
from solver_nas.explain import Explanation
from solver_nas.frontend import Handle
from solver_nas.graph import Port
from solver_nas.planning import initialisers, pursue
from solver_nas.requests import Target
from solver_nas.rules import label
from solver_nas.rules.bridge import KIND as BRIDGE
from solver_nas.surgery import Layout, Rewiring, UntrackedError, Wiring, cut, finished, layout, padded, stacks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from numpy.typing import NDArray

    from solver_nas.frontend import Model
    from solver_nas.graph import Graph
    from solver_nas.plan import Blueprint
    from solver_nas.planning import Found, InitOf
    from solver_nas.solve import Certificate
    from solver_nas.strategies import Strategy, Utility
    from solver_nas.surgery import Prospect
    from solver_nas.weights import Array, Initialisers

    _Moved: TypeAlias = Mapping[str, NDArray[np.intp]]

Align = Literal["increase", "decrease", "both", "none"]

_PAD_SEED = 0x5EED  # room that is made gets other random weights than what the solver inserts


class Options(NamedTuple):
    """How an edit is to be planned: the arguments that all edits have in common."""

    utility: Utility | None
    strategy: Strategy
    time_limit: float
    seed: int
    init: InitOf
    align: Align


@dataclass(frozen=True, slots=True, eq=False)
class EditPlan:
    """What an edit of the structure will do: look at it, check it, apply it.

    Args:
        model: the model that it was made for; untouched until `apply`.
        title: the edit in words.
        before: a fork of the model as it was.
        after: a fork of the model as it will be.
        steps: the changes of sizes on the way, in order.
        moves: where neurons stood before, by vertex, for all that happens on the way.
        added: vertices that are new.
        removed: vertices that go.
        renamed: name in the fork -> name before, for vertices whose name is taken over.
        utilities: vertex -> what each of its neurons is worth, for those that were up for change.
        difference: the largest difference between the outputs before and after for a random batch, relative
            to the largest output; infinite if their shapes differ, `None` if no batch could be made up.
        notes: what the caller should know.
    """

    model: Model
    title: str
    before: Model
    after: Model
    steps: tuple[Blueprint, ...]
    moves: tuple[Mapping[str, NDArray[np.intp]], ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    utilities: Mapping[str, NDArray[np.float64]]
    difference: float | None
    notes: tuple[str, ...] = ()
    revision: int = field(default=-1)

    @property
    def unchanged(self) -> bool | None:
        """Whether the network will compute what it did, to rounding; `None` if that could not be found out."""
        if self.difference is None:
            return None
        return self.difference <= self.after.precision

    @property
    def certificate(self) -> Certificate | None:
        """How good the selection of neurons is; `None` if there was nothing to select."""
        return self.steps[-1].certificate if self.utilities else None

    @property
    def sizes(self) -> Mapping[str, tuple[int, int]]:
        """Vertex name -> (neurons before, neurons after), for vertices that were there and stay."""
        return {name: (self.before.handle(name).nout, self.after.handle(name).nout) for name in self._common()}

    @property
    def indices(self) -> Mapping[str, NDArray[np.intp]]:
        """Vertex name -> old index of every neuron that it will have, -1 for a new one."""
        found = {}
        for name in self._common():
            index = np.arange(self.before.handle(name).nout)
            for step in self.moves:
                if name in step:
                    index = np.where(step[name] >= 0, index[step[name]], -1)
            index.flags.writeable = False
            found[name] = index
        return found

    def _common(self) -> list[str]:
        gone = {*self.removed, *self.added}
        return [name for name in self.after.graph.order if name in self.before.graph and name not in gone]

    @property
    def empty(self) -> bool:
        """Whether nothing would change; edits of the structure always change something."""
        return False

    def check(self) -> None:
        """Verify the plan without the solver: shapes, arrays, and the objective of the selection.

        Raises:
            PlanError: something does not agree; the message says what.
        """
        graph, arrays = self.after.graph, self.after.arrays
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
            indices = self.steps[-1].indices
            kept = sum(float(worth[indices[name][indices[name] >= 0]].sum()) for name, worth in self.utilities.items())
            if not np.isclose(kept, self.certificate.objective, rtol=1e-9, atol=1e-9):
                stated = self.certificate.objective
                raise PlanError(f"the neurons kept are worth {kept}, the certificate says {stated}")

    def _check_start(self) -> None:
        graph, was = self.model.graph, self.before
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
        self.model.take_over(self.after)
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
        return {key: array for key, array in result.items() if key in self.after.arrays}

    def __str__(self) -> str:
        """What comes, what goes, which sizes change, and whether the network computes what it did."""
        lines = [self.title]
        for word, names in (("added", self.added), ("removed", self.removed)):
            if names:
                lines.append(f"{word}: {', '.join(names)}")
        rows = [(name, before, after) for name, (before, after) in self.sizes.items() if before != after]
        if rows:
            width = max(len("vertex"), *(len(name) for name, _, _ in rows))
            lines.append(f"{'vertex':<{width}}  before  after  kept  new")
            indices = self.indices
            for name, before, after in rows:
                new = int((indices[name] < 0).sum())
                lines.append(f"{name:<{width}}  {before:>6}  {after:>5}  {after - new:>4}  {new:>3}")
        if self.certificate is not None:
            lines.append(str(self.certificate))
        said = {
            True: "the network computes what it did",
            False: "the network computes something else than before",
            None: "whether the network computes what it did was not found out: no batch could be made up",
        }
        return "\n".join([*lines, said[self.unchanged], *self.notes])


class Draft:
    """An edit in the making: vertices are added to a fork, then a wiring connects them."""

    def __init__(self, model: Model, title: str) -> None:
        """Start with the model as it is."""
        self.model, self.title = model, title
        self.before, self.fork = model.fork(), model.fork()
        self._revision = model.graph.revision
        if not self.fork.graph.outputs:
            # What nothing reads is an output; that must not change on the way.
            readers = self.fork.graph.consumers
            self.fork.graph.set_outputs([Port(name) for name in self.fork.graph.order if not readers(name)])
        self._known = frozenset(self.fork.graph.order)
        self._alias: dict[str, str] = {}

    @property
    def graph(self) -> Graph:
        """The structure with what was added."""
        return self.fork.graph

    def shelve(self, name: str) -> str:
        """Give a vertex another name, so that its own is free; the new one."""
        aside = f"{name} (replaced)"
        while aside in self.fork.graph:
            aside += "~"
        self.fork.rename(name, aside)
        self._alias[aside] = name
        self._known = self._known - {name} | {aside}
        return aside

    def make(self, factory: Callable[..., object], names: tuple[str, ...]) -> str:
        """Let the caller's function add vertices behind these; the name of the one that it returns.

        Raises:
            GraphError: it returns something else than a new vertex of the network that it was given.
        """
        if not callable(factory):
            raise GraphError(f"{self.title}: expected a function that makes a vertex from a vertex, got {factory!r}")
        made = factory(*(self.fork.handle(name) for name in names))
        if not isinstance(made, Handle):
            raise GraphError(f"{self.title}: the function returned {made!r}; it has to return the new vertex")
        if made.model is not self.fork:
            raise GraphError(
                f"{self.title}: the function returned {made.name!r} of another network; build on the vertex that "
                f"it is called with"
            )
        if made.name in self._known:
            raise GraphError(f"{self.title}: the function returned {made.name!r}, which was there already")
        return made.name

    def plan(self, wiring: Wiring | None, options: Options) -> tuple[EditPlan | None, Explanation | None]:
        """The plan for this edit, and why there is none.

        Args:
            wiring: what is to be read by whom; `None` if only vertices themselves were changed.
            options: arguments of the caller.
        """
        if options.align not in ("increase", "decrease", "both", "none"):
            raise RequestError(f"align is 'increase', 'decrease', 'both' or 'none', got {options.align!r}")
        trial = _Trial(self, options)
        if wiring is None:
            return self._finished(trial, None, options), None
        found, explanation = trial.run(wiring)
        if found is None and trial.stuck:
            return None, explanation
        return self._finished(trial, found, options), explanation

    def _finished(self, trial: _Trial, found: Found | None, options: Options) -> EditPlan:
        after = trial.fork
        common = self._known - set(self._alias)
        removed = [self._alias.get(name, name) for name in self.before.graph.order if name not in after.graph]
        removed += [name for name in self._alias.values() if name not in removed]
        added = [name for name in after.graph.order if name not in common]
        try:
            difference = self.before.compare(after, seed=options.seed)
        except LayerError as error:
            raise ImpossibleError(f"{self.title} is impossible: {error}", (str(error),)) from error
        plan = EditPlan(
            self.model,
            self.title,
            self.before,
            after,
            tuple(trial.steps),
            tuple(trial.moves),
            tuple(added),
            tuple(removed),
            {} if found is None else found.utilities,
            difference,
            (*trial.notes, *(() if found is None else found.notes)),
            self._revision,
        )
        plan.check()
        return plan

    def is_new(self, name: str) -> bool:
        """Whether a vertex was added."""
        return name not in self._known

    def original(self, name: str) -> str:
        """The name of a vertex in the model."""
        return self._alias.get(name, name)


class _Trial:
    """One way of carrying an edit out on a fork."""

    def __init__(self, draft: Draft, options: Options) -> None:
        self.draft, self.options = draft, options
        self.fork = draft.fork
        self.steps: list[Blueprint] = []
        self.moves: list[Mapping[str, NDArray[np.intp]]] = []
        self.notes: list[str] = []
        self.stuck = False

    def run(self, wiring: Wiring) -> tuple[Found | None, Explanation | None]:
        """Follow the neurons of concatenations through the edit; where that does not work, only their number."""
        joins = stacks(self.draft.graph, wiring)
        reason = ""
        if joins:
            try:
                return self._attempt(wiring, joins, follow=True)
            except (UntrackedError, ImpossibleError) as error:
                reason = str(error)
        try:
            found, explanation = self._attempt(wiring, joins, follow=False)
        except UntrackedError as error:
            raise ImpossibleError(f"{self.draft.title} is impossible: {error}", (str(error),)) from error
        if joins and found is not None:
            self.notes.append(f"neurons were matched by their order only ({reason.splitlines()[0]})")
        return found, explanation

    def _attempt(self, wiring: Wiring, joins: list[str], *, follow: bool) -> tuple[Found | None, Explanation | None]:
        try:
            return self._carry_out(wiring, joins, follow=follow)
        except (RuleError, LayerError) as error:
            raise ImpossibleError(f"{self.draft.title} is impossible: {error}", (str(error),)) from error

    def _carry_out(self, wiring: Wiring, joins: list[str], *, follow: bool) -> tuple[Found | None, Explanation | None]:
        self.fork, self.steps, self.moves, self.stuck = self.draft.fork.fork(), [], [], False
        layouts, moved = {}, {}
        for name in joins:
            planned = layout(self.fork.graph, self.fork.labels, name, wiring.inputs[name])
            moved[name] = np.array(planned.origins, np.intp)
            place = self._cut(name, planned if follow else None)
            if follow:
                layouts[place] = planned
        fork = self.fork
        for planned in layouts.values():
            self._check_sizes(planned)
        memory = fork.labels.memory
        prospect = Rewiring(fork.graph, fork.labels, wiring, memory).prospect(layouts, title=self.draft.title)
        self._enter(prospect.graph, fork.arrays, prospect.touched, moved)
        found = explanation = None
        if prospect.gaps or layouts:
            found, explanation = self._solve(prospect)
            if found is None:
                self.stuck = True
                return None, explanation
            self._resize(found.blueprint, found.init, self.options.seed)
            self._note(prospect, found)
        self._enter(finished(self.fork.graph), self.fork.arrays, prospect.touched)
        self.fork.labels  # noqa: B018 - labels it, which is the check
        return found, explanation

    def _cut(self, name: str, planned: Layout | None) -> str:
        fork = self.fork
        graph, place = cut(fork.graph, fork.labels, name)
        self._enter(graph, fork.arrays, frozenset())
        if planned is not None and planned.gaps:
            blueprint = padded(self.fork.graph, self.fork.labels, place, planned)
            self._resize(blueprint, initialisers(self.options.init, {}), self.options.seed + _PAD_SEED)
        return place

    def _check_sizes(self, planned: Layout) -> None:
        tensors = self.fork.labels.tensors
        for port, size in planned.sizes:
            if len(tensors[port].neurons) not in (0, size):
                raise UntrackedError(f"{port.vertex!r} itself reads what its neurons are added to")

    def _enter(
        self,
        graph: Graph,
        arrays: Mapping[str, Array],
        touched: frozenset[str],
        moved: Mapping[str, NDArray[np.intp]] | None = None,
    ) -> None:
        keys = {parameter.key for vertex in graph.vertices for parameter in vertex.parameters.values()}
        kept = {key: array for key, array in arrays.items() if key in keys}
        self.fork.commit(graph, kept, moved or {}, forget=touched)
        if moved:
            self.moves.append(moved)

    def _resize(self, blueprint: Blueprint, init: Initialisers, seed: int) -> None:
        fork = self.fork
        arrays = build(blueprint, fork.arrays, fork.fill_of, seed, init)
        fork.commit(blueprint.after, arrays, blueprint.indices)
        self.steps.append(blueprint)
        self.moves.append(blueprint.indices)

    def _solve(self, prospect: Prospect) -> tuple[Found | None, Explanation | None]:
        options = self.options
        ask = _EditAsk(self.draft, self.fork, prospect, options.align, self.moves)
        return pursue(
            ask,
            options.utility,
            options.strategy,
            time_limit=options.time_limit,
            seed=options.seed,
            init=options.init,
        )

    def _note(self, prospect: Prospect, found: Found) -> None:
        for name, gap in prospect.gaps.items():
            _, size = found.blueprint.sizes[name]
            wanted = _aligned(gap.there, gap.expected, self.options.align)
            if size != wanted:
                self.notes.append(
                    f"sizes {gap.there} and {gap.expected} were aligned at {size}, as {wanted} is impossible"
                )


def _aligned(there: int, expected: int, align: Align) -> int:
    match align:
        case "increase":
            return max(there, expected)
        case "decrease":
            return min(there, expected)
        case "both":
            return -(-(there + expected) // 2)
        case "none":
            return expected


class _EditAsk(Ask):
    """What an edit asks of its fork: that sizes become equal, at about the size that the caller prefers."""

    def __init__(self, draft: Draft, fork: Model, prospect: Prospect, align: Align, moves: Sequence[_Moved]) -> None:
        super().__init__(fork)
        self._draft, self._prospect, self._align, self._moves = draft, prospect, align, tuple(moves)

    @property
    def subject(self) -> str:
        return self._draft.title

    @property
    def refusal(self) -> Explanation | None:
        for gap in self._prospect.gaps.values():
            if self._align == "none" and gap.there != gap.expected:
                reason = f"{gap.there} neurons come where {gap.expected} are expected, and align is 'none'"
                return Explanation(possible=False, reasons=(reason,), subject=self.subject)
        return None

    def targets(self) -> tuple[Target, ...]:
        found = []
        for name, gap in self._prospect.gaps.items():
            wanted = _aligned(gap.there, gap.expected, self._align)
            text = f"{name}: {gap.expected} -> {wanted}"
            found.append(Target(Port(name), gap.expected, wanted, False, False, text))
        return tuple(found)

    def worth(self, utility: Utility | None) -> Worth:
        return _EditWorth(self._draft, self.model, self._prospect, self._moves, utility)


class _EditWorth(Worth):
    """Utilities of the model as it is, carried over to the fork; bridges are worth what readers used to read."""

    def __init__(
        self, draft: Draft, fork: Model, prospect: Prospect, moves: Sequence[_Moved], utility: Utility | None
    ) -> None:
        super().__init__(draft.model, utility)
        self._draft, self._prospect, self._moves = draft, prospect, moves
        self._fork = fork
        self._sizes = {port.vertex: len(tensor.neurons) for port, tensor in fork.labels.tensors.items()}

    def __call__(self, port: Port) -> NDArray[np.float64]:
        name = port.vertex
        self.asked.add(name)
        if name not in self.seen:
            self.seen[name] = self._vector(name)
        return self.seen[name]

    def _vector(self, name: str) -> NDArray[np.float64]:
        known_as: Port | None = Port(name)
        bridged = self._prospect.graph.vertex(name).kind == BRIDGE
        if bridged:
            gap = self._prospect.gaps.get(name)
            known_as = gap.known_as if gap is not None else None
        if known_as is None:
            return np.zeros(self._sizes[name])
        if self._draft.is_new(known_as.vertex):
            return self.of(self._fork.handle(known_as.vertex))
        original = self._draft.original(known_as.vertex)
        vector = self.of(self._draft.model.handle(original))
        for step in self._moves:
            # Readers know a concatenation by its neurons before the edit.
            if known_as.vertex in step and not (bridged and known_as.vertex in self._prospect.touched):
                moved = step[known_as.vertex]
                vector = np.where(moved >= 0, vector[moved], 0.0)
        return vector
