"""Which neurons of which vertices can only stay or go together."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.classes import classify
from solver_nas.graph import Port
from solver_nas.labels import FIXED
from solver_nas.partition import split_by_counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from solver_nas.labels import IntArray, Labels

#: What is always kept belongs to no group.
ALWAYS = 0
#: Group -> how many of a vertex's neurons are in it, in the order in which they are met.
Shares = tuple[tuple[int, int], ...]


def classes_by_vertex(labels: Labels, order: Iterable[str]) -> tuple[dict[str, IntArray], int]:
    """The class of each neuron of each vertex, and how many classes there are."""
    class_of, count = classify(labels)
    return by_vertex(labels, order, class_of), count


def by_vertex(labels: Labels, order: Iterable[str], class_of: IntArray) -> dict[str, IntArray]:
    """The class of each neuron of each vertex, where the class of each label is known."""
    return {name: class_of[labels.tensors[Port(name)].neurons["label"]] for name in order}


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
