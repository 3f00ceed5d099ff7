"""Recurrent layers: simple RNN, LSTM, GRU, in either direction or in both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import autograd.numpy as anp
import numpy as np
from autograd.scipy.special import expit

from solver_nas.errors import LayerError
from solver_nas.nn.activations import activate, function
from solver_nas.nn.arguments import positive, sequence, title
from solver_nas.nn.arithmetic import concat
from solver_nas.nn.forward import Call, forward
from solver_nas.nn.starts import glorot
from solver_nas.rules import Scope, rule
from solver_nas.rules.contract import einsum
from solver_nas.rules.primitives import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from solver_nas.labels import Tensor
    from solver_nas.nn.vertex import NetworkVertex

_GATES = {"simple_rnn": 1, "lstm": 4, "gru": 3}


def simple_rnn(
    x: NetworkVertex,
    units: int,
    *,
    activation: str = "tanh",
    return_sequences: bool = True,
    reverse: bool = False,
    bias: bool = True,
    name: str | None = None,
) -> NetworkVertex:
    """`h = activation(x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh)`, step by step from zero.

    Args:
        x: a sequence (batch, steps, features).
        units: size of the state.
        activation: its name; see `solver_nas.nn.ACTIVATIONS`.
        return_sequences: whether to return the state after every step or only after the last one.
        reverse: whether to begin at the last step; the states stand at their steps all the same.
        bias: whether to add them.
        name: of the new vertex.

    Returns:
        (batch, steps, units) or (batch, units). Arrays, as in PyTorch: `weight_ih` (units, features),
        `weight_hh` (units, units), `bias_ih` and `bias_hh` (units,).
    """
    function(activation)
    extra = {"activation": activation, "return_sequences": return_sequences, "reverse": reverse}
    return _add("simple_rnn", x, units, extra, bias=bias, name=name)


def lstm(
    x: NetworkVertex,
    units: int,
    *,
    return_sequences: bool = True,
    reverse: bool = False,
    bias: bool = True,
    name: str | None = None,
) -> NetworkVertex:
    """A long short-term memory; gates in the order input, forget, cell, output.

    Arguments and result are those of `simple_rnn`; `weight_ih` is (4 * units, features), `weight_hh`
    (4 * units, units), `bias_ih` and `bias_hh` (4 * units,), as in PyTorch.
    """
    extra = {"return_sequences": return_sequences, "reverse": reverse}
    return _add("lstm", x, units, extra, bias=bias, name=name)


def gru(
    x: NetworkVertex,
    units: int,
    *,
    return_sequences: bool = True,
    reverse: bool = False,
    bias: bool = True,
    name: str | None = None,
) -> NetworkVertex:
    """A gated recurrent unit; gates in the order reset, update, new.

    Arguments and result are those of `simple_rnn`; `weight_ih` is (3 * units, features), `weight_hh`
    (3 * units, units), `bias_ih` and `bias_hh` (3 * units,), as in PyTorch.
    """
    extra = {"return_sequences": return_sequences, "reverse": reverse}
    return _add("gru", x, units, extra, bias=bias, name=name)


def bidirectional(
    layer: Callable[..., NetworkVertex],
    x: NetworkVertex,
    units: int,
    *,
    name: str | None = None,
    **options: Any,
) -> NetworkVertex:
    """Two recurrent layers over one sequence, one of them in reverse, and the concatenation of both.

    Args:
        layer: `simple_rnn`, `lstm` or `gru`.
        x: a sequence (batch, steps, features).
        units: size of each state.
        name: of the concatenation; the layers are called `name.forward` and `name.reverse`.
        options: passed on to both layers.

    Returns:
        (batch, steps, 2 * units) or (batch, 2 * units).
    """
    if "reverse" in options:
        raise LayerError("bidirectional: runs in both directions; leave `reverse` out")
    names = (None, None) if name is None else (f"{name}.forward", f"{name}.reverse")
    with x.model.together():
        ahead = layer(x, units, name=names[0], **options)
        back = layer(x, units, name=names[1], reverse=True, **options)
        return concat([ahead, back], axis=-1, name=name)


def _add(
    kind: str,
    x: NetworkVertex,
    units: int,
    attributes: Mapping[str, object],
    *,
    bias: bool,
    name: str | None,
) -> NetworkVertex:
    net, layer = x.model, title(kind, name)
    units, features, gates = positive(layer, "units", units), sequence(layer, x), _GATES[kind]
    arrays = {
        "weight_ih": glorot(net, (gates * units, features), features, units),
        "weight_hh": glorot(net, (gates * units, units), units, units),
    }
    if bias:
        arrays |= {"bias_ih": np.zeros(gates * units), "bias_hh": np.zeros(gates * units)}
    fills = {role: 0.0 for role in arrays if role.startswith("bias")}
    return net.add(kind, name, (x,), attributes, arrays, fills=fills)


@forward("simple_rnn")
def _simple(call: Call) -> Any:
    def step(given: Any, recurrent: Any, _: tuple[Any, ...]) -> tuple[Any, ...]:
        return (activate(call["activation"], given + recurrent),)

    return _run(call, step, 1)


@forward("lstm")
def _lstm(call: Call) -> Any:
    def step(given: Any, recurrent: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
        enter, forget, cell, leave = anp.split(given + recurrent, 4, axis=-1)
        memory = expit(forget) * state[1] + expit(enter) * anp.tanh(cell)
        return expit(leave) * anp.tanh(memory), memory

    return _run(call, step, 2)


@forward("gru")
def _gru(call: Call) -> Any:
    def step(given: Any, recurrent: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
        reset, update, new = anp.split(given, 3, axis=-1)
        reset_h, update_h, new_h = anp.split(recurrent, 3, axis=-1)
        fresh = anp.tanh(new + expit(reset + reset_h) * new_h)
        kept = expit(update + update_h)
        return ((1 - kept) * fresh + kept * state[0],)

    return _run(call, step, 1)


def _run(call: Call, step: Callable[[Any, Any, tuple[Any, ...]], tuple[Any, ...]], states: int) -> Any:
    """Walk over the steps; the first state is what the layer returns."""
    weight = call.parameters["weight_hh"]
    given = anp.dot(call.x, call.parameters["weight_ih"].T)
    bias = 0.0
    if "bias_ih" in call.parameters:
        given = given + call.parameters["bias_ih"]
        bias = call.parameters["bias_hh"]
    zero = np.zeros((*given.shape[:-2], weight.shape[1]), given.dtype)
    state: tuple[Any, ...] = (zero,) * states
    seen = []
    places = range(given.shape[-2])
    for place in reversed(places) if call["reverse"] else places:
        state = step(given[..., place, :], anp.dot(state[0], weight.T) + bias, state)
        seen.append(state[0])
    if not call["return_sequences"]:
        return state[0]
    return anp.stack(seen[::-1] if call["reverse"] else seen, axis=-2)


@rule("simple_rnn")
@rule("lstm")
@rule("gru")
def _flow(scope: Scope) -> Tensor:
    x = whole(scope, scope.inputs[0], [-2], "the steps of a sequence are walked over")
    gates, units = _GATES[scope.vertex.kind], scope.vertex.parameters["weight_hh"].shape[1]
    features, why = scope.vertex.parameters["weight_ih"].shape[1], "recurrence: equal sizes"
    steps = "t" if scope.attribute("return_sequences", bool) else ""
    weight = scope.weight("weight_ih", [(gates, units), (features,)])
    y = einsum(scope, f"nti,ghi->n{steps}h", x, weight, fixed="g", why=why, repeats="nt")
    state = scope.weight("weight_hh", [(gates, units), (units,)])
    sizes = {"t": x.shape[-2]}
    y = einsum(scope, f"n{steps}h,ghh->n{steps}h", y, state, fixed="g", why=why, sizes=sizes, repeats="nt")
    for role in ("bias_ih", "bias_hh"):
        if scope.has(role):
            weight = scope.weight(role, [(gates, units)])
            y = einsum(scope, f"n{steps}h,gh->n{steps}h", y, weight, fixed="g", why=why, repeats=None)
    return y
