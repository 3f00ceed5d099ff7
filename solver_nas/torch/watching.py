"""Watching a module compute: which numbers its code hands to which operation, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import traceback
from torch.overrides import TorchFunctionMode

from solver_nas.torch.sizes import Claims, Size, plain
from solver_nas.torch.trees import Axis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from solver_nas.torch.trees import Tree

#: The key of a call's number in the annotations of the nodes that it makes.
CALL = "solver_nas.call"


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number that was an argument.

    Args:
        value: the number.
        tree: how it was computed; `None` for one that is written down, or whose origin was lost.
    """

    value: int
    tree: Tree | None


@dataclass(slots=True)
class Record:
    """What was seen.

    Args:
        calls: the whole numbers among the arguments of each call, in order.
        made: which call made which tensor: the tensor's number -> the call's, which of its results it is.
        given: numbers of tensors that were there before: -> what they are called.
        shapes: of all tensors that were seen, by number.
        claims: what the code has compared.
    """

    calls: dict[int, tuple[Number, ...]] = field(default_factory=dict)
    made: dict[int, tuple[int, int]] = field(default_factory=dict)
    given: dict[int, str] = field(default_factory=dict)
    shapes: dict[int, tuple[int, ...]] = field(default_factory=dict)
    claims: Claims = field(default_factory=Claims)


class Watch(TorchFunctionMode):
    """Sees every operation of PyTorch that Python code calls.

    Shapes that the code asks for are made of numbers that know which tensor they are from.
    """

    def __init__(self, record: Record) -> None:
        """Write down what is seen."""
        super().__init__()
        self.record = record
        self._numbers: dict[int, int] = {}
        self._alive: list[torch.Tensor] = []  # what is numbered by its identity has to stay
        self._count = 0

    def know(self, tensor: torch.Tensor, name: str) -> None:
        """Give a name to a tensor that is there already."""
        self.record.given[self._number(tensor)] = name

    def _number(self, tensor: torch.Tensor) -> int:
        number = self._numbers.get(id(tensor))
        if number is None:
            number = self._numbers[id(tensor)] = len(self._alive)
            self._alive.append(tensor)
            with torch._C.DisableTorchFunction():  # noqa: SLF001 - as PyTorch's own modes do it
                self.record.shapes[number] = tuple(int(size) for size in tensor.shape)
        return number

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Carry a call out and write down what it was given."""
        kwargs = kwargs or {}
        sized = self._sized(func, args, kwargs)
        if sized is not None:
            return sized
        opened = _opened(func)
        if opened is not None:
            # Written in Python: what it calls is seen, too.
            with self:
                return opened(*args, **kwargs)
        if func is torch.Tensor.__getitem__ and len(args) == _INDEXED and isinstance(args[0], torch.Tensor):
            self._whole(args[0], args[1])
        self._count += 1
        call = self._count
        numbers = tuple(_numbers(args)) + tuple(_numbers(tuple(kwargs.values())))
        if numbers:
            self.record.calls[call] = numbers
        with traceback.annotate({CALL: call}):
            result = func(*_plain(args), **_plain(kwargs))
        for place, tensor in enumerate(_tensors(result)):
            if id(tensor) not in self._numbers:
                self.record.made[self._number(tensor)] = (call, place)
        return result

    def _whole(self, tensor: torch.Tensor, index: Any) -> None:
        """A slice that ends where the tensor does is no operation at all, but what it ends with has to follow."""
        number = self._number(tensor)
        shape = self.record.shapes[number]
        parts = index if isinstance(index, tuple) else (index,)
        if Ellipsis in [part for part in parts if part is Ellipsis]:
            place = next(place for place, part in enumerate(parts) if part is Ellipsis)
            shown = sum(part is not None for part in parts) - 1
            parts = (*parts[:place], *[slice(None)] * (len(shape) - shown), *parts[place + 1 :])
        axis = 0
        for part in parts:
            if part is None:
                continue
            stop = part.stop if isinstance(part, slice) else None
            if isinstance(stop, Size) and axis < len(shape) and plain(stop) == shape[axis]:
                self.record.claims.equal.append((Axis(number, axis), stop.tree))
            axis += 1

    def _sized(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Sizes of a tensor, if that is what is asked for."""
        if func not in _SIZED or not args or not isinstance(args[0], torch.Tensor):
            return None
        tensor = args[0]
        number, claims = self._number(tensor), self.record.claims
        with torch._C.DisableTorchFunction():  # noqa: SLF001 - as PyTorch's own modes do it
            sizes = [
                Size(size, Axis(number, axis), claims) if type(size) is int else size
                for axis, size in enumerate(tensor.shape)
            ]
        if func is torch.Tensor.__len__:
            return sizes[0] if sizes else None
        if func is torch.Tensor.numel:
            total: Any = 1
            for size in sizes:
                total = size * total
            return total
        places = args[1:] or tuple(kwargs.values())
        if func is torch.Tensor.size and places and places[0] is not None:
            return sizes[int(places[0])]
        return torch.Size(sizes)


_INDEXED = 2  # arguments: a tensor and its index
_SIZED = {torch.Tensor.shape.__get__, torch.Tensor.size, torch.Tensor.__len__, torch.Tensor.numel}  # type: ignore[attr-defined] # a descriptor


def _numbers(value: Any) -> Iterator[Number]:
    """All whole numbers among arguments, in order."""
    if isinstance(value, Size):
        yield Number(plain(value), value.tree)
    elif type(value) is int:
        yield Number(value, None)
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, slice):
        yield from _numbers((value.start, value.stop, value.step))


def _plain(value: Any) -> Any:
    """The same arguments with plain numbers."""
    if isinstance(value, Size):
        return plain(value)
    if type(value) in (tuple, list):
        return type(value)(_plain(one) for one in value)
    if isinstance(value, torch.Size):
        return torch.Size(plain(one) if isinstance(one, Size) else one for one in value)
    if type(value) is dict:
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, slice):
        return slice(_plain(value.start), _plain(value.stop), _plain(value.step))
    return value


def _tensors(result: Any) -> Iterator[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        yield result
    elif isinstance(result, tuple | list):
        for one in result:
            yield from _tensors(one)


_OPENED: dict[Callable[..., Any], Callable[..., Any] | None] = {}
_ASKING = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


def _opened(func: Callable[..., Any]) -> Callable[..., Any] | None:
    """A function of `torch.nn.functional` that does not hand itself over again; `None` for what is no such one."""
    if func not in _OPENED:
        _OPENED[func] = None
        within = getattr(func, "__module__", None) in ("torch.nn.functional", "torch.functional")
        if within and isinstance(func, FunctionType) and any(name in func.__code__.co_names for name in _ASKING):
            own = {**func.__globals__, **dict.fromkeys(_ASKING, _no)}
            made = FunctionType(func.__code__, own, func.__name__, func.__defaults__, func.__closure__)
            made.__kwdefaults__ = func.__kwdefaults__
            _OPENED[func] = made
    return _OPENED[func]


def _no(*_: object) -> bool:
    return False
