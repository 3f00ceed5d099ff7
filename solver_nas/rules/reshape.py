"""How neurons pass through a reshape: axes merge, axes split, and a split axis becomes a rectangle."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.labels import Block, Tensor, mixed
from solver_nas.rules.primitives import whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.labels import Neurons, Shape
    from solver_nas.rules.registry import Resized
    from solver_nas.rules.scope import Scope

#: Which axes of the input become which axes of the output; neighbours, in order.
Groups = list[tuple[list[int], list[int]]]

_BASE = 64  # more axes than any array has; two of them are packed into one recorded choice


def reshape(scope: Scope, tensor: Tensor, shape: Shape, *, fixed: Sequence[int] = ()) -> Tensor:
    """The same elements in another shape.

    Axes are matched in groups of equal size. Inside a group, neurons are flattened and split as the
    data is. Splitting one axis of neurons into several asks for a rectangle: rows may go, and every row
    keeps equally many columns.

    Args:
        scope: the vertex.
        tensor: the input.
        shape: the output's shape, spelled out; `None` only where the input has it too.
        fixed: axes of the output that stay as long as they are.
    """
    held = [axis % len(shape) for axis in fixed]
    groups = _recorded(scope, _rowed(_groups(scope, tensor, shape), held))
    result = regroup(scope, tensor, shape, groups, held)
    return whole(scope, result, held, "this axis of a reshape is fixed") if held else result


def split_axis(scope: Scope, tensor: Tensor, axis: int, sizes: Sequence[int]) -> Tensor:
    """One axis as several, outermost first: groups and channels per group, heads and head dimensions."""
    axis %= len(tensor.shape)
    if tensor.shape[axis] != prod(sizes):
        raise scope.fail(f"axis {axis} of size {tensor.shape[axis]} cannot be split into {tuple(sizes)}")
    last = axis + len(sizes)
    groups = [([place], [place]) for place in range(axis)]
    groups.append(([axis], list(range(axis, last))))
    later = range(axis + 1, len(tensor.shape))
    groups += [([place], [place + len(sizes) - 1]) for place in later]
    shape = (*tensor.shape[:axis], *sizes, *tensor.shape[axis + 1 :])
    return regroup(scope, tensor, shape, groups)


def merge_axes(scope: Scope, tensor: Tensor, first: int, count: int) -> Tensor:
    """Neighbouring axes as one: the inverse of `split_axis`."""
    first %= len(tensor.shape)
    sizes = tensor.shape[first : first + count]
    size = None if None in sizes else prod(size for size in sizes if size is not None)
    groups = [([place], [place]) for place in range(first)]
    groups.append((list(range(first, first + count)), [first]))
    later = range(first + count, len(tensor.shape))
    groups += [([place], [place - count + 1]) for place in later]
    shape = (*tensor.shape[:first], size, *tensor.shape[first + count :])
    return regroup(scope, tensor, shape, groups)


def regroup(
    scope: Scope, tensor: Tensor, shape: Shape, groups: Groups, fixed: Sequence[int] = (), *, plain: bool = False
) -> Tensor:
    """A reshape of which it is known which axes of the input become which axes of the output.

    Args:
        scope: the vertex.
        tensor: the input.
        shape: the output's shape.
        groups: neighbouring axes of the input and those of the output that hold the same elements, in order.
        fixed: axes of the output that stay as long as they are.
        plain: whether a leading axis along which nothing differs is an ordinary one, as in (samples * C) ->
            (samples, C); not so where its positions have parameters of their own.
    """
    scope.speak(tensor)
    blocks = list(tensor.blocks)
    # Names of axes while they change: ("old", i) until its group is done, ("new", j) afterwards.
    named: list[tuple[list[tuple[str, int]], tuple[Neurons, ...]]] = [
        ([("old", axis) for axis in block.axes], block.levels) for block in blocks
    ]
    for old, new in groups:
        inside = [("old", axis) for axis in old]
        touched = [place for place, (axes, _) in enumerate(named) if set(axes) & set(inside)]
        if not touched:
            continue
        unknown = len(old) + len(new) > 2 and None in (
            *(tensor.shape[axis] for axis in old),
            *(shape[axis] for axis in new),
        )
        if new and not unknown:
            _keep_one(scope, named, blocks, touched, inside)
            touched = [place for place, (axes, _) in enumerate(named) if set(axes) & set(inside)]
        if len(touched) > 1 or not new or unknown or not _contiguous(named[touched[0]][0], inside):
            why = (
                "axes of unknown size are merged or split"
                if unknown
                else "axes that are grouped in different ways are merged"
            )
            for place in sorted(touched, reverse=True):
                scope.pin_block(blocks[place], f"reshape: {why}")
                del named[place], blocks[place]
            continue
        place = touched[0]
        axes, levels = named[place]
        depth = min(axes.index(axis) for axis in inside if axis in axes)
        width = sum(axis in inside for axis in axes)
        merged = _merge(tensor, axes, levels, old, depth, width)
        held = next((place for place, axis in enumerate(reversed(new)) if axis not in fixed), len(new))
        sizes = [shape[axis] or 0 for axis in new]
        names, levels = _split(scope, merged, depth, sizes, new, min(held, len(new) - 1), plain=plain)
        named[place] = ([*axes[:depth], *names, *axes[depth + width :]], levels)
    return Tensor(shape, tuple(Block(tuple(axis for _, axis in axes), levels) for axes, levels in named))


def _keep_one(
    scope: Scope,
    named: list[tuple[list[tuple[str, int]], tuple[Neurons, ...]]],
    blocks: list[Block],
    touched: Sequence[int],
    inside: Sequence[tuple[str, int]],
) -> None:
    """Where axes of neurons merge that have nothing to do with each other, the first one alone stays free.

    That is the axis of channels where a convolution's weight is flattened.
    """
    if len(touched) < 2 or any(len(named[place][0]) > 1 for place in touched):
        return
    in_order = sorted(touched, key=lambda place: inside.index(named[place][0][0]))
    first = next((turn for turn, place in enumerate(in_order) if named[place][1][0].size > 1), 0)
    kept = in_order[scope.tape.choose((*scope.key("kept"), inside[0][1]), first)]
    for place in sorted(set(touched) - {kept}, reverse=True):
        scope.pin_block(blocks[place], "reshape: merged with another axis of neurons, which may change instead")
        del named[place], blocks[place]


def _contiguous(axes: Sequence[tuple[str, int]], inside: Sequence[tuple[str, int]]) -> bool:
    places = [place for place, axis in enumerate(axes) if axis in inside]
    return places == list(range(places[0], places[-1] + 1))


def _merge(
    tensor: Tensor,
    axes: Sequence[tuple[str, int]],
    levels: tuple[Neurons, ...],
    old: Sequence[int],
    depth: int,
    width: int,
) -> tuple[Neurons, ...]:
    """Flatten the axes `old` of a group into one; the block's levels from `depth` on are among them."""
    if len(old) == 1:
        return levels
    mine = [axis for _, axis in axes[depth : depth + width]]
    foreign = [axis for axis in old if axis not in mine]
    sizes = [tensor.shape[axis] or 0 for axis in foreign]
    # Copies of one neuron along the foreign axes are told apart by their place there.
    salt = np.arange(prod(sizes), dtype=np.int64).reshape(sizes)
    result = list(levels[:depth])
    for level in levels[depth + width - 1 :]:
        after = level.ndim - depth - width
        spread = level.reshape(*level.shape[: depth + width], *[1] * len(foreign), *level.shape[depth + width :])
        if foreign:
            spread = mixed(spread, salt.reshape(*sizes, *[1] * after))
        order = [depth + [*mine, *foreign].index(axis) for axis in old]
        total = depth + width + len(foreign)
        spread = spread.transpose([*range(depth), *order, *range(total, total + after)])
        result.append(spread.reshape(*level.shape[:depth], -1, *level.shape[depth + width :]))
    return tuple(result)


