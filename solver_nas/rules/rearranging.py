"""How neurons pass through a reshape of which it is known which axes hold the same elements before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solver_nas.rules.pairing import refined
from solver_nas.rules.primitives import whole
from solver_nas.rules.reshape import regroup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.labels import Shape, Tensor
    from solver_nas.rules.pairing import Pairs
    from solver_nas.rules.reshape import Groups
    from solver_nas.rules.scope import Scope


def rearranged(scope: Scope, x: Tensor, shape: Shape, pairs: Pairs) -> Tensor:
    """The same elements in another shape: axes merge and split, as they did at the beginning.

    Args:
        scope: the vertex.
        x: the input.
        shape: the output's shape.
        pairs: what `paired` has found for the sizes at the beginning.
    """
    alone = [pair.old[0] for pair in pairs if not pair.new]
    mixed = [axis for pair in pairs if len(pair.old) > 1 for axis in pair.old]
    if alone or mixed:
        x = whole(
            scope, x, [*alone, *mixed], "axes of sizes that do not divide each other are merged, or this one goes"
        )
    x = _settled(scope, x, pairs)
    sizes = refined(pairs, x.shape, shape)
    places = range(len(pairs))
    first = _groups([pair.old for pair in pairs], places)
    second = [(inner, outer) for outer, inner in _groups([pair.new for pair in pairs], places)]
    middle = regroup(scope, x, sizes, first, plain=True)
    return regroup(scope, middle, shape, second, plain=True)


def _settled(scope: Scope, x: Tensor, pairs: Pairs) -> Tensor:
    """An axis along which all is equal, merged with other neurons, stays: it says how often each of them is there."""
    held = set()
    for new in {pair.new for pair in pairs}:
        merged = {axis for pair in pairs if pair.new == new for axis in pair.old}
        blocks = [block for block in x.blocks if set(block.axes) & merged]
        if len(blocks) > 1:
            held |= {axis for block in blocks if scope.tape.is_idle(block.neurons) for axis in block.axes}
    return whole(scope, x, sorted(held), "it says how often a neuron is there") if held else x


def _groups(axes: Sequence[tuple[int, ...]], places: range) -> Groups:
    """Runs of places with the same axes: those axes, and the places."""
    found: Groups = []
    for place in places:
        mine = list(axes[place])
        if found and mine and found[-1][0] == mine:
            found[-1][1].append(place)
        else:
            found.append((mine, [place]))
    return found
