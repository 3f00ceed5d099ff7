"""How neurons pass through PyTorch operations that multiply and add matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solver_nas.labels import Tensor
from solver_nas.rules.contract import einsum, elementwise
from solver_nas.rules.products import explicit, matmul
from solver_nas.torch.operator import operator

if TYPE_CHECKING:
    from solver_nas.torch.op import Op

_WHY = "matrix product: inner sizes are equal"


@operator("linear", weights=True, contracts=True, note="the inner axes are tied; the weight makes new neurons")
def _linear(op: Op) -> Tensor:
    y = einsum(op.scope, "...i,oi->...o", op.operand("input"), op.operand("weight"), why=_WHY)
    return elementwise(op.scope, y, op.operand("bias"), why="bias") if op.has("bias") else y


@operator(
    "matmul",
    "mm",
    "bmm",
    "mv",
    "dot",
    "vdot",
    "inner",
    weights=True,
    contracts=True,
    note="the inner axes are tied; a parameter makes new neurons",
)
def _matmul(op: Op) -> Tensor:
    left, right = (op.operand(name) for name in op.given[:2])
    if isinstance(left, Tensor) and isinstance(right, Tensor) and min(len(left.shape), len(right.shape)) > _BATCHED:
        left, right = op.heads(left), op.heads(right)
    if op.operator == "inner":
        return einsum(op.scope, "...k,nk->...n", left, right, why=_WHY)
    return matmul(op.scope, left, right)


_BATCHED = 2  # axes of what is no stack of matrices


@operator(
    "addmm", "addbmm", "baddbmm", "addmv", weights=True, contracts=True, note="as a product, with something added"
)
def _added(op: Op) -> Tensor:
    start, left, right = (op.operand(name) for name in op.given[:3])
    if op.operator == "addbmm":
        y = einsum(op.scope, "bmk,bkn->mn", left, right, why=_WHY)
    else:
        y = matmul(op.scope, left, right)
    return elementwise(op.scope, y, start, why="bias")


@operator("outer", weights=True, contracts=True, note="the neurons of both")
def _outer(op: Op) -> Tensor:
    left, right = (op.operand(name) for name in op.given[:2])
    return einsum(op.scope, "m,n->mn", left, right, repeats=None)


@operator("bilinear", weights=True, contracts=True, note="the inner axes are tied; the weight makes new neurons")
def _bilinear(op: Op) -> Tensor:
    spec = "...i,...j,oij->...o"
    y = einsum(op.scope, spec, op.operand("input1"), op.operand("input2"), op.operand("weight"), why=_WHY)
    return elementwise(op.scope, y, op.operand("bias"), why="bias") if op.has("bias") else y


@operator(
    "einsum",
    weights=True,
    contracts=True,
    note="equal letters are tied; letters that only parameters have make new neurons",
)
def _einsum(op: Op) -> Tensor:
    equation = str(op.argument("equation"))
    spec = explicit(equation)
    if spec is None:
        raise op.unsupported(f"a letter stands twice in one term of {equation!r}")
    operands = [op.operand("tensors", place) for place in range(op.count("tensors"))]
    if all(isinstance(operand, Tensor) for operand in operands) and len(operands) > 1:
        operands = [op.heads(operand) for operand in operands if isinstance(operand, Tensor)]
    return einsum(op.scope, spec, *operands, why=f"equal letters in {spec!r}")
