"""How neurons pass through If, Loop and Scan: branches are tied to each other, states to what they become."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from solver_nas.labels import Block, Tensor
from solver_nas.onnx.flatten import CARRIED, ELEMENT, ROUND
from solver_nas.onnx.operator import operator
from solver_nas.rules.contract import elementwise
from solver_nas.rules.primitives import same, whole

if TYPE_CHECKING:
    from solver_nas.onnx.op import Op


def _alike(op: Op, tensors: list[Tensor], why: str) -> Tensor:
    """Tensors that take each other's place."""
    first = tensors[0]
    for other in tensors[1:]:
        sizes = zip(first.shape, other.shape, strict=False)
        if len(other.shape) != len(first.shape) or any(None not in pair and pair[0] != pair[1] for pair in sizes):
            raise op.unsupported("shapes differ from branch to branch or from round to round")
    return elementwise(op.scope, *tensors, why=why)


@operator("If", note="what the branches return is tied")
def _if(op: Op) -> Tensor:
    tensors = [op.tensor(slot) for slot in range(op.count) if op.has(slot)]
    why = "branches return the same neurons"
    taken = cast("int | None", op.extra("taken"))
    if taken is None:
        return _alike(op, tensors, why)
    # The other branch is for inputs of other shapes; what it returns has other axes, but the same neurons.
    chosen, (other,) = tensors[taken], [tensor for place, tensor in enumerate(tensors) if place != taken]
    mine, theirs = chosen.neurons, other.neurons
    alike = len(mine) == len(theirs) and len(chosen.blocks) == len(other.blocks)
    if not alike and not op.extra("certain"):
        raise op.unsupported("the branches return different neurons")
    op.scope.speak(chosen)
    op.scope.speak(other)
    if alike:
        op.scope.tape.tie(mine, theirs, op.scope.reason(why))
    return Tensor(op.shape, chosen.blocks)


@operator("Loop", "Scan", note="a state keeps its neurons from round to round; what is collected has one axis more")
def _loop(op: Op) -> Tensor:
    given = [op.tensor(slot) for slot in range(op.count) if op.has(slot)]
    if len(given) > 1:
        return _alike(op, given, "a state keeps its neurons from round to round")
    (x,) = given
    op.scope.speak(x)
    axis = cast("int", op.extra("collected")) % len(op.shape)
    blocks = (Block(tuple(place + (place >= axis) for place in block.axes), block.levels) for block in x.blocks)
    return Tensor(op.shape, tuple(blocks))


@operator(CARRIED, note="a state as a body sees it")
def _carried(op: Op) -> Tensor:
    return same(op.scope, op.tensor(0))


@operator(ROUND, note="the number of a round")
def _round(op: Op) -> Tensor:
    return Tensor(op.shape)


@operator(ELEMENT, note="one element of a sequence")
def _element(op: Op) -> Tensor:
    x = op.tensor(0)
    axis = op.integer("axis", 0) % len(x.shape)
    x = whole(op.scope, x, [axis], "the elements of a sequence are walked over")
    blocks = (Block(tuple(place - (place > axis) for place in block.axes), block.levels) for block in x.blocks)
    return Tensor(op.shape, tuple(blocks))
