"""How neurons pass through quantisation: scales and zero points of single channels follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solver_nas.onnx.operator import operator
from solver_nas.rules.contract import einsum
from solver_nas.rules.primitives import same

if TYPE_CHECKING:
    from solver_nas.labels import Tensor
    from solver_nas.onnx.operator import Op


@operator("QuantizeLinear", "DequantizeLinear", note="each neuron by itself; scales of single channels follow")
def _quantise(op: Op) -> Tensor:
    if op.integer("block_size", 0):
        raise op.unsupported("scales of blocks")
    y = same(op.scope, op.tensor(0))
    rank = len(y.shape)
    letters = "abcdefghijklmnop"[:rank]
    for slot in (1, 2):
        if not op.has(slot):
            continue
        if not op.sizes(slot):
            op.operand(slot)
            edge = op.edge(slot)
            if edge is not None:
                op.scope.speak(edge)
            continue
        along = letters[op.integer("axis", 1) % rank]
        y = einsum(
            op.scope, f"{letters},{along}->{letters}", y, op.operand(slot), why="one scale per channel", repeats=None
        )
    return y
