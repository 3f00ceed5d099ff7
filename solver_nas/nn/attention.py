"""Multi-head attention: of a sequence to itself or to another one, with grouped keys and values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import autograd.numpy as anp
import numpy as np

from solver_nas.errors import LayerError
from solver_nas.nn.arguments import divisor, positive, sequence, title
from solver_nas.nn.dense import dense
from solver_nas.nn.forward import Call, forward
from solver_nas.nn.softmax import normalise
from solver_nas.rules import Scope, changed, rule
from solver_nas.rules.contract import einsum
from solver_nas.rules.primitives import take, whole
from solver_nas.rules.reshape import merge_axes, split_axis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.graph import Vertex
    from solver_nas.labels import Tensor
    from solver_nas.nn.vertex import NetworkVertex
    from solver_nas.rules import Resized


def attention(
    x: NetworkVertex,
    context: NetworkVertex | None = None,
    *,
    num_heads: int,
    kv_heads: int | None = None,
    head_dim: int | None = None,
    value_dim: int | None = None,
    units: int | None = None,
    causal: bool = False,
    bias: bool = True,
    name: str | None = None,
) -> NetworkVertex:
    """Every step of `x` looks at all steps of `context`, with several heads.

    Four dense layers around `attend`, so that heads and their dimensions are neurons that can be asked
    for: `name.query`, `name.key` and `name.value` feed `name.heads`, which feeds the output `name`.

    Args:
        x: the queries' sequence, (batch, steps, features).
        context: the sequence that is looked at, (batch, other steps, other features); by default `x`.
        num_heads: number of query heads.
        kv_heads: number of key and value heads, each for `num_heads / kv_heads` neighbouring query heads;
            by default `num_heads`.
        head_dim: size of one head's queries and keys; by default features / num_heads.
        value_dim: size of one head's values; by default `head_dim`.
        units: size of the output; by default features.
        causal: whether a step looks only at itself and what stands before it.
        bias: whether the dense layers have one.
        name: of the output vertex.

    Returns:
        (batch, steps, units). Arrays: those of the four dense layers.

    Raises:
        LayerError: sizes that are impossible or do not divide; the message names the argument.

    >>> from solver_nas import nn
    >>> net = nn.Network()
    >>> x = net.input("x", (5, 8), axis=-1)
    >>> attention(x, num_heads=2, name="attention")
    <attention: dense 8 -> 8>
    >>> net["attention.heads"]
    <attention.heads: attend 8, 8, 8 -> 8>
    """
    layer = title("attention", name)
    source = x if context is None else context
    features, _ = sequence(layer, x), sequence(layer, source)
    heads = positive(layer, "num_heads", num_heads)
    shared = divisor(layer, "kv_heads", heads if kv_heads is None else kv_heads, heads)
    if head_dim is None and features % heads:
        raise LayerError(
            f"{layer}: {heads} heads do not divide {features} features; give head_dim or another num_heads"
        )
    size = positive(layer, "head_dim", features // heads if head_dim is None else head_dim)
    values = positive(layer, "value_dim", size if value_dim is None else value_dim)
    out = positive(layer, "units", features if units is None else units)

    def part(what: str) -> str | None:
        return None if name is None else f"{name}.{what}"

    with x.model.together():
        query = dense(x, heads * size, bias=bias, name=part("query"))
        key = dense(source, shared * size, bias=bias, name=part("key"))
        value = dense(source, shared * values, bias=bias, name=part("value"))
        mixed = attend(query, key, value, num_heads=heads, kv_heads=shared, causal=causal, name=part("heads"))
        return dense(mixed, out, bias=bias, name=name)


def attend(
    query: NetworkVertex,
    key: NetworkVertex,
    value: NetworkVertex,
    *,
    num_heads: int,
    kv_heads: int | None = None,
    scale: float | None = None,
    causal: bool = False,
    name: str | None = None,
) -> NetworkVertex:
    """Scaled dot-product attention of several heads; it has no arrays.

    Heads may go, and every head keeps its own best dimensions, equally many. Query heads that share keys
    and values go together. The scores' factor is kept when head dimensions go.

    Args:
        query: (batch, steps, num_heads * head dimensions), heads outermost.
        key: (batch, other steps, kv_heads * head dimensions).
        value: (batch, other steps, kv_heads * value dimensions).
        num_heads: number of query heads.
        kv_heads: number of key and value heads, each for `num_heads / kv_heads` neighbouring query heads;
            by default `num_heads`.
        scale: factor of the scores; by default 1 / sqrt(head dimensions).
        causal: whether a step looks only at itself and what stands before it.
        name: of the new vertex.

    Returns:
        (batch, steps, num_heads * value dimensions).

    Raises:
        LayerError: sizes that do not divide or do not fit together.
    """
    layer = title("attend", name)
    heads = positive(layer, "num_heads", num_heads)
    shared = divisor(layer, "kv_heads", heads if kv_heads is None else kv_heads, heads)
    size = sequence(layer, query) // divisor(layer, "num_heads", heads, sequence(layer, query))
    divisor(layer, "kv_heads", shared, sequence(layer, value))
    if sequence(layer, key) != shared * size:
        raise LayerError(
            f"{layer}: {key.name!r} has {sequence(layer, key)} features; {shared} heads as large as those of "
            f"{query.name!r} need {shared * size}"
        )
    factor = float(size**-0.5 if scale is None else scale)
    attributes = {"num_heads": heads, "kv_heads": shared, "scale": factor, "causal": bool(causal)}
    return query.model.add("attend", name, (query, key, value), attributes)


def _heads(x: Any, heads: int) -> Any:
    """(..., steps, features) -> (..., heads, steps, dimensions)."""
    return anp.swapaxes(anp.reshape(x, (*x.shape[:-1], heads, -1)), -3, -2)


@forward("attend")
def _forward(call: Call) -> Any:
    heads, shared = call["num_heads"], call["kv_heads"]
    query = _heads(call.inputs[0], heads)
    key, value = (_heads(x, shared) for x in call.inputs[1:])
    # Counted from the front: autograd's derivative of `repeat` is wrong for negative axes.
    key, value = (anp.repeat(x, heads // shared, axis=x.ndim - 3) for x in (key, value))
    scores = anp.matmul(query, anp.swapaxes(key, -1, -2)) * call["scale"]
    if call["causal"]:
        scores = anp.where(np.tri(*scores.shape[-2:]) > 0, scores, -np.inf)
    mixed = anp.swapaxes(anp.matmul(normalise(scores, -1), value), -3, -2)
    return anp.reshape(mixed, (*mixed.shape[:-2], -1))


def _reheaded(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    found = {}
    for role, tensor in zip(("num_heads", "kv_heads"), resized.before, strict=False):
        count, block = int(str(vertex.attributes[role])), tensor.block_of(2)
        found[role] = count if block is None else resized.rows(block.lines(2)[0], count)
    return changed(vertex, **found)


def _by_heads(scope: Scope, x: Tensor, heads: int) -> Tensor:
    """The labels of queries, keys or values as (batch, steps, heads, dimensions)."""
    x = whole(scope, x, [1], "steps are compared with steps")
    return split_axis(scope, x, 2, (heads, (x.shape[2] or 0) // heads))


@rule("attend", rewrite=_reheaded)
def _flow(scope: Scope) -> Tensor:
    heads, shared = scope.attribute("num_heads", int), scope.attribute("kv_heads", int)
    query = _by_heads(scope, scope.inputs[0], heads)
    repeated = np.repeat(np.arange(shared), heads // shared)
    key, value = (take(scope, _by_heads(scope, x, shared), 2, repeated) for x in scope.inputs[1:])
    scores = einsum(scope, "nthd,nshd->nhts", query, key, why="attention: keys fit queries")
    y = einsum(scope, "nhts,nshv->nthv", scores, value, why="attention: values fit scores")
    return merge_axes(scope, y, 2, 2)
