"""How neurons pass through PyTorch operations that reduce axes, or rank what stands on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from solver_nas.rules.primitives import added_up, mingled, reduce, whole
from solver_nas.torch.operator import operator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from solver_nas.graph import Vertex
    from solver_nas.labels import Tensor
    from solver_nas.torch.op import Op

_POSITIONS = "its positions are numbers in the result"


def axes_of(vertex: Vertex, rank: int) -> Sequence[int]:
    """The axes that the argument `dim` names; all if it names none."""
    dim = cast("Mapping[str, object]", vertex.attributes["arguments"]).get("dim")
    if dim is None or dim == ():
        return range(rank)
    axes = (dim,) if isinstance(dim, int) else cast("Sequence[int]", dim)
    return [axis % rank for axis in axes] if rank else []


def _reduced(op: Op, how: Callable[..., Tensor] = reduce) -> Tensor:
    x = op.x
    return how(op.scope, x, list(axes_of(op.scope.vertex, len(x.shape))), keepdims=op.flag("keepdim"))


@operator("sum", "norm", "linalg_vector_norm", "frobenius_norm", "any", note="the axes that are reduced go")
def _sum(op: Op) -> Tensor:
    return _reduced(op, added_up)


@operator(
    *("mean", "amax", "amin", "prod", "var", "std", "logsumexp", "all", "median", "nanmean", "var_mean", "std_mean"),
    note="the axes that are reduced go; over the neurons that remain",
    together=axes_of,
)
def _others(op: Op) -> Tensor:
    return _reduced(op)


@operator("max", "min", note="the axes that are reduced go; over the neurons that remain", together=axes_of)
def _extreme(op: Op) -> Tensor:
    if op.has("other"):
        from solver_nas.rules.contract import elementwise

        return elementwise(op.scope, op.operand(op.first), op.operand("other"))
    if op.output:
        return _found(op)
    return _reduced(op)


@operator("argmax", "argmin", note="the axis that is searched is pinned: its numbers are positions")
def _position(op: Op) -> Tensor:
    return _found(op)


def _found(op: Op) -> Tensor:
    x = op.x
    axes = list(axes_of(op.scope.vertex, len(x.shape)))
    return reduce(op.scope, whole(op.scope, x, axes, _POSITIONS), axes, keepdims=op.flag("keepdim"))


@operator("topk", "sort", "argsort", "kthvalue", note="the axis that is ranked is pinned: its numbers are positions")
def _ranked(op: Op) -> Tensor:
    return whole(op.scope, op.x, [op.integer("dim", -1)], _POSITIONS)


@operator("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp", note="the axis along which it runs is pinned")
def _cumulative(op: Op) -> Tensor:
    return whole(op.scope, op.x, [op.integer("dim")], "each position depends on those before it")


@operator(
    *("softmax", "log_softmax", "_softmax", "_log_softmax", "softmin", "_safe_softmax"),
    note="each neuron stays; over those that remain",
    together=axes_of,
)
def _softmax(op: Op) -> Tensor:
    return mingled(op.scope, op.x, [op.integer("dim", -1)])
