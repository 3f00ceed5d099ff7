"""The few ways in which neurons pass through operations; every rule is made of these.

All of them take the vertex's scope first and return the labelled output. They treat labels with the
same index arithmetic that the operation applies to data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from solver_nas.labels import FIXED, Block, Tensor, mixed, neurons
from solver_nas.rules.contract import einsum, elementwise
from solver_nas.rules.merge import Meeting, Part
from solver_nas.rules.scope import Weight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.labels import IntArray, Neurons
    from solver_nas.rules.scope import Scope


__all__ = ["concat", "einsum", "elementwise", "fix", "mingled", "pad", "reduce", "same", "take", "transpose", "whole"]


def same(scope: Scope, tensor: Tensor) -> Tensor:
    """The tensor as it is: an activation, a dropout, a cast."""
    scope.speak(tensor)
    return tensor


def whole(scope: Scope, tensor: Tensor, axes: Sequence[int], why: str) -> Tensor:
    """Keep these axes as long as they are, and the blocks on the other axes alone.

    In a rectangle, whole rows may still go: this is how the channels of a tensor that was a vector
    before, (channels * height * width), live and die with all their pixels. Columns whose rows are all
    kept are the same in every row.
    """
    rank = len(tensor.shape)
    held = {axis % rank for axis in axes}
    scope.speak(tensor)
    meeting = Meeting(scope, why)
    for block in tensor.blocks:
        meeting.add(Part(tuple(f"axis {axis}" for axis in block.axes), block.levels))
    for axis in sorted(held):
        meeting.whole(f"axis {axis}")
    blocks = meeting.blocks([f"held {axis}" if axis in held else f"axis {axis}" for axis in range(rank)])
    return Tensor(tensor.shape, blocks)


def held(scope: Scope, tensor: Tensor, axis: int, why: str) -> Tensor:
    """The same tensor, of which one axis stays as long as it is: columns go with their whole row, or not at all."""
    axis %= len(tensor.shape)
    scope.speak(tensor)
    block = tensor.block_of(axis)
    if block is not None:
        depth = block.axes.index(axis)
        if depth:
            scope.tape.tie(block.levels[depth], block.levels[depth - 1][..., None], scope.reason(why))
        else:
            scope.tape.pin(block.levels[0], scope.reason(why))
    return tensor


def added_up(scope: Scope, tensor: Tensor, axes: Sequence[int], *, keepdims: bool = False) -> Tensor:
    """A sum or a norm over axes, in which new neurons are nothing."""
    gone = {axis % len(tensor.shape) for axis in axes}
    for block in tensor.blocks:
        for axis, level in zip(block.axes, block.levels, strict=True):
            if axis in gone:
                scope.tape.silence(level)
    return reduce(scope, tensor, axes, keepdims=keepdims)


def reduce(scope: Scope, tensor: Tensor, axes: Sequence[int], *, keepdims: bool = False) -> Tensor:
    """Sum, mean or maximum over axes: they go, or keep a size of one."""
    rank = len(tensor.shape)
    gone = {axis % rank for axis in axes}
    letters = tuple(f"axis {axis}" for axis in range(rank))
    meeting = Meeting(scope, "reduction")
    scope.speak(tensor)
    for block in tensor.blocks:
        meeting.add(Part(tuple(letters[axis] for axis in block.axes), block.levels))
    if keepdims:
        blocks = meeting.blocks([f"gone {axis}" if axis in gone else letters[axis] for axis in range(rank)])
        return Tensor(tuple(1 if axis in gone else size for axis, size in enumerate(tensor.shape)), blocks)
    kept = [axis for axis in range(rank) if axis not in gone]
    return Tensor(tuple(tensor.shape[axis] for axis in kept), meeting.blocks([letters[axis] for axis in kept]))


def mingled(scope: Scope, x: Tensor, axes: Sequence[int]) -> Tensor:
    """Every neuron stays and depends on the others along these axes.

    Where these are the rows of a rectangle, cells of one column meet, which therefore have to go together.
    """
    reduce(scope, x, axes)
    return same(scope, x)


def transpose(scope: Scope, tensor: Tensor, order: Sequence[int]) -> Tensor:
    """Axis `order[i]` of the input is axis `i` of the output."""
    scope.speak(tensor)
    rank = len(tensor.shape)
    place = {axis % rank: position for position, axis in enumerate(order)}
    blocks = tuple(Block(tuple(place[axis] for axis in block.axes), block.levels) for block in tensor.blocks)
    return Tensor(tuple(tensor.shape[axis] for axis in order), blocks)


def take(scope: Scope, tensor: Tensor, axis: int, index: IntArray | slice) -> Tensor:
    """Positions of one axis, in any order and with repetitions: slices, gathers, flips, repeats."""
    scope.speak(tensor)
    axis %= len(tensor.shape)
    size = tensor.shape[axis]
    if size is None:
        raise scope.fail(f"axis {axis} of the input has no known size, so that no positions can be taken from it")
    positions = np.arange(size)[index]
    salt = _occurrence(positions)
    # Decided once: what is repeated before a change may stand there only once after it.
    repeated = bool(scope.tape.choose(scope.key("repeated"), int(salt.any())))
    blocks = tuple(
        _take_block(scope, block, axis, positions, salt if repeated else None) if axis in block.axes else block
        for block in tensor.blocks
    )
    return Tensor((*tensor.shape[:axis], len(positions), *tensor.shape[axis + 1 :]), blocks)


def _take_block(scope: Scope, block: Block, axis: int, positions: IntArray, salt: IntArray | None) -> Block:
    depth = block.axes.index(axis)
    if depth and not len(positions):
        return Block(block.axes[:depth], block.levels[:depth])
    levels = list(block.levels)
    for inner in range(depth, len(levels)):
        level = np.take(levels[inner], positions, axis=depth)
        if salt is not None:
            level = mixed(level, salt.reshape(-1, *[1] * (inner - depth)))
        levels[inner] = level
    if depth and len(positions):
        scope.tape.joint(levels[depth - 1], levels[depth], scope.reason("a part of every row: equally many"))
    return Block(block.axes, tuple(levels))


def _occurrence(positions: IntArray) -> IntArray:
    """How often each position stood before: 3, 5, 3, 3 -> 0, 0, 1, 2."""
    order = np.argsort(positions, kind="stable")
    ranked = positions[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else np.zeros(0, np.int64)
    result = np.empty(len(positions), np.int64)
    result[order] = np.arange(len(positions)) - np.repeat(starts, np.diff(np.r_[starts, len(ranked)]))
    return result


def concat(scope: Scope, tensors: Sequence[Tensor], axis: int) -> Tensor:
    """Tensors one after the other along an axis; all other axes are tied."""
    rank = len(tensors[0].shape)
    axis %= rank
    letters = tuple(f"axis {place}" for place in range(rank))
    rest = Meeting(scope, "concatenation: equal sizes on the other axes")
    for slot, tensor in enumerate(tensors):
        if len(tensor.shape) != rank:
            raise scope.fail(f"input {slot} has {len(tensor.shape)} axes, input 0 has {rank}")
        for place, (one, other) in enumerate(zip(tensors[0].shape, tensor.shape, strict=True)):
            if place != axis and None not in (one, other) and one != other:
                raise scope.fail(f"input {slot} has size {other} on axis {place}, input 0 has {one}")
        scope.speak(tensor)
        for block in tensor.blocks:
            if axis not in block.axes:
                rest.add(Part(tuple(letters[place] for place in block.axes), block.levels))
    for tensor in tensors:
        for place, letter in enumerate(letters):
            if place != axis and tensor.block_of(place) is None:
                rest.whole(letter)
    sizes = [tensor.shape[axis] for tensor in tensors]
    total = None if None in sizes else sum(size for size in sizes if size is not None)
    shape = (*tensors[0].shape[:axis], total, *tensors[0].shape[axis + 1 :])
    pieces = [tensor.block_of(axis) for tensor in tensors if tensor.shape[axis] != 0]
    if not any(pieces):
        return Tensor(shape, rest.blocks(letters))
    if total is None:
        raise scope.fail(f"axis {axis} has no known size in every input")
    if len({piece.axes for piece in pieces if piece}) > 1 or (
        None in pieces and any(p and len(p.axes) > 1 for p in pieces)
    ):
        for piece in pieces:
            if piece:
                scope.pin_block(piece, "axes that are grouped in different ways are concatenated")
        return Tensor(shape, rest.blocks(letters))
    joined = _concat_blocks(scope, [size for size in sizes if size], pieces, axis)
    if 0 in sizes and joined.axes[0] != axis:
        # What is empty may have rows nevertheless.
        depth = joined.axes.index(axis)
        rest.add(Part(tuple(letters[place] for place in joined.axes[:depth]), joined.levels[:depth]))
    return Tensor(shape, (*(b for b in rest.blocks(letters) if not set(b.axes) & set(joined.axes)), joined))


def _concat_blocks(scope: Scope, sizes: Sequence[int], pieces: Sequence[Block | None], axis: int) -> Block:
    model = next(piece for piece in pieces if piece)
    depth = model.axes.index(axis)
    outer = model.levels[:depth]
    levels: list[list[Neurons]] = [[] for _ in model.axes[depth:]]
    for slot, (size, piece) in enumerate(zip(sizes, pieces, strict=True)):
        if piece is None:
            levels[0].append(mixed(_foreign(size), slot))
            continue
        for before, now in zip(outer, piece.levels[:depth], strict=True):
            scope.tape.tie(before, now, scope.reason("concatenation: equal rows"))
        for inner, level in enumerate(piece.levels[depth:]):
            levels[inner].append(mixed(level, slot))
    joined = (*outer, *(np.concatenate(parts, axis=depth) for parts in levels))
    for inner in range(max(depth, 1), len(joined)):
        scope.tape.joint(
            joined[inner - 1],
            joined[inner],
            scope.reason("concatenation: every row keeps equally many"),
        )
    return Block(model.axes, joined)


def _foreign(size: int) -> Neurons:
    """Positions that belong to nobody and are always there."""
    return neurons(np.full(size, FIXED, np.int64), np.arange(size, dtype=np.uint64))


def pad(scope: Scope, tensor: Tensor, axis: int, before: int, after: int) -> Tensor:
    """Constant positions before and after; on a resizable axis they are kept for ever."""
    axis %= len(tensor.shape)

    def constant(size: int) -> Tensor:
        return Tensor(
            (*tensor.shape[:axis], size, *tensor.shape[axis + 1 :]),
            tuple(b for b in tensor.blocks if axis not in b.axes),
        )

    return concat(scope, [constant(before), tensor, constant(after)], axis)


def fix(scope: Scope, weight: Weight, letters_or_axes: Sequence[int]) -> None:
    """Say that these axes of a parameter never change."""
    for axis in letters_or_axes:
        scope.tape.fix(weight.key, axis, scope.reason(f"axis {axis} of parameter {weight.role!r} is fixed"))
