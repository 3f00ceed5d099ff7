"""Trying a change out before it is made: in the captured graph, and in the module's own code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch.utils import _pytree as pytree

from solver_nas.errors import VerificationError
from solver_nas.graph import Port
from solver_nas.rules import label
from solver_nas.torch import verify
from solver_nas.torch.attributes import declared
from solver_nas.torch.binding import Memories, remembered
from solver_nas.torch.numbers import attributes, numbers
from solver_nas.torch.optimizers import followed, taken
from solver_nas.torch.sealing import SEALED
from solver_nas.torch.standalone import rewritten
from solver_nas.torch.structure import positions
from solver_nas.torch.tensors import to_tensor, without

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.fx import Graph as FxGraph

    from solver_nas.frontend import Array
    from solver_nas.labels import Labels
    from solver_nas.plan import Blueprint
    from solver_nas.torch.binding import Binding, Grads
    from solver_nas.torch.running import Removal
    from solver_nas.torch.structure import Structure
    from solver_nas.torch.trees import Attribute


class Inputs(NamedTuple):
    """What a module is tried out with.

    Args:
        args: by position.
        kwargs: by name.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Change(NamedTuple):
    """A change of sizes, worked out.

    Args:
        blueprint: what it does.
        labels: before it.
        after: behind it.
        tensors: those that change, as they will be.
        values: attributes that change, as they will be.
    """

    blueprint: Blueprint
    labels: Labels
    after: Labels
    tensors: Mapping[str, torch.Tensor]
    values: Mapping[Attribute, int]


def prepared(
    structure: Structure,
    blueprint: Blueprint,
    labels: Labels,
    present: Mapping[str, torch.Tensor],
    arrays: Mapping[str, Array],
    binding: Binding | None,
) -> Change:
    """Work out tensors and attributes.

    Args:
        structure: of the module.
        blueprint: the change.
        labels: before it.
        present: all tensors as they are.
        arrays: all parameters as they will be.
        binding: the module, if its code is to go on running.

    Raises:
        VerificationError: no attributes make the code compute what it should.
    """
    after = label(blueprint.after, memory=blueprint.memory)
    tensors = {key: to_tensor(arrays[key], present[key]) for key in blueprint.arrays}
    tensors.update(_repositioned(blueprint, present))
    values: dict[Attribute, int] = {}
    if binding is not None:
        values = attributes(structure, blueprint.after, after, binding.numbers)
        values = {**declared(binding.shadow(tensors, values)), **values}
    return Change(blueprint, labels, after, tensors, values)


