"""Multi-head attention: of a sequence to itself or to another one, with grouped keys and values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import autograd.numpy as anp
import numpy as np

from solver_nas.errors import LayerError
from solver_nas.nn.arguments import divisor, positive, sequence, title
from solver_nas.nn.dense import glorot
from solver_nas.nn.forward import Call, forward
from solver_nas.nn.softmax import normalise
from solver_nas.rules import Scope, changed, rule
from solver_nas.rules.primitives import einsum, take, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.graph import Vertex
    from solver_nas.labels import Tensor
    from solver_nas.nn.network import NetworkVertex
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

    Heads may go, and every head keeps its own best dimensions, equally many. Query heads that share keys
    and values go together. The scores' factor `scale` is kept when head dimensions go.

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
        bias: whether to add them.
        name: of the new vertex.

    Returns:
        (batch, steps, units). Arrays: `wq` (num_heads * head_dim, features),
        `wk` (kv_heads * head_dim, other features), `wv` (kv_heads * value_dim, other features),
        `wo` (units, num_heads * value_dim), and `bq`, `bk`, `bv`, `bo`, one entry per row of these.

    Raises:
        LayerError: sizes that are impossible or do not divide; the message names the argument.
    """
    net, layer = x.model, title("attention", name)
    source = x if context is None else context
    features, other = sequence(layer, x), sequence(layer, source)
    heads = positive(layer, "num_heads", num_heads)
    shared = divisor(layer, "kv_heads", heads if kv_heads is None else kv_heads, heads)
    if head_dim is None and features % heads:
        raise LayerError(
            f"{layer}: {heads} heads do not divide {features} features; give head_dim or another num_heads"
        )
    size = positive(layer, "head_dim", features // heads if head_dim is None else head_dim)
    values = positive(layer, "value_dim", size if value_dim is None else value_dim)
    out = positive(layer, "units", features if units is None else units)
    shapes = {
        "wq": (heads * size, features),
        "wk": (shared * size, other),
        "wv": (shared * values, other),
        "wo": (out, heads * values),
    }
    arrays = {role: glorot(net, shape, shape[1], shape[0]) for role, shape in shapes.items()}
    if bias:
        arrays |= {f"b{role[1]}": np.zeros(shape[0]) for role, shape in shapes.items()}
    attributes = {"num_heads": heads, "kv_heads": shared, "scale": size**-0.5, "causal": bool(causal)}
    fills = {role: 0.0 for role in arrays if role.startswith("b")}
    return net.add("attention", name, (x, source), attributes, arrays, fills=fills)


def _project(call: Call, x: Any, letter: str) -> Any:
    y = anp.dot(x, call.parameters[f"w{letter}"].T)
    return y + call.parameters[f"b{letter}"] if f"b{letter}" in call.parameters else y


def _heads(call: Call, x: Any, letter: str, heads: int) -> Any:
    """(..., steps, features) -> (..., heads, steps, head dimensions)."""
    y = _project(call, x, letter)
    return anp.swapaxes(anp.reshape(y, (*y.shape[:-1], heads, -1)), -3, -2)


@forward("attention")
def _forward(call: Call) -> Any:
    heads, shared = call["num_heads"], call["kv_heads"]
    x, source = call.inputs
    query = _heads(call, x, "q", heads)
    key, value = (
        anp.repeat(_heads(call, source, letter, shared), heads // shared, axis=-3) for letter in "kv"
    )
    scores = anp.matmul(query, anp.swapaxes(key, -1, -2)) * call["scale"]
    if call["causal"]:
        scores = anp.where(np.tri(*scores.shape[-2:]) > 0, scores, -np.inf)
    mixed = anp.swapaxes(anp.matmul(normalise(scores, -1), value), -3, -2)
    return _project(call, anp.reshape(mixed, (*mixed.shape[:-2], -1)), "o")


def _reheaded(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    heads, shared = resized.views["wq"][0], resized.views["wk"][0]
    return changed(vertex, num_heads=heads, kv_heads=shared)


def _by_heads(scope: Scope, x: Tensor, letter: str, heads: int) -> Tensor:
    """The labels of queries, keys or values, (batch, steps, heads, head dimensions)."""
    rows, features = scope.vertex.parameters[f"w{letter}"].shape
    view, why = (heads, rows // heads), "attention: equal sizes"
    weight = scope.weight(f"w{letter}", [view, (features,)])
    y = einsum(scope, "nte,hde->nthd", x, weight, rows="h", why=why)
    if scope.has(f"b{letter}"):
        y = einsum(scope, "nthd,hd->nthd", y, scope.weight(f"b{letter}", [view]), why=why)
    return y


@rule("attention", rewrite=_reheaded)
def _flow(scope: Scope) -> Tensor:
    heads, shared = scope.attribute("num_heads", int), scope.attribute("kv_heads", int)
    x, source = (whole(scope, given, [-2], "steps are compared with steps") for given in scope.inputs)
    query = _by_heads(scope, x, "q", heads)
    repeated = np.repeat(np.arange(shared), heads // shared)
    key, value = (take(scope, _by_heads(scope, source, letter, shared), 2, repeated) for letter in "kv")
    scores = einsum(scope, "nthd,nshd->nhts", query, key, why="attention: keys fit queries")
    y = einsum(scope, "nhts,nshv->nthv", scores, value, why="attention: values fit scores")
    out, rows = scope.vertex.parameters["wo"].shape
    weight = scope.weight("wo", [(out,), (heads, rows // heads)])
    y = einsum(scope, "nthv,ohv->nto", y, weight, why="attention: the output reads every head")
    return einsum(scope, "nto,o->nto", y, scope.weight("bo")) if scope.has("bo") else y