def _split(
    scope: Scope,
    levels: tuple[Neurons, ...],
    depth: int,
    sizes: Sequence[int],
    new: Sequence[int],
    held: int,
    *,
    plain: bool,
) -> tuple[list[tuple[str, int]], tuple[Neurons, ...]]:
    """Split level `depth` into axes of these sizes, of which the last `held` stay as long as they are.

    Rows that need a label of their own get one.
    """
    key = scope.key("rows")
    level = levels[depth]
    if level.shape[depth] != prod(sizes):
        raise scope.fail(f"an axis of {level.shape[depth]} neurons cannot be split into {tuple(sizes)}")
    cells = level.reshape(*level.shape[:depth], *sizes)
    again = plain and depth == 0 and len(sizes) > 1 and sizes[0] > 1
    again = again and bool((cells["label"] == cells["label"][:1]).all())
    if scope.tape.choose((*key, "again"), int(again)):
        first = tuple(one.reshape(sizes[0], -1, *one.shape[1:])[0] for one in levels)
        if len(new) == 2:
            return [("new", new[1])], first
        return _split(scope, first, 0, sizes[1:], new[1:], min(held, len(new) - 2), plain=plain)
    # Trailing axes along which nothing differs are ordinary axes again, as in (C * 7 * 7) -> (C, 7, 7).
    if held:
        tails = cells.reshape(*cells.shape[: cells.ndim - held], -1)
        scope.tape.tie(tails[..., 1:], tails[..., :1], scope.reason("reshape: these axes are fixed"))
    uniform = held
    while uniform < len(sizes) - 1 and _uniform(cells, len(sizes) - uniform + depth - 1):
        uniform += 1
    uniform = scope.tape.choose((*key, "uniform"), uniform)
    count = len(sizes) - uniform
    cells = cells.reshape(*cells.shape[: depth + count], -1)[..., 0]
    made: list[Neurons] = []
    reason = scope.reason("reshape: every row keeps equally many")
    for inner in range(1, count):
        shape = cells.shape[: depth + inner]
        made.append(scope.tape.fresh((*key, inner), shape, reason))
    made.append(cells)
    chain = [*levels[:depth], *made]
    if count > 1:
        for outer, inner_level in pairwise(chain[max(depth - 1, 0) :]):
            scope.tape.joint(outer, inner_level, reason)
    later = tuple(
        later.reshape(*level.shape[:depth], *sizes, *later.shape[depth + 1 :]) for later in levels[depth + 1 :]
    )
    if uniform:
        place = depth + count
        tail = prod(sizes[count:])
        later = tuple(
            np.take(array.reshape(*array.shape[:place], tail, *array.shape[depth + len(sizes) :]), 0, axis=place)
            for array in later
        )
    return [("new", axis) for axis in new[:count]], (*chain, *later)


