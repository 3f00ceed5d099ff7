"""From an edit of the structure to a plan for it: tried out on a fork of the model, sizes solved, all checked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, get_args

import numpy as np

from solver_nas.aligning import Align, EditAsk, Origin, aligned
from solver_nas.apply import build
from solver_nas.asking import Worth
from solver_nas.edit_plan import EditPlan
from solver_nas.errors import (
    GraphError,
    ImpossibleError,
    LayerError,
    PlanError,
    RequestError,
    RuleError,
    TimeLimitError,
)
from solver_nas.frontend import Handle
from solver_nas.limits import View
from solver_nas.limits.keeping import check_bounds
from solver_nas.planning import check_seed, initialisers, pursue
from solver_nas.strategies import check_seconds
from solver_nas.surgery import (
    Rewiring,
    UntrackedError,
    cut,
    downstream,
    finished,
    is_stack,
    layout,
    on_one_axis,
    padded,
    stacks,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from solver_nas.explain import Explanation
    from solver_nas.frontend import Model
    from solver_nas.graph import Graph
    from solver_nas.labels import Labels, Memory
    from solver_nas.limits import Limit
    from solver_nas.plan import Blueprint
    from solver_nas.planning import Found, InitOf
    from solver_nas.strategies import Strategy, Utility
    from solver_nas.surgery import Layout, Prospect, Wiring
    from solver_nas.weights import Array, Initialisers

_PAD_SEED = 0x5EED  # room that is made gets other random weights than what the solver inserts


class Options(NamedTuple):
    """How an edit is to be planned: the arguments that all edits have in common."""

    utility: Utility | None
    strategy: Strategy
    time_limit: float
    seed: int
    init: InitOf
    align: Align
    limits: tuple[Limit, ...]


class Draft:
    """An edit in the making: vertices are added to a fork, then a wiring connects them."""

    def __init__(self, model: Model, title: str) -> None:
        """Start with the model as it is."""
        self.model, self.title = model, title
        self.before, self.fork = model.fork(), model.fork()
        self._revision = model.graph.revision
        self.implied = not self.fork.graph.outputs
        if self.implied:
            # What nothing reads is an output; that must not change on the way.
            self.fork.graph.set_outputs(self.fork.graph.returned)
        self._known = frozenset(self.fork.graph.order)
        self._alias: dict[str, str] = {}
        self._held: dict[str, float] = {}

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
        vertices = [self.graph.vertex(name) for name in self._known]
        arrays, outputs = dict(self.fork.arrays), self.graph.outputs
        with self.model.transaction():
            revision = self.model.graph.revision
            made = factory(*(self.fork.handle(name) for name in names))
            if self.model.graph.revision != revision:
                raise GraphError(
                    f"{self.title}: the function has added to the network itself; build on the vertex that it is "
                    f"called with, and reach others through it: v.model['name']"
                )
        same = self.graph.outputs == outputs and all(
            vertex.name in self.graph and self.graph.vertex(vertex.name) == vertex for vertex in vertices
        )
        if not same or any(self.fork.arrays.get(key) is not array for key, array in arrays.items()):
            raise GraphError(
                f"{self.title}: the function has changed what was there already; it may add vertices behind those "
                f"that it is called with, other edits come before or afterwards"
            )
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

    def hold(self, names: Iterable[str]) -> None:
        """Keep the parameters of these vertices at the one value that each has now, whatever their size will be."""
        for name in names:
            for key in (parameter.key for parameter in self.graph.vertex(name).parameters.values()):
                self._held[key] = float(self.fork.arrays[key].flat[0])

    def plan(self, wiring: Wiring | None, options: Options) -> tuple[EditPlan | None, Explanation | None]:
        """The plan for this edit, and why there is none.

        Args:
            wiring: what is to be read by whom; `None` if only vertices themselves were changed.
            options: arguments of the caller.
        """
        if options.align not in get_args(Align):
            known = ", ".join(map(repr, get_args(Align)))
            raise RequestError(f"align is one of {known}, got {options.align!r}")
        # Said now, whether or not there will be anything to solve.
        check_seconds(options.time_limit)
        check_seed(options.seed)
        initialisers(options.init, {}, self.model)
        Worth(self.model, options.utility)
        trial = _Trial(self, options)
        if wiring is None:
            return self._finished(trial, None, options), None
        found, explanation = trial.run(wiring)
        if found is None and trial.stuck:
            return None, explanation
        return self._finished(trial, found, options), explanation

    def _finished(self, trial: _Trial, found: Found | None, options: Options) -> EditPlan:
        after = trial.fork
        if self._held:
            held = {key: np.full_like(after.arrays[key], value) for key, value in self._held.items()}
            after.commit(after.graph, {**after.arrays, **held}, {})
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
            "",
        )
        plan.check()
        self._check_limits(plan, options)
        return replace(plan, warning=self._warning(plan, options)) if trial.missed else plan

    def _check_limits(self, plan: EditPlan, options: Options) -> None:
        """Look the limits up in the edited network.

        Raises:
            ImpossibleError: one is not kept, and no other size can mend that.
        """
        after = plan.after
        names = {name: name for name in self.before.graph.order if name in after.graph}
        view = View(self.model, after.graph, after.labels, names, (self.before.graph, self.before.labels))
        try:
            check_bounds(options.limits, view, plan.indices)
        except PlanError as error:
            raise ImpossibleError(f"{self.title} is impossible: {error}", (str(error),)) from error

    def _warning(self, plan: EditPlan, options: Options) -> str:
        """What is lost since sizes could not be increased as they should."""
        if options.align != "increase":
            return ""
        sizes = plan.sizes
        kept = {name: int((index >= 0).sum()) for name, index in plan.indices.items()}
        lost = [
            f"{name} keeps {kept[name]} of {size} neurons" for name, (size, _) in sizes.items() if kept[name] < size
        ]
        way_out = "net.undo() takes this back, align='none' or strategies.exact() refuse it"
        return f"{self.title}: sizes could not be increased; {', '.join(lost)}; {way_out}" if lost else ""

    @property
    def origin(self) -> Origin:
        """Where the fork comes from."""
        return Origin(self.title, self.model, {name: self._alias.get(name, name) for name in self._known})


class _Trial:
    """One way of carrying an edit out on a fork."""

    def __init__(self, draft: Draft, options: Options) -> None:
        self.draft, self.options = draft, options
        self.fork = draft.fork
        self.steps: list[Blueprint] = []
        self.moves: list[Mapping[str, NDArray[np.intp]]] = []
        self.notes: list[str] = []
        self.stuck = self.missed = False

    def run(self, wiring: Wiring) -> tuple[Found | None, Explanation | None]:
        """Follow the neurons of concatenations through the edit; where that does not work, only their number."""
        graph = self.draft.graph
        joins, changed = stacks(graph, wiring), [name for name in wiring.inputs if is_stack(graph, name)]
        labels = self.draft.fork.labels
        behind = [name for name in downstream(graph, wiring) if is_stack(graph, name) and on_one_axis(labels, name)]
        ways = [(joins, True), (changed, False), (list(dict.fromkeys([*changed, *behind])), False)]
        # The same concatenations twice would be the same way.
        ways = [way for place, way in enumerate(ways) if place == 0 or (way[0] and way not in ways[:place])]
        for cuts, follow in ways[:-1]:
            try:
                found, _ = self._attempt(wiring, cuts, follow=follow, quiet=True)
            except (UntrackedError, ImpossibleError, TimeLimitError):
                continue
            if not self.stuck:
                return self._matched(found, by_order=not follow), None
        cuts, follow = ways[-1]
        try:
            found, explanation = self._attempt(wiring, cuts, follow=follow, quiet=False)
        except UntrackedError as error:
            raise ImpossibleError(f"{self.draft.title} is impossible: {error}", (str(error),)) from error
        return self._matched(found, by_order=bool(cuts) and not follow), explanation

    def _matched(self, found: Found | None, *, by_order: bool) -> Found | None:
        if by_order and found is not None:
            self.notes.append("what reads concatenations keeps its neurons by their order only, not one by one")
        return found

    def _attempt(
        self, wiring: Wiring, joins: list[str], *, follow: bool, quiet: bool
    ) -> tuple[Found | None, Explanation | None]:
        try:
            return self._carry_out(wiring, joins, follow=follow, quiet=quiet)
        except (RuleError, LayerError) as error:
            raise ImpossibleError(f"{self.draft.title} is impossible: {error}", (str(error),)) from error

    def _carry_out(
        self, wiring: Wiring, joins: list[str], *, follow: bool, quiet: bool
    ) -> tuple[Found | None, Explanation | None]:
        self.fork, self.steps, self.moves, self.stuck = self.draft.fork.fork(), [], [], False
        layouts, moved = {}, {}
        for name in joins:
            planned = None
            if name in wiring.inputs:
                planned = layout(self.fork.graph, self.fork.labels, name, wiring.inputs[name])
                moved[name] = np.array(planned.origins, np.intp)
            place = self._cut(name, planned if follow else None)
            if follow and planned is not None:
                layouts[place] = planned
        fork = self.fork
        for planned in layouts.values():
            self._check_sizes(planned)
        memory = fork.labels.memory
        prospect = Rewiring(fork.graph, fork.labels, wiring, memory).prospect(layouts, title=self.draft.title)
        self._enter(prospect.graph, fork.arrays, prospect.touched, moved, labels=prospect.labels)
        memory = prospect.labels.memory
        found = explanation = None
        if prospect.gaps or layouts or self.options.limits:
            found, explanation = self._solve(prospect, quiet=quiet)
            if found is None:
                self.stuck = True
                return None, explanation
            self._resize(found.blueprint, found.init, self.options.seed)
            self._note(prospect, found)
        self._enter(finished(self.fork.graph), self.fork.arrays, prospect.touched, memory=memory)
        self.fork.labels  # noqa: B018 - labels it, which is the check
        return found, explanation

    def _cut(self, name: str, planned: Layout | None) -> str:
        fork = self.fork
        graph, place = cut(fork.graph, fork.labels, name)
        self._enter(graph, fork.arrays, frozenset())
        if planned is not None and planned.gaps:
            blueprint = padded(self.fork.graph, self.fork.labels, place, planned)
            self._resize(
                blueprint, initialisers(self.options.init, {}, self.draft.model), self.options.seed + _PAD_SEED
            )
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
        *,
        labels: Labels | None = None,
        memory: Memory | None = None,
    ) -> None:
        keys = {parameter.key for vertex in graph.vertices for parameter in vertex.parameters.values()}
        kept = {key: array for key, array in arrays.items() if key in keys}
        self.fork.commit(graph, kept, moved or {}, forget=touched, labels=labels, memory=memory)
        if moved:
            self.moves.append(moved)

    def _resize(self, blueprint: Blueprint, init: Initialisers, seed: int) -> None:
        fork = self.fork
        arrays = build(blueprint, fork.arrays, fork.fill_of, seed, init)
        # The same decisions hold behind a change of sizes.
        fork.commit(blueprint.after, arrays, blueprint.indices, memory=blueprint.memory)
        self.steps.append(blueprint)
        self.moves.append(blueprint.indices)

    def _solve(self, prospect: Prospect, *, quiet: bool) -> tuple[Found | None, Explanation | None]:
        options = self.options
        ask = EditAsk(self.draft.origin, self.fork, prospect, options.align, self.moves, options.limits)
        return pursue(
            ask,
            options.utility,
            options.strategy,
            time_limit=options.time_limit,
            seed=options.seed,
            init=options.init,
            quiet=quiet,
        )

    def _note(self, prospect: Prospect, found: Found) -> None:
        for name, gap in prospect.gaps.items():
            _, size = found.blueprint.sizes[name]
            wanted = aligned(gap.there, gap.expected, self.options.align)
            if size != wanted:
                self.missed = self.missed or size < wanted
                self.notes.append(
                    f"sizes {gap.there} and {gap.expected} were aligned at {size}, as {wanted} is impossible"
                )
