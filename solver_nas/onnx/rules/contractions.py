"""How neurons pass through ONNX operators that multiply and add: Gemm, MatMul, Einsum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solver_nas.onnx.operator import operator
from solver_nas.rules.contract import einsum, elementwise
from solver_nas.rules.products import explicit, matmul

if TYPE_CHECKING:
    from solver_nas.labels import Tensor
    from solver_nas.onnx.op import Op


@operator("MatMul", note="the inner axes are tied; a constant's outer axis makes new neurons")
def _matmul(op: Op) -> Tensor:
    return matmul(op.scope, op.operand(0), op.operand(1))


@operator("Gemm", note="the inner axes are tied; a constant's outer axis makes new neurons; the third input follows")
def _gemm(op: Op) -> Tensor:
    left = "km" if op.integer("transA", 0) else "mk"
    right = "nk" if op.integer("transB", 0) else "kn"
    why = "matrix product: inner sizes are equal"
    y = einsum(op.scope, f"{left},{right}->mn", op.operand(0), op.operand(1), why=why)
    return elementwise(op.scope, y, op.operand(2)) if op.has(2) else y


@operator("Einsum", note="equal letters are tied; letters that only constants have make new neurons")
def _einsum(op: Op) -> Tensor:
    equation = op.text("equation", "").replace(" ", "")
    spec = explicit(equation)
    if spec is None:
        raise op.unsupported(f"a letter stands twice in one term of {equation!r}")
    operands = [op.operand(slot) for slot in range(op.count)]
    return einsum(op.scope, spec, *operands, why=f"equal letters in {spec!r}")