def _uniform(cells: Neurons, axis: int) -> bool:
    """Whether labels are equal along this axis and all after it (an axis of one neuron is)."""
    labels = cells["label"]
    tail = labels.reshape(*labels.shape[:axis], -1)
    return bool((tail == tail[..., :1]).all())


def _groups(scope: Scope, tensor: Tensor, new: Shape) -> Groups:
    """Match axes so that every group holds equally many elements, in as many groups as possible.

    Axes are matched from the left; those of size one that have no partner are alone. An unknown size
    equals an unknown size (the batch); where that does not decide, what is left is matched from the
    right, and the rest is one group.
    """
    old = tensor.shape
    groups, (i, j) = _match(old, new)
    if i == len(old) and j == len(new):
        return _attached(groups, tensor)
    mirrored, (back, front) = _match(old[i:][::-1], new[j:][::-1], known=True)
    last = len(old) - 1, len(new) - 1
    ending = [
        ([last[0] - axis for axis in left][::-1], [last[1] - axis for axis in right][::-1])
        for left, right in reversed(mirrored)
    ]
    left, right = list(range(i, len(old) - back)), list(range(j, len(new) - front))
    # What cannot be equal belongs to axes before it: (None, 6) seen as (None, 4) has another batch.
    while groups and None not in (sizes := (_size(old, left), _size(new, right))) and len(set(sizes)) > 1:
        before = groups.pop()
        left, right = [*before[0], *left], [*before[1], *right]
    if bool(left) != bool(right) and groups:
        before = groups.pop()
        left, right = [*before[0], *left], [*before[1], *right]
    if None not in (sizes := (_size(old, left), _size(new, right))) and len(set(sizes)) > 1:
        raise scope.fail(f"{old} cannot be seen as {new}: the sizes do not match")
    return _attached([*groups, *([(left, right)] if left or right else []), *ending], tensor)


