"""How the blocks of several operands meet: the shared heart of element-wise operations and contractions.

Operands name their axes by letters; equal letters are one index. A *meeting* collects the blocks over
these letters, ties what coincides, and is then read off for parameters and for the output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from solver_nas.labels import Block

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from solver_nas.labels import Neurons
    from solver_nas.rules.scope import Scope

Letter = str
Letters = tuple[Letter, ...]


@dataclass(slots=True)
class Part:
    """A block over letters instead of axes."""

    letters: Letters
    levels: tuple[Neurons, ...]

    def upto(self, depth: int) -> Part:
        """Only the outer `depth` levels."""
        return Part(self.letters[:depth], self.levels[:depth])


class Meeting:
    """Blocks over letters, each letter in one part at most."""

    def __init__(self, scope: Scope, rule: str) -> None:
        """Start without blocks; `rule` says in words why things get tied."""
        self._scope = scope
        self._reason = scope.reason(rule)
        self.parts: list[Part] = []

    def add(self, part: Part) -> None:
        """Let one more block meet those that are there."""
        met = [known for known in self.parts if set(known.letters) & set(part.letters)]
        if not met:
            self.parts.append(part)
        elif len(met) == 1 and self._nested(met[0], part):
            pass
        elif len(part.letters) == 1 and len(met) == 1:
            self._columns(met[0], part)
        elif all(len(known.letters) == 1 for known in met):
            for known in met:
                self._columns(part, known)
                self.parts.remove(known)
            self.parts.append(part)
        else:
            for known in [*met, part]:
                self._pin(known, "axes that are grouped in different ways meet")

    def _nested(self, known: Part, part: Part) -> bool:
        depth = min(len(known.letters), len(part.letters))
        if known.letters[:depth] == part.letters[:depth]:
            for one, other in zip(known.levels[:depth], part.levels[:depth], strict=True):
                self._scope.tape.tie(one, other, self._reason)
            if len(part.letters) > len(known.letters):
                known.letters, known.levels = part.letters, part.levels
            return True
        if set(known.letters) == set(part.letters):
            order = [part.letters.index(letter) for letter in known.letters]
            self._scope.tape.tie(known.levels[-1], part.levels[-1].transpose(order), self._reason)
            return True
        return False

    def _columns(self, block: Part, single: Part) -> None:
        """One axis of a block is also an axis of its own: its rows share their columns."""
        depth = block.letters.index(single.letters[0])
        if depth == 0:
            self._scope.tape.tie(block.levels[0], single.levels[0], self._reason)
        else:
            self._scope.tape.product(block.levels[depth - 1], single.levels[0], block.levels[depth], self._reason)

    def whole(self, letter: Letter) -> None:
        """This axis cannot change: keep its neurons, or in a rectangle, keep every row whole."""
        for part in self.parts:
            if letter in part.letters:
                depth = part.letters.index(letter)
                if depth == 0:
                    self._scope.tape.pin(part.levels[0], self._reason)
                else:
                    self._scope.tape.tie(part.levels[depth], part.levels[depth - 1][..., None], self._reason)

    def _pin(self, part: Part, why: str) -> None:
        for level in part.levels:
            self._scope.tape.pin(level, self._scope.reason(why))
        self._scope.tape.report(self._scope.reason(why))

    def read(self, part: Part, wanted: Collection[Letter]) -> list[Part]:
        """What remains of a part for an operand that has only the wanted letters."""
        depth = 0
        while depth < len(part.letters) and part.letters[depth] in wanted:
            depth += 1
        found = [part.upto(depth)] if depth else []
        inner = [letter for letter in part.letters[depth:] if letter in wanted]
        if len(inner) == 1 and inner[0] == part.letters[-1]:
            rows, cells = part.levels[-2], part.levels[-1]
            columns = self._scope.tape.fresh(self._scope.key("columns"), cells.shape[-1:], self._reason)
            self._scope.tape.product(rows, columns, cells, self._reason)
            found.append(Part((inner[0],), (columns,)))
        elif inner:
            self._pin(part, "an inner axis is used without its outer ones")
        return found

    def gather(self, wanted: Collection[Letter]) -> list[Part]:
        """The parts of an operand with these letters; where one is the beginning of another, the longer."""
        found = [piece for part in self.parts for piece in self.read(part, wanted)]
        return [
            piece
            for place, piece in enumerate(found)
            if not any(
                other is not piece
                and other.letters[: len(piece.letters)] == piece.letters
                and (len(other.letters) > len(piece.letters) or where < place)
                for where, other in enumerate(found)
            )
        ]

    def blocks(self, output: Sequence[Letter]) -> tuple[Block, ...]:
        """The blocks of a tensor with these letters as axes."""
        place: Mapping[Letter, int] = {letter: axis for axis, letter in enumerate(output)}
        taken: set[Letter] = set()
        result = []
        for part in self.gather(set(output)):
            if taken & set(part.letters):
                self._pin(part, "two rectangles share an axis")
                continue
            taken |= set(part.letters)
            result.append(Block(tuple(place[letter] for letter in part.letters), part.levels))
        return tuple(result)
