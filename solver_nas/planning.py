"""From a request to a plan: pose, solve and draw, and what to do where that is impossible."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from solver_nas.change import Plan
from solver_nas.errors import GraphError, ImpossibleError, RelaxedWarning, RequestError, TimeLimitError
from solver_nas.explain import Explanation, explain_conflict
from solver_nas.frontend import Handle, owner
from solver_nas.graph import Port
from solver_nas.labels import Reason, Tie
from solver_nas.order import DisorderError
from solver_nas.plan import draw
from solver_nas.problem import pose
from solver_nas.requests import input_targets, output_targets
from solver_nas.solve import TIME_LIMIT, Status, certify, select, solve
from solver_nas.utility import checked
from solver_nas.weights import Initialiser, zeros

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from solver_nas.frontend import Model
    from solver_nas.labels import Labels
    from solver_nas.plan import Blueprint
    from solver_nas.requests import Target
    from solver_nas.solve import Certificate

Utility = Callable[[Any], object] | Mapping[Any, object]
OnFailure = Literal["relax", "raise", "keep"]
Init = Literal["preserve", "zeros"] | Initialiser


class Ask:
    """What is asked of which model."""

    def __init__(
        self,
        model: Model,
        outputs: Sequence[tuple[Handle, Any]] = (),
        inputs: Sequence[tuple[Handle, Any]] = (),
        free: Sequence[Handle] = (),
    ) -> None:
        """Collect wishes for outputs and inputs, and what may change without one."""
        self.model = model
        # Taken now, so that a utility that changes the model is found out and not mixed in.
        self.graph, self.labels, self._revision = model.graph, model.labels, model.graph.revision
        self._outputs, self._inputs = outputs, inputs
        self.free = tuple(Port(handle.name) for handle in free)

    def check_unchanged(self) -> None:
        """Refuse to go on if a utility has changed the network that it was asked about.

        Raises:
            GraphError: it has.
        """
        if self.model.graph is not self.graph or self.graph.revision != self._revision:
            raise GraphError("the utility has changed the network; let it only look at the vertices that it is given")

    def targets(self) -> tuple[Target, ...]:
        """The wishes as sizes, checked."""
        graph, labels = self.graph, self.labels
        outputs = output_targets(graph, labels, [(v.name, d) for v, d in self._outputs])
        inputs = input_targets(graph, labels, [(v.name, d) for v, d in self._inputs])
        return (*outputs, *inputs)


def make_plan(
    ask: Ask,
    utility: Utility | None,
    on_failure: OnFailure,
    *,
    time_limit: float,
    seed: int,
    init: Init,
    stacklevel: int,
) -> tuple[Plan | None, Explanation | None]:
    """The best plan for a request, and why it is not what was asked for, if it is not.

    Args:
        ask: what is asked of which model.
        utility: what neurons are worth.
        on_failure: what to do if an exact wish is impossible.
        time_limit: for the solver, in seconds.
        seed: for the solver and for new weights.
        init: how new weights are made.
        stacklevel: how far above this function the caller's own line is, for a warning.

    Returns:
        The plan (`None` for `"keep"` where the request is impossible) and the explanation.
    """
    if on_failure not in ("relax", "raise", "keep"):
        raise RequestError(f"on_failure is 'relax', 'raise' or 'keep', got {on_failure!r}")
    _check_seconds(time_limit)
    _check_seed(seed)
    initialiser, targets = _initialiser(init), ask.targets()
    job = _Job(ask, _Worth(ask.model, utility), time_limit, int(seed))
    try:
        made, explanation = job.draw(targets), None
    except ImpossibleError as error:
        made, explanation = None, Explanation(possible=False, reasons=(str(error),))
    if made is None:
        if explanation is None:
            explanation = explain_conflict(
                ask.graph, ask.labels, targets, known_impossible=True, time_limit=min(time_limit, 10.0), seed=job.seed
            )
        if on_failure == "keep":
            return None, explanation
        if on_failure == "raise":
            raise impossible(explanation)
        made = job.draw([target.loosened() for target in targets])
        if made is None:
            raise impossible(explanation)
        text = f"{explanation}\nThe nearest sizes were used instead."
        warnings.warn(RelaxedWarning(text), stacklevel=stacklevel + 1)
        job.notes.append("an exact request was impossible and was relaxed")
    return Plan(ask.model, made, job.worth.seen, job.seed, initialiser, tuple(job.notes)), explanation


def _check_seconds(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise RequestError(f"the time limit is a positive number of seconds, got {value!r}")


def _check_seed(seed: object) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise RequestError(f"the seed is a whole number from 0 on, got {seed!r}")


def explain_request(ask: Ask, *, seed: int) -> Explanation:
    """Whether a request is possible; if not, why."""
    explanation = explain_conflict(ask.graph, ask.labels, ask.targets(), seed=seed)
    if explanation:
        # Sizes can fit where the order of neurons does not.
        try:
            _Job(ask, _Worth(ask.model, {}), TIME_LIMIT, seed).draw(ask.targets())
        except ImpossibleError as error:
            return Explanation(possible=False, reasons=(str(error),))
    return explanation


def impossible(explanation: Explanation | None) -> ImpossibleError:
    """The error that carries an explanation."""
    if explanation is None or explanation.possible:
        return ImpossibleError("the request is impossible")
    return ImpossibleError(str(explanation), explanation.reasons, explanation.nearest)


def _initialiser(init: Init) -> Initialiser | None:
    if init == "preserve":
        return None
    if init == "zeros":
        return zeros
    if callable(init):
        return init
    raise RequestError(f"init is 'preserve', 'zeros' or a callable, got {init!r}")


class _Worth:
    """Asks the caller what neurons are worth, once per vertex, and remembers the answers."""

    def __init__(self, model: Model, utility: Utility | None) -> None:
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
            handle = self._model.handle(port.vertex)
            if self._utility is None:
                value: object = self._model.default_utility(handle)
            elif isinstance(self._utility, Mapping):
                value = self._utility.get(handle, 0.0)
            else:
                value = self._utility(handle)
            vector = checked(value, handle.nout, port.vertex)
            self.seen[port.vertex] = np.zeros(handle.nout) if vector is None else vector
        return self.seen[port.vertex]


def _alike(labels: Labels) -> Labels:
    """The same labels with the columns of every rectangle tied across its rows: fewer choices, any order fits."""
    ties = tuple(
        Tie(
            joint.cells[:-1].reshape(-1),
            joint.cells[1:].reshape(-1),
            Reason(joint.reason.vertex, "columns alike"),
        )
        for joint in labels.joints
        if len(joint.rows) > 1
    )
    return replace(labels, ties=(*labels.ties, *ties))


class _Job:
    """The solving of one request."""

    def __init__(self, ask: Ask, worth: _Worth, time_limit: float, seed: int) -> None:
        self.ask, self.worth, self.time_limit, self.seed = ask, worth, time_limit, seed
        self.notes: list[str] = []
        self._free: Certificate | None = None

    def draw(self, targets: Sequence[Target]) -> Blueprint | None:
        """The best blueprint, or `None` if the wishes contradict the relations between sizes.

        Raises:
            ImpossibleError: the sizes fit, but no order of the neurons does.
        """
        labels = self.ask.labels
        self._free = None
        try:
            return self._draw(labels, targets)
        except DisorderError as error:
            disorder = error
        alike = _alike(labels)
        # Fewer choices, of which any can be put in order: the same columns in all rows, then no new neurons.
        for insert, note in (
            (True, "all rows of a rectangle keep the same columns"),
            (False, "no new neurons are inserted"),
        ):
            try:
                made = self._draw(alike, targets, insert=insert)
            except DisorderError:
                continue
            if made is not None:
                made = self._restricted(made)
                self.notes.append(f"{note}, since their order would not fit otherwise ({disorder})")
                return made
        raise ImpossibleError(f"no order of the neurons fits: {disorder}") from disorder

    def _restricted(self, made: Blueprint) -> Blueprint:
        """The blueprint with a certificate that owns up to the choices that were left out."""
        free = self._free
        same = free and (free.objective, free.deviation) == (made.certificate.objective, made.certificate.deviation)
        if free is None or same:
            return made
        bound = max(free.bound, made.certificate.bound)
        return replace(made, certificate=replace(made.certificate, status=Status.FEASIBLE, bound=bound))

    def _draw(self, labels: Labels, targets: Sequence[Target], *, insert: bool = True) -> Blueprint | None:
        clock = [time.perf_counter()]
        self.worth.asked.clear()
        problem = pose(labels, targets, self.worth, everywhere=self.ask.free, insert=insert)
        self.ask.check_unchanged()
        clock.append(time.perf_counter())
        counts = solve(problem, time_limit=self.time_limit, seed=self.seed)
        clock.append(time.perf_counter())
        if counts.status is Status.INFEASIBLE:
            return None
        if counts.status is Status.UNKNOWN:
            raise TimeLimitError(f"no solution was found within {self.time_limit} s; give it more time")
        seconds = dict(zip(("pose", "solve"), np.diff(clock).tolist(), strict=True))
        certificate = certify(problem, counts, seconds)
        # Vertices that only an earlier try could change keep all that they are worth.
        rest = sum(float(worth.sum()) for name, worth in self.worth.seen.items() if name not in self.worth.asked)
        certificate = replace(certificate, objective=certificate.objective + rest, bound=certificate.bound + rest)
        self._free = self._free or certificate
        blueprint = draw(self.ask.graph, labels, problem.class_of, select(problem, counts), certificate)
        seconds["plan"] = time.perf_counter() - clock[-1]
        return blueprint
