"""Training a network of NumPy layers, enough for examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from autograd.core import make_vjp
from autograd.tracer import getval

from solver_nas.calibrate import calibrate
from solver_nas.errors import LayerError, TrainingError
from solver_nas.frontend import Array
from solver_nas.nn.forward import evaluate
from solver_nas.nn.losses import loss_of
from solver_nas.nn.optimise import Adam
from solver_nas.observe import Observations, by_neuron, observed
from solver_nas.progress import progress as show_progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from solver_nas.labels import Tensor
    from solver_nas.nn.network import Network
    from solver_nas.nn.optimise import Optimiser
    from solver_nas.observe import Contribution

Inputs = Array | Sequence[Array] | Mapping[str, Array]
Loss = Callable[[Any, Any], Any]

_CHUNK = 256  # samples per forward pass while statistics are gathered, where the caller names no batch


def fit(
    net: Network,
    x: Inputs,
    y: Any,
    *,
    loss: str | Loss = "mse",
    optimizer: Optimiser | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool | None = None,
    record: bool = True,
) -> list[float]:
    """Train a network.

    The network changes after each step, in one go: an exception or Ctrl-C leaves it as it was after the
    last step that was completed. A loss that is not finite leaves it as it was before training.
    Watched vertices (`ActivationContribution`) are updated with every step.

    Args:
        net: the network; its arrays are replaced.
        x: shape (samples, ...), or several arrays by position or by name of the input.
        y: what the output should be, one row per sample; a tuple if the loss takes several.
        loss: `"mse"`, `"cross_entropy"` (log-odds, and class numbers or probabilities), or a function of
            the network's output and `y`, written with `autograd.numpy`, that returns a scalar.
        optimizer: `Adam(0.01)` by default; it remembers, so that the same object goes on.
        steps: how many steps to take.
        epochs: how many times to go through the data instead.
        batch_size: samples per step; by default all of them.
        seed: of the order of samples and of whatever is random in training.
        progress: whether to show a bar; by default on a terminal if it takes long.
        record: whether to gather `ActivationStatistics` at the end, see `calibrate`. Those gathered
            before describe other weights and are dropped in any case.

    Returns:
        The loss of each step, before that step.

    Raises:
        LayerError: arguments that do not fit together.
        TrainingError: the loss is not finite.

    >>> from solver_nas import nn
    >>> net = nn.Network()
    >>> net.output(nn.dense(net.input("in", 1), 1, name="line"))
    >>> x = np.linspace(-1, 1, 8)[:, None]
    >>> losses = nn.fit(net, x, 3 * x + 1, optimizer=nn.Adam(0.1), steps=200)
    >>> net["line"].op.weight.round(2), net["line"].op.bias.round(2)
    (array([[3.]]), array([1.]))
    """
    optimizer = Adam(0.01) if optimizer is None else optimizer
    measure = loss_of(loss)
    fed, targets, samples = _data(net, x, y)
    total = _step_count(steps, epochs, batch_size, samples)
    orders, noise = np.random.default_rng(seed).spawn(2)
    start = (dict(net.arrays), dict(net.observers), optimizer.state)
    net.observers.update(_forgotten(net))
    history: list[float] = []
    shapes: dict[object, dict[str, tuple[int, ...]]] = {}
    with show_progress("training", total, show=progress) as advance:
        for rows in _batches(samples, batch_size, total, orders):
            batch = {name: array[rows] for name, array in fed.items()}
            value = _step(net, batch, _rows(targets, rows), measure, optimizer, noise, shapes)
            if not np.isfinite(value):
                optimizer.state = start[2]
                net.adopt(start[0], start[1], only=True)
                raise TrainingError(
                    f"the loss is {value} in step {len(history)}; the network is as it was before: "
                    f"try a smaller rate than {optimizer.rate}, and look for NaN and infinity in the data"
                )
            history.append(value)
            advance()
    if record:
        calibrate(net, fed, held_back=0, batch_size=batch_size or _CHUNK, progress=progress)
    return history


def _step(
    net: Network,
    batch: Mapping[str, Array],
    target: Any,
    measure: Loss,
    optimizer: Optimiser,
    noise: np.random.Generator,
    shapes: dict[object, dict[str, tuple[int, ...]]],
) -> float:
    """One step; its last statements replace what it changes."""
    watched = {
        name: seen for name in net.observers if name in net and (seen := observed(net[name]).contribution) is not None
    }
    due = [name for name, seen in watched.items() if seen.due(seen.steps)]
    key = tuple(array.shape for array in batch.values())
    if due and not set(due) <= set(shapes.get(key, ())):
        plain = evaluate(net.graph, net.arrays, batch, np.random.default_rng(0))
        shapes[key] = {name: plain[name].shape for name in watched}
    probes = {name: np.zeros(shapes[key][name], net.dtype) for name in due}

    names = [port.vertex for port in net.graph.outputs] or [
        name for name in net.graph.order if not net.graph.consumers(name)
    ]
    values: dict[str, Any] = {}
    updates: dict[str, Any] = {}

    def objective(variables: tuple[Mapping[str, Any], Mapping[str, Any]]) -> Any:
        arrays, added = variables
        values.update(evaluate(net.graph, arrays, batch, noise, training=True, updates=updates, probes=added))
        outputs = tuple(values[name] for name in names)
        return measure(outputs[0] if len(outputs) == 1 else outputs, target)

    backward, value = make_vjp(objective, (net.arrays, probes))
    if np.ndim(value):
        raise LayerError(f"the loss is one number, the function returned shape {np.shape(value)}")
    if not np.isfinite(value):
        return float(value)
    slopes, probe_slopes = backward(np.ones_like(value))
    # Running statistics are not trained; they come out of the forward pass.
    gradients = {key: slope for key, slope in slopes.items() if key not in updates}
    arrays, state = optimizer.advance(net.arrays, gradients)
    arrays |= {key: np.asarray(_plain(array), net.dtype) for key, array in updates.items()}
    observers = {
        name: Observations(contribution=_watch(seen, net.tensor(name), values[name], probe_slopes.get(name)))
        for name, seen in watched.items()
    }
    optimizer.state = state
    net.adopt(arrays, observers)
    return float(value)


def _watch(seen: Contribution, tensor: Tensor, value: Any, slope: Array | None) -> Contribution:
    if slope is None:
        return seen.skipped()
    return seen.seen(by_neuron(_plain(value), tensor), by_neuron(slope, tensor))


def _plain(value: Any) -> Any:
    """The array in a box of autograd's, which may be boxed again."""
    inner = getval(value)
    return inner if inner is value else _plain(inner)


