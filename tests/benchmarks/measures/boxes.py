"""Which boxes are the same: boxes are rows of left, top, right, bottom."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
SAME = 0.5  # overlap from which on two boxes are taken for the same, as in Pascal VOC


def overlaps(ones: Boxes, others: Boxes) -> Boxes:
    """Intersection over union of every box with every other, shape `(ones, others)`."""
    low = np.maximum(ones[:, None, :2], others[None, :, :2])
    high = np.minimum(ones[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (ones, others)]
    return np.asarray(shared / np.maximum(areas[0][:, None] + areas[1][None, :] - shared, 1e-9))


def found(true: Boxes, guessed: Boxes) -> int:
    """How many true boxes have a guess of their own; the best overlaps are given away first."""
    if not len(guessed):
        return 0
    table = overlaps(true, guessed)
    count = 0
    while table.max() >= SAME:
        row, column = np.unravel_index(table.argmax(), table.shape)
        table[row], table[:, column] = 0, 0
        count += 1
    return count


def apart(boxes: Boxes, scores: NDArray[np.float64], overlap: float) -> Boxes:
    """The best boxes of those that overlap more (non-maximum suppression), best first."""
    left = np.argsort(-scores, kind="stable")
    kept = []
    while len(left):
        kept.append(left[0])
        left = left[1:][overlaps(boxes[left[:1]], boxes[left[1:]])[0] <= overlap]
    return boxes[kept]
