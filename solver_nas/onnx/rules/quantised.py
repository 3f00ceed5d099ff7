"""How neurons pass through quantisation: scales and zero points of single channels follow."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple

from solver_nas.onnx.operator import operator
from solver_nas.onnx.rules.windows import SINGLE
from solver_nas.rules.contract import einsum
from solver_nas.rules.primitives import reduce, same
from solver_nas.rules.products import matmul

if TYPE_CHECKING:
    from solver_nas.labels import Tensor
    from solver_nas.onnx.op import Op


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


@operator("DynamicQuantizeLinear", note="each neuron by itself; the scale belongs to all of them")
def _dynamic(op: Op) -> Tensor:
    x = op.tensor(0)
    # The range of what remains: zero is always part of it.
    return reduce(op.scope, x, range(len(x.shape))) if op.output else same(op.scope, x)


class _Factors(NamedTuple):
    """Which inputs of a product are what: the factors, numbers for whole factors, numbers for columns of the second."""

    factors: tuple[int, int]
    single: tuple[int, ...]
    columns: tuple[int, ...]


_PRODUCTS = {
    "MatMulInteger": _Factors((0, 1), (2,), (3,)),
    "QLinearMatMul": _Factors((0, 3), (1, 2, 6, 7), (4, 5)),
}


@operator(*_PRODUCTS, note="as MatMul; scales and zero points of single columns follow")
def _product(op: Op) -> Tensor:
    slots = _PRODUCTS[op.operator]
    y = matmul(op.scope, *(op.operand(slot) for slot in slots.factors))
    for slot in slots.single:
        if op.has(slot) and prod(size or 0 for size in op.sizes(slot)) != 1:
            raise op.unsupported("scales of single rows")
        op.hold(slot, SINGLE)
    for slot in slots.columns:
        if not op.has(slot):
            continue
        if op.sizes(slot) in ((), (1,)):
            op.hold(slot, SINGLE)
        elif len(op.sizes(slot)) == 1:
            y = einsum(op.scope, "...n,n->...n", y, op.operand(slot), why="one scale per column", repeats=None)
        else:
            raise op.unsupported("scales of stacked matrices")
    return y
