"""How neurons pass through attention: heads go with all that is their own, and so do their sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from solver_nas.rules.contract import einsum, elementwise
from solver_nas.rules.primitives import take

if TYPE_CHECKING:
    from solver_nas.labels import Tensor
    from solver_nas.rules.contract import Operand
    from solver_nas.rules.scope import Scope

_WHY = "attention: equal heads and sizes"


def attention(
    scope: Scope, q: Tensor, k: Tensor, v: Tensor, *, mask: Operand | None = None, repeats: str | None
) -> tuple[Tensor, Tensor]:
    """What queries find among keys, and how much of which.

    Args:
        scope: the vertex.
        q: queries, (batch, tokens, heads, size).
        k: keys, likewise; with fewer heads, neighbouring ones of the queries share one.
        v: values, with as many heads as the keys and a size of their own.
        mask: is added to the scores, or otherwise combined with them.
        repeats: as for `einsum`, over "nhts": `None` where the work is counted elsewhere.

    Returns:
        The result, (batch, tokens, heads, size of a value), and the scores, (batch, heads, tokens, keys).

    Raises:
        RuleError: heads of the queries cannot be shared out evenly.
    """
    queries, keys = q.shape[2] or 0, k.shape[2] or 0
    if queries % (keys or 1):
        raise scope.fail(f"{queries} heads of queries cannot share {keys} heads of keys")
    if keys != queries:
        shared = np.repeat(np.arange(keys), queries // (keys or 1))
        k, v = take(scope, k, 2, shared), take(scope, v, 2, shared)
    scores = einsum(scope, "nthd,nshd->nhts", q, k, why=_WHY, repeats=repeats)
    if mask is not None:
        scores = elementwise(scope, scores, mask, why=_WHY)
    return einsum(scope, "nhts,nshd->nthd", scores, v, why=_WHY, repeats=repeats), scores
