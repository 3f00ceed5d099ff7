"""How neurons pass through PyTorch's recurrent operations: all layers, both directions, first states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from solver_nas.labels import FIXED, Block, Tensor, neurons
from solver_nas.rules.contract import einsum, elementwise
from solver_nas.rules.primitives import concat, whole
from solver_nas.torch.operator import operator

if TYPE_CHECKING:
    from solver_nas.torch.op import Op

_GATES = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}
_WHY = "recurrence: equal sizes"


@operator(
    *_GATES,
    weights=True,
    note="hidden neurons, equally many in all layers and directions; each keeps its own; states follow",
)
def _recurrent(op: Op) -> Tensor:
    if op.has("data"):
        raise op.unsupported("packed sequences")
    x = op.tensor("input")
    batched = len(x.shape) == len("tni")
    letters = ("nt" if op.flag("batch_first") else "tn") if batched else "t"
    x = whole(op.scope, x, [letters.index("t")], "the steps of a sequence are walked over")
    directions, layers = 2 if op.flag("bidirectional") else 1, op.integer("num_layers", 1)
    each = op.count("params") // (layers * directions)
    if each > 2 + 2 * int(op.flag("has_biases")):
        raise op.unsupported("projections")
    # Layers and directions are the rows of a rectangle: each keeps its own neurons, equally many.
    states: list[Tensor] = []
    for layer in range(layers):
        ways = [_layer(op, x, letters, (layer * directions + way) * each, each) for way in range(directions)]
        states += ways
        x = ways[0] if directions == 1 else concat(op.scope, ways, len(letters))
    last = _states(op, states, len(letters))
    _first(op, last)
    return x if op.output == 0 else last


def _layer(op: Op, x: Tensor, letters: str, start: int, each: int) -> Tensor:
    """One direction of one layer, as (steps, batch, hidden), or as the input has these."""
    gates = _GATES[op.operator]
    rows, features = (size or 0 for size in op.sizes("params", start))
    hidden = rows // gates
    repeats = letters if op.primary else None
    weight = op.weight("params", [(gates, hidden), (features,)], start)
    y = einsum(op.scope, f"{letters}i,ghi->{letters}h", x, weight, fixed="g", why=_WHY, repeats=repeats)
    state = op.weight("params", [(gates, hidden), (hidden,)], start + 1)
    y = einsum(op.scope, f"{letters}h,ghh->{letters}h", y, state, fixed="g", why=_WHY, repeats=repeats)
    for place in range(start + 2, start + each):
        bias = op.weight("params", [(gates, hidden)], place)
        y = einsum(op.scope, f"{letters}h,gh->{letters}h", y, bias, fixed="g", why=_WHY, repeats=None)
    return y


_CELLS = {"lstm_cell": "lstm", "gru_cell": "gru", "rnn_tanh_cell": "rnn_tanh", "rnn_relu_cell": "rnn_relu"}


@operator(*_CELLS, weights=True, note="hidden neurons; states follow")
def _cell(op: Op) -> Tensor:
    x, gates = op.tensor("input"), _GATES[_CELLS[op.operator]]
    letters = "n"[: len(x.shape) - 1]
    rows, features = (size or 0 for size in op.sizes("w_ih"))
    repeats = letters if op.primary else None
    weight = op.weight("w_ih", [(gates, rows // gates), (features,)])
    y = einsum(op.scope, f"{letters}i,ghi->{letters}h", x, weight, fixed="g", why=_WHY, repeats=repeats)
    state = op.weight("w_hh", [(gates, rows // gates), (rows // gates,)])
    y = einsum(op.scope, f"{letters}h,ghh->{letters}h", y, state, fixed="g", why=_WHY, repeats=repeats)
    for name in ("b_ih", "b_hh"):
        if op.has(name):
            bias = op.weight(name, [(gates, rows // gates)])
            y = einsum(op.scope, f"{letters}h,gh->{letters}h", y, bias, fixed="g", why=_WHY, repeats=None)
    before = [op.tensor("hx", place) for place in range(op.count("hx"))] or [op.tensor("hx")]
    return elementwise(op.scope, y, *before, why=_WHY)


def _states(op: Op, outputs: list[Tensor], axis: int) -> Tensor:
    """The states of all layers and directions beside each other."""
    blocks = [one.block_of(axis) for one in outputs]
    batch = () if axis == 1 else (outputs[0].shape[1 - int(op.flag("batch_first"))],)
    shape = (len(outputs), *batch, outputs[0].shape[axis])
    if any(block is None or len(block.axes) > 1 for block in blocks):
        for block in blocks:
            if block is not None:
                op.scope.pin_block(block, _WHY)
        return Tensor(shape)
    rows = neurons(np.full(len(blocks), FIXED, np.int64), np.arange(len(blocks), dtype=np.uint64))
    cells = np.stack([block.neurons for block in blocks if block is not None])
    op.scope.tape.joint(rows, cells, op.scope.reason("all layers and directions have equally many"))
    return Tensor(shape, (Block((0, len(shape) - 1), (rows, cells)),))


def _first(op: Op, last: Tensor) -> None:
    """The first states have the sizes of the last ones."""
    name = "hx"
    places = range(op.count(name)) if op.slot(name) is None else [None]
    for place in places:
        if not op.has(name, place):
            continue
        state = op.edge(name, place)
        if state is None:
            op.hold(name, _WHY, place)
            continue
        op.scope.speak(state)
        cells = last.block_of(len(last.shape) - 1)
        block = state.block_of(len(state.shape) - 1)
        alike = block is not None and block.axes == (len(state.shape) - 1,) and op.scope.tape.is_idle(block.neurons)
        if block is not None and cells is not None and alike:
            # All of its numbers are equal: it has to be as long as one layer's states, whichever these are.
            op.scope.tape.tie(block.neurons, cells.neurons.reshape(-1, block.neurons.size)[0], op.scope.reason(_WHY))
            for other in state.blocks:
                if other is not block:
                    op.scope.pin_block(other, _WHY, report=False)
        else:
            einsum(op.scope, _letters(state, "s"), last, state, why=_WHY, repeats=None)


def _letters(state: Tensor, first: str) -> str:
    mine = first + "nh"[2 - (len(state.shape) - 1) :]
    return f"{mine},{mine}->{mine}"
