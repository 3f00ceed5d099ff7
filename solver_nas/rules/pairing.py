"""Which axes of a reshaped array hold the same elements before and after."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.labels import Shape


class Pair(NamedTuple):
    """One axis of the finest common shape: where it lies before and after.

    Args:
        old: the axis of the input that it is part of; none for a new one of size 1; several where sizes do not
            divide each other.
        new: the same for the output.
    """

    old: tuple[int, ...]
    new: tuple[int, ...]


Pairs = tuple[Pair, ...]


def paired(old: Sequence[int], new: Sequence[int]) -> Pairs | None:
    """The finest shape of which both are coarser views, as far as sizes divide each other; `None` if sizes are 0.

    >>> paired((2048, 64), (512, 256))
    (Pair(old=(0,), new=(0,)), Pair(old=(0,), new=(1,)), Pair(old=(1,), new=(1,)))
    """
    if 0 in old or 0 in new or prod(old) != prod(new):
        return None
    found: list[Pair] = []
    i = j = 0
    left = right = 0  # what is left of the present axes; 0 before they are begun
    while i < len(old) or j < len(new):
        left = left or (old[i] if i < len(old) else 0)
        right = right or (new[j] if j < len(new) else 0)
        if left == 1 and right != 1:
            found.append(Pair((i,), ()))
            i, left = i + 1, 0
        elif right == 1 and left != 1:
            found.append(Pair((), (j,)))
            j, right = j + 1, 0
        elif left == right:
            found.append(Pair((i,), (j,)))
            i, j, left, right = i + 1, j + 1, 0, 0
        elif right % left == 0:
            found.append(Pair((i,), (j,)))
            i, left, right = i + 1, 0, right // left
        elif left % right == 0:
            found.append(Pair((i,), (j,)))
            j, left, right = j + 1, left // right, 0
        else:
            return _coarse(old, new)
    return tuple(found)


def _coarse(old: Sequence[int], new: Sequence[int]) -> Pairs:
    """Groups of axes that hold equally many elements, without looking inside."""
    found: list[Pair] = []
    i = j = 0
    while i < len(old) or j < len(new):
        one, other = i, j
        left = right = 1
        while one == i or other == j or left != right:
            if other > j and (left < right or one == i) and one < len(old):
                left, one = left * old[one], one + 1
            elif other < len(new):
                right, other = right * new[other], other + 1
            else:
                left, one = left * old[one], one + 1
            if one == len(old) and other == len(new):
                break
        found.append(Pair(tuple(range(i, one)), tuple(range(j, other))))
        i, j = one, other
    return tuple(found)


def refined(pairs: Pairs, old: Shape, new: Shape) -> Shape:
    """The sizes of the finest common shape.

    Args:
        pairs: what `paired` has found for other sizes of the same axes.
        old: the input's shape now.
        new: the output's.
    """
    groups: list[tuple[int | None, list[int]]] = []
    for axis, size in enumerate(old):
        groups.append((size, [place for place, pair in enumerate(pairs) if pair.old == (axis,)]))
    for axis, size in enumerate(new):
        groups.append((size, [place for place, pair in enumerate(pairs) if pair.new == (axis,)]))
    sizes: dict[int, int] = {}
    for place, pair in enumerate(pairs):
        if not pair.old or not pair.new:
            sizes[place] = 1
        for axes, shape in ((pair.old, old), (pair.new, new)):
            inside = [shape[axis] for axis in axes]
            if len(axes) > 1 and None not in inside:
                sizes[place] = prod(size for size in inside if size is not None)
    found = True
    while found:
        found = False
        for size, places in groups:
            open_ones = [place for place in places if place not in sizes]
            if len(open_ones) == 1 and size is not None:
                sizes[open_ones[0]] = size // prod(sizes[place] for place in places if place in sizes)
                found = True
    return tuple(sizes.get(place) for place in range(len(pairs)))
