"""How neurons pass through ONNX's recurrent operators: both directions, first states, both layouts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from solver_nas.labels import FIXED, Block, Tensor, neurons
from solver_nas.onnx.operator import operator, settings
from solver_nas.rules.contract import einsum
from solver_nas.rules.primitives import whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.graph import Vertex
    from solver_nas.onnx.op import Op
    from solver_nas.rules import Resized
    from solver_nas.rules.scope import Weight

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_PEEPHOLES = 3
_WHY = "recurrence: equal sizes"


def _rehidden(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    if "R" not in vertex.parameters:
        return {}
    return settings(vertex, hidden_size=resized.views["R"][-1])


@operator(
    "RNN", "GRU", "LSTM", note="hidden neurons, equally many in both directions; states follow", rewrite=_rehidden
)
def _recurrent(op: Op) -> Tensor:
    x, gates = op.tensor(0), _GATES[op.operator]
    directions, rows, features = (size or 0 for size in op.sizes(1))
    hidden = rows // gates
    steps, batch = ("n", "t") if op.integer("layout", 0) else ("t", "n")
    axis = 1 if op.integer("layout", 0) else 0
    x = whole(op.scope, x, [axis], "the steps of a sequence are walked over")
    sizes = {"t": x.shape[axis], "n": x.shape[1 - axis]}
    # The directions are the rows of a rectangle: each keeps its own neurons, equally many.
    both = neurons(np.full(directions, FIXED, np.int64), np.arange(directions, dtype=np.uint64))
    lines = Tensor((directions,), (Block((0,), (both,)),))
    repeats = "tn" if op.primary else None
    weight = op.weight(1, [(directions,), (gates, hidden), (features,)])
    y = einsum(op.scope, f"{steps}{batch}i,d,dghi->dtnh", x, lines, weight, fixed="g", why=_WHY, repeats=repeats)
    state = op.weight(2, [(directions,), (gates, hidden), (hidden,)])
    y = einsum(op.scope, "dtnh,dghh->dtnh", y, state, fixed="g", why=_WHY, sizes=sizes, repeats=repeats)
    if op.has(3):
        bias = op.weight(3, [(directions,), (2 * gates, hidden)])
        y = einsum(op.scope, "dtnh,dgh->dtnh", y, bias, fixed="g", why=_WHY, repeats=None)
    if op.has(7):
        peephole = op.weight(7, [(directions,), (_PEEPHOLES, hidden)])
        y = einsum(op.scope, "dtnh,dgh->dtnh", y, peephole, fixed="g", why=_WHY, repeats=None)
    _lengths(op)
    for slot in (5, 6):
        if op.has(slot):
            y = _first_state(op, y, op.operand(slot))
    if op.output:
        return einsum(op.scope, "dtnh->ndh" if op.integer("layout", 0) else "dtnh->dnh", y, why=_WHY, repeats=None)
    return einsum(op.scope, "dtnh->ntdh" if op.integer("layout", 0) else "dtnh->tdnh", y, why=_WHY, repeats=None)


def _first_state(op: Op, y: Tensor, state: Tensor | Weight) -> Tensor:
    letters = "ndh" if op.integer("layout", 0) else "dnh"
    alike = isinstance(state, Tensor) and all(op.scope.tape.is_idle(block.neurons) for block in state.blocks)
    hidden = y.block_of(letters.index("h") + 1)
    if not alike or hidden is None:
        return einsum(op.scope, f"dtnh,{letters}->dtnh", y, state, why=_WHY, repeats=None)
    # All of its numbers are equal: it has to be as long as one direction's states, whichever these are.
    assert isinstance(state, Tensor), "only tensors have blocks"
    op.scope.speak(state)
    for block in state.blocks:
        if letters[block.axes[0]] == "h":
            op.scope.tape.tie(block.neurons, hidden.neurons.reshape(-1, len(block.neurons))[0], op.scope.reason(_WHY))
        else:
            op.scope.pin_block(block, _WHY, report=False)
    return y


def _lengths(op: Op) -> None:
    """How long each sequence is says nothing about neurons."""
    op.hold(4, "how long sequences are")
