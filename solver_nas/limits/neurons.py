"""Limits on which neurons stay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.bounds import Forced, Frozen
from solver_nas.errors import RequestError
from solver_nas.frontend import Handle, Model, owner
from solver_nas.graph import Port
from solver_nas.limits.view import Limit, Of, View, titled
from solver_nas.requests import is_row, is_whole

if TYPE_CHECKING:
    from fractions import Fraction

    from solver_nas.bounds import Restriction
    from solver_nas.labels import Block


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Named(Limit):
    """Certain neurons of a vertex stay, or go."""

    of_old_neurons = True

    vertex: Handle
    neurons: tuple[int, ...]
    lives: bool

    def resolve(self, view: View) -> list[Restriction]:
        """What happens to their labels."""
        return [Forced(str(self), view.labels_of(self.vertex)[list(self.neurons)], self.lives)]

    def __str__(self) -> str:
        """As it is written."""
        return f"{'keep' if self.lives else 'drop'}({self.vertex.name}, {list(self.neurons)})"


def keep(vertex: Handle, neurons: Iterable[int]) -> Limit:
    """These output neurons of a vertex stay, by their present places, counted from 0."""
    return _Named(vertex, _places(vertex, neurons, "keep"), lives=True)


def drop(vertex: Handle, neurons: Iterable[int]) -> Limit:
    """These output neurons of a vertex go, by their present places, counted from 0."""
    return _Named(vertex, _places(vertex, neurons, "drop"), lives=False)


def _places(vertex: Handle, neurons: Iterable[int], title: str) -> tuple[int, ...]:
    owner(vertex)
    if not is_row(neurons):
        raise RequestError(f"{title} takes places in a list, as in {title}(v, [0, 3]), got {neurons!r}")
    found = tuple(neurons)
    for place in found:
        if not is_whole(place) or not 0 <= place < vertex.nout:
            raise RequestError(f"{title}: vertex {vertex.name!r} has neurons 0 to {vertex.nout - 1}, got {place!r}")
    if not found:
        raise RequestError(f"{title}: name at least one neuron of {vertex.name!r}")
    return tuple(int(place) for place in found)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Frozen(Limit):
    """What stays as it is."""

    of: Of
    what: tuple[str, ...]
    text: str = ""

    def resolve(self, view: View) -> list[Restriction]:
        """Labels that stay, and get no company."""
        found: list[Restriction] = []
        for name in view.chosen(self.of, f"freeze({', '.join(self.what)})"):
            vertex, tensors = view.graph.vertex(name), view.labels.tensors
            blocks: list[Block] = []
            if "outputs" in self.what:
                blocks += tensors[Port(name)].blocks
            if "inputs" in self.what:
                blocks += [block for port in vertex.inputs for block in tensors[port].blocks]
            levels = [level for block in blocks for level in block.levels]
            if "parameters" in self.what:
                uses = [use for p in vertex.parameters.values() for use in view.labels.parameters[p.key].uses]
                levels += [level for use in uses for level in use.levels]
            labels = [level["label"].reshape(-1) for level in levels]
            if labels:
                said = self.text or f"freeze({', '.join(self.what)})"
                found.append(Frozen(f"{said} (vertex {name!r})", np.unique(np.concatenate(labels))))
        return found

    def stage(self, view: View, share: Fraction) -> list[Limit]:  # noqa: ARG002 - the same all the way
        """It holds on the whole way."""
        return [self]

    def __str__(self) -> str:
        """As it is written."""
        return self.text or titled(f"freeze({', '.join(self.what)})", self.of)


def freeze(of: Of, what: str | Iterable[str] = "outputs") -> Limit:
    """Leave something of these vertices exactly as it is: no neuron goes, none comes.

    Args:
        of: as for `minimum`.
        what: `"outputs"`, `"inputs"`, `"parameters"` (every array of theirs stays bit for bit), or several.
    """
    wanted = (what,) if isinstance(what, str) else tuple(what)
    unknown = [one for one in wanted if one not in ("outputs", "inputs", "parameters")]
    if unknown or not wanted:
        raise RequestError(f"freeze takes 'outputs', 'inputs' or 'parameters', got {what!r}")
    return _Frozen(of, wanted)


def held_outputs(model: Model) -> Limit:
    """What a network returns stays, as verbs have it by default."""
    returned = [model.handle(port.vertex) for port in model.graph.returned]
    return _Frozen(returned, ("outputs",), "keep_outputs=True, the default")
