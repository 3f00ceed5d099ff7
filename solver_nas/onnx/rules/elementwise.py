"""How neurons pass through ONNX operators that work position by position."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solver_nas.labels import Tensor
from solver_nas.onnx.facts import Source
from solver_nas.onnx.operator import operator
from solver_nas.onnx.views import REAL
from solver_nas.rules import Takes
from solver_nas.rules.contract import elementwise
from solver_nas.rules.primitives import same

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.onnx.op import Op
    from solver_nas.onnx.operator import Reading

_FUNCTIONS = (
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp"),
    *("Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg"),
    *("Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus"),
    *("Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu", "BitwiseNot", "Cast"),
)

_COMBINATIONS = (
    *("And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater"),
    *("GreaterOrEqual", "Less", "LessOrEqual", "Mod", "Mul", "Or", "Pow", "PRelu", "Sub"),
    *("SwiGLU", "Where", "Xor"),
)


@operator(*_FUNCTIONS, note="each neuron by itself")
def _function(op: Op) -> Tensor:
    return same(op.scope, op.tensor(0))


@operator("CastLike", note="each neuron by itself")
def _cast(op: Op) -> Tensor:
    like = op.edge(1)
    if like is not None:
        # Only its type is read.
        op.scope.speak(like)
    elif op.has(1):
        op.weight(1)
    return same(op.scope, op.tensor(0))


@operator("Clip", note="each neuron by itself", values=(1, 2))
def _clip(op: Op) -> Tensor:
    return same(op.scope, op.tensor(0))


@operator("Dropout", note="each neuron by itself", values=(1, 2))
def _dropout(op: Op) -> Tensor:
    return same(op.scope, op.tensor(0))


def _codes(reading: Reading) -> Mapping[str, object]:
    """Whether constants are numbers that mean something, such as those that a one-hot code compares with."""
    given = (fact for fact in reading.inputs if fact is not None)
    return {"codes": any(fact.source is Source.CONSTANT and fact.dtype not in REAL for fact in given)}


@operator(*_COMBINATIONS, note="equal sizes, position by position; what is broadcast follows", prepare=_codes)
@operator(
    *("Add", "Max", "Mean", "Min", "Sum"),
    note="equal sizes, position by position; what is broadcast follows",
    takes=Takes.ALIKE,
    prepare=_codes,
)
def _combination(op: Op) -> Tensor:
    if op.opset < _NUMPY_STYLE and op.integer("broadcast", 0):
        raise op.unsupported("broadcasting as before version 7 of the standard")
    operands = [op.operand(slot) for slot in range(op.count) if op.has(slot)]
    y = elementwise(op.scope, *operands)
    if not op.extra("codes"):
        return y
    # Neurons that nothing but such a constant makes are not learned: none of them is worth less than another.
    rank = len(y.shape)
    given = {
        axis + rank - len(operand.shape)
        for operand in operands
        if isinstance(operand, Tensor)
        for block in operand.blocks
        for axis in block.axes
    }
    made = [block for block in y.blocks if not set(block.axes) & given]
    for block in made:
        op.scope.pin_block(block, "its positions are whole numbers that data are compared with")
    return Tensor(y.shape, tuple(block for block in y.blocks if block not in made))


_NUMPY_STYLE = 7  # the version since which operators broadcast as NumPy does


@operator("RandomNormalLike", "RandomUniformLike", "Bernoulli", note="each neuron by itself")
def _random(op: Op) -> Tensor:
    return same(op.scope, op.tensor(0))
