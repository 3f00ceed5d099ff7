"""Samples of the caller's as what a captured module takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from solver_nas.errors import CalibrationError
from solver_nas.passage import Batch, rows_of

if TYPE_CHECKING:
    from solver_nas.torch.rehearsal import Inputs
    from solver_nas.torch.structure import Structure


class Feeding:
    """What a captured module takes: as many samples at once as it was traced with, of the same shapes."""

    def __init__(self, structure: Structure, example: Inputs) -> None:
        """Look at the example inputs."""
        self._names, self._example = structure.inputs, example
        leaves = pytree.tree_leaves((tuple(example.args), dict(example.kwargs)))
        self._leaves = dict(zip(structure.inputs, leaves, strict=True))
        tensors = {name: leaf for name, leaf in self._leaves.items() if isinstance(leaf, torch.Tensor)}
        #: How many samples; 0 if the inputs do not have equally many, so that a batch is what one call takes.
        self.rows = rows_of(tensors)

    def batch(self, given: object) -> Batch:
        """One batch, of any number of samples.

        Args:
            given: a tensor; a tuple of what the module takes by position, behind which a target may stand; or a
                mapping for what it takes by name. What is no tensor may be left out.

        Raises:
            CalibrationError: something that the module does not take.
        """
        args, kwargs, target = self._split(given)
        leaves = pytree.tree_leaves((args, kwargs))
        if len(leaves) != len(self._names):
            raise CalibrationError(
                f"the module was traced with {len(self._names)} inputs, a batch has {len(leaves)}; give what it takes "
                f"by position as a tuple, by name as a mapping"
            )
        inputs = {name: self._fitting(name, leaf) for name, leaf in zip(self._names, leaves, strict=True)}
        tensors = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        rows = rows_of(tensors)
        if self.rows and not rows:
            shapes = {name: tuple(value.shape) for name, value in tensors.items()}
            raise CalibrationError(f"a batch has equally many samples for all inputs, along a first axis; got {shapes}")
        if self.rows and target is not None:
            target = torch.as_tensor(target)
        return Batch(inputs, rows if self.rows else 0, target)

    def _split(self, given: object) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
        """What is given by position, what by name, and the target."""
        args, kwargs = tuple(self._example.args), dict(self._example.kwargs)
        if isinstance(given, Mapping):
            unknown = [name for name in given if name not in kwargs]
            missing = [name for name, value in kwargs.items() if name not in given and _has_tensors(value)]
            if unknown or missing or _has_tensors(args):
                raise CalibrationError(
                    f"the module was traced with the inputs {list(kwargs)} by name and {len(args)} by position; a "
                    f"batch has {list(given)}"
                )
            return args, {**kwargs, **given}, None
        entries = tuple(given) if isinstance(given, tuple | list) else (given,)
        count = sum(map(_has_tensors, args)) or len(args)
        if _has_tensors(kwargs):
            raise CalibrationError(
                f"the module was traced with the inputs {list(kwargs)} by name: a batch is a mapping, got "
                f"{type(given).__name__}"
            )
        if len(entries) not in (count, count + 1):
            raise CalibrationError(
                f"the module was traced with {count} inputs by position, and a target may come behind them; a batch "
                f"has {len(entries)} entries"
            )
        return (*entries[:count], *args[count:]), kwargs, entries[count] if len(entries) > count else None

    def _fitting(self, name: str, value: Any) -> Any:
        """A value of the type of the example's."""
        example = self._leaves[name]
        if not isinstance(example, torch.Tensor):
            return example
        try:
            tensor = torch.as_tensor(value).detach()
        except (TypeError, ValueError, RuntimeError) as error:
            raise CalibrationError(f"input {name!r} is a tensor, got {type(value).__name__}") from error
        begin = 1 if self.rows else 0
        if tensor.dim() != example.dim() or tensor.shape[begin:] != example.shape[begin:]:
            raise CalibrationError(
                f"input {name!r} was traced with the shape {tuple(example.shape)}, a batch has {tuple(tensor.shape)}; "
                f"all but the first number have to be the same: trace the module with such inputs, or pad them"
            )
        if tensor.is_floating_point() != example.is_floating_point():
            raise CalibrationError(f"input {name!r} holds {example.dtype}, a batch has {tensor.dtype}")
        return tensor.to(dtype=example.dtype, device=example.device)


def _has_tensors(value: object) -> bool:
    return any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(value))
