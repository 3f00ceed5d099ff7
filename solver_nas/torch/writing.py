"""Writing new tensors and attributes into a module, and what an optimizer knows about them: all or nothing."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from solver_nas.torch.shadow import inside_objects, renewed, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from solver_nas.torch.trees import Attribute


class Writing:
    """Steps that are carried out one by one; if one fails, those before it are taken back. So does Ctrl-C.

    >>> holder = {"a": 1}
    >>> writing = Writing()
    >>> writing.step(lambda: holder.update(a=2), lambda: holder.update(a=1))
    >>> writing.step(lambda: holder["nothing"], lambda: None)
    >>> try:
    ...     writing.carry_out()
    ... except KeyError:
    ...     print(holder)
    {'a': 1}
    """

    def __init__(self) -> None:
        """No steps yet."""
        self._steps: list[tuple[Callable[[], object], Callable[[], object]]] = []

    def __len__(self) -> int:
        """How many steps there are."""
        return len(self._steps)

    def step(self, do: Callable[[], object], undo: Callable[[], object]) -> None:
        """Add a step; `undo` takes it back, and does no harm if it was not carried out or only in part."""
        self._steps.append((do, undo))

    def tensor(self, tensor: torch.Tensor, new: torch.Tensor, grad: torch.Tensor | None) -> None:
        """Give a tensor other contents, of any size, and another gradient; it stays the same object."""
        old, before = tensor.data, tensor.grad
        self.step(partial(_write, tensor, new, grad), partial(_write, tensor, old, before))

    def entry(self, holder: dict[Any, Any], key: object, new: object) -> None:
        """Set an entry of a dictionary, or take it away: `None`."""
        self.step(partial(_set, holder, key, new), partial(_set, holder, key, holder.get(key)))

    def attributes(self, module: torch.nn.Module, new: Mapping[Attribute, int], old: Mapping[Attribute, int]) -> None:
        """Set whole numbers on modules; objects that hold some are replaced, since others may have them, too."""
        inner = {attribute: value for attribute, value in new.items() if inside_objects(module, attribute)}
        for attribute in [one for one in new if one not in inner]:
            do, undo = ({attribute: numbers[attribute]} for numbers in (new, old))
            self.step(partial(write, module, do), partial(write, module, undo))
        for part, name, made, before in renewed(module, inner) if inner else ():
            self.step(partial(part.__dict__.__setitem__, name, made), partial(part.__dict__.__setitem__, name, before))

    def carry_out(self) -> None:
        """Carry out all steps, or none.

        Raises:
            BaseException: what a step has raised, or `KeyboardInterrupt`, after everything was taken back.
        """
        with _held_back() as interrupted:
            done = 0
            try:
                for do, _ in self._steps:
                    done += 1
                    do()
                    if interrupted:
                        raise KeyboardInterrupt
            except BaseException:
                for _, undo in reversed(self._steps[:done]):
                    undo()
                raise


@contextmanager
def _held_back() -> Iterator[list[int]]:
    """Hold Ctrl-C back; the list is no longer empty once it was pressed."""
    pressed: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread is interrupted.
        yield pressed
        return
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _set(holder: dict[Any, Any], key: object, value: object) -> None:
    if value is None:
        holder.pop(key, None)
    else:
        holder[key] = value


def _write(tensor: torch.Tensor, new: torch.Tensor, grad: torch.Tensor | None) -> None:
    """Replace what a tensor holds; it stays the same object for optimizers, hooks and all who hold it."""
    tensor.grad = None
    if tensor.shape != new.shape and tensor.is_leaf and tensor.requires_grad:
        # What is left of an earlier backward pass remembers the old size until the type has changed once.
        other = torch.float64 if tensor.dtype is not torch.float64 else torch.float32
        tensor.data = torch.empty(0, dtype=other, device=tensor.device)
    tensor.data = new
    tensor.grad = grad