def _forgotten(net: Network) -> dict[str, Observations]:
    """The observers of a network without their statistics."""
    return {
        name: replace(seen, statistics=None) for name, seen in net.observers.items() if isinstance(seen, Observations)
    }


def _data(net: Network, x: Inputs, y: Any) -> tuple[dict[str, Array], Any, int]:
    """Inputs by name and targets, in the network's precision, and the number of samples."""
    if isinstance(x, Mapping):
        fed = net.feed((), x)
    elif isinstance(x, tuple | list) and len(net.inputs) > 1:
        fed = net.feed(tuple(x), {})
    else:
        fed = net.feed((np.asarray(x),), {})
    # An input without an axis of neurons holds token numbers, which stay integers.
    fed = {
        name: array
        if net.graph.vertex(name).attributes["axis"] is None and array.dtype.kind in "iu"
        else array.astype(net.dtype, copy=False)
        for name, array in fed.items()
    }
    targets: Any = None
    if isinstance(y, tuple):
        targets = tuple(_cast(np.asarray(part), net) for part in y)
    elif y is not None:
        targets = _cast(np.asarray(y), net)
    counts = {f"input {name!r}": _length(array, name, net) for name, array in fed.items()}
    if isinstance(targets, tuple):
        counts |= {f"y[{place}]": len(np.atleast_1d(part)) for place, part in enumerate(targets)}
    elif targets is not None:
        counts["y"] = len(np.atleast_1d(targets))
    if len(set(counts.values())) != 1 or 0 in counts.values():
        told = ", ".join(f"{what} has {count}" for what, count in counts.items())
        raise LayerError(f"equally many samples are needed, and at least one: {told}")
    return fed, targets, next(iter(counts.values()))


def _length(array: Array, name: str, net: Network) -> int:
    if array.ndim != len(net.tensor(name).shape):
        raise LayerError(f"input {name!r}: training needs a batch axis, got an array of shape {array.shape}")
    return len(array)


def _cast(array: Array, net: Network) -> Array:
    return array.astype(net.dtype, copy=False) if array.dtype.kind == "f" else array


def _step_count(steps: int | None, epochs: int | None, batch_size: int | None, samples: int) -> int:
    if (steps is None) == (epochs is None):
        raise LayerError("say either how many steps to take or how many epochs")
    for name, number in (("steps", steps), ("epochs", epochs), ("batch_size", batch_size)):
        if number is not None and number < 1:
            raise LayerError(f"{name} is a positive number, got {number}")
    if steps is not None:
        return steps
    assert epochs is not None
    return epochs * -(-samples // (batch_size or samples))


def _batches(samples: int, batch_size: int | None, total: int, rng: np.random.Generator) -> Iterator[Any]:
    """The rows of each step: a new order for every pass through the data, the last batch may be smaller."""
    taken = 0
    while taken < total:
        if batch_size is None or batch_size >= samples:
            yield slice(None)
            taken += 1
            continue
        order = rng.permutation(samples)
        for start in range(0, samples, batch_size):
            if taken == total:
                return
            yield order[start : start + batch_size]
            taken += 1


def _rows(targets: Any, rows: Any) -> Any:
    return tuple(part[rows] for part in targets) if isinstance(targets, tuple) else targets[rows]