def _repositioned(blueprint: Blueprint, present: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Buffers of positions that are others after the change."""
    found = {}
    for vertex in blueprint.after.vertices:
        now = cast("Mapping[str, object]", vertex.attributes.get("arguments", {}))
        before = blueprint.before.vertex(vertex.name).attributes.get("arguments", {})
        if vertex.attributes.get("rewritten") and now is not before:
            values = (value for value in positions(now) if value.buffer is not None)
            found.update({str(one.buffer): to_tensor(one.array, present[str(one.buffer)]) for one in values})
    return found


def selected(binding: Binding, change: Change) -> tuple[Grads, Memories]:
    """Gradients, and what optimizers remember, of parameters that change, as they will be.

    Raises:
        RequestError: an optimizer remembers something that cannot be followed.
    """
    grads: Grads = {}
    memories = Memories()
    owners = binding.owners
    for key, plan in change.blueprint.arrays.items():
        grad, storage = owners[key].grad, change.labels.parameters[key].storage
        grads[key] = None if grad is None else taken(grad, plan)
        for place, optimizer in binding.followers():
            changed = followed(optimizer, owners[key], plan, storage, change.tensors[key])
            now = remembered(optimizer, owners[key])
            if now is not None:
                memories[place, key] = {**now, **changed}
    return grads, memories


def rehearse(
    structure: Structure,
    change: Change,
    present: Mapping[str, torch.Tensor],
    inputs: Inputs,
    binding: Binding | None,
) -> None:
    """Compare the changed graph with the original without what goes, and the module's code with the changed graph.

    Where weights or inputs are zero, as those of adapters are at first, or next to nothing, as scales of layers are,
    nothing can be seen of what they are multiplied with: then both are compared once more, with other numbers in their
    places.

    Args:
        structure: of the module.
        change: what is to be tried out.
        present: all tensors as they are.
        inputs: example inputs.
        binding: the module, if its code is to go on running.

    Raises:
        VerificationError: something else comes out, or cannot be run.
    """
    trial = _Trial.of(structure, change, binding)
    trial.compare(present, change.tensors, inputs)
    loud, others = _loud(structure, change.blueprint, present), _other(inputs)
    if loud or others is not inputs:
        plans = change.blueprint.arrays
        kept = {key: taken(value, plans[key]) if key in plans else value for key, value in loud.items()}
        trial.compare({**present, **loud}, {**change.tensors, **kept}, others)


def _loud(structure: Structure, blueprint: Blueprint, present: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Other numbers for weights that hide something; shifts do not, and opaque submodules keep what they have."""
    weights = {
        parameter.key
        for vertex in blueprint.before.vertices
        if vertex.attributes.get("operator") != SEALED
        for role, parameter in vertex.parameters.items()
        if role != "bias" and parameter.key not in structure.buffers
    }
    found = {}
    for number, key in enumerate(sorted(weights)):
        tensor = present[key]
        if _hides(tensor, _FAINT):
            scale = max(tensor.numel() // tensor.shape[0], 1) ** -0.5 if tensor.dim() else 1.0
            found[key] = _noise(tensor, number, scale)
    return found


_FAINT = 1e-3  # weights up to this count as next to nothing


def _hides(tensor: torch.Tensor, faint: float) -> bool:
    return bool(tensor.numel()) and tensor.dtype.is_floating_point and bool((tensor.abs() <= faint).all())


def _noise(like: torch.Tensor, seed: int, scale: float) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return to_tensor((torch.randn(like.shape, generator=source) * scale).numpy(), like)


def _other(inputs: Inputs) -> Inputs:
    """The same inputs with other numbers in the place of zeros; the very same if there are no such."""
    leaves, spec = pytree.tree_flatten((inputs.args, dict(inputs.kwargs)))
    quiet = [place for place, one in enumerate(leaves) if isinstance(one, torch.Tensor) and _hides(one, 0.0)]
    if not quiet:
        return inputs
    for place in quiet:
        leaves[place] = _noise(leaves[place], place, 1.0)
    return Inputs(*pytree.tree_unflatten(leaves, spec))


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    """A change that is compared with what was there before it.

    Args:
        structure: of the module.
        change: what is tried out.
        binding: the module, if its code is to go on running.
        before: the operations as they are.
        after: the operations as they will be.
        gone: what the change takes away.
        added: what it adds among other neurons that this has an effect on, if it does.
        kept: which positions of outputs are there before and behind it.
        rounding: how exactly the operations compute.
    """

    structure: Structure
    change: Change
    binding: Binding | None
    before: FxGraph
    after: FxGraph
    gone: Removal
    added: Removal | None
    kept: Mapping[int, verify.Moved]
    rounding: float

    @classmethod
    def of(cls, structure: Structure, change: Change, binding: Binding | None) -> _Trial:
        """Work out what is to be compared."""
        labels, after, blueprint, made = change.labels, change.after, change.blueprint, structure.made
        together = verify.grows_together(labels, blueprint)
        return cls(
            structure,
            change,
            binding,
            before=rewritten(structure.nodes, made, numbers(labels)),
            after=rewritten(structure.nodes, made, numbers(after)),
            gone=verify.removal(blueprint.before, labels, blueprint, made),
            added=verify.addition(labels, blueprint, after, made) if together else None,
            kept=_kept(structure, labels, blueprint),
            rounding=verify.rounding(structure.nodes),
        )

    def compare(self, present: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], inputs: Inputs) -> None:
        """Compare with certain numbers.

        Args:
            present: all tensors before the change.
            tensors: those that change, behind it.
            inputs: example inputs.

        Raises:
            VerificationError: something else comes out, or cannot be run.
        """
        structure, plans = self.structure, self.change.blueprint.arrays
        # What goes is zero, so that nothing is computed from it where no mask reaches: in recurrences, for instance.
        zeroed = {key: without(present[key], plan) for key, plan in plans.items()}
        old = structure.given({**present, **zeroed}, *inputs)
        new = structure.given({**present, **tensors}, *inputs)

        def original(given: Mapping[str, Any]) -> list[Any]:
            return _picked(self._computed(self.before, given, self.gone), self.kept, old=True)

        made = self._computed(self.after, new)
        masked = made if self.added is None else self._computed(self.after, new, self.added)
        _equal(
            verify.compared(original(old), _picked(masked, self.kept, old=False), lambda: original(self._shaken(old))),
            _GOES if any(not mask.all() for masks in self.gone.stays.values() for mask in masks) else _COMES,
        )
        if self.binding is None:
            return
        # What the code writes into is not what will be written into the module.
        own = structure.written | structure.buffers
        copies = {key: tensor.clone() if key in own else tensor for key, tensor in tensors.items()}
        shadow = self.binding.shadow(copies, self.change.values, runs=True, written=own).train(structure.training)
        _equal(
            verify.compared(
                made,
                verify.answered(shadow, *inputs),
                lambda: self._computed(self.after, self._shaken(new)),
            ),
            "the module's code computes something else with the new sizes than its operations do",
            ". If the code was changed since, trace it again; if it draws random numbers, or updates what it "
            "normalises by, do so in eval(); if it makes numbers of sizes in a way that is not followed (loops over "
            "channels), keep these sizes by a limit, fixed(...)",
        )
        self._run_otherwise(shadow, inputs)

    def _run_otherwise(self, shadow: torch.nn.Module, inputs: Inputs) -> None:
        """Whether code that only runs in the other mode, training or evaluation, runs with the new sizes.

        Raises:
            VerificationError: it does not, although it did before.
        """
        structure = self.structure
        training = not structure.training
        try:
            verify.answered(shadow.train(training), *inputs)
        except VerificationError as error:
            assert self.binding is not None, "a module's code is run"
            own = structure.written | structure.buffers
            try:
                verify.answered(self.binding.shadow({}, {}, runs=True, written=own).train(training), *inputs)
            except VerificationError:
                return
            mode, other = ("training", "eval") if training else ("evaluation", "train")
            raise VerificationError(
                f"in {mode} mode, {error}; what runs in {other}() alone was not seen, as the module was traced there"
            ) from error

    def _computed(self, nodes: FxGraph, given: Mapping[str, Any], removal: Removal | None = None) -> list[Any]:
        return verify.computed(nodes, given, self.structure.returned, removal)

    def _shaken(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return verify.shaken(given, self.structure.inputs, self.rounding)


_GOES = "the changed module differs from the original without the neurons that go"
_COMES = (
    "new neurons change what the module computes, as where they are normalised with others or a weight is computed "
    "from all of its entries"
)


def _equal(found: verify.Comparison, what: str, hint: str = "") -> None:
    if not found.equal:
        raise VerificationError(
            f"{what}: by {found.difference:.2g} of the largest output, {found.allowed:.2g} are allowed for rounding; "
            f"nothing was changed{hint}"
        )


def _kept(structure: Structure, labels: Labels, blueprint: Blueprint) -> dict[int, verify.Moved]:
    """Which positions of outputs are there before and behind a change, for those that change."""
    found = {place: verify.moved(labels.tensors[Port(name)], blueprint) for name, place in structure.outputs.items()}
    return {place: axes for place, axes in found.items() if axes}


def _picked(outputs: Sequence[Any], kept: Mapping[int, verify.Moved], *, old: bool) -> list[Any]:
    """What outputs have in common before and behind a change."""
    found = list(outputs)
    for place, axes in kept.items():
        for axis, index in axes:
            places = index[index >= 0] if old else np.flatnonzero(index >= 0)
            found[place] = found[place].index_select(axis, torch.from_numpy(places).to(found[place].device))
    return found
