"""Whether a changed model is valid, runs, and computes what was promised."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from solver_nas.errors import StoreError, VerificationError
from solver_nas.graph import Port
from solver_nas.onnx import runtime
from solver_nas.onnx.masking import Removal, masked, taken_together
from solver_nas.onnx.source import LARGEST_FILE, size_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from onnx import ModelProto

    from solver_nas.graph import Graph
    from solver_nas.labels import Labels
    from solver_nas.onnx.structure import Structure
    from solver_nas.plan import Blueprint

Array = NDArray[Any]
#: The axes of an output that change their size, and which old position each place has; -1 for a new one.
Moved = tuple[tuple[int, NDArray[np.intp]], ...]

TOLERANCE = 1e-4  # relative to the largest number of an output: single precision, added up in another order
_ROUNDING = 1e-6  # relative: several times that of single precision
_MOST = 0.05  # relative: more cannot be rounding that a model is any good with
_NOISE = 10.0  # times what the original without the neurons that go differs from itself, computed in another order


class TrialError(StoreError):
    """A model cannot be tried out with certain inputs."""


class Comparison(NamedTuple):
    """How a changed model compares with what it has to equal.

    Args:
        difference: the largest difference between outputs, relative to the largest number of that output.
        preserved: whether it was the original without the neurons that go; otherwise, new neurons stand among
            others that are normalised together, and the comparison leaves them out on the other side.
        allowed: how large it may be: more than `TOLERANCE` where rounding alone makes more of a difference.
    """

    difference: float
    preserved: bool
    allowed: float = TOLERANCE

    @property
    def equal(self) -> bool:
        """Whether they differ by rounding at most."""
        return self.difference <= self.allowed


def valid(model: ModelProto) -> None:
    """Pass the full checker and strict shape inference.

    Raises:
        VerificationError: it does not.
    """
    try:
        if size_of(model) <= LARGEST_FILE:
            onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise VerificationError(
            f"the changed model does not pass ONNX's checker: {first}; nothing was changed"
        ) from error


def removal(graph: Graph, labels: Labels, blueprint: Blueprint) -> Removal:
    """What a change of sizes takes away from the model before it."""
    stays = {}
    for port, tensor in labels.tensors.items():
        masks = []
        for block in tensor.blocks:
            kept = np.zeros(block.neurons.size, bool)
            index = blueprint.moves.flat(block.neurons)[1]
            kept[index[index >= 0]] = True
            masks.append(kept.reshape(block.neurons.shape))
        stays[port.vertex] = masks
    return Removal(graph, labels, stays, _settings(blueprint.after))


def addition(labels: Labels, after: Labels, blueprint: Blueprint) -> Removal:
    """What a change of sizes has added to the model behind it.

    Args:
        labels: before the change.
        after: behind it.
        blueprint: the change.
    """
    stays = {}
    for port, tensor in after.tensors.items():
        masks = [np.ones(block.neurons.shape, bool) for block in tensor.blocks]
        for place, block in enumerate(labels.tensors[port].blocks):
            index = blueprint.moves.flat(block.neurons)[1]
            if place < len(masks) and len(index) == masks[place].size:
                masks[place] = (index >= 0).reshape(masks[place].shape)
        stays[port.vertex] = masks
    return Removal(blueprint.after, after, stays, _settings(blueprint.before))


def _settings(graph: Graph) -> dict[str, Mapping[str, object]]:
    """The ONNX attributes of all vertices that stand for nodes."""
    return {v.name: v.attributes["onnx"] for v in graph.vertices if "onnx" in v.attributes}  # type: ignore[misc] # written by the front end


def grows_together(labels: Labels, blueprint: Blueprint) -> bool:
    """Whether new neurons stand among others on which they have an effect: a mean, a normalisation."""
    for vertex in blueprint.before.vertices:
        axes = taken_together(vertex, labels, sums=True)
        if not axes:
            continue
        tensor = labels.tensors[vertex.inputs[0]]
        for block in tensor.blocks:
            if set(block.axes) & set(axes) and (blueprint.moves.flat(block.neurons)[1] < 0).any():
                return True
    return False


def compare(
    before: ModelProto,
    after: ModelProto,
    structure: Structure,
    gone: Removal,
    added: Removal | None,
    arrays: tuple[Mapping[str, Array], Mapping[str, Array]],
    inputs: Mapping[str, Array],
    moved: Mapping[str, Moved],
) -> Comparison:
    """Run the changed model beside the original without what goes.

    Args:
        before: the original.
        after: the changed model.
        structure: of the original.
        gone: what goes.
        added: what comes, where it has to be left out as well.
        arrays: all parameters before and after.
        inputs: for both.
        moved: outputs that change their size.

    Raises:
        TrialError: the original cannot be run with these inputs, or returns nothing that could be compared.
        StoreError: the changed model cannot be run.
    """
    one = masked(before, structure, gone, arrays[0])
    other = after if added is None else masked(after, structure, added, arrays[1])
    found = _answered(one, inputs)
    made = runtime.run(runtime.session(other), inputs)
    difference, allowed = runtime.distance(_kept(found, moved, old=True), _kept(made, moved, old=False)), TOLERANCE
    if difference > TOLERANCE:
        noise = max(_noise(one, found, inputs), _noise(other, made, inputs))
        allowed = min(max(TOLERANCE, _NOISE * noise), _MOST)
    return Comparison(difference, added is None, allowed)


def _answered(model: ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of a model that another one is to be compared with.

    Raises:
        TrialError: there are none, or one of them has no finite number: whatever is compared with it is equal.
    """
    try:
        found = runtime.run(runtime.session(model), inputs)
    except StoreError as error:
        raise TrialError(str(error)) from error
    for name, array in found.items():
        if array.size and array.dtype.kind in "fc" and not np.isfinite(array).any():
            raise TrialError(f"output {name!r} has no finite number, so that nothing can be compared")
    if not any(array.size for array in found.values()):
        raise TrialError("the model returns nothing, so that nothing can be compared")
    return found


