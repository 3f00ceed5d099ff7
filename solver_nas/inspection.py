"""What of a model can change, what hangs together, what is pinned and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.classes import classify
from solver_nas.costs import parameters
from solver_nas.graph import Port
from solver_nas.groups import ALWAYS, by_vertex, shares
from solver_nas.labels import FIXED, Volume
from solver_nas.magnitude import own_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from solver_nas.frontend import Model
    from solver_nas.graph import Graph
    from solver_nas.labels import IntArray, Labels


@dataclass(frozen=True, slots=True)
class Part:
    """A vertex as it is.

    Args:
        name: of the vertex.
        kind: its operation.
        inputs: names of the vertices that it reads.
        shape: of its output; `None` for a size that is not known.
        neurons: how many there are.
        free: how many of them can go.
        makes: whether parameters of its own make neurons, as those of a layer do.
        groups: its neurons that can go, by group: number of the group -> how many.
        parameters: entries of its arrays; those of shared arrays count for the first vertex.
        macs: multiplications for one sample; `None` if a size is not known.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: tuple[int | None, ...]
    neurons: int
    free: int
    makes: bool
    groups: Mapping[int, int]
    parameters: int
    macs: int | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """A model as it is.

    Args:
        parts: the vertices, producers first.
        groups: vertices whose neurons can only stay or go together, by number. A vertex that joins two tensors is in
            the groups of both.
        pinned: vertex -> why something around it stays as it is.
        parameters: entries of all arrays that are learned.
        free_parameters: how many of these go if all neurons go that can.
        macs: multiplications for one sample (for a PyTorch module, for one call with its example inputs); `None` if a
            size is not known.
        free_macs: likewise.
    """

    parts: tuple[Part, ...]
    groups: Mapping[int, tuple[str, ...]]
    pinned: Mapping[str, tuple[str, ...]]
    parameters: int
    free_parameters: int
    macs: int | None
    free_macs: int | None

    def __str__(self) -> str:
        """What there is, what of it can go, and what stays as it is."""
        lines = [
            f"{len(self.parts):,} vertices, {len(self.groups):,} groups of neurons",
            f"{self.parameters:,} parameters, {_share(self.free_parameters, self.parameters)} can go",
        ]
        if self.macs is not None:
            lines.append(f"{self.macs:,} multiplications, {_share(self.free_macs or 0, self.macs)} can go")
        lines += [f"pinned at {vertex}: {'; '.join(reasons)}" for vertex, reasons in self.pinned.items()]
        return "\n".join(lines)


def _share(some: int, of: int) -> str:
    return f"{some / max(of, 1):.1%}"


def inspect(model: Model) -> Inspection:
    """Look at a model as a whole."""
    return inspected(model.graph, model.labels)


def inspected(graph: Graph, labels: Labels) -> Inspection:
    """Look at a structure as a whole."""
    class_of, count = classify(labels)
    fixed = class_of == class_of[FIXED]
    groups = shares(by_vertex(labels, graph.order, class_of), count)
    counted: dict[str, int] = {}
    free_parameters = total = 0
    for _, owners, volume in parameters(graph, labels):
        size, free = _size(volume), _free(volume, fixed)
        counted[owners[0]] = counted.get(owners[0], 0) + size
        total, free_parameters = total + size, free_parameters + free
    works: dict[str, list[Volume]] = {}
    for volume in labels.works:
        works.setdefault(volume.vertex, []).append(volume)
    known = all(volume.times is not None for volume in labels.works)
    parts = []
    for vertex in graph.vertices:
        tensor = labels.tensors[Port(vertex.name)]
        mine = tensor.neurons["label"]
        work = works.get(vertex.name, [])
        parts.append(
            Part(
                vertex.name,
                vertex.kind,
                tuple(port.vertex for port in vertex.inputs),
                tensor.shape,
                len(mine),
                int((~fixed[mine]).sum()),
                bool(len(own_labels(labels, vertex))),
                {group: often for group, often in groups[vertex.name] if group != ALWAYS},
                counted.get(vertex.name, 0),
                None if any(volume.times is None for volume in work) else sum(map(_size, work)),
            )
        )
    members: dict[int, list[str]] = {}
    for part in parts:
        for group in part.groups:
            members.setdefault(group, []).append(part.name)
    return Inspection(
        tuple(parts),
        {group: tuple(names) for group, names in members.items()},
        _pinned(labels),
        total,
        free_parameters,
        sum(map(_size, labels.works)) if known else None,
        sum(_free(volume, fixed) for volume in labels.works) if known else None,
    )


def _pinned(labels: Labels) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for reason in labels.pinned:
        found.setdefault(reason.vertex, {})[reason.rule] = None
    for tie in labels.ties:
        if len(tie.left) and (tie.right == FIXED).all() and (tie.left != FIXED).any():
            found.setdefault(tie.reason.vertex, {})[tie.reason.rule] = None
    return {vertex: tuple(rules) for vertex, rules in found.items()}


def _size(volume: Volume) -> int:
    """A product of sizes."""
    return _product(volume, [len(one) for one in volume.over], [len(one) for one in volume.under])


def _free(volume: Volume, fixed: NDArray[np.bool_]) -> int:
    """How much of a product goes if all neurons go that can; of every axis, one stays."""

    def left(labels: Iterable[IntArray]) -> list[int]:
        return [max(int(fixed[one].sum()), 1) for one in labels]

    if all(fixed[one].all() for one in volume.over):
        return 0
    return _size(volume) - _product(volume, left(volume.over), left(volume.under))


def _product(volume: Volume, over: list[int], under: list[int]) -> int:
    result = volume.times or 0
    for size in over:
        result *= size
    for size in under:
        result //= max(size, 1)
    return result
