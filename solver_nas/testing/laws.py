"""The law of all layers: the changed network computes what the old one does without the neurons that went."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from solver_nas.graph import Port
from solver_nas.nn.forward import evaluate
from solver_nas.weights import take

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from solver_nas.change import Plan
    from solver_nas.frontend import Array
    from solver_nas.labels import Block, Labels
    from solver_nas.nn.network import Network


def check_masked(net: Network, plan: Plan, inputs: Mapping[str, Array], *, tolerance: float = 1e-10) -> float:
    """Assert that a change equals masking: neurons compute what they do in the old network without those that go.

    New neurons must make no difference to them: their outgoing weights are zero.

    Args:
        net: the network before the change; not touched.
        plan: a plan for it.
        inputs: arrays by input name.
        tolerance: relative to the largest activation.

    Returns:
        The largest relative difference seen.

    Raises:
        AssertionError: a vertex computes something else; the message names the first one.
    """
    labels, rng = net.labels, np.random.default_rng(0)
    masks = {name: _mask(labels, name, index) for name, index in plan.indices.items() if _shrinks(plan, name)}
    masked = evaluate(net.graph, _silenced(net, plan), inputs, rng, masks=masks)
    pruned = evaluate(plan.blueprint.after, plan.build(), inputs, rng)
    return _compare(labels, plan, masked, pruned, tolerance)


def _silenced(net: Network, plan: Plan) -> dict[str, Array]:
    """The old arrays with zeros where the plan takes nothing: no mask reaches the inside of a recurrence."""
    arrays = dict(net.arrays)
    for key, change in plan.blueprint.arrays.items():
        places = take(np.arange(1, arrays[key].size + 1).reshape(change.view), change.picks)
        kept = np.zeros(arrays[key].size + 1)
        kept[places] = 1
        arrays[key] = arrays[key] * kept[1:].reshape(arrays[key].shape)
    return arrays


def _shrinks(plan: Plan, name: str) -> bool:
    before, _ = plan.sizes[name]
    return before > 0 and len(np.unique(plan.indices[name][plan.indices[name] >= 0])) < before


def _block(labels: Labels, name: str) -> Block | None:
    blocks = labels.tensors[Port(name)].blocks
    return blocks[-1] if blocks else None


def _mask(labels: Labels, name: str, index: NDArray[np.intp]) -> Array:
    """Ones for kept neurons and zeros for the others, to be multiplied with the vertex's output."""
    block = _block(labels, name)
    assert block is not None
    kept = np.zeros(block.neurons.size)
    kept[index[index >= 0]] = 1
    rank = len(labels.tensors[Port(name)].shape)
    order = np.argsort(block.axes)
    shape = [1] * rank
    for axis, size in zip(block.axes, block.neurons.shape, strict=True):
        shape[axis] = size
    # Without the batch axis, so that single samples can be masked too.
    return kept.reshape(block.neurons.shape).transpose(order).reshape(shape[1:])


def _compare(
    labels: Labels, plan: Plan, reference: Mapping[str, Array], changed: Mapping[str, Array], tolerance: float
) -> float:
    worst = 0.0
    for name, index in plan.indices.items():
        old, new = np.asarray(reference[name]), np.asarray(changed[name])
        block = _block(labels, name)
        for other in labels.tensors[Port(name)].blocks[:-1]:
            if len(other.axes) == 1:
                _, moved = plan.blueprint.moves.flat(other.neurons)
                old = np.take(old, moved[moved >= 0], axis=other.axes[0])
                new = np.compress(moved >= 0, new, axis=other.axes[0])
        if block is not None:
            there = index >= 0
            old, new = _flat(old, block)[..., index[there]], _flat(new, block)[..., there]
        assert old.shape == new.shape, f"vertex {name!r}: shape {new.shape} instead of {old.shape}"
        scale = float(np.abs(old).max(initial=1.0))
        difference = float(np.abs(old - new).max(initial=0.0)) / scale
        assert difference <= tolerance, f"vertex {name!r} differs by {difference:.2e}"
        worst = max(worst, difference)
    return worst


def _flat(array: Array, block: Block) -> Array:
    """The block's axes moved to the end, in nesting order, as one axis."""
    rest = [axis for axis in range(array.ndim) if axis not in block.axes]
    moved = array.transpose([*rest, *block.axes])
    return moved.reshape(*moved.shape[: len(rest)], -1)
