"""Where rules write down what they find out about labels, for one pass over one graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from solver_nas.errors import RuleError
from solver_nas.labels import (
    FIXED,
    Balance,
    Encounter,
    Farewell,
    Joint,
    Labels,
    Measure,
    ParameterLabels,
    Product,
    Reason,
    Tie,
    Use,
    Volume,
    neurons,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.graph import Port
    from solver_nas.labels import IntArray, Memory, Neurons, SourceKey, Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """What a second pass has to repeat: the labels to hand out, and the choices made in the first.

    Args:
        sources: for every source of the first pass, the neurons that it has now.
        choices: `Labels.choices` of the first pass.
        count: an upper bound of all labels in `sources`.
    """

    sources: Mapping[SourceKey, Neurons]
    choices: Mapping[SourceKey, int]
    count: int


@dataclass(slots=True)
class _ParameterRecord:
    view: tuple[int, ...]
    storage: tuple[tuple[int, ...], ...]
    uses: list[Use] = field(default_factory=list)
    fixed: set[int] = field(default_factory=set)


class Tape:
    """Hands out labels and collects ties, rectangles and the labels of parameters.

    With a `Replay` the same rules run over a changed graph, and every source gets the labels that the
    replay holds for it instead of new ones.
    """

    def __init__(self, replay: Replay | None = None, *, memory: Memory | None = None, first: int = 1) -> None:
        """Start with nothing but the fixed label.

        Args:
            replay: what to hand out instead of new labels.
            memory: what was decided for vertices before their sizes changed.
            first: the first new label, where lower ones are in use already.
        """
        self._replay, self._memory = replay, memory
        self._count = first if replay is None else replay.count
        self._silent: list[IntArray] = []
        self._company: list[tuple[IntArray, IntArray]] = []
        self.sources: dict[SourceKey, Neurons] = {}
        self.choices: dict[SourceKey, int] = {}
        self._ties: list[Tie] = []
        self._joints: list[Joint] = []
        self._products: list[Product] = []
        self._encounters: list[Encounter] = []
        self._pinned: list[Reason] = []
        self._balances: list[Balance] = []
        self._farewells: list[Farewell] = []
        self._works: list[Volume] = []
        self._measures: list[Measure] = []
        self._idle: list[Tie] = []
        self._alike: list[IntArray] = []
        self._parameters: dict[str, _ParameterRecord] = {}

    def fresh(self, key: SourceKey, shape: tuple[int, ...], reason: Reason) -> Neurons:
        """Labels that nobody else has; asked twice with one key, the same ones."""
        if key in self.sources:
            made = self.sources[key]
        elif self._replay is None:
            amount = int(np.prod(shape))
            made = neurons(np.arange(self._count, self._count + amount, dtype=np.int64).reshape(shape))
            self._count += amount
        elif key in self._replay.sources:
            made = self._replay.sources[key]
        else:
            raise RuleError(f"vertex {reason.vertex!r}: {reason.rule}: labels {key} did not exist before the change")
        if made.shape != shape:
            raise RuleError(
                f"vertex {reason.vertex!r}: {reason.rule}: {made.shape} neurons are there, the operation needs {shape}"
            )
        self.sources[key] = made
        return made

    def choose(self, key: SourceKey, proposal: int) -> int:
        """What the first pass decided under that key (zero if it had nothing to decide); there, the proposal.

        A rule that looks at sizes has to decide in the changed graph as it did before: an axis that
        shrinks to one neuron must not turn into an axis that is broadcast.
        """
        choice = proposal
        if self._replay is not None:
            choice = self._replay.choices.get(key, 0)
        elif self._memory is not None and key[0] in self._memory.vertices:
            choice = self._memory.choices.get(key, 0)
        if choice:
            self.choices[key] = choice
        return choice

    def tie(self, left: Neurons, right: Neurons, reason: Reason) -> None:
        """These stand or fall together, position by position (broadcast)."""
        if left is right:
            return
        try:
            one, other = np.broadcast_arrays(left["label"], right["label"])
        except ValueError as error:
            raise RuleError(
                f"vertex {reason.vertex!r}: {reason.rule}: sizes {left.shape} and {right.shape} do not fit together"
            ) from error
        self._ties.append(Tie(one.reshape(-1), other.reshape(-1), reason))
        self._encounters.append(Encounter(left, right, reason))

    def pin(self, array: Neurons, reason: Reason) -> None:
        """These are always kept, and nothing is inserted between them."""
        labels = array["label"].reshape(-1)
        self._ties.append(Tie(labels, np.full_like(labels, FIXED), reason))

    def report(self, reason: Reason) -> None:
        """Remember that something was pinned for want of a better rule."""
        self._pinned.append(reason)

    def joint(self, rows: Neurons, cells: Neurons, reason: Reason) -> None:
        """Every living row keeps equally many cells; `cells` has one axis more than `rows`."""
        self._encounters.append(Encounter(rows[..., None], cells, reason, rows=True))
        self._joints.append(Joint(rows["label"].reshape(-1), cells["label"].reshape(-1, cells.shape[-1]), reason))

    def silence(self, array: Neurons) -> None:
        """New neurons among these start without any effect: they will be multiplied with other new ones."""
        self._silent.append(array["label"].reshape(-1))

    def accompany(self, left: Neurons, right: Neurons) -> None:
        """These are combined position by position: where one of them has to start without effect, so has the other."""
        if left is not right:
            self._company.append((left["label"].reshape(-1), right["label"].reshape(-1)))

    def balance(self, left: Neurons, right: Neurons, reason: Reason) -> None:
        """These two axes have to become equally long; which neurons are left on each is free."""
        self._balances.append(Balance(left["label"].reshape(-1), right["label"].reshape(-1), reason))

    def dismiss(self, array: Neurons, reason: Reason) -> None:
        """These have to go."""
        self._farewells.append(Farewell(array["label"].reshape(-1), reason))

    def idle(self, array: Neurons, reason: Reason) -> None:
        """These are all alike: they follow what they meet, and if they meet nothing, they are kept."""
        self.trail(array, reason)
        self._alike.append(array["label"].reshape(-1))

    def trail(self, array: Neurons, reason: Reason) -> None:
        """These follow what they meet, each its own neuron, and if they meet nothing, they are kept."""
        labels = array["label"].reshape(-1)
        self._idle.append(Tie(labels, np.full_like(labels, FIXED), reason))

    def _without_effect(self) -> IntArray:
        """Labels whose new neurons start at zero, with those that are added to them."""
        silent = np.unique(np.concatenate([np.zeros(0, np.int64), *self._silent]))
        if not len(silent) or not self._company:
            return silent
        left, right = (np.concatenate(side) for side in zip(*self._company, strict=True))
        # What is fixed is no bridge between others.
        apart = (left != FIXED) & (right != FIXED)
        pairs = (left[apart], right[apart])
        matrix = coo_array((np.ones(len(pairs[0]), bool), pairs), shape=(self._count, self._count))
        classes, class_of = connected_components(matrix, directed=False)
        found = np.zeros(classes, bool)
        found[class_of[silent]] = True
        return np.flatnonzero(found[class_of])

    def is_idle(self, array: Neurons) -> bool:
        """Whether these are all among those that are all alike."""
        known = np.concatenate([np.zeros(0, np.int64), *self._alike])
        return bool(np.isin(array["label"], known).all())

    def _forsaken(self) -> list[Tie]:
        """Ties to the fixed label for those idle labels that are tied to no others."""
        if not self._idle:
            return []
        shared = [(np.broadcast_to(one.columns, one.cells.shape).reshape(-1), one.cells) for one in self._products]
        pairs = [*((tie.left, tie.right) for tie in self._ties), *((one, cells.reshape(-1)) for one, cells in shared)]
        left, right = (np.concatenate([np.zeros(0, np.int64), *side]) for side in zip(*pairs, strict=True))
        matrix = coo_array((np.ones(len(left), bool), (left, right)), shape=(self._count, self._count))
        classes, class_of = connected_components(matrix, directed=False)
        idle = np.zeros(self._count, bool)
        for tie in self._idle:
            idle[tie.left] = True
        busy = np.zeros(classes, bool)
        busy[class_of[~idle]] = True
        # Entries that differ are no columns of their own: a table of angles is as long as heads are.
        unlike = idle.copy()
        for labels in self._alike:
            unlike[labels] = False
        for product in self._products:
            columns = product.columns.reshape(-1)
            if unlike[columns].all():
                busy[class_of[columns]] = False
        found = []
        for tie in self._idle:
            alone = ~busy[class_of[tie.left]]
            if alone.any():
                found.append(Tie(tie.left[alone], tie.right[alone], tie.reason))
        return found

    def work(self, volume: Volume) -> None:
        """A contraction multiplies and adds that often, for one sample."""
        self._works.append(volume)

    def measure(self, measure: Measure) -> None:
        """A number in the code says how many neurons there are."""
        self._measures.append(measure)

    def product(self, rows: Neurons, columns: Neurons, cells: Neurons, reason: Reason) -> None:
        """A cell lives iff its row and its column do."""
        self._encounters.append(Encounter(rows[..., None], cells, reason, rows=True))
        self._encounters.append(Encounter(columns, cells, reason))
        self._products.append(
            Product(
                rows["label"].reshape(-1),
                columns["label"].reshape(-1),
                cells["label"].reshape(-1, cells.shape[-1]),
                reason,
            )
        )

    def parameter(self, key: str, view: tuple[int, ...], storage: tuple[tuple[int, ...], ...], reason: Reason) -> None:
        """Announce a parameter before its axes are bound."""
        record = self._parameters.setdefault(key, _ParameterRecord(view, storage))
        if record.view != view:
            raise RuleError(
                f"vertex {reason.vertex!r} sees parameter {key!r} as {view}, another vertex that shares it "
                f"as {record.view}; a shared parameter needs one view"
            )

    def bind(self, key: str, use: Use, reason: Reason) -> None:
        """These axes of a parameter carry these labels."""
        record = self._parameters[key]
        for axis, level in zip(use.axes, use.levels, strict=True):
            if axis in record.fixed:
                self.pin(level, reason)
        for known in record.uses:
            if known.axes == use.axes:
                for before, now in zip(known.levels, use.levels, strict=True):
                    self.tie(before, now, reason)
                if (known.role, use.role) == ("fresh", "contract"):
                    # Tied embeddings: what a new neuron of the table starts with is also what reads one.
                    self.silence(known.levels[-1])
                return
        record.uses.append(use)

    def fix(self, key: str, axis: int, reason: Reason) -> None:
        """This axis of a parameter never changes."""
        record = self._parameters[key]
        record.fixed.add(axis)
        for use in record.uses:
            if axis in use.axes:
                self.pin(use.levels[use.axes.index(axis)], reason)

    def freeze(self, key: str, shape: tuple[int, ...], reason: Reason) -> None:
        """No axis of this parameter ever changes, however its vertices see it."""
        if key not in self._parameters:
            self.parameter(key, shape, tuple((axis,) for axis in range(len(shape))), reason)
        for axis in range(len(self._parameters[key].view)):
            self.fix(key, axis, reason)

    def labels(self, tensors: Mapping[Port, Tensor]) -> Labels:
        """Everything that was said, as a value."""
        parameters = {
            key: ParameterLabels(record.view, record.storage, tuple(record.uses))
            for key, record in self._parameters.items()
        }
        return Labels(
            self._count,
            self.sources,
            self.choices,
            dict(tensors),
            parameters,
            (*self._ties, *self._forsaken()),
            tuple(self._joints),
            tuple(self._products),
            tuple(self._encounters),
            tuple(dict.fromkeys(self._pinned)),
            self._without_effect(),
            tuple(self._balances),
            tuple(self._farewells),
            tuple(self._works),
            tuple(self._measures),
        )
