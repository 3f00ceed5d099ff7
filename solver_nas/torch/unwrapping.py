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
        if tensor.is_inference():
            raise CaptureError(
                f"{name!r} was made in inference mode and cannot be changed: make the module outside of "
                f"torch.inference_mode()"
            )
        if tensor.is_quantized or tensor.layout is not torch.strided:
            raise CaptureError(f"{name!r} is quantised or sparse: change the module before it is converted")


def outside(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """The parameters that a module outside of this one holds as well: path -> what that module is.

    Args:
        module: the module.
        tensors: its parameters.
    """
    own = {id(part) for part in module.modules()}
    by_id = {id(tensor): path for path, tensor in tensors.items()}
    found = {}
    for other in gc.get_objects():
        # Not isinstance, which asks some objects for more than their type.
        if issubclass(type(other), torch.nn.Module) and id(other) not in own and SHADOW not in vars(other):
            held = [*vars(other).get("_parameters", {}).values(), *vars(other).get("_buffers", {}).values()]
            found.update({by_id[id(one)]: type(other).__name__ for one in held if id(one) in by_id})
    return found
