"""Dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from solver_nas.errors import LayerError
from solver_nas.nn.arguments import title
from solver_nas.nn.forward import Call, forward
from solver_nas.rules import Scope, rule
from solver_nas.rules.primitives import same

if TYPE_CHECKING:
    from solver_nas.labels import Tensor
    from solver_nas.nn.vertex import NetworkVertex


def dropout(x: NetworkVertex, rate: float = 0.5, *, name: str | None = None) -> NetworkVertex:
    """In training, zero each element with probability `rate` and enlarge the others; otherwise nothing.

    Raises:
        LayerError: the rate is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise LayerError(f"{title('dropout', name)}: rate is a probability in [0, 1), got {rate!r}")
    return x.model.add("dropout", name, (x,), {"rate": float(rate)})


@forward("dropout")
def _forward(call: Call) -> Any:
    if not call.training:
        return call.x
    kept = call.rng.random(call.x.shape) >= call["rate"]
    return call.x * (kept / (1 - call["rate"])).astype(call.x.dtype)


@rule("dropout")
def _flow(scope: Scope) -> Tensor:
    return same(scope, scope.inputs[0])
