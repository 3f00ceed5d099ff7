"""How neurons pass through ONNX operators that multiply and add: Gemm, MatMul, Einsum, Attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solver_nas.onnx.operator import operator
from solver_nas.rules.contract import einsum, elementwise

if TYPE_CHECKING:
    from solver_nas.labels import Tensor
    from solver_nas.onnx.op import Op
    from solver_nas.rules.scope import Weight


@operator("MatMul", note="the inner axes are tied; a constant's outer axis makes new neurons")
def _matmul(op: Op) -> Tensor:
    return matmul(op, op.operand(0), op.operand(1))


def matmul(op: Op, left: Tensor | Weight, right: Tensor | Weight) -> Tensor:
    """A product of matrices, or of stacks of them, as NumPy makes it."""
    one, other = len(left.shape), len(right.shape)
    if one == 1 and other == 1:
        spec = "k,k->"
    elif one == 1:
        spec = "k,...kn->...n"
    elif other == 1:
        spec = "...mk,k->...m"
    else:
        spec = "...mk,...kn->...mn"
    return einsum(op.scope, spec, left, right, why="matrix product: inner sizes are equal")


@operator("Gemm", note="the inner axes are tied; a constant's outer axis makes new neurons; the third input follows")
def _gemm(op: Op) -> Tensor:
    left = "km" if op.integer("transA", 0) else "mk"
    right = "nk" if op.integer("transB", 0) else "kn"
    why = "matrix product: inner sizes are equal"
    y = einsum(op.scope, f"{left},{right}->mn", op.operand(0), op.operand(1), why=why)
    return elementwise(op.scope, y, op.operand(2)) if op.has(2) else y


@operator("Einsum", note="equal letters are tied; letters that only constants have make new neurons")
def _einsum(op: Op) -> Tensor:
    spec = op.text("equation", "").replace(" ", "")
    if "->" not in spec:
        letters = sorted({letter for letter in spec if letter.isalpha()})
        spec += "->" + ("..." if "." in spec else "") + "".join(one for one in letters if spec.count(one) == 1)
    left, _, right = spec.partition("->")
    if any(len(set(term)) < len(term.replace("...", ".")) for term in (*left.split(","), right)):
        raise op.unsupported(f"a letter stands twice in one term of {spec!r}")
    operands = [op.operand(slot) for slot in range(op.count)]
    return einsum(op.scope, spec, *operands, why=f"equal letters in {spec!r}")