def _noise(model: ModelProto, found: Mapping[str, Array], inputs: Mapping[str, Array]) -> float:
    """How far a model's outputs move when it is computed in another order, or its inputs are rounded otherwise."""
    plain = runtime.run(runtime.session(model, optimise=False), inputs)
    shaken = runtime.run(runtime.session(model), {name: _shaken(array) for name, array in inputs.items()})
    return max(runtime.distance(found, plain), runtime.distance(found, shaken))


def _shaken(array: Array) -> Array:
    """The same numbers but for rounding."""
    return (array * (1 + _ROUNDING)).astype(array.dtype) if array.dtype.kind == "f" else array


def _kept(outputs: Mapping[str, Array], moved: Mapping[str, Moved], *, old: bool) -> dict[str, Array]:
    """What outputs have in common before and after."""
    found = dict(outputs)
    for name, axes in moved.items():
        for axis, index in axes:
            places = index[index >= 0] if old else np.flatnonzero(index >= 0)
            found[name] = np.take(found[name], places, axis=axis)
    return found


def moved_outputs(structure: Structure, labels: Labels, blueprint: Blueprint) -> dict[str, Moved]:
    """Outputs whose neurons change."""
    found = {}
    for name, vertex in structure.outputs.items():
        moved = []
        for block in labels.tensors[Port(vertex)].blocks:
            index = blueprint.moves.flat(block.neurons)[1]
            if not np.array_equal(index, np.arange(block.neurons.size)):
                moved.append((block.axes[-1], index))
        if moved:
            found[name] = tuple(moved)
    return found


def difference(
    before: ModelProto, after: ModelProto, structure: Structure, given: Mapping[str, Array] | None, seed: int
) -> float:
    """The largest relative difference between the outputs of two models.

    Args:
        before: a model.
        after: another one; infinity is returned if it does not take what the first one takes.
        structure: of the first one.
        given: inputs to try besides random ones.
        seed: for these.

    Raises:
        StoreError: the first one cannot be run with any of them.
    """
    rng, refused = np.random.default_rng(seed), list[StoreError]()
    one, other = runtime.session(before), runtime.session(after)

    def apart(inputs: Iterable[Mapping[str, Array]]) -> Iterator[float]:
        for given in inputs:
            try:
                expected = runtime.run(one, given)
            except StoreError as error:
                refused.append(error)
                continue
            try:
                yield runtime.distance(expected, runtime.run(other, given))
            except StoreError:
                yield float("inf")

    found = [*apart([] if given is None else [given]), *apart(runtime.samples(structure, rng))]
    found = found or list(islice(apart(runtime.trials(structure, rng)), 1))
    if not found:
        raise StoreError(f"{refused[0]}; {runtime.SUITABLE}")
    return max(found)
