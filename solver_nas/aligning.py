"""What an edit asks the solver for: that sizes become equal, at about the size that the caller prefers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from solver_nas.asking import Ask, Worth
from solver_nas.explain import Explanation
from solver_nas.graph import Port
from solver_nas.limits import View
from solver_nas.moves import carried
from solver_nas.requests import Target
from solver_nas.rules import Takes
from solver_nas.rules.bridge import KIND as BRIDGE
from solver_nas.surgery import takes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeAlias

    from numpy.typing import NDArray

    from solver_nas.frontend import Model
    from solver_nas.limits import Limit
    from solver_nas.strategies import Utility
    from solver_nas.surgery import Prospect

    Moved: TypeAlias = Mapping[str, NDArray[np.intp]]

Align = Literal["increase", "decrease", "both", "new", "none"]


class Origin(NamedTuple):
    """Where an edited fork comes from.

    Args:
        title: the edit in words.
        model: what it is a fork of.
        names: name in the fork -> name in the model, for the vertices that are not new.
    """

    title: str
    model: Model
    names: Mapping[str, str]


def aligned(there: int, expected: int, align: Align) -> int:
    """The size at which two sizes should meet.

    Args:
        there: the size of what is there.
        expected: the size that its readers expect.
        align: the caller's preference.
    """
    match align:
        case "increase":
            return max(there, expected)
        case "decrease":
            return min(there, expected)
        case "both":
            return -(-(there + expected) // 2)
        case "new":
            return there
        case "none":
            return expected


class EditAsk(Ask):
    """What an edit asks of its fork: that sizes become equal, at about the size that the caller prefers."""

    def __init__(
        self,
        origin: Origin,
        fork: Model,
        prospect: Prospect,
        align: Align,
        moves: Sequence[Moved],
        limits: Sequence[Limit] = (),
    ) -> None:
        """Take a fork with bridges, how neurons have moved in it so far, and what the edited network has to keep."""
        super().__init__(fork, limits=limits)
        self._origin, self._prospect, self._align, self._moves = origin, prospect, align, tuple(moves)

    @property
    def subject(self) -> str:
        """The edit in words."""
        return self._origin.title

    @property
    def view(self) -> View:
        """The prospective network, for limits that speak of the model that the fork comes from."""
        model = self._origin.model
        names = {outside: inside for inside, outside in self._origin.names.items() if inside in self.graph}
        # What takes the place of a vertex under its name is meant by limits that speak of it.
        names |= {name: name for name in model.graph.order if name not in names and name in self.graph}
        return View(model, self.graph, self.labels, names, (model.graph, model.labels))

    @property
    def owner(self) -> Model:
        """The model that the fork comes from."""
        return self._origin.model

    @property
    def refusal(self) -> Explanation | None:
        """Why sizes cannot be aligned if they must not change."""
        for gap in self._prospect.gaps.values():
            if self._align == "none" and gap.there != gap.expected:
                reason = f"{gap.there} neurons come where {gap.expected} are expected, and align is 'none'"
                return Explanation(possible=False, reasons=(reason,), subject=self.subject)
        return None

    def targets(self) -> tuple[Target, ...]:
        """For every bridge, the size that the caller prefers, as nearly as possible."""
        found = []
        for name, gap in self._prospect.gaps.items():
            wanted = aligned(gap.there, gap.expected, self._align)
            text = f"{name}: {gap.expected} -> {wanted}"
            found.append(Target(Port(name), gap.expected, wanted, False, False, text))
        return tuple(found)

    def worth(self, utility: Utility | None) -> Worth:
        """What neurons of the model as it is are worth, carried over to the fork."""
        return _EditWorth(self._origin, self.model, self._prospect, self._moves, utility)


class _EditWorth(Worth):
    """Utilities of the model as it is, carried over to the fork; bridges are worth what readers used to read."""

    def __init__(
        self, origin: Origin, fork: Model, prospect: Prospect, moves: Sequence[Moved], utility: Utility | None
    ) -> None:
        super().__init__(origin.model, utility)
        self._origin, self._prospect, self._moves = origin, prospect, moves
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
        original = self._origin.names.get(known_as.vertex)
        if original is None:
            return self.of(self._fork.handle(known_as.vertex))
        handle = self._origin.model.handle(original)
        vector = self.of(handle)
        if bridged and takes(handle.vertex) is Takes.STACKED:
            # What reads a concatenation knows its parts by what they are worth.
            parts = np.concatenate([self.of(part) for part in handle.inputs])
            vector = vector + parts if len(parts) == len(vector) else vector
        for step in self._moves:
            # Readers know a concatenation by its neurons before the edit.
            if known_as.vertex in step and not (bridged and known_as.vertex in self._prospect.touched):
                vector = carried(vector, step[known_as.vertex], 0.0)
        # The neurons may stand along another axis than those that the vertex is known by, or be others by now.
        return vector if len(vector) == self._sizes[name] else np.zeros(self._sizes[name])
