"""A traced module as it lives: its tensors, attributes and optimizers, read and written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

import torch

from solver_nas.errors import GraphError
from solver_nas.torch.shadow import shadow_of, whole_numbers, write
from solver_nas.torch.writing import Writing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from solver_nas.torch.structure import Structure
    from solver_nas.torch.trees import Attribute

Grads = dict[str, torch.Tensor | None]


class Memories(dict[tuple[int, str], "dict[str, Any] | None"]):
    """What optimizers remember: which optimizer, which parameter -> all about it; `None` for nothing."""


class Contents(NamedTuple):
    """Everything that a change writes.

    Args:
        tensors: parameters and buffers by key.
        values: attributes that differ from what they were when the module was traced.
        grads: gradients, by key, of tensors that other contents have other ones of.
        memories: likewise, what optimizers remember.
    """

    tensors: Mapping[str, torch.Tensor]
    values: Mapping[Attribute, int]
    grads: Grads
    memories: Memories


@dataclass(slots=True, eq=False)
class Binding:
    """A module and who follows it.

    Args:
        module: the user's object.
        keys: path of every parameter and buffer -> the first path of the same tensor.
        original: all attributes as they were when it was traced.
        optimizers: whose memories follow, as long as something else holds them; each keeps its place.
    """

    module: torch.nn.Module
    keys: Mapping[str, str]
    original: Mapping[Attribute, int]
    optimizers: list[ref[torch.optim.Optimizer]] = field(default_factory=list)

    @property
    def owners(self) -> dict[str, torch.Tensor]:
        """The parameters and buffers themselves, by path, each once."""
        return unique(self.module, self.keys)

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """What they hold."""
        return {path: tensor.detach() for path, tensor in self.owners.items()}

    @property
    def numbers(self) -> dict[Attribute, int]:
        """All attributes that are whole numbers."""
        return whole_numbers(self.module)

    def refreshed(self, known: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
        """What the tensors hold now, where something else was put into them since; `None` if nothing was.

        Raises:
            GraphError: some have come, gone, or are of another size or on another device.
        """
        live = self.tensors
        for key, tensor in known.items():
            now = live.get(key)
            if now is None or now.shape != tensor.shape:
                found = "is gone" if now is None else f"has shape {tuple(now.shape)} instead of {tuple(tensor.shape)}"
                raise GraphError(f"parameter {key!r} {found}: {_STALE}")
            if (now.device, now.dtype) != (tensor.device, tensor.dtype):
                raise GraphError(f"parameter {key!r} is {now.dtype} on {now.device} now: {_STALE}")
        if live.keys() != known.keys():
            raise GraphError(f"there is {min(live.keys() - known.keys())!r} now: {_STALE}")
        return live if any(now.data_ptr() != known[key].data_ptr() for key, now in live.items()) else None

    def check(self, read: Iterable[Attribute], values: Mapping[Attribute, int]) -> None:
        """Whether attributes are what they were when the module was traced, but for what changes have made of them.

        Args:
            read: those from which the code reads sizes.
            values: those that changes have changed.

        Raises:
            GraphError: one of them is not.
        """
        now = self.numbers
        for attribute in read:
            expected = values.get(attribute, self.original.get(attribute))
            if now.get(attribute) != expected:
                raise GraphError(f"{attribute} is {now.get(attribute)} instead of {expected}: {_STALE}")

    def shadow(
        self,
        new: Mapping[str, torch.Tensor],
        values: Mapping[Attribute, int],
        *,
        runs: bool = False,
        written: Collection[str] = (),
    ) -> torch.nn.Module:
        """A copy of the module with other tensors and attributes.

        Args:
            new: tensors by key, for those that differ.
            values: attributes, for those that differ.
            runs: whether it is going to be run, so that it has to have buffers of its own.
            written: parameters, by key, which its code writes into.
        """
        replaced = {}
        for key, owner in self.owners.items():
            if key in new:
                learned = isinstance(owner, torch.nn.Parameter)
                replaced[owner] = torch.nn.Parameter(new[key], owner.requires_grad) if learned else new[key]
        own = [owner for key, owner in self.owners.items() if key in written and key not in new]
        made = shadow_of(self.module, replaced, runs=runs, written=own)
        write(made, values)
        return made

    def followers(self) -> list[tuple[int, torch.optim.Optimizer]]:
        """The optimizers that are still there, with their places."""
        known = ((place, one()) for place, one in enumerate(self.optimizers))
        return [(place, optimizer) for place, optimizer in known if optimizer is not None]

    def companions(self, keys: Iterable[str]) -> tuple[Grads, Memories]:
        """Gradients, and what optimizers remember, of some parameters."""
        owners, keys = self.owners, list(keys)
        memories = Memories()
        for place, optimizer in self.followers():
            for key in keys:
                memories[place, key] = remembered(optimizer, owners[key])
        return {key: owners[key].grad for key in keys}, memories

    def writing(self, contents: Contents, present: Mapping[Attribute, int]) -> Writing:
        """All steps from what the module holds to other contents.

        Args:
            contents: what it is to hold.
            present: attributes that the present contents have changed since it was traced.
        """
        writing, owners = Writing(), self.owners
        changing = {
            key for key, new in contents.tensors.items() if owners[key].shape != new.shape or _apart(owners[key], new)
        }
        for key in sorted(changing):
            writing.tensor(owners[key], contents.tensors[key], contents.grads.get(key))
        now = self.numbers
        wanted = {**{attribute: self.original[attribute] for attribute in present}, **contents.values}
        new = {attribute: value for attribute, value in wanted.items() if now.get(attribute) != value}
        writing.attributes(self.module, new, now)
        for place, optimizer in self.followers():
            for key in sorted(changing):
                if (place, key) in contents.memories:
                    writing.entry(optimizer.state, owners[key], contents.memories[place, key])
        return writing


_STALE = "the module has changed since it was traced; trace it again"


def remembered(optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> dict[str, Any] | None:
    """All that an optimizer remembers about a parameter; `None` for nothing."""
    found = optimizer.state.get(parameter)
    return None if found is None else dict(found)


def copied(remembers: dict[str, Any] | None) -> dict[str, Any] | None:
    """The same with tensors of its own, so that training does not reach it."""
    if remembers is None:
        return None
    return {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in remembers.items()}


def _apart(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors of one shape are in different places in memory."""
    return one.data_ptr() != other.data_ptr()


def held(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All parameters and buffers by path; what is shared has several."""
    buffers = dict(module.named_buffers(remove_duplicate=False))
    return {**buffers, **dict(module.named_parameters(remove_duplicate=False))}


def unique(module: torch.nn.Module, keys: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """All parameters and buffers, each once."""
    return {path: tensor for path, tensor in held(module).items() if keys.get(path, path) == path}


def bound(module: torch.nn.Module, structure: Structure) -> Binding:
    """A module that was traced just now."""
    return Binding(module, structure.keys, whole_numbers(module))
