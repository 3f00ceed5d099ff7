"""A plan for a model, to look at, verify and carry out, and what a verb has done."""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

import numpy as np

from solver_nas.apply import build, follow
from solver_nas.compensate import compensation
from solver_nas.digest import fingerprint
from solver_nas.errors import PlanError, RequestError
from solver_nas.limits import Expression, Peak, View
from solver_nas.limits.expression import shown
from solver_nas.limits.keeping import amounts, check_bounds, check_neurons
from solver_nas.rules import label

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping, Sequence

    from numpy.typing import NDArray

    from solver_nas.bounds import Restriction
    from solver_nas.compensate import Compensation
    from solver_nas.explain import Explanation
    from solver_nas.frontend import Model
    from solver_nas.labels import Labels
    from solver_nas.limits import Limit
    from solver_nas.passage import Batch
    from solver_nas.plan import Blueprint
    from solver_nas.solve import Certificate
    from solver_nas.weights import Array, Initialisers

_SHOWN = 4  # sizes in a representation


class Calibrated(Protocol):
    """What `calibrate` returns, as far as a plan has to know."""

    @property
    def model(self) -> Model:
        """Whose it is."""

    @property
    def batches(self) -> Sequence[Batch]:
        """The samples."""

    @property
    def held_back(self) -> float:
        """Which share of the batches is held back to judge by."""

    @property
    def mask(self) -> str | None:
        """The input that says which positions count; `None` if all do."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What will become of a model: look at it, check it, apply it.

    Args:
        model: the model that it was made for; untouched until `apply`.
        blueprint: the changed structure and all index lists.
        utilities: vertex -> what each of its neurons is worth, for those that were up for change.
        seed: for the weights of new neurons.
        init: how new weights are made.
        notes: what the caller should know: relaxed wishes, ties that were added.
        limits: what the changed network has to keep.
        restrictions: these limits, looked up in the model as it was.
        compensation: weights that were refitted, if `compensate` was asked for it.
        origin: tells the weights that they were refitted from; empty if none were.
    """

    model: Model
    blueprint: Blueprint
    utilities: Mapping[str, NDArray[np.float64]]
    seed: int
    init: Initialisers
    notes: tuple[str, ...] = ()
    limits: tuple[Limit, ...] = ()
    restrictions: tuple[Restriction, ...] = ()
    compensation: Compensation | None = None
    origin: str = ""

    @property
    def sizes(self) -> Mapping[str, tuple[int, int]]:
        """Vertex name -> (neurons before, neurons after)."""
        return self.blueprint.sizes

    @property
    def indices(self) -> Mapping[str, NDArray[np.intp]]:
        """Vertex name -> old index of every neuron that it will have, -1 for a new one."""
        return self.blueprint.indices

    @property
    def certificate(self) -> Certificate:
        """How good the selection is, and how that is known."""
        return self.blueprint.certificate

    @property
    def empty(self) -> bool:
        """Whether nothing would change."""
        return self.blueprint.empty

    def cost(self, expression: Expression | Peak) -> float:
        """What an expression such as `macs(net)` will come to."""
        before, after = self.blueprint.before, self.blueprint.after
        if not isinstance(expression, Expression | Peak):
            raise RequestError(f"a cost is an expression such as macs(net), got {expression!r}")
        labels = label(after, memory=self.blueprint.memory)
        names = {name: name for name in after.order}
        view = View(self.model, after, labels, names, (before, self.model.labels))
        totals = (amounts(bound, self.indices) for bound in expression.bounds(view))
        return max(float(counted) + measured for counted, measured in totals)

    def check(self) -> None:
        """Verify the plan without the solver.

        The rules run once more over the changed structure, from scratch; sizes, shapes and index lists must
        agree with it, and the objective is recomputed from the indices and the utilities. Every limit is looked up
        in the changed structure again.

        Raises:
            PlanError: something does not agree; the message says what.
        """
        if self.model.graph is not self.blueprint.after:
            self._check_start()
        labels = label(self.blueprint.after, memory=self.blueprint.memory)
        for port, tensor in labels.tensors.items():
            before, after = self.sizes[port.vertex]
            if len(tensor.neurons) != after or len(self.indices[port.vertex]) != after:
                raise PlanError(f"vertex {port.vertex!r} has {len(tensor.neurons)} neurons, the plan says {after}")
            if after and not -1 <= self.indices[port.vertex].min() <= self.indices[port.vertex].max() < before:
                raise PlanError(f"vertex {port.vertex!r}: the plan keeps a neuron that is not there")
        arrays = self.model.arrays
        for key, plan in self.blueprint.arrays.items():
            shape = list(plan.view)
            for pick in plan.picks:
                shape[pick.axis] = pick.index.shape[-1]
            sizes = {int(np.prod(plan.view)), int(np.prod(plan.shape))}
            if int(np.prod(shape)) != int(np.prod(plan.shape)) or arrays[key].size not in sizes:
                raise PlanError(f"parameter {key!r} of shape {arrays[key].shape} cannot become {plan.shape}")
        check_objective(self.certificate, self.indices, self.utilities)
        self._check_limits(labels)

    def _check_limits(self, labels: Labels) -> None:
        if not self.limits:
            return
        before, after = self.blueprint.before, self.blueprint.after
        old = label(before, memory=self.blueprint.memory)
        names = {name: name for name in after.order}
        check_bounds(self.limits, View(self.model, after, labels, names, (before, old)), self.indices)
        check_neurons(self.restrictions, old, self.indices)

    def _check_start(self) -> None:
        graph = self.model.graph
        if graph is not self.blueprint.before or graph.revision != self.blueprint.revision:
            raise PlanError("the model has changed since this plan was made; make a new plan")

    def build(self) -> MutableMapping[str, Array]:
        """Every array of the changed model; the model is not touched.

        Raises:
            PlanError: the model has changed since the plan was made.
        """
        self._check_origin()
        selected = self._selected()
        return selected if self.compensation is None else ChainMap(dict(self.compensation.arrays), selected)

    def _check_origin(self) -> None:
        if self.origin and self.origin != fingerprint(self.model.arrays):
            raise PlanError("weights have changed since they were refitted; call compensate again")

    def _selected(self) -> MutableMapping[str, Array]:
        self._check_start()
        return build(self.blueprint, self.model.arrays, self.model.fill_of, self.seed, self.init)

    def compensate(self, calibration: Calibrated, *, progress: bool | None = None) -> Plan:
        """The same plan with weights that take over what the neurons that go have done.

        Every dense layer and convolution behind a change is refitted by ridge regression, from the first to the last:
        reading what the layers before it, already refitted, compute now, it is to compute what it has computed before.
        The ridge pulls towards the present weights. Batches that were held back are judged by: how strong the ridge is,
        and whether a layer is refitted at all, is decided on these; and if what the model returns does not come closer
        on them, nothing is. Weights that several vertices share are left as they are. Biases take over what is
        constant.

        Args:
            calibration: of the same model, from `calibrate`.
            progress: whether to show a bar; by default on a terminal if it takes long.

        Returns:
            A new plan; `plan.compensation.refits` says what became of each layer.

        Raises:
            PlanError: the model has changed since the plan was made.
            RequestError: the calibration is that of another model.

        Source: layer by layer with inputs of the pruned network, He et al. 2017 (arXiv 1707.06168) and Luo et al. 2017
        (arXiv 1707.06342).
        """
        if not hasattr(calibration, "model"):
            raise RequestError(
                f"call calibrate(model, samples), and give what it returns; got {type(calibration).__name__}"
            )
        if calibration.model is not self.model:
            raise RequestError("this is the calibration of another model; calibrate the one that the plan is for")
        plain = self._selected()
        batches = calibration.batches
        found = compensation(
            self.model,
            self.blueprint,
            plain,
            batches,
            held_back=calibration.held_back,
            mask=calibration.mask,
            progress=progress,
        )
        # What is refitted already is refitted anew, from the weights as they are.
        return replace(self, compensation=found, origin=fingerprint(self.model.arrays))

    def follow(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Select from arrays that accompany parameters, such as an optimiser's moments.

        Args:
            arrays: parameter key -> array of the parameter's old shape.

        Returns:
            The same keys; new entries are zero.

        Raises:
            PlanError: an array has another shape than its parameter had, or there is no such parameter.
        """
        if unknown := sorted(arrays.keys() - self.model.arrays.keys()):
            some = ", ".join(map(repr, list(self.model.arrays)[:3]))
            raise PlanError(f"there is no parameter {unknown[0]!r}; keys are those of the model's own: {some}, ...")
        return follow(self.blueprint, {key: np.asarray(array) for key, array in arrays.items()})

    def apply(self, optimizer: object = None) -> Change:
        """Carry the plan out: all of it, or, if anything fails, nothing.

        Args:
            optimizer: of a traced PyTorch module: what it remembers about parameters is selected like these.

        Raises:
            PlanError: the model has changed since the plan was made.
            RequestError: there is an optimizer, and the model is none of PyTorch.
        """
        self._check_start()
        self._check_origin()
        with self.model.accompanied(optimizer):
            if not self.empty:
                self.check()
                selected, refitted = self._selected(), {} if self.compensation is None else self.compensation.arrays
                self.model.approve(self.blueprint, selected, refitted)
                self.model.commit(self.blueprint.after, ChainMap(dict(refitted), selected), self.indices)
        return Change(self.model, self)

    def __repr__(self) -> str:
        """In short: the first sizes that change, and how sure it is; `print` shows everything."""
        changes = [f"{name}: {old} -> {new}" for name, (old, new) in self.sizes.items() if old != new]
        some = [*changes[:_SHOWN], "..."] if len(changes) > _SHOWN else changes or ["nothing changes"]
        return f"Plan({', '.join(some)}; {self.certificate.status.value})"

    def __str__(self) -> str:
        """The sizes that change, and the certificate."""
        return "\n".join([*(size_table(self.sizes, self.indices) or ["nothing changes"]), *self.told()])

    def told(self) -> list[str]:
        """Costs, certificate and refit, a line each."""
        refitted = [] if self.compensation is None else [str(self.compensation)]
        return [*self._costs(), str(self.certificate), *refitted, *self.notes]

    def _costs(self) -> list[str]:
        """A line for every cost that has a limit."""
        limited = {str(limit): limit.subject for limit in self.limits if limit.subject is not None}
        found = []
        for text, (before, after) in self.costs.items():
            found.append(f"{limited[text]}: {shown(Fraction(before))} -> {shown(Fraction(after))}   ({text})")
        return found

    @property
    def costs(self) -> Mapping[str, tuple[float, float]]:
        """What has a limit, by the limit in words: what it comes to before and after."""
        limited = {str(limit): limit.subject for limit in self.limits if limit.subject is not None}
        if not limited:
            return {}
        before = self.blueprint.before
        labels = label(before, memory=self.blueprint.memory)
        past = View(self.model, before, labels, {name: name for name in before.order}, (before, labels))
        return {text: (float(subject.value_at(past)), float(self.cost(subject))) for text, subject in limited.items()}


def check_objective(
    certificate: Certificate,
    indices: Mapping[str, NDArray[np.intp]],
    utilities: Mapping[str, NDArray[np.float64]],
) -> None:
    """Recompute what the neurons that are kept are worth.

    Raises:
        PlanError: the certificate says something else.
    """
    kept = sum(float(worth[indices[name][indices[name] >= 0]].sum()) for name, worth in utilities.items())
    said = certificate.objective - certificate.promised
    if not np.isclose(kept, said, rtol=1e-9, atol=1e-9):
        raise PlanError(f"the neurons kept are worth {kept}, the certificate says {said}")


def size_table(sizes: Mapping[str, tuple[int, int]], indices: Mapping[str, NDArray[np.intp]]) -> list[str]:
    """A line for every vertex whose neurons change, those that change their number first; none if none do."""
    rows = [(name, before, after) for name, (before, after) in sizes.items() if before != after]
    rows += [
        (name, before, after)
        for name, (before, after) in sizes.items()
        if before == after and not np.array_equal(indices[name], np.arange(after))
    ]
    if not rows:
        return []
    width = max([len("vertex"), *(len(name) for name, _, _ in rows)])
    lines = [f"{'vertex':<{width}}  before  after  kept  new"]
    for name, before, after in rows:
        new = int((indices[name] < 0).sum())
        lines.append(f"{name:<{width}}  {before:>6}  {after:>5}  {after - new:>4}  {new:>3}")
    return lines


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What a verb has done: true if it changed the model or found nothing to do, false if it could not.

    Args:
        model: what it was asked to change.
        plan: what was applied; `None` if the request was impossible and nothing was changed.
        explanation: why an exact request was impossible, in words; empty if it was not.
        rounds: what was applied one after the other, if there were several rounds, of which `plan` is the last one.
    """

    model: Model
    plan: Planned | None
    explanation: str = ""
    rounds: tuple[Plan, ...] = ()

    def __bool__(self) -> bool:
        """Whether a plan was applied."""
        return self.plan is not None

    @property
    def certificate(self) -> Certificate | None:
        """How good the selection is, if there is one."""
        return self.plan.certificate if self.plan else None

    @property
    def sizes(self) -> Mapping[str, tuple[int, int]]:
        """Vertex name -> (neurons before, after); empty if nothing was changed."""
        if self.rounds:
            first, last = self.rounds[0].sizes, self.rounds[-1].sizes
            return {name: (before, last[name][1]) for name, (before, _) in first.items()}
        return self.plan.sizes if self.plan else {}

    def __str__(self) -> str:
        """The plan, or why there is none; of several rounds, what all of them have changed, and then each one."""
        told = [self.explanation]
        if self.rounds:
            indices = {name: np.arange(before) for name, (before, _) in self.sizes.items()}
            for plan in self.rounds:
                indices = {name: np.where(index < 0, -1, indices[name][index]) for name, index in plan.indices.items()}
            told += size_table(self.sizes, indices)
            told += [
                "\n".join([f"round {number}, compared with the network before it:", *plan.told()])
                for number, plan in enumerate(self.rounds, 1)
            ]
        else:
            told.append(str(self.plan or "nothing was changed"))
        return "\n".join(part for part in told if part)


class Planned(Protocol):
    """What every plan offers, whether it changes sizes or structure."""

    @property
    def sizes(self) -> Mapping[str, tuple[int, int]]:
        """Vertex name -> (neurons before, neurons after)."""

    @property
    def indices(self) -> Mapping[str, NDArray[np.intp]]:
        """Vertex name -> old index of every neuron that it will have, -1 for a new one."""

    @property
    def certificate(self) -> Certificate | None:
        """How good the selection is; `None` if nothing had to be selected."""

    @property
    def empty(self) -> bool:
        """Whether nothing would change."""

    def check(self) -> None:
        """Verify the plan without the solver."""

    def follow(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Select from arrays that accompany parameters."""

    def apply(self) -> Change:
        """Carry the plan out: all of it, or nothing."""


def carry_out(
    model: Model, plan: Planned | None, explanation: Explanation | None, callbacks: Sequence[Callable[[Change], object]]
) -> Change:
    """Apply a plan and tell the call-backs; an exception in one of them takes everything back."""
    # An explanation is false where something was impossible, hence the comparison.
    change = Change(model, plan, "" if explanation is None else str(explanation))
    if plan is None:
        return change
    if not callbacks:
        plan.apply()
        return change
    with model.transaction():
        plan.apply()
        for callback in callbacks:
            callback(change)
    return change
