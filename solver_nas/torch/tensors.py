"""Tensors of PyTorch as arrays, and back."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING

import torch

from solver_nas.errors import RequestError
from solver_nas.weights import kept

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from solver_nas.frontend import Array
    from solver_nas.plan import ArrayPlan


def to_array(tensor: torch.Tensor) -> Array:
    """A tensor as a read-only array, of the same memory if that can be; single precision where NumPy lacks its type."""
    plain = tensor.detach().resolve_conj().resolve_neg().cpu()
    if plain.dtype is torch.bfloat16 or (plain.dtype.itemsize == 1 and plain.dtype.is_floating_point):
        plain = plain.float()
    array: Array = plain.numpy()
    array.flags.writeable = False
    return array


def to_tensor(array: Array, like: torch.Tensor) -> torch.Tensor:
    """An array as a tensor with the type, the device and the order of axes in memory of another one."""
    return laid_out(torch.tensor(array).to(dtype=like.dtype, device=like.device), like)


def laid_out(found: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A tensor with the order of axes in memory of another one."""
    if like.dim() == _IMAGES and like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous():
        return found.contiguous(memory_format=torch.channels_last)
    return found


def even(tensor: torch.Tensor) -> bool:
    """Whether all entries of a tensor are equal."""
    flat = tensor.detach().reshape(-1)
    return bool(flat.numel()) and not flat.is_meta and bool((flat == flat[0]).all())


def without(tensor: torch.Tensor, plan: ArrayPlan) -> torch.Tensor:
    """A parameter with zeros where a plan drops something."""
    mask = torch.from_numpy(kept(plan.view, plan.picks).reshape(tensor.shape)).to(tensor.device)
    return torch.where(mask, tensor.detach(), torch.zeros((), dtype=tensor.dtype, device=tensor.device))


_IMAGES = 4  # axes of what can have its channels last in memory


class Arrays(MutableMapping[str, "Array"]):
    """Tensors by key, seen as arrays: each becomes one when it is asked for."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """See these tensors."""
        self.tensors = dict(tensors)

    def __getitem__(self, key: str) -> Array:
        """One of them; what has been written into it since is seen."""
        return to_array(self.tensors[key])

    def __setitem__(self, key: str, array: Array) -> None:
        """Write other numbers into a tensor.

        Raises:
            RequestError: the array has another shape.
        """
        tensor = self.tensors[key]
        if tuple(array.shape) != tuple(tensor.shape):
            raise RequestError(f"parameter {key!r} has shape {tuple(tensor.shape)}, the array {tuple(array.shape)}")
        with torch.no_grad():
            tensor.copy_(to_tensor(array, tensor))

    def __delitem__(self, key: str) -> None:
        """Parameters do not go.

        Raises:
            RequestError: always.
        """
        raise RequestError(f"parameter {key!r} belongs to the module")

    def __iter__(self) -> Iterator[str]:
        """All keys."""
        return iter(self.tensors)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.tensors)
