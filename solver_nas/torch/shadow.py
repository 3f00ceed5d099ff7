"""A second copy of a module that shares its tensors: what is tried out happens there."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from solver_nas.errors import CaptureError
from solver_nas.torch.sizes import Size
from solver_nas.torch.trees import Attribute

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from solver_nas.torch.sizes import Claims


#: What marks the modules of a copy.
SHADOW = "_solver_nas_shadow"


def shadow_of(
    module: torch.nn.Module,
    replaced: Mapping[torch.Tensor, torch.Tensor] | None = None,
    *,
    runs: bool = False,
    written: Collection[torch.Tensor] = (),
) -> torch.nn.Module:
    """A copy of a module with the same tensors, and objects of its own for everything else.

    Args:
        module: stays as it is.
        replaced: tensors that the copy has in the place of others, wherever it holds these.
        runs: whether its code is going to be run, which may write into tensors: all but parameters are copied then.
        written: parameters which the code writes into, so that they are copied, too.

    Raises:
        CaptureError: it holds something that cannot be copied.
    """
    memo: dict[int, Any] = {}
    apart = {id(tensor) for tensor in written}
    for part in module.modules():
        for tensor in held(part):
            shared = isinstance(tensor, torch.nn.Parameter) and id(tensor) not in apart
            if id(tensor) not in memo:
                memo[id(tensor)] = tensor if shared or not runs else _copied(tensor)
    for old, new in (replaced or {}).items():
        memo[id(old)] = new
    try:
        made = copy.deepcopy(module, memo)
    except Exception as error:
        raise CaptureError(
            f"the module holds something that cannot be copied ({type(error).__name__}: {error}); changes are tried "
            f"out on a copy: take it off the module while it is traced"
        ) from error
    for part in made.modules():
        part.__dict__[SHADOW] = True
    return made


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    copied = tensor.detach().clone()
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(copied, tensor.requires_grad)
    return copied.requires_grad_(tensor.requires_grad)


def held(value: Any, depth: int = 3) -> Iterator[torch.Tensor]:
    """The tensors that an object holds in its attributes, lists and dictionaries."""
    if isinstance(value, torch.Tensor):
        yield value
        if value.is_leaf and value.grad is not None:
            yield value.grad
    elif depth:
        if isinstance(value, dict):
            inside = list(value.values())
        elif isinstance(value, list | tuple | set):
            inside = list(value)
        else:
            inside = list(vars(value).values()) if hasattr(value, "__dict__") and not isinstance(value, type) else []
        for one in inside:
            if not isinstance(one, torch.nn.Module):
                yield from held(one, depth - 1)


def whole_numbers(module: torch.nn.Module, *, plain: bool = True) -> dict[Attribute, int]:
    """Every whole number that a module and its parts hold: in attributes, in lists there, in plain objects there.

    An object that several modules share, such as a configuration, counts where it is met first.

    Args:
        module: with its parts.
        plain: only numbers that do not know where they are from.
    """
    found: dict[Attribute, int] = {}
    seen: set[int] = set()
    for name, part in module.named_modules():
        for path, value in _within(part, (), seen, (int,) if plain else (int, Size)):
            found[Attribute(name, path)] = int.__int__(value)
    return found


_DEEP = 3  # steps from a module to a number: model.config.sizes[0]
_HIDDEN = frozenset({"_parameters", "_buffers", "_modules", "training", "call_super_init", SHADOW})


def _within(
    holder: Any, path: tuple[str | int, ...], seen: set[int], kinds: tuple[type, ...]
) -> Iterator[tuple[tuple[str | int, ...], int]]:
    for step, value in _items(holder):
        here = (*path, step)
        if type(value) in kinds:
            yield here, value
        elif len(here) < _DEEP and _opens(value) and id(value) not in seen:
            if type(value) is not tuple:
                # Tuples are replaced as a whole, so that each holder has its own numbers.
                seen.add(id(value))
            yield from _within(value, here, seen, kinds)


def _items(holder: Any) -> list[tuple[str | int, Any]]:
    if isinstance(holder, tuple | list):
        return list(enumerate(holder))
    hidden = _HIDDEN if isinstance(holder, torch.nn.Module) else frozenset()
    return [(name, value) for name, value in vars(holder).items() if name not in hidden and not _hook(name)]


def _hook(name: str) -> bool:
    return name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called")) or name.startswith("_forward_")


_LONGEST = 64  # numbers in a list of sizes; longer ones are data


def _opens(value: Any) -> bool:
    """Whether numbers inside of an object may be sizes."""
    if type(value) in (tuple, list):
        return len(value) <= _LONGEST and all(type(one) in (int, Size) for one in value)
    foreign = isinstance(value, torch.nn.Module | torch.Tensor | type) or callable(value)
    return hasattr(value, "__dict__") and not foreign and not type(value).__module__.startswith(("torch.", "builtins"))


def look_up(module: torch.nn.Module, attribute: Attribute) -> int:
    """The number that an attribute holds now.

    Raises:
        AttributeError: it is not there any more.
    """
    value: Any = module.get_submodule(attribute.module)
    for step in attribute.path:
        value = value[step] if isinstance(step, int) else getattr(value, step)
    return int(value)


def mark(module: torch.nn.Module, claims: Claims) -> None:
    """Replace every whole number of a shadow by one that knows where it is from."""
    known = {attribute: Size(value, attribute, claims) for attribute, value in whole_numbers(module).items()}
    write(module, known)


def write(module: torch.nn.Module, values: Mapping[Attribute, int]) -> None:
    """Set attributes; what is inside of a tuple gets a new tuple."""
    for attribute, value in values.items():
        _set(module.get_submodule(attribute.module), attribute.path, value)


def inside_objects(module: torch.nn.Module, attribute: Attribute) -> bool:
    """Whether a number is held by an object that a module holds, such as a configuration, or by a list."""
    step, *rest = attribute.path
    return bool(rest) and not isinstance(getattr(module.get_submodule(attribute.module), str(step)), tuple)


def renewed(
    module: torch.nn.Module, values: Mapping[Attribute, int]
) -> list[tuple[torch.nn.Module, str, object, object]]:
    """Objects with other numbers in the place of those that modules hold.

    These may belong to other modules, too, as configurations do: they are copied, and stay as they are.

    Args:
        module: stays as it is.
        values: numbers that are held by such objects.

    Returns:
        Part of the module, attribute, the copy, what it holds now.
    """
    changing = {id(_holder(module.get_submodule(one.module), one.path)) for one in values}
    memo: dict[int, Any] = {}
    for part in module.modules():
        memo |= {id(one): one for one in (part, *held(part))}
    found: list[tuple[torch.nn.Module, str, object, object]] = []
    copies: dict[tuple[int, str], object] = {}
    for part in module.modules():
        for name, value in _items(part):
            if changing & set(_objects(value)):
                copies[id(part), str(name)] = new = copy.deepcopy(value, memo)
                found.append((part, str(name), new, value))
    for attribute, number in values.items():
        step, *rest = attribute.path
        _set(copies[id(module.get_submodule(attribute.module)), str(step)], tuple(rest), number)
    return found


def _holder(value: Any, path: Sequence[str | int]) -> Any:
    """The object that holds the last step of a path; of a number in a tuple, that which holds the tuple."""
    for step in path[:-1]:
        inner = value[step] if isinstance(step, int) else getattr(value, step)
        if isinstance(inner, tuple):
            break
        value = inner
    return value


def _objects(value: Any, depth: int = 3) -> Iterator[int]:
    """Objects in which numbers may be, by identity."""
    if depth and _opens(value):
        yield id(value)
        for _, inner in _items(value):
            yield from _objects(inner, depth - 1)


def _set(holder: Any, path: tuple[str | int, ...], value: Any) -> None:
    step, *rest = path
    if rest:
        inner = holder[step] if isinstance(step, int) else getattr(holder, step)
        if isinstance(inner, tuple):
            (place,) = rest  # tuples of numbers are not nested
            assert isinstance(place, int), "positions of a tuple are numbers"
            items = list(inner)
            items[place] = value
            made: object = torch.Size(items) if isinstance(inner, torch.Size) else tuple(items)
            _put(holder, step, made)
        else:
            _set(inner, tuple(rest), value)
    else:
        _put(holder, step, value)


def _put(holder: Any, step: str | int, value: Any) -> None:
    if isinstance(step, int):
        holder[step] = value
    else:
        holder.__dict__[step] = value