def _rowed(groups: Groups, fixed: Sequence[int]) -> Groups:
    """Let a new axis of size one be the row of fixed columns that follow it: one channel and its pixels."""
    found: Groups = []
    for left, right in groups:
        row = found[-1] if found else ([], [])
        if row[1] and not row[0] and left and set(right) <= set(fixed) and not set(row[1]) & set(fixed):
            found[-1] = (left, [*row[1], *right])
        else:
            found.append((left, right))
    return found


def _attached(groups: Groups, tensor: Tensor) -> Groups:
    """Let an axis of size one that goes away merge with a neighbour, so that its neurons are not lost.

    If one of the neighbours is in the same rectangle, with that one.
    """

    def takes(group: tuple[list[int], list[int]]) -> bool:
        return bool(group[1]) and None not in (tensor.shape[axis] for axis in group[0])

    found: Groups = []
    rest = list(groups)
    while rest:
        left, right = rest.pop(0)
        mates = {mate for axis in left if (block := tensor.block_of(axis)) for mate in block.axes}
        before, after = bool(found) and takes(found[-1]), bool(rest) and takes(rest[0])
        if right or not mates or not (before or after):
            found.append((left, right))
        elif before and (not after or mates & set(found[-1][0])):
            found[-1] = ([*found[-1][0], *left], found[-1][1])
        else:
            rest[0] = ([*left, *rest[0][0]], rest[0][1])
    return found


def _match(old: Shape, new: Shape, *, known: bool = False) -> tuple[Groups, tuple[int, int]]:
    """Groups from the left as far as sizes decide them, and how many axes they cover on both sides."""
    groups: Groups = []
    i = j = 0
    while i < len(old) or j < len(new):
        one, other = old[i] if i < len(old) else 0, new[j] if j < len(new) else 0
        alone = (one == 1) != (other == 1)
        left = [i] if i < len(old) and not (alone and other == 1) else []
        right = [j] if j < len(new) and not (alone and one == 1) else []
        while _size(old, left) != _size(new, right):
            one, other = _size(old, left), _size(new, right)
            if one is None or other is None:
                return groups, (i, j)
            shorter, axes = (left, old) if one < other else (right, new)
            following = (shorter[-1] if shorter else len(axes) - 1) + 1
            if following >= len(axes):
                return groups, (i, j)
            shorter.append(following)
        if known and _size(old, left) is None:
            return groups, (i, j)
        groups.append((left, right))
        i, j = i + len(left), j + len(right)
    return groups, (i, j)


def _size(shape: Shape, axes: Sequence[int]) -> int | None:
    sizes = [shape[axis] for axis in axes]
    return None if None in sizes else prod(size for size in sizes if size is not None)


def _recorded(scope: Scope, groups: Groups) -> Groups:
    """The grouping of the first pass: after a change of sizes, equal products may suggest another one."""
    key = scope.key("groups")
    count = scope.tape.choose((*key, 0), len(groups))
    result: Groups = []
    i = j = 0
    for place in range(count):
        proposal = 0
        if place < len(groups):
            proposal = len(groups[place][0]) * _BASE + len(groups[place][1])
        left, right = divmod(scope.tape.choose((*key, place + 1), proposal), _BASE)
        result.append((list(range(i, i + left)), list(range(j, j + right))))
        i, j = i + left, j + right
    return result


def rewrite_shape(shape: Sequence[int], resized: Resized) -> tuple[int, ...]:
    """The literal shape after a change: what was -1 stays so, the rest follows the output."""
    after = resized.outputs[0]
    return tuple(
        -1 if literal == -1 else int(size if size is not None else literal)
        for literal, size in zip(shape, after[len(after) - len(shape) :], strict=True)
    )
