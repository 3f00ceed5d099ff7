"""Submodules that are not looked into: their code runs as a single operation that nobody knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from solver_nas.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: What stands for such a submodule in a captured graph.
SEALED = "solver_nas::sealed"


class _Sealed:
    """The submodules that stand behind the operation, by number."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[Callable[..., Any], list[torch.Tensor]]] = {}


_SEALED = _Sealed()


def seal(module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], paths: Sequence[str]) -> None:
    """Let some submodules of a shadow run as a single operation.

    The module is run once, to see what shapes these return.

    Raises:
        RequestError: there is no such submodule.
    """
    if not paths:
        return
    parts = dict(module.named_modules())
    for path in paths:
        if path not in parts or not path:
            raise RequestError(f"there is no submodule {path!r} to be opaque")
    returned: dict[str, Any] = {}
    hooks = [
        parts[path].register_forward_hook(lambda _, __, output, path=path: returned.__setitem__(path, output))
        for path in paths
    ]
    with torch.no_grad():
        module(*args, **kwargs)
    for hook in hooks:
        hook.remove()
    for path in paths:
        if path in returned:
            _seal(parts[path], returned[path])


def _seal(part: torch.nn.Module, returned: Any) -> None:
    number, forward = len(_SEALED.known), part.forward
    leaves, spec = pytree.tree_flatten(returned)
    shapes = [leaf.detach() for leaf in leaves if isinstance(leaf, torch.Tensor)]

    def sealed(*args: Any, **kwargs: Any) -> Any:
        given, inside = pytree.tree_flatten((args, kwargs))
        tensors = [one for one in given if isinstance(one, torch.Tensor)]

        def run(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
            replaced = iter(tensors)
            again = [next(replaced) if isinstance(one, torch.Tensor) else one for one in given]
            inner_args, inner_kwargs = pytree.tree_unflatten(again, inside)
            found = pytree.tree_leaves(forward(*inner_args, **inner_kwargs))
            return [one.clone() for one in found if isinstance(one, torch.Tensor)]

        _SEALED.known[number] = (run, shapes)
        made = iter(torch.ops.solver_nas.sealed(tensors, number))
        return pytree.tree_unflatten([next(made) if isinstance(one, torch.Tensor) else one for one in leaves], spec)

    _SEALED.known[number] = (lambda _: [], shapes)
    part.forward = sealed


@torch.library.custom_op(SEALED, mutates_args=())
def _sealed(tensors: list[torch.Tensor], number: int) -> list[torch.Tensor]:
    run, _ = _SEALED.known[number]
    return list(run(tensors))


@_sealed.register_fake
def _fake(tensors: list[torch.Tensor], number: int) -> list[torch.Tensor]:  # noqa: ARG001 - shapes are known beforehand
    _, shapes = _SEALED.known[number]
    return [torch.empty_like(one, device=one.device) for one in shapes]
