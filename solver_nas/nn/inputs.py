"""Inputs of a network: their neurons are given from outside."""

from __future__ import annotations

from solver_nas.labels import Block, Tensor
from solver_nas.requests import LARGEST
from solver_nas.rules import Scope, rule


@rule("input")
def _input(scope: Scope) -> Tensor:
    shape = (None, *scope.attribute("shape", tuple))
    axis = scope.vertex.attributes["axis"]
    if axis is None:
        return Tensor(shape)
    place = int(str(axis)) % (len(shape) - 1) + 1
    size = shape[place]
    if size is not None and size > LARGEST:
        raise scope.fail(f"axis {axis} has {size:,} neurons, more than {LARGEST:,}")
    if size is None:
        raise scope.fail(f"axis {axis} holds the neurons; its size cannot be None")
    made = scope.tape.fresh(scope.key("input"), (size,), scope.reason("input"))
    scope.tape.pin(made, scope.reason("an input: its size is given from outside"))
    return Tensor(shape, (Block((place,), (made,)),))
