"""How neurons pass through contractions and element-wise operations, with parameters among the operands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from solver_nas.labels import Tensor, Use, Volume
from solver_nas.rules.merge import Meeting, Part
from solver_nas.rules.scope import Weight

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.labels import IntArray
    from solver_nas.rules.scope import Scope

Operand = Tensor | Weight


def einsum(
    scope: Scope,
    spec: str,
    *operands: Operand,
    fixed: str = "",
    sizes: Mapping[str, int | None] | None = None,
    why: str = "contraction: equal sizes",
    repeats: str | None = "",
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
        repeats: letters over which a parameter is applied again and again, where these are others than those
            that only the output has; `None` if nothing is multiplied and added (a bias, a table). It is what
            the number of multiplications is counted by.

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
        repeats=repeats,
    )


def elementwise(scope: Scope, *operands: Operand, why: str = "element-wise: equal sizes") -> Tensor:
    """Combine operands position by position, broadcasting as NumPy does."""
    rank = max(len(operand.shape) for operand in operands)
    letters = tuple(f"axis {axis - rank}" for axis in range(rank))
    terms = [letters[rank - len(operand.shape) :] for operand in operands]
    result = _join(scope, operands, terms, letters, fixed=frozenset(), sizes={}, why=why, repeats=None)
    for operand in operands:
        for block in operand.blocks if isinstance(operand, Tensor) else ():
            axes = tuple(axis + rank - len(operand.shape) for axis in block.axes)
            mate = result.block_of(axes[-1])
            if mate is not None and mate.axes == axes and mate.neurons.shape == block.neurons.shape:
                scope.tape.accompany(mate.neurons, block.neurons)
    return result


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
                    # Nothing is left to be said about an axis that stays.
                    meeting.parts = [part for part in meeting.parts if part.letters != (letter,)]
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
    repeats: str | None,
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
    if repeats is not None:
        _count_work(scope, meeting, terms, output, known, repeats)
    return Tensor(tuple(known.get(letter, 1) for letter in output), meeting.blocks(output))


def _count_work(
    scope: Scope,
    meeting: Meeting,
    terms: Sequence[_Term],
    output: Sequence[str],
    known: Mapping[str, int | None],
    repeats: str,
) -> None:
    """Note how often is multiplied and added: once for every entry of a parameter and every repetition of it."""
    weights = [term for term in terms if isinstance(term.operand, Weight)]
    letters = [letter for term in weights or terms for letter, _ in term.present]
    if all(letter in output for letter in letters):
        return
    if weights:
        letters += [letter for letter in repeats or output if letter not in letters]
    else:
        letters = list(dict.fromkeys(letters))
    # The first axis of a tensor whose size is not known is the batch; costs are those of one sample.
    batch = {term.letters[0] for term in terms if isinstance(term.operand, Tensor) and term.operand.shape[0] is None}
    times: int | None = 1
    over: list[IntArray] = []
    under: list[IntArray] = []
    for letter in letters:
        part = next((part for part in meeting.parts if letter in part.letters), None)
        if part is not None:
            depth = part.letters.index(letter)
            over.append(part.levels[depth]["label"].reshape(-1))
            under += [part.levels[depth - 1]["label"].reshape(-1)] if depth else []
            continue
        size = 1 if letter in batch else known.get(letter)
        times = None if times is None or size is None else times * size
    scope.tape.work(Volume(scope.vertex.name, times, tuple(over), tuple(under)))


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
            _fix(scope, weight, axis)
        elif letter not in bound and weight.place(axis) is not None:
            places = [letters.index(other) for other in (*batch.letters, letter)]
            shape = tuple(weight.shape[place] for place in places)
            cells = scope.tape.fresh((weight.key, "axis", *map(weight.place, places)), shape, reason)
            if batch.levels:
                scope.tape.joint(batch.levels[-1], cells, scope.reason("every group keeps equally many"))
            part = Part((*batch.letters, letter), (*batch.levels, cells))
            _use(scope, weight, letters, part, "fresh")
            bound.add(letter)
            meeting.parts.append(part)


def _fix(scope: Scope, weight: Weight, axis: int) -> None:
    """This axis of a parameter, and of what accompanies it, never changes."""
    place = weight.place(axis)
    if place is not None:
        scope.tape.fix(weight.key, place, scope.reason(f"parameter {weight.role!r}"))
    for other, axes in weight.companions:
        if axis in axes:
            _fix(scope, other, axes.index(axis))


def _use(scope: Scope, weight: Weight, letters: Sequence[str | None], part: Part, role: str) -> None:
    """Bind the axes of a parameter that a block covers."""
    first = tuple(letters.index(letter) for letter in part.letters)
    _bind_axes(scope, weight, first, part, role)
    # A letter may stand twice (a recurrent weight maps the state to itself): every place is bound.
    for axis, letter in enumerate(letters):
        if letter in part.letters and axis not in first:
            depth = part.letters.index(letter)
            _bind_axes(scope, weight, (*first[:depth], axis), part.upto(depth + 1), "contract")
    for other, axes in weight.companions:
        named = [letters[axis] for axis in axes]
        # What accompanies a weight has the outermost letters of a block or none: groups, then outputs.
        depth = next((depth for depth, letter in enumerate(part.letters) if letter not in named), len(part.letters))
        if depth:
            _use(scope, other, named, part.upto(depth), "follow")


def _bind_axes(scope: Scope, weight: Weight, axes: Sequence[int], part: Part, role: str) -> None:
    reason = scope.reason(f"parameter {weight.role!r}")
    places = [weight.place(axis) for axis in axes]
    known = tuple(place for place in places if place is not None)
    if len(known) == len(places):
        scope.tape.bind(weight.key, Use(known, part.levels, role), reason)
        return
    # The array has no axis there that could grow.
    for level in part.levels:
        scope.tape.pin(level, reason)
    for place in known:
        scope.tape.fix(weight.key, place, reason)
