"""The few ways in which neurons pass through operations; every rule is made of these.

All of them take the vertex's scope first and return the labelled output. They treat labels with the
same index arithmetic that the operation applies to data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.labels import FIXED, Block, Tensor, Use, mixed, neurons
from solver_nas.rules.merge import Meeting, Part
from solver_nas.rules.scope import Weight

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.labels import IntArray, Neurons
    from solver_nas.rules.scope import Scope

Operand = Tensor | Weight


def einsum(
    scope: Scope,
    spec: str,
    *operands: Operand,
    fixed: str = "",
    sizes: Mapping[str, int | None] | None = None,
    why: str = "contraction: equal sizes",
) -> Tensor:
    """Multiply operands over named axes, as `numpy.einsum` does.

    Equal letters are tied. A letter that only parameters have makes new neurons: for every value of the
    batch letters of that parameter (those that other operands and the output have too) its own ones.

    Args:
        scope: the vertex.
        spec: as for `numpy.einsum`; `...` stands for equal leading axes and may be missing in a parameter.
        operands: tensors and parameters.
        fixed: letters that cannot change, such as the axes of a convolution's window.
        sizes: sizes of output letters that no operand has.
        why: the relation in words.

    >>> # dense: einsum(scope, "...i,oi->...o", x, weight)
    """
    left, right = spec.split("->")
    pairs = list(zip(left.split(","), operands, strict=True))
    letters = [_letters(term, len(operand.shape)) for term, operand in pairs]
    free = max(_free_rank(term, len(operand.shape)) for term, operand in pairs) if "..." in right else 0
    output = _letters(right, len(right.strip().replace("...", "")) + free)
    return _join(
        scope,
        operands,
        letters,
        output,
        fixed=frozenset(fixed),
        sizes=sizes or {},
        why=why,
    )


def elementwise(scope: Scope, *operands: Operand, why: str = "element-wise: equal sizes") -> Tensor:
    """Combine operands position by position, broadcasting as NumPy does."""
    rank = max(len(operand.shape) for operand in operands)
    letters = tuple(f"axis {axis - rank}" for axis in range(rank))
    terms = [letters[rank - len(operand.shape) :] for operand in operands]
    return _join(scope, operands, terms, letters, fixed=frozenset(), sizes={}, why=why)


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
    levels = list(block.levels)
    for inner in range(depth, len(levels)):
        level = np.take(levels[inner], positions, axis=depth)
        if salt is not None:
            level = mixed(level, salt.reshape(-1, *[1] * (inner - depth)))
        levels[inner] = level
    if depth:
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
    pieces = [tensor.block_of(axis) for tensor in tensors]
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
    joined = _concat_blocks(scope, [size or 0 for size in sizes], pieces, axis)
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


def _letters(term: str, rank: int) -> tuple[str, ...]:
    term = term.strip()
    if "..." not in term:
        if len(term) != rank:
            raise ValueError(f"{term!r} names {len(term)} axes, the operand has {rank}")
        return tuple(term)
    head, tail = term.split("...")
    free = rank - len(head) - len(tail)
    return (*head, *(f"... {place - free}" for place in range(free)), *tail)


def _free_rank(term: str, rank: int) -> int:
    return rank - len(term.strip().replace("...", "")) if "..." in term else 0


@dataclass(frozen=True, slots=True)
class _Term:
    """An operand with a letter per axis; `None` where it has size one and is broadcast."""

    operand: Operand
    letters: tuple[str | None, ...]

    @property
    def present(self) -> list[tuple[str, int | None]]:
        pairs = zip(self.letters, self.operand.shape, strict=True)
        return [(letter, size) for letter, size in pairs if letter is not None]


def _terms(scope: Scope, operands: Sequence[Operand], letters: Sequence[Sequence[str]]) -> list[_Term]:
    """Find out which axes are broadcast; a neuron alone on such an axis can have no company and is pinned."""
    full = {
        letter
        for operand, term in zip(operands, letters, strict=True)
        for letter, size in zip(term, operand.shape, strict=True)
        if size != 1
    }
    labelled = {
        term[axis]
        for operand, term in zip(operands, letters, strict=True)
        if isinstance(operand, Tensor)
        for block in operand.blocks
        for axis in block.axes
    }
    join = scope.key("broadcast")
    result = []
    for place, (operand, term) in enumerate(zip(operands, letters, strict=True)):
        masked: list[str | None] = []
        for axis, (letter, size) in enumerate(zip(term, operand.shape, strict=True)):
            block = operand.block_of(axis) if isinstance(operand, Tensor) else None
            # A constant of size one fits a single neuron as it would fit more of them.
            constant = isinstance(operand, Tensor) and block is None and letter in labelled
            wide = constant or letter in full
            broadcast = scope.tape.choose((*join, place, axis), int(size == 1 and wide))
            masked.append(None if broadcast else letter)
            if broadcast and block is not None:
                scope.pin_block(block, "broadcast: its size has to stay 1", report=False)
        result.append(_Term(operand, tuple(masked)))
    return result


def _meet(scope: Scope, terms: Sequence[_Term], why: str) -> Meeting:
    """Let the blocks of tensors meet; an axis of full size without labels pins those that it meets."""
    meeting = Meeting(scope, why)
    for term in terms:
        if isinstance(term.operand, Tensor):
            scope.speak(term.operand)
            for block in term.operand.blocks:
                letters = [term.letters[axis] for axis in block.axes]
                present = [letter for letter in letters if letter is not None]
                if len(present) == len(letters):
                    meeting.add(Part(tuple(present), block.levels))
    for term in terms:
        if isinstance(term.operand, Tensor):
            for axis, letter in enumerate(term.letters):
                if letter is not None and term.operand.block_of(axis) is None:
                    meeting.whole(letter)
    return meeting


def _join(
    scope: Scope,
    operands: Sequence[Operand],
    letters: Sequence[Sequence[str]],
    output: Sequence[str],
    *,
    fixed: frozenset[str],
    sizes: Mapping[str, int | None],
    why: str,
) -> Tensor:
    terms = _terms(scope, operands, letters)
    known = _sizes(scope, terms, sizes)
    meeting = _meet(scope, terms, why)
    for letter in fixed:
        meeting.whole(letter)
    _silence(scope, terms, output)
    given = {letter for term in terms if isinstance(term.operand, Tensor) for letter, _ in term.present}
    for term in terms:
        if isinstance(term.operand, Weight):
            _bind(scope, meeting, term.operand, term.letters, output, fixed, given)
            # A later parameter meets the neurons that an earlier one has made.
            given |= {letter for letter, _ in term.present}
    return Tensor(tuple(known.get(letter, 1) for letter in output), meeting.blocks(output))


def _silence(scope: Scope, terms: Sequence[_Term], output: Sequence[str]) -> None:
    """Where two tensors are contracted, new neurons of both would count at once: the later one's start at zero."""
    tensors = [(term.operand, term.letters) for term in terms if isinstance(term.operand, Tensor)]
    for tensor, letters in tensors[1:]:
        for block in tensor.blocks:
            inner = [letters[axis] for axis in block.axes]
            if any(letter is not None and letter not in output for letter in inner):
                scope.tape.silence(block.neurons)


