"""What an optimizer remembers about parameters, selected with the same indices as these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from solver_nas.errors import RequestError
from solver_nas.torch.shadow import held
from solver_nas.torch.tensors import to_array, to_tensor
from solver_nas.weights import take

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.plan import ArrayPlan

#: What factored second moments are called that lack one axis of their parameter (in PyTorch's Adafactor, it is of size
#: one), and which one, from the end.
_LACKING = {"exp_avg_sq_row": 1, "exp_avg_sq_col": 2, "row_var": 1, "col_var": 2}

Storage = tuple[tuple[int, ...], ...]


def inner(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer of PyTorch inside of what other libraries wrap around it.

    Raises:
        RequestError: there is none.
    """
    found, depth = optimizer, 0
    while not isinstance(found, torch.optim.Optimizer) and depth < _WRAPPED:
        found, depth = getattr(found, "optimizer", None), depth + 1
    if not isinstance(found, torch.optim.Optimizer):
        raise RequestError(f"expected an optimizer of torch.optim, got {optimizer!r}")
    return found


_WRAPPED = 3  # layers of wrapping that are looked through


def followed(
    optimizer: torch.optim.Optimizer, parameter: torch.Tensor, plan: ArrayPlan, storage: Storage, new: torch.Tensor
) -> dict[str, torch.Tensor]:
    """What an optimizer will remember about a parameter that changes: of new entries, what it starts with.

    That is zero, but for the step sizes of Rprop and the averages of ASGD.

    Args:
        optimizer: not changed.
        parameter: as it is before the change.
        plan: what becomes of it.
        storage: for every axis of the parameter, the axes of the plan's view that it is made of.
        new: as it will be.

    Returns:
        The entries of its state that change.

    Raises:
        RequestError: it remembers something of another shape, which cannot be followed.
    """
    found = {}
    if isinstance(optimizer, torch.optim.LBFGS) and optimizer.state:
        # It remembers directions in the space of all parameters together, beside the first of them.
        raise RequestError(_refused("LBFGS remembers directions of all parameters together"))
    for name, value in optimizer.state.get(parameter, {}).items():
        if isinstance(value, list | tuple | dict) and next(held(value), None) is not None:
            kind = type(optimizer).__name__
            raise RequestError(_refused(f"{kind} remembers several tensors about a parameter in a container, {name!r}"))
        lone = isinstance(value, torch.Tensor) and value.numel() == 1 < parameter.numel() and name not in _LACKING
        if not isinstance(value, torch.Tensor) or value.dim() == 0 or lone:
            continue
        gone = _lacking(name, tuple(value.shape), tuple(parameter.shape))
        made = None if gone is None else _selected(value, plan, storage, gone)
        if made is None:
            raise RequestError(
                _refused(
                    f"{type(optimizer).__name__} remembers {name!r} of shape {tuple(value.shape)} about a parameter of "
                    f"shape {tuple(parameter.shape)}"
                )
            )
        start = _start(optimizer, name, parameter, new)
        if start is not None:
            made = torch.where(taken(torch.ones_like(parameter), plan) > 0, made, start.to(made.dtype))
        found[name] = made
    return found


def _start(
    optimizer: torch.optim.Optimizer, name: str, parameter: torch.Tensor, new: torch.Tensor
) -> torch.Tensor | None:
    """What an optimizer remembers at first about the entries of a parameter; `None` for zeros."""
    if isinstance(optimizer, torch.optim.ASGD) and name == "ax":
        return new
    if isinstance(optimizer, torch.optim.Rprop) and name == "step_size":
        groups = optimizer.param_groups
        rate = next(group["lr"] for group in groups if any(one is parameter for one in group["params"]))
        return torch.full_like(new, float(rate))
    return None


def _refused(what: str) -> str:
    return (
        f"{what}, which cannot be followed: clear its state (optimizer.state.clear()), or make a new optimizer behind "
        f"the change"
    )


def taken(tensor: torch.Tensor, plan: ArrayPlan) -> torch.Tensor:
    """The same selection from a tensor of a parameter's shape, with zeros for new entries.

    Raises:
        RequestError: it is sparse, as gradients may be.
    """
    if tensor.layout is not torch.strided:
        raise RequestError(
            "gradients that are sparse cannot be followed: take them off before the change (optimizer.zero_grad())"
        )
    return to_tensor(take(to_array(tensor).reshape(plan.view), plan.picks).reshape(plan.shape), tensor)


def _lacking(name: str, shape: tuple[int, ...], full: tuple[int, ...]) -> tuple[int, ...] | None:
    """The axes of a parameter over which something about it was added up; `None` if it has another shape."""
    if name in _LACKING and len(shape) == len(full) >= _LACKING[name]:
        place = len(full) - _LACKING[name]
        return (place,) if shape == (*full[:place], 1, *full[place + 1 :]) else None
    if shape == full:
        return ()
    if len(shape) == len(full):
        gone = tuple(axis for axis, (mine, theirs) in enumerate(zip(shape, full, strict=True)) if mine != theirs)
        return gone if all(shape[axis] == 1 for axis in gone) else None
    if len(shape) == len(full) - 1:
        fitting = [axis for axis in range(len(full)) if (*full[:axis], *full[axis + 1 :]) == shape]
        known = [len(full) - _LACKING[name]] if name in _LACKING else fitting
        return (known[0],) if len(known) == 1 and known[0] in fitting else None
    return None


def _selected(value: torch.Tensor, plan: ArrayPlan, storage: Storage, gone: Sequence[int]) -> torch.Tensor | None:
    """The same selection as of the parameter, without the axes that are gone."""
    lost = {axis for place in gone for axis in storage[place]}
    picks = [pick for pick in plan.picks if pick.axis not in lost]
    if any(set(pick.outer) & lost for pick in picks):
        return None
    view = tuple(1 if axis in lost else size for axis, size in enumerate(plan.view))
    keeps_axes = value.dim() == len(storage)
    shape = tuple(1 if axis in gone else size for axis, size in enumerate(plan.shape))
    array = take(to_array(value).reshape(view), picks).reshape(shape)
    if not keeps_axes:
        array = array.squeeze(tuple(gone))
    return to_tensor(array, value)
