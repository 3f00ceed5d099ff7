"""The module inside of what wraps it, and modules that cannot be changed, each with what to do about it."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parameter import is_lazy

from solver_nas.errors import CaptureError, RequestError
from solver_nas.torch.shadow import SHADOW

if TYPE_CHECKING:
    from collections.abc import Mapping

_DISTRIBUTED = "trace the module inside, change it, and wrap it again behind the change"
#: Wrappers by the names of their classes, since not every build of PyTorch has them all.
_REFUSED = {
    "DistributedDataParallel": f"its buckets of gradients have fixed sizes: {_DISTRIBUTED} (module.module)",
    "FullyShardedDataParallel": f"its parameters are spread over processes: {_DISTRIBUTED}",
    "FSDPModule": f"its parameters are spread over processes: {_DISTRIBUTED}",
    "ScriptModule": "its code is compiled: trace the module that it was made from",
    "RecursiveScriptModule": "its code is compiled: trace the module that it was made from",
    "TopLevelTracedModule": "its code is compiled: trace the module that it was made from",
}


def unwrapped(module: Any) -> torch.nn.Module:
    """A module without compilers and data parallelism around it.

    Raises:
        CaptureError: it is wrapped in something that cannot be taken off here, or holds tensors of another kind.
        RequestError: it is no module.
    """
    while True:
        if not isinstance(module, torch.nn.Module):
            raise RequestError(f"expected a torch.nn.Module, got {type(module).__name__}")
        names = {kind.__name__ for kind in type(module).__mro__}
        for name, why in _REFUSED.items():
            if name in names:
                raise CaptureError(f"{name} cannot be traced: {why}")
        if "OptimizedModule" in names:
            module = module._orig_mod  # noqa: SLF001 - what torch.compile calls it
        elif "DataParallel" in names:
            module = module.module
        else:
            break
    _check(module)
    return module


def _check(module: torch.nn.Module) -> None:
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if is_lazy(tensor):
            raise CaptureError(f"{name!r} has no size yet: call the module once with the example inputs first")
        if type(tensor) not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer):
            raise CaptureError(
                f"{name!r} is a {type(tensor).__name__}, of which nobody knows how neurons are taken out; "
                f"turn it into a plain tensor first"
            )
        if tensor.is_meta:
            raise CaptureError(f"{name!r} is on the meta device and has no numbers: load the weights first")
        if tensor.is_inference():
            raise CaptureError(
                f"{name!r} was made in inference mode and cannot be changed: make the module outside of "
                f"torch.inference_mode()"
            )
        if tensor.is_quantized or tensor.layout is not torch.strided:
            raise CaptureError(f"{name!r} is quantised or sparse: change the module before it is converted")


def outside(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """The parameters that something else holds as well: path -> what that is, and what to do about it.

    Args:
        module: the module.
        tensors: its parameters and buffers.
    """
    own = {id(part) for part in module.modules()}
    by_id = {id(tensor): path for path, tensor in tensors.items()}
    found = _overlapping(tensors)
    for other in gc.get_objects():
        # Not isinstance, which asks some objects for more than their type.
        if issubclass(type(other), torch.nn.Module) and id(other) not in own and SHADOW not in vars(other):
            held = [*vars(other).get("_parameters", {}).values(), *vars(other).get("_buffers", {}).values()]
            why = (
                f"is shared with a {type(other).__name__} outside of the module, which would be left with a size that "
                f"it does not expect; trace a module that holds both"
            )
            found.update({by_id[id(one)]: why for one in held if id(one) in by_id})
    return found


def _overlapping(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Tensors that are views of others' memory, which new ones would not be."""
    by_memory: dict[int, list[str]] = {}
    for path, tensor in tensors.items():
        if tensor.numel():
            by_memory.setdefault(tensor.untyped_storage().data_ptr(), []).append(path)
    found = {}
    for paths in by_memory.values():
        places = [_extent(tensors[path]) for path in paths]
        for path, (start, end) in zip(paths, places, strict=True):
            mates = (
                m for m, (first, last) in zip(paths, places, strict=True) if m != path and first < end and start < last
            )
            if mate := next(mates, None):
                found[path] = (
                    f"has the same memory as {mate!r}, and would not have it any more; make them one parameter object, "
                    f"or give each its own memory (clone)"
                )
    return found


def _extent(tensor: torch.Tensor) -> tuple[int, int]:
    """From which to before which byte of its memory a tensor reaches."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()
