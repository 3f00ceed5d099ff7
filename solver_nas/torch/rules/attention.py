"""How neurons pass through attention: heads go with all that is their own, and so do inner sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from solver_nas.rules.contract import einsum, elementwise
from solver_nas.rules.primitives import take, whole
from solver_nas.torch.operator import operator

if TYPE_CHECKING:
    from solver_nas.labels import Tensor
    from solver_nas.torch.op import Op

_WHY = "attention: equal heads and sizes"
_HEADS = -3  # the axis of heads


@operator(
    "scaled_dot_product_attention",
    note="heads go with their queries, keys and values; queries and keys have equal sizes, which stay where no scale "
    "is given; values have their own",
)
def _attention(op: Op) -> Tensor:
    q, k, v = (op.heads(op.tensor(name)) for name in ("query", "key", "value"))
    if op.argument("scale") is None:
        q = whole(op.scope, q, [-1], "scores are divided by the root of this size, unless a scale is given")
    if op.flag("enable_gqa"):
        queries, keys = q.shape[_HEADS] or 1, k.shape[_HEADS] or 1
        if queries != keys:
            shared = np.repeat(np.arange(keys), queries // keys)
            k, v = (take(op.scope, one, _HEADS, shared) for one in (k, v))
    scores = einsum(op.scope, "...td,...sd->...ts", q, k, why=_WHY)
    if op.has("attn_mask"):
        scores = elementwise(op.scope, scores, op.operand("attn_mask"), why=_WHY)
    scores = whole(op.scope, scores, [-1, -2], "tokens")
    return einsum(op.scope, "...ts,...sd->...td", scores, v, why=_WHY)