def _sizes(scope: Scope, terms: Sequence[_Term], sizes: Mapping[str, int | None]) -> dict[str, int | None]:
    known = dict(sizes)
    for term in terms:
        for letter, size in term.present:
            seen = known.setdefault(letter, size)
            if seen is None:
                known[letter] = size
            elif size is not None and seen != size:
                what = f"parameter {term.operand.role!r}" if isinstance(term.operand, Weight) else "an input"
                raise scope.fail(f"{what} of shape {term.operand.shape} has size {size} where another has {seen}")
    return known


def _bind(
    scope: Scope,
    meeting: Meeting,
    weight: Weight,
    letters: Sequence[str | None],
    output: Sequence[str],
    fixed: frozenset[str],
    given: set[str],
) -> None:
    """Give every axis of a parameter its labels: those that it meets, or new ones."""
    reason = scope.reason(f"parameter {weight.role!r}")
    mine = {letter for letter in letters if letter is not None} - fixed
    bound: set[str] = set()
    batch = Part((), ())
    for part in meeting.gather(mine):
        contracted = any(letter not in output for letter in part.letters)
        _use(scope, weight, letters, part, "contract" if contracted else "follow")
        bound |= set(part.letters)
        shared = next(
            (depth for depth, letter in enumerate(part.letters) if letter not in output),
            len(part.letters),
        )
        if shared > len(batch.letters):
            batch = part.upto(shared)
    for axis, letter in enumerate(letters):
        if letter is None or letter in fixed or (letter in given and letter not in bound):
            scope.tape.fix(weight.key, axis, reason)
        elif letter not in bound:
            places = [letters.index(other) for other in (*batch.letters, letter)]
            shape = tuple(weight.shape[place] for place in places)
            cells = scope.tape.fresh((weight.key, "axis", *places), shape, reason)
            if batch.levels:
                scope.tape.joint(batch.levels[-1], cells, scope.reason("every group keeps equally many"))
            part = Part((*batch.letters, letter), (*batch.levels, cells))
            _use(scope, weight, letters, part, "fresh")
            bound.add(letter)
            meeting.parts.append(part)


def _use(scope: Scope, weight: Weight, letters: Sequence[str | None], part: Part, role: str) -> None:
    first = tuple(letters.index(letter) for letter in part.letters)
    reason = scope.reason(f"parameter {weight.role!r}")
    scope.tape.bind(weight.key, Use(first, part.levels, role), reason)
    # A letter may stand twice (a recurrent weight maps the state to itself): every place is bound.
    for axis, letter in enumerate(letters):
        if letter in part.letters and axis not in first:
            depth = part.letters.index(letter)
            scope.tape.bind(
                weight.key,
                Use((*first[:depth], axis), part.levels[: depth + 1], "contract"),
                reason,
            )
