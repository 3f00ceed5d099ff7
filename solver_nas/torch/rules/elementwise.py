"""How neurons pass through PyTorch operations that work position by position."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solver_nas.labels import Tensor
from solver_nas.rules import Takes
from solver_nas.rules.contract import elementwise
from solver_nas.rules.primitives import same
from solver_nas.rules.windows import per_channel
from solver_nas.torch.operator import operator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.rules.contract import Operand
    from solver_nas.torch.op import Op

_FUNCTIONS = (
    *("abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "bernoulli", "bitwise_not", "ceil", "celu", "cos"),
    *("cosh", "elu", "erf", "erfc", "erfinv", "exp", "exp2", "expm1", "floor", "frac", "gelu", "hardshrink"),
    *("hardsigmoid", "hardswish", "hardtanh", "isfinite", "isinf", "isnan", "leaky_relu", "lgamma", "log", "log10"),
    *("log1p", "log2", "log_sigmoid", "logical_not", "logit", "mish", "nan_to_num", "neg", "positive", "reciprocal"),
    *("relu", "relu6", "round", "rrelu", "rsqrt", "selu", "sgn", "sigmoid", "sign", "silu", "sin", "sinc", "sinh"),
    *("softplus", "softshrink", "sqrt", "square", "tan", "tanh", "tanhshrink", "threshold", "trunc"),
)

_SAME = (
    *(
        "alias",
        "alias_copy",
        "clone",
        "contiguous",
        "detach",
        "lift",
        "lift_fresh",
        "lift_fresh_copy",
        "to",
        "_to_copy",
    ),
    *("float", "double", "half", "int", "long", "bool", "view_dtype", "type_as", "requires_grad"),
    *("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout", "fill", "zero"),
    *("rand_like", "randn_like", "normal", "uniform", "_conj", "resolve_conj", "resolve_neg"),
)

_COMBINATIONS = (
    *("addcdiv", "addcmul", "atan2", "bitwise_and", "bitwise_or", "bitwise_xor", "clamp", "clamp_max", "clamp_min"),
    *("copy", "copysign", "div", "divide", "eq", "floor_divide", "fmax", "fmin", "fmod", "ge", "gt", "heaviside"),
    *("hypot", "ldexp", "le", "lerp", "logaddexp", "logaddexp2", "logical_and", "logical_or", "logical_xor", "lt"),
    *("masked_fill", "mul", "multiply", "ne", "pow", "remainder", "rsub", "sub", "subtract", "true_divide", "where"),
    *("xlogy", "special_xlogy", "__and__", "__or__", "__xor__"),
)


@operator(*_FUNCTIONS, note="each neuron by itself")
@operator(*_SAME, note="each neuron by itself")
def _function(op: Op) -> Tensor:
    if op.output:
        # A mask of what was dropped.
        op.scope.speak(op.x)
    for name in op.given[1:]:
        # Only its type is read, or it fills all of the tensor.
        edge = op.edge(name)
        if edge is not None:
            op.scope.speak(edge)
        else:
            op.hold(name, "only its type is read")
    return same(op.scope, op.tensor(op.first, trails=True))


@operator("add", "maximum", "minimum", weights=True, note="equal sizes, position by position", takes=Takes.FIXED)
@operator(*_COMBINATIONS, weights=True, note="equal sizes, position by position; what is broadcast follows")
def _combination(op: Op) -> Tensor:
    return elementwise(op.scope, *followers(op, op.given))


def followers(op: Op, names: Sequence[str]) -> list[Operand]:
    """Operands of which parameters follow the neurons of the others; those that have some of their own are sources."""
    given = {axis for name in names if op.edge(name) is not None for axis in _wide(op, name)}
    alone: set[str] = set()
    # What is learned before what is not, since a mask of weights follows these.
    for name in sorted((name for name in names if op.edge(name) is None), key=op.buffered):
        own = _wide(op, name) - given
        # As it was before a change, when sizes may have become 1.
        if op.scope.tape.choose((op.scope.vertex.name, "own", name), int(bool(own))):
            alone.add(name)
            given |= own
    return [op.tensor(name, trails=True) if name in alone else op.operand(name) for name in names]


def _wide(op: Op, name: str) -> set[int]:
    """The axes of an operand that are not broadcast, counted from the end."""
    shape = op.sizes(name)
    return {axis - len(shape) for axis, size in enumerate(shape) if size != 1}


@operator("prelu", "_prelu_kernel", weights=True, note="each neuron by itself; slopes follow", fills={"weight": 0.25})
def _prelu(op: Op) -> Tensor:
    x = op.x
    if op.operator != "prelu" or len(op.sizes("weight")) > 1:
        return elementwise(op.scope, x, op.operand("weight"))
    single = op.sizes("weight") in ((), (1,)) and (len(x.shape) < _CHANNELS or x.shape[1] != 1)
    if op.scope.tape.choose((op.scope.vertex.name, "single"), int(single)):
        op.hold("weight", "one slope for all channels")
        return same(op.scope, x)
    return per_channel(op.scope, x, op.operand("weight"))


_CHANNELS = 2  # axes of a tensor that has channels


@operator("glu", note="one half is multiplied with the other")
def _glu(op: Op) -> Tensor:
    from solver_nas.torch.rules.segments import parts_of

    one, other = parts_of(op, op.x, op.integer("dim", -1), 2)
    return elementwise(op.scope, one, other, why="one half is multiplied with the other")
