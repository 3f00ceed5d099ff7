"""How neurons pass through ONNX operators that reduce axes, or rank what stands on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solver_nas.onnx.operator import operator
from solver_nas.rules.primitives import added_up, mingled, reduce, same, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from solver_nas.labels import Tensor
    from solver_nas.onnx.op import Op


def _reduced(op: Op, how: Callable[..., Tensor] = reduce) -> Tensor:
    x = op.tensor(0)
    axes = op.numbers(1, "axes") if op.count > 1 else op.integers("axes")
    if not axes:
        if op.integer("noop_with_empty_axes", 0):
            return same(op.scope, x)
        axes = tuple(range(len(x.shape)))
    return how(op.scope, x, axes, keepdims=bool(op.integer("keepdims", 1)))


@operator("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", note="the axes that are reduced go", values=(1,))
def _sum(op: Op) -> Tensor:
    return _reduced(op, added_up)


@operator(
    *("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp"),
    note="the axes that are reduced go; over the neurons that remain",
    values=(1,),
    exact=False,
)
def _others(op: Op) -> Tensor:
    return _reduced(op)


@operator("ArgMax", "ArgMin", note="the axis that is searched is pinned: its numbers are positions")
def _position(op: Op) -> Tensor:
    x = op.tensor(0)
    axis = op.integer("axis", 0)
    x = whole(op.scope, x, [axis], "its positions are numbers in the result")
    return reduce(op.scope, x, [axis], keepdims=bool(op.integer("keepdims", 1)))


@operator("TopK", note="the axis that is ranked is pinned: its numbers are positions", values=(1,))
def _top(op: Op) -> Tensor:
    return whole(op.scope, op.tensor(0), [op.integer("axis", -1)], "its positions are numbers in the result")


@operator("CumProd", "CumSum", note="the axis along which it runs is pinned", values=(1,))
def _cumulative(op: Op) -> Tensor:
    (axis,) = op.numbers(1) or (0,)
    return whole(op.scope, op.tensor(0), [axis], "each position depends on those before it")


@operator("Softmax", "LogSoftmax", "Hardmax", note="each neuron stays; over those that remain", exact=False)
def _softmax(op: Op) -> Tensor:
    x = op.tensor(0)
    if op.opset < _SINGLE_AXIS:
        return mingled(op.scope, x, range(op.integer("axis", 1) % len(x.shape), len(x.shape)))
    return mingled(op.scope, x, [op.integer("axis", -1)])


_SINGLE_AXIS = 13  # the version since which softmax takes one axis; before, all from that one on
