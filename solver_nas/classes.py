"""Which labels stand or fall together once all ties are followed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from solver_nas.labels import FIXED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from solver_nas.labels import IntArray, Joint, Labels, Product, Tie


def classify(labels: Labels, ties: Iterable[Tie] | None = None) -> tuple[IntArray, int]:
    """Classes of tied labels.

    Returns:
        The class of every label, and the number of classes; classes are numbered by their lowest label,
        so that class 0 is what is always kept.
    """
    left = [tie.left for tie in (labels.ties if ties is None else ties)]
    right = [tie.right for tie in (labels.ties if ties is None else ties)]
    for joint in labels.joints:
        if joint.cells.shape[1] == 1:
            left.append(joint.rows)
            right.append(joint.cells[:, 0])
    count, class_of = components(labels.count, left, right)
    while extra := [*_fixed_factors(labels.products, class_of), *_fixed_rows(labels.joints, class_of)]:
        left += [one for one, _ in extra]
        right += [other for _, other in extra]
        count, class_of = components(labels.count, left, right)
    return class_of, count


def components(nodes: int, left: Sequence[IntArray], right: Sequence[IntArray]) -> tuple[int, IntArray]:
    """Connected components of a graph whose edges go from `left` to `right`: their number, and each node's."""
    rows = np.concatenate([np.zeros(0, np.int64), *left])
    columns = np.concatenate([np.zeros(0, np.int64), *right])
    matrix = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(nodes, nodes))
    count, component = connected_components(matrix, directed=False)
    return int(count), component.astype(np.int64)


def loose_joints(labels: Labels, class_of: IntArray) -> list[Joint]:
    """The rectangles that relate anything: where every cell is tied to its row, there is nothing to say."""
    return [joint for joint in labels.joints if (class_of[joint.cells] != class_of[joint.rows][:, None]).any()]


def reached(labels: Labels, class_of: IntArray, classes: int, starts: Iterable[IntArray]) -> NDArray[np.bool_]:
    """Classes that hang together with some labels through rectangles, shared columns and balances, these included.

    Args:
        labels: all of them.
        class_of: label -> class.
        classes: how many classes there are.
        starts: the labels to start from.
    """
    hubs = [np.concatenate([joint.rows, joint.cells.reshape(-1)]) for joint in loose_joints(labels, class_of)]
    hubs += [np.concatenate([p.rows, p.columns, p.cells.reshape(-1)]) for p in labels.products]
    hubs += [np.concatenate([balance.left, balance.right]) for balance in labels.balances]
    # Hub h is node classes + h; what is always kept passes nothing on.
    left = [hub[hub != FIXED] for hub in (class_of[members] for members in hubs)]
    right = [np.full(len(hub), classes + place) for place, hub in enumerate(left)]
    count, component = components(classes + len(hubs), left, right)
    found = np.zeros(count, bool)
    for start in starts:
        found[component[class_of[start]]] = True
    result = found[component[:classes]]
    result[FIXED] = False
    return result


def _fixed_rows(joints: Sequence[Joint], class_of: IntArray) -> list[tuple[IntArray, IntArray]]:
    """Rows that are always there, since one of their cells is, and are not known to be yet."""
    fixed = class_of[FIXED]
    found = []
    for joint in joints:
        lives = (class_of[joint.cells] == fixed).any(axis=1) & (class_of[joint.rows] != fixed)
        if lives.any():
            rows = joint.rows[lives]
            found.append((rows, np.full_like(rows, FIXED)))
    return found


def _fixed_factors(products: Sequence[Product], class_of: IntArray) -> list[tuple[IntArray, IntArray]]:
    """Ties that follow where a row or a column of a product is always kept, and are not there yet."""
    found = []
    fixed = class_of[FIXED]
    for product in products:
        rows, columns, cells = class_of[product.rows], class_of[product.columns], class_of[product.cells]
        loose = (columns == fixed)[None, :] & (cells != rows[:, None])
        if loose.any():
            at = np.nonzero(loose)
            found.append((product.cells[at], product.rows[at[0]]))
        loose = (rows == fixed)[:, None] & (cells != columns[None, :])
        if loose.any():
            at = np.nonzero(loose)
            found.append((product.cells[at], product.columns[at[1]]))
    return found
