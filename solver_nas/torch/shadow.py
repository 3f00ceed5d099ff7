"""A second copy of a module that shares its tensors: what is tried out happens there."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from solver_nas.errors import CaptureError
from solver_nas.torch.sizes import Attribute, Size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from solver_nas.torch.sizes import Claims


#: What marks the modules of a copy.
SHADOW = "_solver_nas_shadow"


def shadow_of(module: torch.nn.Module, replaced: Mapping[torch.Tensor, torch.Tensor] | None = None) -> torch.nn.Module:
    """A copy of a module with the same tensors, and objects of its own for everything else.

    Args:
        module: stays as it is.
        replaced: tensors that the copy has in the place of others, wherever it holds these.

    Raises:
        CaptureError: it holds something that cannot be copied.
    """
    memo: dict[int, Any] = {}
    for part in module.modules():
        for tensor in held(part):
            memo[id(tensor)] = tensor
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
            found[Attribute(name, path)] = int(value)
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
