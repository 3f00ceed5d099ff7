"""The numbers in a module's code and on its attributes after a change."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

from solver_nas.errors import VerificationError
from solver_nas.torch.trees import Attribute, Axis, Term, evaluate, sources, summands

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from solver_nas.graph import Graph
    from solver_nas.labels import Labels, Measure, Neurons
    from solver_nas.moves import Moves
    from solver_nas.torch.structure import Structure
    from solver_nas.torch.trees import Product, Source, Tree

#: Vertex -> (argument, place) -> number.
Numbers = dict[str, dict[tuple[str, int], int]]


def numbers(labels: Labels) -> Numbers:
    """What the numbers among the arguments of operations have to be for these labels."""
    return _by_vertex(labels, lambda measure: measure.number)


def common(labels: Labels, moves: Moves) -> Numbers:
    """What these numbers are if only the neurons are there that a change leaves."""

    def count(array: Neurons) -> int:
        return int((moves.flat(array)[1] >= 0).sum())

    return _by_vertex(labels, lambda measure: measure.counting(count))


def _by_vertex(labels: Labels, number: Callable[[Measure], int]) -> Numbers:
    found: Numbers = {}
    for measure in labels.measures:
        if measure.argument is not None:
            places = found.setdefault(measure.reason.vertex, {})
            places[cast("tuple[str, int]", measure.argument)] = number(measure)
    return found


def attributes(
    structure: Structure, graph: Graph, labels: Labels, present: Mapping[Attribute, int]
) -> dict[Attribute, int]:
    """What attributes have to be, so that the code computes the numbers that it should.

    Args:
        structure: of the module.
        graph: after the change.
        labels: of that graph.
        present: all attributes as they are now.

    Returns:
        Those that differ from what they are.

    Raises:
        VerificationError: no values make the code compute them all.
    """
    return _Solving(structure, graph, labels, present).solve()


class _Solving:
    def __init__(self, structure: Structure, graph: Graph, labels: Labels, present: Mapping[Attribute, int]) -> None:
        self._structure, self._labels, self._present = structure, labels, present
        self._wanted: list[tuple[Measure, Tree]] = []
        for measure in labels.measures:
            trees = cast("Mapping[Hashable, Tree]", graph.vertex(measure.reason.vertex).attributes.get("trees", {}))
            if measure.argument in trees:
                self._wanted.append((measure, trees[measure.argument]))
        self._found: dict[Attribute, int] = {}
        self._graph = graph

    def solve(self) -> dict[Attribute, int]:
        waiting = [*self._wanted]
        while waiting:
            later = [(measure, tree) for measure, tree in waiting if not self._define(tree, measure.number)]
            if len(later) == len(waiting):
                break
            waiting = later
        for left, right in dict.fromkeys(self._structure.claims.equal):
            for one, other in ((left, right), (right, left)):
                if isinstance(one, Attribute) and one not in self._found and self._changes(other):
                    self._found[one] = evaluate(other, self._known(other))
        for measure, tree in self._wanted:
            self._check(measure, tree)
        self._check_claims()
        return {attribute: value for attribute, value in self._found.items() if value != self._present[attribute]}

    def _define(self, tree: Tree, number: int) -> bool:
        """Find the value of an attribute, if it is the only one in a number that is not known; true if so."""
        found = summands(tree)
        if found is None:
            return False
        read = {one for product in found for one in (*product.over, *product.under) if isinstance(one, Attribute)}
        places = read - self._found.keys()
        if len(places) != 1:
            return not places
        (attribute,) = places
        # The number is slope * attribute + rest, or slope / attribute.
        slope, rest, turned = Fraction(0), Fraction(0), False
        for product in found:
            value, power = self._without(product, attribute)
            if power == 0:
                rest += value
            else:
                slope += value
                turned |= power == -1
            if abs(power) > 1 or (turned and len(found) > 1):
                return False
        top, bottom = (slope, Fraction(number)) if turned else (number - rest, slope)
        value = top / bottom if bottom else Fraction(0)
        if value.denominator != 1:
            return False
        self._found[attribute] = int(value)
        return True

    def _without(self, product: Product, attribute: Attribute) -> tuple[Fraction, int]:
        """A product but for an attribute, and the power of the attribute in it."""
        value, power = product.factor, 0
        for side, exponent in ((product.over, 1), (product.under, -1)):
            for source in side:
                if source == attribute:
                    power += exponent
                else:
                    value *= Fraction(self._value(source)) ** exponent
        return value, power

    def _value(self, source: Source) -> int:
        if isinstance(source, Attribute):
            return self._found.get(source, self._present.get(source, 0)) or 1
        return self._size(source)

    def _size(self, axis: Axis) -> int:
        owner = self._structure.watched.get(axis.tensor)
        if owner is None:
            raise VerificationError("a size in the code is that of a tensor that nobody knows; nothing was changed")
        return owner.size(axis.axis, self._labels)

    def _known(self, tree: Tree) -> dict[Source, int]:
        known: dict[Source, int] = {}
        for source in sources(tree):
            if isinstance(source, Axis):
                known[source] = self._size(source)
            else:
                known[source] = self._found.get(source, self._present.get(source, 0))
        return known

    def _changes(self, tree: Tree) -> bool:
        """Whether a number is known, and another one than before."""
        found = list(sources(tree))
        return bool(found) and all(
            source in self._found if isinstance(source, Attribute) else self._structure.watched.get(source.tensor)
            for source in found
        )

    def _check_claims(self) -> None:
        """What the code makes of numbers beside sizes is as before: scales, and which way it goes."""
        claims = self._structure.claims
        for tree, number in claims.left.items():
            value = self._later(tree)
            if value is not None and value != number:
                raise VerificationError(
                    f"the code makes a number of another kind (a root, a quotient, a plain int) of {_named(tree)}, "
                    f"which would become {value} instead of {number}, so that it would compute something else; nothing "
                    f"was changed"
                )
        for comparison, before in claims.compared.items():
            sides = self._later(comparison.left), self._later(comparison.right)
            if (
                None not in sides
                and comparison.holds(self._known(comparison.left) | self._known(comparison.right)) != before
            ):
                raise VerificationError(
                    f"the code asks whether {_named(comparison.left)} {comparison.sign} {_named(comparison.right)}, "
                    f"and the answer would be another one than when it was traced ({sides[0]}, {sides[1]}); nothing "
                    f"was changed"
                )

    def _later(self, tree: Tree) -> int | None:
        """A number after the change, if all that it is computed from is known."""
        owners = [self._structure.watched.get(one.tensor) for one in sources(tree) if isinstance(one, Axis)]
        if any(owner is None or (owner.vertex is None and owner.view is None) for owner in owners):
            # Tensors that are made of nothing have the size that the code asks for.
            return None
        try:
            return evaluate(tree, self._known(tree))
        except ZeroDivisionError:
            return None

    def _check(self, measure: Measure, tree: Tree) -> None:
        try:
            value: Any = evaluate(tree, self._known(tree))
        except ZeroDivisionError:
            value = None
        if value != measure.number:
            vertex = self._graph.vertex(measure.reason.vertex)
            named = sorted({str(one) for one in sources(tree) if isinstance(one, Attribute)})
            raise VerificationError(
                f"vertex {vertex.name!r}: its code would compute {value} where {measure.number} is needed "
                f"({vertex.attributes.get('code')}){'; it reads ' + ', '.join(named) if named else ''}; nothing was "
                f"changed"
            )


def _named(tree: Tree) -> str:
    """A number as it is written in the code, as far as that is known."""
    match tree:
        case Term(sign=sign, left=left, right=right):
            return f"({_named(left)} {sign} {_named(right)})"
        case Axis(axis=axis):
            return f"a tensor's size along axis {axis}"
        case _:
            return str(tree)
