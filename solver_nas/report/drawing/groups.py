"""Which neurons of which vertices can only stay or go together, and which colour shows it."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.classes import classify
from solver_nas.graph import Port
from solver_nas.labels import FIXED
from solver_nas.partition import split_by_counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from solver_nas.labels import IntArray, Labels

#: What is always kept belongs to no group.
ALWAYS = 0
_WITHIN = 1_000_000  # two groups in one box are nearer than any others
#: Group -> how many of a vertex's neurons are in it, in the order in which they are met.
Shares = tuple[tuple[int, int], ...]


def classes_by_vertex(labels: Labels, order: Iterable[str]) -> tuple[dict[str, IntArray], int]:
    """The class of each neuron of each vertex, and how many classes there are."""
    class_of, count = classify(labels)
    return {name: class_of[labels.tensors[Port(name)].neurons["label"]] for name in order}, count


def shares(classes: Mapping[str, IntArray], count: int) -> dict[str, Shares]:
    """How the neurons of each vertex are divided among groups.

    A group is the classes that occur in the same vertices: a vertex that joins two tensors has the groups of
    both, since either can change without the other.

    Args:
        classes: vertex -> the class of each neuron; the vertices in the order in which groups are numbered.
        count: how many classes there are; class 0 is what is always kept.

    Returns:
        Vertex -> group -> neurons; groups are numbered from 1 in the order in which they are met.
    """
    part = np.ones(count, np.int64)
    part[FIXED] = ALWAYS
    for found in classes.values():
        part = split_by_counts(part, np.unique(found))
    always, numbers = int(part[FIXED]), dict[int, int]()
    result = {}
    for name, found in classes.items():
        often = Counter(part[found].tolist())
        result[name] = tuple(
            (ALWAYS if one == always else numbers.setdefault(one, len(numbers) + 1), neurons)
            for one, neurons in often.items()
        )
    return result


def coloured(shares: Sequence[Shares], pairs: Mapping[tuple[int, int], int], colours: int) -> dict[int, int]:
    """A colour for every group, another one than its neighbours have as far as there are enough.

    Args:
        shares: the groups of each box.
        pairs: boxes beside each other, in the network or in the picture -> how much that matters.
        colours: how many there are.

    Returns:
        Group -> colour in `[0, colours)`.
    """
    near: dict[int, Counter[int]] = defaultdict(Counter)
    within = {(place, place): _WITHIN for place in range(len(shares))}
    for (left, right), weight in [*pairs.items(), *within.items()]:
        for one, _ in shares[left]:
            for other, _ in shares[right]:
                near[one][other] += weight
                near[other][one] += weight
    chosen: dict[int, int] = {}
    used: Counter[int] = Counter()
    for group in sorted({group for found in shares for group, _ in found} - {ALWAYS}):
        clash = Counter[int]()
        for other, often in near[group].items():
            if other in chosen:
                clash[chosen[other]] += often
        colour = min(range(colours), key=lambda one: (clash[one], used[one], one))
        chosen[group] = colour
        used[colour] += 1
    return chosen
