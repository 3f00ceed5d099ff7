"""In which order neurons stand after a change: that in which the changed network's operations need them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from solver_nas.errors import PlanError, RuleError
from solver_nas.moves import locate, words
from solver_nas.rules import Replay, label

if TYPE_CHECKING:
    from collections.abc import Container

    from solver_nas.graph import Graph
    from solver_nas.labels import Encounter, Labels, Neurons, SourceKey
    from solver_nas.moves import Moves


class DisorderError(PlanError):
    """The survivors would not stand in the order in which the changed network needs them."""


def relabel(after: Graph, labels: Labels, moves: Moves) -> Labels:
    """Labels of the changed graph, with the neurons of every source in an order in which the right ones meet.

    The order is the old one as far as that fits. Where an operation orders neurons by their number (a channel
    shuffle) and its output meets that of a layer, the layer's neurons are put into the order that they meet.

    Args:
        after: the changed graph.
        labels: those of the graph before.
        moves: where its neurons go.

    Raises:
        DisorderError: no such order was found.
    """
    sources = {key: moves.level(array) for key, array in labels.sources.items()}
    reordered: set[SourceKey] = set()
    while True:
        try:
            relabelled = label(after, Replay(sources, labels.choices, moves.count))
        except RuleError as error:
            raise DisorderError(str(error)) from error
        broken = _broken(labels, relabelled, moves)
        if broken is None:
            return relabelled
        before, now = broken
        key = _reorder(before, now, sources, reordered, moves)
        if key is None:
            where, rule = now.reason
            raise DisorderError(f"vertex {where!r}: {rule}: neurons would meet that did not meet before")
        reordered.add(key)


def _broken(labels: Labels, relabelled: Labels, moves: Moves) -> tuple[Encounter, Encounter] | None:
    """The first encounter that brings other neurons together than before."""
    if [e.reason for e in labels.encounters] != [e.reason for e in relabelled.encounters]:
        raise DisorderError("operations would treat their axes in another way than before")
    for before, now in zip(labels.encounters, relabelled.encounters, strict=True):
        if not _same(before, now, moves):
            return before, now
    return None


def _same(before: Encounter, now: Encounter, moves: Moves) -> bool:
    """Whether every pair that meets now is one that met before, or consists of new ones inserted after such a pair."""
    if before.left.shape == before.right.shape:
        (left, left_index), (right, right_index) = moves.flat(before.left), moves.flat(before.right)
        alike = left_index is right_index or np.array_equal(left_index, right_index)
        if alike and _equal(left, now.left) and _equal(right, now.right):
            return True
    old = _pairs(*np.broadcast_arrays(before.left, before.right))
    left, left_rank = moves.origin(now.left)
    right, right_rank = moves.origin(now.right)
    if ((left_rank != right_rank) & ~(now.rows & (left_rank < 0))).any():
        return False
    new = _pairs(*np.broadcast_arrays(left, right))
    if not len(new):
        return True
    old = np.unique(old)
    place = np.minimum(np.searchsorted(old, new), len(old) - 1)
    return bool((old[place] == new).all())


def _equal(promised: Neurons, found: Neurons) -> bool:
    flat = found.reshape(-1)
    return flat is promised or np.array_equal(flat, promised)


def _pairs(left: Neurons, right: Neurons) -> np.ndarray:
    both = np.stack([words(left.reshape(-1)), words(right.reshape(-1))], axis=1)
    return np.ascontiguousarray(both).view(np.dtype((np.void, 32))).reshape(-1)


def _reorder(
    before: Encounter,
    now: Encounter,
    sources: dict[SourceKey, Neurons],
    reordered: Container[SourceKey],
    moves: Moves,
) -> SourceKey | None:
    """Put a source that is one side of an encounter into the order of the other side; which source it was."""
    sides = (
        (before.right, now.right, before.left, now.left),
        (before.left, now.left, before.right, now.right),
    )
    for mine_before, mine, other_before, other in sides:
        if mine_before.shape != other_before.shape or mine.shape != other.shape:
            continue
        partners, rank = moves.origin(other.reshape(-1))
        try:
            place = locate(other_before.reshape(-1), partners, np.iinfo(np.int64).max)
        except PlanError:
            continue
        wanted = moves.descendant(mine_before["label"].reshape(-1)[place], rank)
        have = mine["label"].reshape(-1)
        if not np.array_equal(np.sort(wanted), np.sort(have)):
            continue
        for key, array in sources.items():
            if key not in reordered and np.array_equal(array["label"].reshape(-1), have):
                order = np.empty(len(have), np.intp)
                order[np.argsort(wanted, kind="stable")] = np.argsort(have, kind="stable")
                sources[key] = array.reshape(-1)[order].reshape(array.shape)
                return key
    return None
