"""Partitions of classes, refined until the members of a part cannot be told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from solver_nas.labels import IntArray


def split_by_counts(part: IntArray, array: IntArray) -> IntArray:
    """Split parts by how often each class occurs in `array`."""
    often = np.bincount(array[array >= 0], minlength=len(part))
    member = np.flatnonzero(often)
    if not len(member):
        return part
    part = part.copy()
    part[member] = len(part) + _compact(part[member] * (int(often.max()) + 1) + often[member])
    return _compact(part)


def split_by_rows(part: IntArray, array: IntArray, rows: IntArray) -> IntArray:
    """Split parts by the multiset of rows in which each class occurs in `array`."""
    inside = array >= 0
    classes, place = array[inside], rows[inside]
    if not len(classes):
        return part
    span = int(place.max()) + 1
    pairs, often = np.unique(classes * span + place, return_counts=True)
    member, row = pairs // span, pairs % span
    part = part.copy()
    if (member[1:] > member[:-1]).all():
        inner = _compact(row * (int(often.max()) + 1) + often)
        part[member] = len(part) + _compact(part[member] * (int(inner.max()) + 1) + inner)
    else:
        # A class in several rows (one key head for several query heads): its signature is all of them.
        starts = np.flatnonzero(np.r_[True, member[1:] != member[:-1]])
        seen: dict[tuple[object, ...], int] = {}
        for begin, end in zip(starts, np.r_[starts[1:], len(member)], strict=True):
            key = (int(part[member[begin]]), *row[begin:end].tolist(), *often[begin:end].tolist())
            part[member[begin]] = len(part) + seen.setdefault(key, len(seen))
    return _compact(part)


def _compact(keys: IntArray) -> IntArray:
    """The same partition with numbers from 0 on."""
    if not len(keys):
        return keys
    top = int(keys.max()) + 1
    if top > 8 * len(keys):
        return np.unique(keys, return_inverse=True)[1].reshape(-1)
    # Sorting a million keys takes longer than everything else; a table of those in use does not.
    used = np.zeros(top, np.int64)
    used[keys] = 1
    return (np.cumsum(used) - 1)[keys]


def renumbered(part: IntArray) -> IntArray:
    """The same partition with numbers in the order of the first member."""
    if not len(part):
        return part
    _, first, inverse = np.unique(part, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.reshape(-1)]
